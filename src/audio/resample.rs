//! One sample rate to another, as a stream (rubato's windowed-sinc interpolation).

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{
    Async, FixedAsync, Indexing, Resampler as _, SincInterpolationParameters, SincInterpolationType, WindowFunction,
    calculate_cutoff,
};

use super::{MAX_RATE_HZ, MIN_RATE_HZ};
use crate::{Error, Result};

/// Length of the filter in samples of the lower of the two rates: passes 94 % of its band, stops 90 dB of the rest.
const FILTER_SAMPLES: f64 = 128.0;
const WINDOW: WindowFunction = WindowFunction::BlackmanHarris;
/// Points of the filter between two samples of the lower rate. Straight lines between so many err by less than −90 dB,
/// at half the cost of a cubic.
const FILTER_POINTS: f64 = 256.0;
/// How many times a second a block is resampled. Blocks of one size, whatever the pieces that are pushed, make the
/// result independent of them; short blocks keep the delay short.
const BLOCKS_PER_SECOND: u32 = 100;

/// Resamples a stream: mono f32 samples at `input_rate_hz` in, mono f32 samples at `output_rate_hz` out.
///
/// The first sample out is the first sample in, at time 0: the filter's delay is taken off. In all,
/// `round(n · output_rate / input_rate)` samples come out for `n` samples in. Equal rates pass samples untouched.
pub struct Resampler {
    /// `None` when the rates agree.
    filter: Option<Filter>,
}

impl Resampler {
    /// A resampler at time 0.
    ///
    /// # Errors
    /// [`Error::Setting`] for a rate outside [`MIN_RATE_HZ`] ..= [`MAX_RATE_HZ`].
    pub fn new(input_rate_hz: u32, output_rate_hz: u32) -> Result<Self> {
        for rate_hz in [input_rate_hz, output_rate_hz] {
            if !(MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate_hz) {
                let problem = format!("{rate_hz} Hz will not do; give {MIN_RATE_HZ} to {MAX_RATE_HZ}");
                return Err(Error::setting("sample rate", problem));
            }
        }
        let equal = input_rate_hz == output_rate_hz;
        Ok(Self { filter: (!equal).then(|| Filter::new(input_rate_hz, output_rate_hz)) })
    }

    /// Takes `samples` in and appends to `resampled` what they settle.
    pub fn push(&mut self, samples: &[f32], resampled: &mut Vec<f32>) {
        match &mut self.filter {
            Some(filter) => filter.push(samples, resampled),
            None => resampled.extend_from_slice(samples),
        }
    }

    /// Appends what is still inside, as if silence followed. Only [`reset`](Self::reset) may follow.
    pub fn finish(&mut self, resampled: &mut Vec<f32>) {
        if let Some(filter) = &mut self.filter {
            filter.finish(resampled);
        }
    }

    /// Back to time 0, for another stream.
    pub fn reset(&mut self) {
        if let Some(filter) = &mut self.filter {
            filter.reset();
        }
    }
}

struct Filter {
    sinc: Async<f32>,
    /// Input and output rate without their common divisor.
    ratio: (u64, u64),
    /// Silence before the first sample that makes the filter's delay a whole number of output samples.
    lead_in: usize,
    /// That delay in output samples.
    delay: usize,
    /// Output samples of the delay still to be dropped.
    to_drop: usize,
    /// Samples in so far, without the lead-in.
    taken: u64,
    /// Samples out so far, without the delay.
    given: u64,
    /// Input waiting for a whole block.
    block: Vec<f32>,
    scratch: Vec<f32>,
}

