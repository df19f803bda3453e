//! Samples → image columns: framing, window, real FFT, filterbank, logarithm, fixed normalisation.
//!
//! Frame `t` looks at the samples `[t · hop, t · hop + window)`, multiplied by the window and padded with zeros to the FFT
//! size. With `X` its spectrum, column `t` holds for each bin `b`
//!
//! ```text
//! ln(Σ_k filter[b][k] · |X[k]|^p + log_floor)      p = 2 (power) or 1 (magnitude)
//! ```
//!
//! and, if asked, `(x − mean[b]) / std[b]` of that. Nothing here depends on the utterance as a whole, so it streams.

mod filterbank;
mod normalize;
mod settings;
mod window;

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{RealFftPlanner, RealToComplex};

use crate::error::Result;
use crate::time::FrameClock;
use filterbank::Filter;

pub use normalize::Normalization;
pub use settings::{Scale, Settings, Spectrum};
pub use window::Window;

/// Samples are ±1 at full scale; beyond this (120 dB above it) they are clipped, so that no power overflows.
const LOUDEST: f32 = 1e6;

/// A stream of samples on its way to image columns.
///
/// ```
/// # fn main() -> dfcnn::Result<()> {
/// use dfcnn::spectrogram::{Scale, Settings, Spectrogram, Spectrum, Window};
///
/// let settings = Settings {
///     sample_rate_hz: 16_000,
///     window_samples: 400,
///     hop_samples: 160,
///     window: Window::Hann,
///     fft_size: 512,
///     spectrum: Spectrum::Power,
///     scale: Scale::Mel { bins: 80, low_hz: 20.0, high_hz: 7600.0 },
///     log_floor: 1e-6,
/// };
/// let mut spectrogram = Spectrogram::new(&settings, None)?;
/// let mut frames = Vec::new();
/// spectrogram.push(&[0.0; 560], &mut frames);
/// assert_eq!(frames.len(), 2 * settings.bins());
/// # Ok(())
/// # }
/// ```
pub struct Spectrogram {
    clock: FrameClock,
    spectrum: Spectrum,
    log_floor: f32,
    window: Vec<f32>,
    filters: Vec<Filter>,
    normalization: Option<Normalization>,
    fft: Arc<dyn RealToComplex<f32>>,
    /// The samples of the frame under way, always fewer than a window between calls.
    pending: Vec<f32>,
    windowed: Vec<f32>,
    transform: Vec<Complex32>,
    scratch: Vec<Complex32>,
    /// `|X|^p` of the bins that some filter looks at.
    energies: Vec<f32>,
}

impl Spectrogram {
    /// A front-end at the start of a stream.
    ///
    /// # Errors
    /// When the settings are absurd, or the normalisation does not fit them.
    pub fn new(settings: &Settings, normalization: Option<Normalization>) -> Result<Self> {
        settings.validate()?;
        if let Some(normalization) = &normalization {
            normalization.validate(settings.bins())?;
        }
        let filters = filterbank::filters(settings);
        let fft = RealFftPlanner::new().plan_fft_forward(settings.fft_size);
        Ok(Self {
            clock: settings.clock(),
            spectrum: settings.spectrum,
            log_floor: settings.log_floor as f32,
            window: settings.window.coefficients(settings.window_samples),
            energies: vec![0.0; filters.iter().map(Filter::end).max().unwrap_or(0)],
            filters,
            normalization,
            pending: Vec::with_capacity(settings.window_samples),
            windowed: fft.make_input_vec(),
            transform: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            fft,
        })
    }

    /// Bins of one column.
    pub fn bins(&self) -> usize {
        self.filters.len()
    }

    /// Appends to `frames`, `[n, bins]`, every column that `samples` complete.
    ///
    /// A sample that is not a finite number counts as silence: it reaches only the frames that look at it.
    pub fn push(&mut self, mut samples: &[f32], frames: &mut Vec<f32>) {
        let window = self.clock.window_samples;
        let complete = self.clock.frames((self.pending.len() + samples.len()) as u64);
        frames.reserve(complete as usize * self.bins());
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min(window - self.pending.len()));
            self.pending.extend(now.iter().map(|&sample| usable(sample)));
            samples = later;
            if self.pending.len() == window {
                self.column(frames);
                self.pending.drain(..self.clock.hop_samples);
            }
        }
    }

    /// Ends the stream. The part of a window that is left makes no frame, so nothing is appended; the next `push` starts
    /// a new stream.
    pub fn finish(&mut self, _frames: &mut Vec<f32>) {
        self.reset();
    }

    /// Forgets the stream; the next `push` starts a new one.
    pub fn reset(&mut self) {
        self.pending.clear();
    }

    /// Appends the column of the window in `pending`.
    fn column(&mut self, frames: &mut Vec<f32>) {
        let (head, padding) = self.windowed.split_at_mut(self.window.len());
        for ((out, sample), weight) in head.iter_mut().zip(&self.pending).zip(&self.window) {
            *out = sample * weight;
        }
        // The FFT uses its input as working space.
        padding.fill(0.0);
        self.fft
            .process_with_scratch(&mut self.windowed, &mut self.transform, &mut self.scratch)
            .expect("the buffers were made by this FFT");
        match self.spectrum {
            Spectrum::Power => self.energies.iter_mut().zip(&self.transform).for_each(|(e, x)| *e = x.norm_sqr()),
            Spectrum::Magnitude => {
                self.energies.iter_mut().zip(&self.transform).for_each(|(e, x)| *e = x.norm_sqr().sqrt())
            }
        }
        let start = frames.len();
        frames.extend(self.filters.iter().map(|filter| (filter.apply(&self.energies) + self.log_floor).ln()));
        if let Some(normalization) = &self.normalization {
            normalization.apply(&mut frames[start..]);
        }
    }
}

/// What stands for `sample` in the sums: itself, unless it would spoil them.
fn usable(sample: f32) -> f32 {
    if sample.is_finite() { sample.clamp(-LOUDEST, LOUDEST) } else { 0.0 }
}
