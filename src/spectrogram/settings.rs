//! The front-end's settings, exactly as the `[spectrogram]` table of `model.toml` writes them.

use serde::{Deserialize, Serialize};

use super::{Window, filterbank};
use crate::error::{Error, Result};
use crate::time::FrameClock;

const SAMPLE_RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=768_000;
const MAX_FFT_SIZE: usize = 8_192;
/// More frames would make the image larger than the sound by orders of magnitude.
const MAX_FRAMES_PER_SECOND: f64 = 1_000.0;

/// How samples become image columns.
///
/// The image of our own networks, 80 mel bins:
///
/// ```
/// # let settings: dfcnn::spectrogram::Settings = toml::from_str(r#"
/// sample_rate_hz = 16000
/// window_samples = 400
/// hop_samples = 160
/// window = "hann"
/// fft_size = 512
/// spectrum = "power"
/// scale = { kind = "mel", bins = 80, low_hz = 20.0, high_hz = 7600.0 }
/// log_floor = 1e-6
/// # "#).unwrap();
/// # settings.validate().unwrap();
/// # assert_eq!(settings.bins(), 80);
/// ```
///
/// The 200-bin linear image of the published DFCNN, `ln(|X| + 1)` of 16-bit samples: for samples in ±1 the floor becomes
/// 1 / 32768, and the image differs by the constant ln 32768, which normalisation removes. (Its Hamming window is the
/// symmetric one, and some versions divide `|X|` by the length of the utterance, which no stream can.)
///
/// ```
/// # let settings: dfcnn::spectrogram::Settings = toml::from_str(r#"
/// sample_rate_hz = 16000
/// window_samples = 400
/// hop_samples = 160
/// window = "hamming"
/// fft_size = 400
/// spectrum = "magnitude"
/// scale = { kind = "linear", bins = 200 }
/// log_floor = 3.0517578125e-5
/// # "#).unwrap();
/// # settings.validate().unwrap();
/// # assert_eq!(settings.bins(), 200);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Samples per second.
    pub sample_rate_hz: u32,
    /// Samples that one frame looks at.
    pub window_samples: usize,
    /// Samples from the start of one frame to the start of the next.
    pub hop_samples: usize,
    /// What the samples of a frame are multiplied by.
    pub window: Window,
    /// Points of the FFT, at least the window; the rest is zeros.
    pub fft_size: usize,
    /// What is taken of each point of the spectrum.
    pub spectrum: Spectrum,
    /// The image's frequency axis.
    pub scale: Scale,
    /// Added before the natural logarithm.
    pub log_floor: f64,
}

/// What is taken of each point `X` of the spectrum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spectrum {
    /// `|X|²`, not scaled.
    Power,
    /// `|X|`, not scaled.
    Magnitude,
}

/// The image's frequency axis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Scale {
    /// Triangular filters of height 1, equally spaced on the mel scale `2595 log10(1 + f / 700)` (O'Shaughnessy 1987).
    Mel {
        /// Filters.
        bins: usize,
        /// Where the lowest filter begins.
        low_hz: f64,
        /// Where the highest filter ends.
        high_hz: f64,
    },
    /// The lowest points of the spectrum as they are, from 0 Hz on.
    Linear {
        /// Points.
        bins: usize,
    },
}

impl Settings {
    /// Bins of one column.
    pub fn bins(&self) -> usize {
        match self.scale {
            Scale::Mel { bins, .. } | Scale::Linear { bins } => bins,
        }
    }

    /// How the stream is cut into frames.
    pub fn clock(&self) -> FrameClock {
        FrameClock {
            sample_rate_hz: self.sample_rate_hz,
            window_samples: self.window_samples,
            hop_samples: self.hop_samples,
        }
    }

    /// The centre frequency of each bin, `[bins]`, in Hz.
    pub fn centres_hz(&self) -> Vec<f64> {
        filterbank::centres_hz(self)
    }

    /// The filterbank as a matrix `[bins, fft_size / 2 + 1]`.
    ///
    /// # Errors
    /// When the settings are absurd.
    pub fn filterbank(&self) -> Result<Vec<f32>> {
        self.validate()?;
        Ok(filterbank::matrix(self))
    }