impl Filter {
    fn new(input_rate_hz: u32, output_rate_hz: u32) -> Self {
        let ratio = f64::from(output_rate_hz) / f64::from(input_rate_hz);
        let lower = ratio.min(1.0);
        // rubato counts the filter in input samples: it grows, and its points thin out, as the output rate falls.
        let length = ((FILTER_SAMPLES / lower) as usize).next_multiple_of(8);
        let points = (FILTER_POINTS * lower).max(8.0) as usize;
        let settings = SincInterpolationParameters::new(length, WINDOW)
            .oversampling_factor(points)
            .interpolation(SincInterpolationType::Linear)
            .f_cutoff(calculate_cutoff(FILTER_SAMPLES as usize, WINDOW));
        let block = (input_rate_hz / BLOCKS_PER_SECOND).max(1) as usize;
        let sinc = Async::new_sinc(ratio, 1.0, &settings, block, 1, FixedAsync::Input)
            .expect("a positive ratio that never changes");
        let divisor = gcd(input_rate_hz, output_rate_hz);
        let (input_step, output_step) = ((input_rate_hz / divisor) as usize, (output_rate_hz / divisor) as usize);
        // rubato's first output lies half a filter before the first input, and one output step after that.
        let lead_in = (length / 2).next_multiple_of(input_step) - length / 2;
        let delay = (length / 2 + lead_in) / input_step * output_step - 1;
        let mut filter = Self {
            scratch: vec![0.0; sinc.output_frames_max()],
            sinc,
            ratio: (input_step as u64, output_step as u64),
            lead_in,
            delay,
            to_drop: 0,
            taken: 0,
            given: 0,
            block: Vec::with_capacity(block),
        };
        filter.reset();
        filter
    }

    fn reset(&mut self) {
        self.sinc.reset();
        self.block.clear();
        (self.to_drop, self.taken, self.given) = (self.delay, 0, 0);
        self.fill(self.lead_in, &mut Vec::new());
    }

    fn push(&mut self, mut samples: &[f32], resampled: &mut Vec<f32>) {
        self.taken += samples.len() as u64;
        while !samples.is_empty() {
            let room = self.sinc.input_frames_next() - self.block.len();
            let (now, later) = samples.split_at(room.min(samples.len()));
            self.block.extend_from_slice(now);
            samples = later;
            self.resample_full_block(resampled);
        }
    }

    /// Pushes `count` zeros that do not count as input.
    fn fill(&mut self, mut count: usize, resampled: &mut Vec<f32>) {
        while count > 0 {
            let now = count.min(self.sinc.input_frames_next() - self.block.len());
            self.block.resize(self.block.len() + now, 0.0);
            count -= now;
            self.resample_full_block(resampled);
        }
    }

    fn finish(&mut self, resampled: &mut Vec<f32>) {
        let (input_step, output_step) = self.ratio;
        let total = ((u128::from(self.taken) * u128::from(output_step) * 2 + u128::from(input_step))
            / (u128::from(input_step) * 2)) as u64;
        let start = resampled.len();
        let before = self.given;
        while self.given < total {
            self.fill(self.sinc.input_frames_next() - self.block.len(), resampled);
        }
        resampled.truncate(start + total.saturating_sub(before) as usize);
    }

