//! Augmentation on the image: other speeds, speakers, microphones and rooms than the recordings have, and holes.
//!
//! Columns come and go as the front-end makes them, not normalised. In between, noise, rooms and microphones act on
//! *power*, where they add and multiply; each is a function of power, its settings and random numbers alone.

pub mod colour;
pub mod mask;
pub mod power;
pub mod warp;

use std::ops::Range;

use crate::Result;
use crate::random::Random;
use crate::spectrogram::{Settings, Spectrum};

/// What may happen to an utterance. Ranges are drawn from uniformly; a probability of 0 turns something off.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmentation {
    /// Probability of another tempo and its range, 1 being the recording's.
    pub tempo: (f32, Range<f32>),
    /// Probability of another vocal tract and the range of its scale, 1 being the speaker's.
    pub vocal_tract: (f32, Range<f32>),
    /// Probability of another gain and its range in dB.
    pub gain_db: (f32, Range<f32>),
    /// Probability of a spectral tilt and its range in dB per octave around 1 kHz.
    pub tilt_db: (f32, Range<f32>),
    /// Probability of a telephone's band.
    pub telephone: f32,
    /// Probability of a speech codec and the range of the ratio of sound to its noise in dB.
    pub codec_db: (f32, Range<f32>),
    /// Probability of a room and the range of its reverberation time in seconds.
    pub room_s: (f32, Range<f32>),
    /// Probability of coloured noise and the range of its signal-to-noise ratio in dB.
    pub noise_db: (f32, Range<f32>),
    /// Probability of other voices and the range of their signal-to-noise ratio in dB.
    pub babble_db: (f32, Range<f32>),
    /// SpecAugment's time masks: how many, and the greatest extent in frames.
    pub time_masks: (usize, usize),
    /// SpecAugment's frequency masks: how many, and the greatest extent in bins.
    pub frequency_masks: (usize, usize),
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            tempo: (1.0, 0.8..1.25),
            vocal_tract: (1.0, 0.8..1.25),
            gain_db: (1.0, -35.0..15.0),
            tilt_db: (0.5, -4.0..4.0),
            telephone: 0.1,
            codec_db: (0.1, 6.0..20.0),
            room_s: (0.3, 0.1..0.8),
            noise_db: (0.4, 5.0..30.0),
            babble_db: (0.2, 5.0..25.0),
            time_masks: (2, 40),
            frequency_masks: (2, 15),
        }
    }
}

impl Augmentation {
    /// All probabilities and the masks' extents times `strength`; probabilities end at 1.
    pub fn scaled(&self, strength: f32) -> Self {
        let often = |(probability, range): &(f32, Range<f32>)| ((probability * strength).min(1.0), range.clone());
        let wide = |(count, greatest): (usize, usize)| (count, (greatest as f32 * strength).round() as usize);
        Self {
            tempo: often(&self.tempo),
            vocal_tract: often(&self.vocal_tract),
            gain_db: often(&self.gain_db),
            tilt_db: often(&self.tilt_db),
            telephone: (self.telephone * strength).min(1.0),
            codec_db: often(&self.codec_db),
            room_s: often(&self.room_s),
            noise_db: often(&self.noise_db),
            babble_db: often(&self.babble_db),
            time_masks: wide(self.time_masks),
            frequency_masks: wide(self.frequency_masks),
        }
    }
}

/// A time mask covers at most this part of an utterance (`p` of Park et al. 2019).
const TIME_MASK_PART: f32 = 0.2;

/// Augments the utterances of one front-end.
#[derive(Debug, Clone)]
pub struct Augmenter {
    augmentation: Augmentation,
    settings: Settings,
    centres_hz: Vec<f64>,
    mean: Vec<f32>,
}

impl Augmenter {
    /// For columns of this front-end, whose mean `[bins]` fills the masks.
    ///
    /// # Errors
    /// When the settings are absurd.
    pub fn new(augmentation: Augmentation, settings: &Settings, mean: &[f32]) -> Result<Self> {
        settings.validate()?;
        let (settings, centres_hz) = (settings.clone(), settings.centres_hz());
        Ok(Self { augmentation, settings, centres_hz, mean: mean.to_vec() })
    }

    /// Changes one utterance, `columns` `[frames, bins]`, as `random` will have it. `others` are whole utterances that
    /// may talk in the background. A faster tempo leaves at least `least_frames`, so that the text still fits.
    pub fn apply(&self, columns: &mut Vec<f32>, others: &[&[f32]], least_frames: usize, random: &mut Random) {
        let a = &self.augmentation;
        let bins = self.centres_hz.len();
        if let Some(factor) = draw(&a.tempo, random) {
            let frames = columns.len() / bins;
            if (frames as f32 / factor).round() as usize >= least_frames.min(frames) {
                *columns = warp::tempo(columns, bins, factor);
            }
        }
        if let Some(scale) = draw(&a.vocal_tract, random) {
            warp::VocalTract::new(&self.centres_hz, scale).apply(columns);
        }
        self.to_power(columns);
        self.in_power(columns, others, random);
        self.to_log(columns);
        mask::frequency(columns, &self.mean, a.frequency_masks.0, a.frequency_masks.1, random);
        mask::time(columns, &self.mean, a.time_masks.0, a.time_masks.1, TIME_MASK_PART, random);
    }