    /// Whether these settings can be carried out.
    ///
    /// # Errors
    /// Names the first setting that cannot, and what it must be.
    pub fn validate(&self) -> Result<()> {
        let Self { sample_rate_hz, window_samples, hop_samples, fft_size, log_floor, .. } = *self;
        ensure(SAMPLE_RATES_HZ.contains(&sample_rate_hz), "sample_rate_hz", || {
            format!("{sample_rate_hz} is not between {} and {}", SAMPLE_RATES_HZ.start(), SAMPLE_RATES_HZ.end())
        })?;
        ensure(window_samples > 0, "window_samples", || "must be at least 1".into())?;
        ensure((window_samples..=MAX_FFT_SIZE).contains(&fft_size), "fft_size", || {
            format!("{fft_size} is not between the window ({window_samples}) and {MAX_FFT_SIZE}")
        })?;
        ensure((1..=window_samples).contains(&hop_samples), "hop_samples", || {
            format!("{hop_samples} is not between 1 and the window ({window_samples})")
        })?;
        ensure(self.clock().frame_rate_hz() <= MAX_FRAMES_PER_SECOND, "hop_samples", || {
            format!("{hop_samples} gives more than {MAX_FRAMES_PER_SECOND} frames per second; make it larger")
        })?;
        // Below f32's smallest normal number the logarithm of silence would depend on how the CPU treats denormals.
        ensure((f64::from(f32::MIN_POSITIVE)..=1e6).contains(&log_floor), "log_floor", || {
            format!("{log_floor} is not a positive number such as 1e-6")
        })?;
        let points = fft_size / 2 + 1;
        ensure((1..=points).contains(&self.bins()), "scale.bins", || {
            format!("{} is not between 1 and the {points} points of the spectrum", self.bins())
        })?;
        if let Scale::Mel { low_hz, high_hz, .. } = self.scale {
            let nyquist_hz = f64::from(sample_rate_hz) / 2.0;
            ensure((0.0..=nyquist_hz).contains(&high_hz), "scale.high_hz", || {
                format!("{high_hz} is not between 0 and half the sample rate ({nyquist_hz})")
            })?;
            ensure((0.0..high_hz).contains(&low_hz), "scale.low_hz", || {
                format!("{low_hz} is not between 0 and high_hz ({high_hz})")
            })?;
        }
        Ok(())
    }
}

fn ensure(holds: bool, setting: &str, problem: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::setting(format!("spectrogram.{setting}"), problem())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEL: &str = r#"
        sample_rate_hz = 16000
        window_samples = 400
        hop_samples = 160
        window = "hann"
        fft_size = 512
        spectrum = "power"
        scale = { kind = "mel", bins = 80, low_hz = 20, high_hz = 7600 }
        log_floor = 1e-6
    "#;

    #[test]
    fn survives_a_round_trip_and_refuses_unknown_fields() {
        let settings: Settings = toml::from_str(MEL).unwrap();
        assert_eq!(toml::from_str::<Settings>(&toml::to_string(&settings).unwrap()).unwrap(), settings);
        for (from, to) in [
            ("fft_size", "centre = true\nfft_size"),
            ("bins = 80,", "bins = 80, slope = 1.0,"),
            ("\"hann\"", "\"kaiser\""),
            ("fft_size = 512", ""),
            ("fft_size = 512", "fft_size = -1"),
        ] {
            assert!(toml::from_str::<Settings>(&MEL.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn absurd_settings_are_named() {
        for (from, to, setting) in [
            ("rate_hz = 16000", "rate_hz = 0", "sample_rate_hz"),
            ("rate_hz = 16000", "rate_hz = 4000000000", "sample_rate_hz"),
            ("window_samples = 400", "window_samples = 0", "window_samples"),
            ("window_samples = 400", "window_samples = 9223372036854775807", "fft_size"),
            ("fft_size = 512", "fft_size = 399", "fft_size"),
            ("fft_size = 512", "fft_size = 1000000000000", "fft_size"),
            ("hop_samples = 160", "hop_samples = 0", "hop_samples"),
            ("hop_samples = 160", "hop_samples = 401", "hop_samples"),
            ("hop_samples = 160", "hop_samples = 1", "hop_samples"),
            ("log_floor = 1e-6", "log_floor = 0.0", "log_floor"),
            ("log_floor = 1e-6", "log_floor = nan", "log_floor"),
            ("log_floor = 1e-6", "log_floor = inf", "log_floor"),
            ("bins = 80", "bins = 0", "scale.bins"),
            ("bins = 80", "bins = 258", "scale.bins"),
            ("high_hz = 7600", "high_hz = 8001", "scale.high_hz"),
            ("high_hz = 7600", "high_hz = nan", "scale.high_hz"),
            ("low_hz = 20", "low_hz = -1", "scale.low_hz"),
            ("low_hz = 20", "low_hz = 7600", "scale.low_hz"),
            ("low_hz = 20", "low_hz = nan", "scale.low_hz"),
        ] {
            let settings: Settings = toml::from_str(&MEL.replace(from, to)).unwrap();
            let error = settings.validate().expect_err(to).to_string();
            assert!(error.starts_with(&format!("spectrogram.{setting}: ")), "{to}: {error}");
        }
    }
}