    fn resample_full_block(&mut self, resampled: &mut Vec<f32>) {
        if self.block.len() < self.sinc.input_frames_next() {
            return;
        }
        let capacity = self.scratch.len();
        let input = SequentialSlice::new(&self.block[..], 1, self.block.len()).expect("one channel");
        let mut output = SequentialSlice::new_mut(&mut self.scratch[..], 1, capacity).expect("one channel");
        let (_, made) = self
            .sinc
            .process_into_buffer(&input, &mut output, None::<&Indexing>)
            .expect("buffers of the sizes asked for");
        self.block.clear();
        let dropped = self.to_drop.min(made);
        self.to_drop -= dropped;
        self.given += (made - dropped) as u64;
        resampled.extend_from_slice(&self.scratch[dropped..made]);
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    fn resample(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut out = Vec::new();
        resampler.push(samples, &mut out);
        resampler.finish(&mut out);
        out
    }

    /// A tone of amplitude 0.5, its samples taken `delay_s` later.
    fn tone(frequency_hz: f64, rate_hz: u32, samples: usize, delay_s: f64) -> Vec<f32> {
        let at = |n: usize| n as f64 / f64::from(rate_hz) + delay_s;
        (0..samples).map(|n| (0.5 * (TAU * frequency_hz * at(n)).sin()) as f32).collect()
    }

    /// The greatest difference away from the edges, relative to the tone's amplitude, in dB.
    fn error_db(got: &[f32], want: &[f32], edge: usize) -> f64 {
        let errors = got.iter().zip(want).map(|(a, b)| f64::from(a - b).abs());
        let worst = errors.skip(edge).take(got.len() - 2 * edge).fold(0.0, f64::max);
        20.0 * (worst / 0.5).log10()
    }

    #[test]
    fn tones_keep_their_place_and_height() {
        for from in [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 44_101, 48_000, 96_000, 192_000] {
            for to in [8_000, 16_000] {
                let lower = from.min(to);
                let frequency_hz = 0.2 * f64::from(lower);
                // rubato sits one filter point late: 1 µs at these rates.
                let points = (FILTER_POINTS * f64::from(to) / f64::from(from)).clamp(8.0, FILTER_POINTS).trunc();
                let late_s = if from == to { 0.0 } else { 1.0 / points / f64::from(from) };
                let got = resample(&tone(frequency_hz, from, from as usize, 0.0), from, to);
                let want = tone(frequency_hz, to, to as usize, late_s);
                let error = error_db(&got, &want, 200);
                println!("{from} -> {to}: {error:.1} dB");
                assert!(
                    got.len() == want.len() && error < -85.0,
                    "{from} -> {to}: {} samples, {error:.1} dB",
                    got.len()
                );
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone() {
        for (frequency_hz, from, to) in [(8_500.0, 44_100, 16_000), (9_000.0, 48_000, 16_000), (4_500.0, 16_000, 8_000)]
        {
            let got = resample(&tone(frequency_hz, from, from as usize, 0.0), from, to);
            let error = error_db(&got, &vec![0.0; got.len()], 200);
            println!("{frequency_hz} Hz, {from} -> {to}: {error:.1} dB");
            assert!(error < -80.0, "{frequency_hz} Hz, {from} -> {to}: {error:.1} dB");
        }
    }

    #[test]
    fn absurd_rates_are_refused() {
        for (from, to) in [(0, 16_000), (16_000, 0), (999, 16_000), (16_000, 768_001), (u32::MAX, u32::MAX)] {
            let error = Resampler::new(from, to).err().expect("refused").to_string();
            assert!(error.contains("1000 to 768000"), "{error}");
        }
    }

    #[test]
    fn an_impulse_stays_where_it_is() {
        for (from, to) in [(8_000, 16_000), (44_100, 16_000), (48_000, 16_000)] {
            let mut samples = vec![0.0; from as usize];
            samples[from as usize / 2] = 1.0;
            let got = resample(&samples, from, to);
            let peak = (0..got.len()).max_by(|&a, &b| got[a].total_cmp(&got[b])).unwrap();
            assert_eq!(peak, to as usize / 2, "{from} -> {to}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn pieces_and_history_change_nothing(
            samples in prop::collection::vec(-1.0f32..1.0, 0..3_000),
            cuts in prop::collection::vec(0usize..3_000, 0..12),
            from in prop::sample::select(vec![8_000u32, 11_025, 16_000, 44_100, 47_999, 96_000, 768_000]),
            to in prop::sample::select(vec![8_000u32, 16_000]),
        ) {
            let whole = resample(&samples, from, to);
            let expected = (samples.len() as f64 * f64::from(to) / f64::from(from)).round() as usize;
            prop_assert!(whole.len() == expected, "{} samples, not {}", whole.len(), expected);

            let mut resampler = Resampler::new(from, to).unwrap();
            resampler.push(&samples, &mut Vec::new());
            resampler.reset();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(samples.len())).collect();
            cuts.extend([0, samples.len()]);
            cuts.sort_unstable();
            let mut out = Vec::new();
            for piece in cuts.windows(2) {
                resampler.push(&samples[piece[0]..piece[1]], &mut out);
            }
            resampler.finish(&mut out);
            prop_assert_eq!(out, whole);
        }
    }
}