    fn in_power(&self, columns: &mut [f32], others: &[&[f32]], random: &mut Random) {
        let a = &self.augmentation;
        let bins = self.centres_hz.len();
        if let Some(seconds) = draw(&a.room_s, random) {
            let hop_s = 1.0 / self.settings.clock().frame_rate_hz() as f32;
            power::reverberate(columns, bins, seconds, hop_s, random.uniform(-3.0..12.0));
        }
        if let Some(ratio_db) = draw(&a.babble_db, random)
            && !others.is_empty()
        {
            let mut voices = vec![0.0; columns.len()];
            for other in others {
                let mut other = other.to_vec();
                self.to_power(&mut other);
                power::add(&mut voices, &other, 1.0, bins * random.below(other.len() / bins));
            }
            power::mix(columns, &voices, ratio_db);
        }
        if let Some(ratio_db) = draw(&a.noise_db, random) {
            let exponent = random.uniform(0.0..2.0);
            let noise = power::coloured_noise(columns.len() / bins, &self.centres_hz, exponent, random);
            power::mix(columns, &noise, ratio_db);
        }
        let mut gains_db = vec![draw(&a.gain_db, random).unwrap_or(0.0); bins];
        if let Some(db_per_octave) = draw(&a.tilt_db, random) {
            colour::tilt(&mut gains_db, &self.centres_hz, db_per_octave);
        }
        if random.chance(a.telephone) {
            let band_hz = random.uniform(200.0..400.0)..random.uniform(3000.0..3800.0);
            colour::band(&mut gains_db, &self.centres_hz, band_hz, 48.0);
        }
        colour::apply(columns, &gains_db);
        if let Some(ratio_db) = draw(&a.codec_db, random) {
            power::encode(columns, bins, ratio_db, random);
        }
    }

    fn to_power(&self, columns: &mut [f32]) {
        let floor = self.settings.log_floor as f32;
        columns.iter_mut().for_each(|x| *x = (x.exp() - floor).max(0.0));
        if self.settings.spectrum == Spectrum::Magnitude {
            columns.iter_mut().for_each(|x| *x *= *x);
        }
    }

    fn to_log(&self, columns: &mut [f32]) {
        let floor = self.settings.log_floor as f32;
        if self.settings.spectrum == Spectrum::Magnitude {
            columns.iter_mut().for_each(|x| *x = x.sqrt());
        }
        columns.iter_mut().for_each(|x| *x = (*x + floor).ln());
    }
}

/// With the given probability, a value from the range.
fn draw((probability, range): &(f32, Range<f32>), random: &mut Random) -> Option<f32> {
    // Both are always drawn, so that turning one thing off does not change the others.
    let (chosen, value) = (random.chance(*probability), random.uniform(range.clone()));
    chosen.then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spectrogram::{Scale, Window};

    fn augmenter(augmentation: Augmentation, spectrum: Spectrum) -> Augmenter {
        let settings = Settings {
            sample_rate_hz: 16_000,
            window_samples: 400,
            hop_samples: 160,
            window: Window::Hann,
            fft_size: 512,
            spectrum,
            scale: Scale::Mel { bins: 20, low_hz: 20.0, high_hz: 7600.0 },
            log_floor: 1e-6,
        };
        Augmenter::new(augmentation, &settings, &[-3.0; 20]).unwrap()
    }

    fn nothing() -> Augmentation {
        let never = || (0.0, 1.0..1.0);
        Augmentation {
            tempo: never(),
            vocal_tract: never(),
            gain_db: never(),
            tilt_db: never(),
            telephone: 0.0,
            codec_db: never(),
            room_s: never(),
            noise_db: never(),
            babble_db: never(),
            time_masks: (0, 0),
            frequency_masks: (0, 0),
        }
    }

    fn columns(frames: usize) -> Vec<f32> {
        let mut random = Random::new(9);
        (0..frames * 20).map(|_| random.uniform(-12.0..6.0)).collect()
    }

    #[test]
    fn nothing_changes_nothing() {
        for spectrum in [Spectrum::Power, Spectrum::Magnitude] {
            let mut changed = columns(50);
            augmenter(nothing(), spectrum).apply(&mut changed, &[], 0, &mut Random::new(1));
            assert!(changed.iter().zip(columns(50)).all(|(a, b)| (a - b).abs() < 1e-2));
        }
    }

    #[test]
    fn everything_stays_finite_and_depends_on_the_seed_alone() {
        let augmenter = augmenter(Augmentation::default(), Spectrum::Power);
        let other = columns(30);
        let augmented = |seed, frames| {
            let mut changed = columns(frames);
            augmenter.apply(&mut changed, &[&other, &other], 0, &mut Random::new(seed));
            changed
        };
        for seed in 0..50 {
            let changed = augmented(seed, 60);
            assert!(changed.iter().all(|x| x.is_finite() && (-20.0..40.0).contains(x)));
            assert_eq!(changed, augmented(seed, 60));
            assert_ne!(changed, augmented(seed + 1, 60));
            assert!(augmented(seed, 1).len() <= 2 * 20 && augmented(seed, 0).is_empty());
        }
    }

    #[test]
    fn the_text_still_fits_after_a_faster_tempo() {
        let fast = augmenter(Augmentation { tempo: (1.0, 1.5..1.6), ..nothing() }, Spectrum::Power);
        let frames = |least| {
            let mut changed = columns(60);
            fast.apply(&mut changed, &[], least, &mut Random::new(1));
            changed.len() / 20
        };
        assert!(frames(30) < 42);
        assert_eq!((frames(50), frames(99)), (60, 60));
    }
}
