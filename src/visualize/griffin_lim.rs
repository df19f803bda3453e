//! From a spectrogram image back to sound (Griffin & Lim 1984, "Signal estimation from modified short-time Fourier
//! transform").
//!
//! The image says nothing of phases and little of what lies between its bins; both are found so that the sound's own
//! spectrogram comes near the image.

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use std::sync::Arc;

use crate::Result;
use crate::random::Random;
use crate::spectrogram::{Normalization, Settings, Spectrum};

/// Rounds between phases and sound.
const ROUNDS: usize = 60;
/// Rounds that spread a bin's energy over the points of the spectrum.
const SPREADING: usize = 30;
/// What a round keeps of the last one's change (Perraudin, Balazs & Søndergaard 2013, "A fast Griffin–Lim algorithm").
const MOMENTUM: f32 = 0.99;

/// Mono samples at the model's rate whose spectrogram is near `image`, `[frames, bins]`, normalised.
///
/// # Errors
/// When the settings are absurd.
pub fn sound(image: &[f32], settings: &Settings, normalization: &Normalization, seed: u64) -> Result<Vec<f32>> {
    let (bins, points) = (settings.bins(), settings.fft_size / 2 + 1);
    let filterbank = settings.filterbank()?;
    let mut magnitudes = Vec::with_capacity(image.len() / bins * points);
    for column in image.chunks_exact(bins) {
        let energy = |((value, mean), std): ((&f32, &f32), &f32)| {
            (f64::from(value * std + mean).exp() - settings.log_floor).max(0.0) as f32
        };
        let energies: Vec<f32> = column.iter().zip(&normalization.mean).zip(&normalization.std).map(energy).collect();
        let spread = spread(&energies, &filterbank, points);
        magnitudes.extend(spread.iter().map(|&energy| match settings.spectrum {
            Spectrum::Power => energy.sqrt(),
            Spectrum::Magnitude => energy,
        }));
    }
    let fourier = Fourier::new(settings);
    let mut random = Random::new(seed);
    let mut spectrum: Vec<Complex32> = magnitudes
        .iter()
        .map(|&magnitude| Complex32::from_polar(magnitude, std::f32::consts::TAU * random.unit()))
        .collect();
    let mut before = spectrum.clone();
    for _ in 0..ROUNDS {
        let now = fourier.forward(&fourier.backward(&spectrum));
        for (((next, &now), before), &magnitude) in spectrum.iter_mut().zip(&now).zip(&mut before).zip(&magnitudes) {
            let ahead = now + (now - *before) * MOMENTUM;
            let size = ahead.norm();
            *next = if size > 0.0 { ahead * (magnitude / size) } else { Complex32::new(magnitude, 0.0) };
            *before = now;
        }
    }
    Ok(fourier.backward(&spectrum))
}

/// Energies of the points, none negative, that add up to about `energies`, `[bins]`, in the filters `[bins, points]`: the
/// multiplicative updates of Lee & Seung 2001.
fn spread(energies: &[f32], filterbank: &[f32], points: usize) -> Vec<f32> {
    let back = |values: &[f32]| {
        let mut sums = vec![0.0f32; points];
        for (filter, &value) in filterbank.chunks_exact(points).zip(values) {
            sums.iter_mut().zip(filter).for_each(|(sum, weight)| *sum += weight * value);
        }
        sums
    };
    let wanted = back(energies);
    let mut spread = wanted.clone();
    for _ in 0..SPREADING {
        let heard: Vec<f32> = filterbank
            .chunks_exact(points)
            .map(|filter| filter.iter().zip(&spread).map(|(weight, energy)| weight * energy).sum())
            .collect();
        for ((energy, wanted), heard) in spread.iter_mut().zip(&wanted).zip(back(&heard)) {
            *energy = if heard > 0.0 { *energy * wanted / heard } else { 0.0 };
        }
    }
    spread
}

/// The short-time Fourier transform of the settings, and its inverse in the sense of least squares.
struct Fourier {
    window: Vec<f32>,
    hop: usize,
    forward: Arc<dyn RealToComplex<f32>>,
    backward: Arc<dyn ComplexToReal<f32>>,
}

impl Fourier {
    fn new(settings: &Settings) -> Self {
        let mut planner = RealFftPlanner::new();
        Self {
            window: settings.window.coefficients(settings.window_samples),
            hop: settings.hop_samples,
            forward: planner.plan_fft_forward(settings.fft_size),
            backward: planner.plan_fft_inverse(settings.fft_size),
        }
    }

    /// The spectra of all frames, `[frames, points]`.
    fn forward(&self, samples: &[f32]) -> Vec<Complex32> {
        let (mut frame, mut spectrum) = (self.forward.make_input_vec(), self.forward.make_output_vec());
        let mut spectra = Vec::new();
        for samples in samples.windows(self.window.len()).step_by(self.hop) {
            frame.fill(0.0);
            frame.iter_mut().zip(samples).zip(&self.window).for_each(|((out, x), w)| *out = x * w);
            self.forward.process(&mut frame, &mut spectrum).expect("the buffers were made by this FFT");
            spectra.extend_from_slice(&spectrum);
        }
        spectra
    }

    /// The sound whose spectra are nearest to `spectra` (the paper's equation 6).
    fn backward(&self, spectra: &[Complex32]) -> Vec<f32> {
        let (mut frame, mut spectrum) = (self.backward.make_output_vec(), self.backward.make_input_vec());
        let points = spectrum.len();
        let samples = (spectra.len() / points).saturating_sub(1) * self.hop + self.window.len();
        let (mut sums, mut weights) = (vec![0.0f32; samples], vec![0.0f32; samples]);
        let scale = 1.0 / frame.len() as f32;
        for (n, own) in spectra.chunks_exact(points).enumerate() {
            spectrum.copy_from_slice(own);
            // A real signal's are real.
            spectrum[0].im = 0.0;
            spectrum[points - 1].im = 0.0;
            self.backward.process(&mut spectrum, &mut frame).expect("the buffers were made by this FFT");
            let sums = sums[n * self.hop..].iter_mut().zip(&mut weights[n * self.hop..]);
            for (((sum, weight), x), w) in sums.zip(&frame).zip(&self.window) {
                *sum += x * w * scale;
                *weight += w * w;
            }
        }
        // Where hardly a window looks, what it saw must not be blown up.
        sums.iter().zip(&weights).map(|(sum, weight)| sum / weight.max(0.1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::spectrogram::Spectrogram;

    fn image(samples: &[f32], model: &Model) -> Vec<f32> {
        let mut spectrogram = Spectrogram::new(&model.spectrogram, Some(model.normalization.clone())).unwrap();
        let mut frames = Vec::new();
        spectrogram.push(samples, &mut frames);
        frames
    }

    /// Two gliding tones in noise come back: their image within a fraction of a standard deviation.
    #[test]
    fn the_sound_of_an_image_has_that_image() {
        let model = Model::embedded().unwrap();
        let mut random = Random::new(2);
        let samples: Vec<f32> = (0..16_000)
            .map(|n| {
                let t = n as f32 / 16_000.0;
                let tone = |hz: f32| (std::f32::consts::TAU * hz * t * (1.0 + 0.4 * t)).sin();
                0.2 * tone(400.0) + 0.1 * tone(1700.0) + 0.01 * random.normal()
            })
            .collect();
        let wanted = image(&samples, &model);
        let heard = image(&sound(&wanted, &model.spectrogram, &model.normalization, 1).unwrap(), &model);
        assert_eq!(wanted.len(), heard.len());
        let inside = 3 * 80..wanted.len() - 3 * 80;
        let error = wanted[inside.clone()].iter().zip(&heard[inside]).map(|(a, b)| (a - b).abs()).sum::<f32>();
        let error = error / (wanted.len() - 6 * 80) as f32;
        assert!(error < 0.2, "{error}");
    }

    #[test]
    fn silence_and_nothing_stay_so() {
        let model = Model::embedded().unwrap();
        let quiet = image(&[0.0; 8000], &model);
        let heard = sound(&quiet, &model.spectrogram, &model.normalization, 1).unwrap();
        assert!(heard.iter().all(|sample| sample.abs() < 1e-3), "{:?}", heard.iter().copied().fold(0.0, f32::max));
        assert!(sound(&[], &model.spectrogram, &model.normalization, 1).unwrap().len() <= 400);
    }
}
