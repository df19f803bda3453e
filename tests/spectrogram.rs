//! The front-end against its definition, against golden data, over random splits, and on hostile samples.

mod golden;

use std::f64::consts::TAU;

use dfcnn::spectrogram::{Normalization, Scale, Settings, Spectrogram, Spectrum, Window};
use golden::largest_difference;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// How far a value computed in f32 may be from its definition, in nepers: bins 90 dB below the loudest of their column
/// drown in the rounding of the FFT.
const ROUNDING: f32 = 1e-3;
/// How far it may be on average.
const MEAN_ROUNDING: f32 = 1e-5;
/// How far a weight of the filterbank may be from its value in f64.
const WEIGHT_ROUNDING: f32 = 1e-6;

fn mel() -> Settings {
    Settings {
        sample_rate_hz: 16_000,
        window_samples: 400,
        hop_samples: 160,
        window: Window::Hann,
        fft_size: 512,
        spectrum: Spectrum::Power,
        scale: Scale::Mel { bins: 80, low_hz: 20.0, high_hz: 7600.0 },
        log_floor: 1e-6,
    }
}

fn linear() -> Settings {
    Settings {
        window: Window::Hamming,
        fft_size: 400,
        spectrum: Spectrum::Magnitude,
        scale: Scale::Linear { bins: 200 },
        log_floor: 1.0 / 32768.0,
        ..mel()
    }
}

/// The image of a whole utterance, `[frames, bins]`.
fn image(settings: &Settings, samples: &[f32]) -> Vec<f32> {
    let mut spectrogram = Spectrogram::new(settings, None).unwrap();
    let mut frames = Vec::new();
    spectrogram.push(samples, &mut frames);
    spectrogram.finish(&mut frames);
    assert_eq!(frames.len() as u64, settings.clock().frames(samples.len() as u64) * settings.bins() as u64);
    frames
}

/// Knuth's MMIX generator, in ±1.
fn noise(samples: usize) -> Vec<f64> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    (0..samples).map(|_| next()).collect()
}

fn noise_f32(samples: usize) -> Vec<f32> {
    noise(samples).into_iter().map(|sample| 0.1 * sample as f32).collect()
}

/// The signal of tests/data/golden/spectrogram.py.
fn golden_signal(samples: usize) -> Vec<f32> {
    let noise = noise(samples / 2);
    let seconds = samples as f64 / 16_000.0;
    let sample = |n: usize| {
        let t = n as f64 / 16_000.0;
        let fade = 10f64.powf(-3.0 * n as f64 / samples as f64);
        let chirp = 0.5 * fade * (TAU * (50.0 * t + 0.5 * 7800.0 / seconds * t * t)).sin();
        (chirp + 1e-3 * noise.get(n).unwrap_or(&0.0)) as f32
    };
    (0..samples).map(sample).collect()
}

fn tone(hz: f64, samples: usize) -> Vec<f32> {
    (0..samples).map(|n| (0.5 * (TAU * hz * n as f64 / 16_000.0).sin()) as f32).collect()
}

fn loudest_bin(column: &[f32]) -> usize {
    (0..column.len()).max_by(|&a, &b| column[a].total_cmp(&column[b])).unwrap()
}

fn assert_close(image: &[f32], expected: &[f32]) {
    let largest = largest_difference(image, expected);
    assert!(largest < ROUNDING, "largest difference {largest}");
    let mean = image.iter().zip(expected).map(|(a, b)| (a - b).abs()).sum::<f32>() / image.len() as f32;
    assert!(mean < MEAN_ROUNDING, "mean difference {mean}");
}

#[test]
fn committed_golden_images() {
    for (settings, name) in [(mel(), "spectrogram_mel.npy"), (linear(), "spectrogram_linear.npy")] {
        let reference = golden::npy(golden::committed(name));
        assert_eq!(reference.shape, [40, settings.bins()]);
        assert_close(&image(&settings, &golden_signal(400 + 39 * 160)), &reference.values);
    }
}

#[test]
fn golden_features_of_the_bootstrap_network() {
    for clip in golden::clips() {
        let reference = golden::npy(clip.path("logmel.npy"));
        assert_close(&image(&mel(), &golden::wav(clip.path("wav"))), &reference.values);
    }
}

#[test]
fn filterbank_and_normalisation_of_the_bootstrap_network() {
    let Some(path) = golden::shared("bootstrap/model.safetensors") else { return };
    let file = std::fs::read(path).unwrap();
    let weights = safetensors::SafeTensors::deserialize(&file).unwrap();
    let tensor = |name: &str| -> Vec<f32> {
        let data = weights.tensor(name).unwrap().data();
        data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let difference = largest_difference(&mel().filterbank().unwrap(), &tensor("feature.melfb"));
    assert!(difference < WEIGHT_ROUNDING, "{difference}");

    let normalization = Normalization { mean: tensor("feature.mean"), std: tensor("feature.std") };
    let clip = &golden::clips()[0];
    let mut frames = Vec::new();
    let mut spectrogram = Spectrogram::new(&mel(), Some(normalization.clone())).unwrap();
    spectrogram.push(&golden::wav(clip.path("wav")), &mut frames);
    let mut reference = golden::npy(clip.path("logmel.npy")).values;
    for (i, value) in reference.iter_mut().enumerate() {
        *value = (*value - normalization.mean[i % 80]) / normalization.std[i % 80];
    }
    assert_close(&frames, &reference);
}

#[test]
fn columns_follow_the_definition() {
    let samples = noise_f32(400 + 3 * 160);
    let odd = Settings { fft_size: 405, window_samples: 399, hop_samples: 101, ..mel() };
    let narrow = Settings { scale: Scale::Mel { bins: 200, low_hz: 0.0, high_hz: 8000.0 }, ..mel() };
    let padded = Settings { fft_size: 1540, ..mel() };
    for settings in [mel(), linear(), odd, narrow, padded] {
        let points = settings.fft_size / 2 + 1;
        let filters = settings.filterbank().unwrap();
        let (offset, power) = match (settings.window, settings.spectrum) {
            (Window::Hann, _) => (0.5, 1.0),
            (Window::Hamming, _) => (0.54, 0.5),
        };
        let mut expected = Vec::new();
        for frame in samples.windows(settings.window_samples).step_by(settings.hop_samples) {
            let energies: Vec<f64> = (0..points)
                .map(|k| {
                    let (mut re, mut im) = (0.0, 0.0);
                    for (n, &sample) in frame.iter().enumerate() {
                        let weight = offset - (1.0 - offset) * (TAU * n as f64 / frame.len() as f64).cos();
                        let angle = TAU * (k * n % settings.fft_size) as f64 / settings.fft_size as f64;
                        re += weight * f64::from(sample) * angle.cos();
                        im -= weight * f64::from(sample) * angle.sin();
                    }
                    (re * re + im * im).powf(power)
                })
                .collect();
            for filter in filters.chunks_exact(points) {
                let sum: f64 = filter.iter().zip(&energies).map(|(&weight, energy)| f64::from(weight) * energy).sum();
                expected.push((sum + settings.log_floor).ln() as f32);
            }
        }
        assert_close(&image(&settings, &samples), &expected);
    }
}

#[test]
fn no_filter_is_deaf() {
    let settings = Settings { scale: Scale::Mel { bins: 200, low_hz: 0.0, high_hz: 8000.0 }, ..mel() };
    for (bin, filter) in settings.filterbank().unwrap().chunks_exact(257).enumerate() {
        assert!(filter.iter().sum::<f32>() >= 1e-3, "bin {bin}");
    }
}

#[test]
fn a_tone_lands_in_its_bin() {
    for (settings, first) in [(mel(), 25), (linear(), 2)] {
        let centres = settings.centres_hz();
        assert_eq!(centres.len(), settings.bins());
        // Lower mel filters are closer together than a 25 ms window can part.
        for (bin, &centre_hz) in centres.iter().enumerate().skip(first) {
            assert_eq!(loudest_bin(&image(&settings, &tone(centre_hz, 400))), bin, "{centre_hz} Hz");
        }
    }
    assert_eq!(linear().centres_hz()[199], 7960.0);
}

#[test]
fn an_impulse_is_flat_and_reaches_only_its_frames() {
    let mut samples = vec![0.0; 2000];
    samples[1000] = 1.0;
    let floor = (1.0f32 / 32768.0).ln();
    for (frame, column) in image(&linear(), &samples).chunks_exact(200).enumerate() {
        let reached = (160 * frame..160 * frame + 400).contains(&1000);
        assert_eq!(column[0] > floor + 1.0, reached, "frame {frame}");
        assert!(column.iter().all(|value| (value - column[0]).abs() < ROUNDING), "frame {frame}");
    }
}

#[test]
fn samples_that_are_no_numbers_reach_only_the_frames_that_look_at_them() {
    let clean = noise_f32(8000);
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN] {
        let mut dirty = clean.clone();
        dirty[4000] = poison;
        let (clean, dirty) = (image(&mel(), &clean), image(&mel(), &dirty));
        for (frame, (clean, dirty)) in clean.chunks_exact(80).zip(dirty.chunks_exact(80)).enumerate() {
            assert!(dirty.iter().all(|value| value.is_finite()), "{poison} in frame {frame}");
            let reached = (160 * frame..160 * frame + 400).contains(&4000);
            assert!(reached || clean == dirty, "{poison} in frame {frame}");
        }
    }
    let loud = image(&mel(), &[f32::MAX; 800]);
    assert!(loud.iter().all(|value| value.is_finite()));
}

#[test]
fn reset_and_finish_begin_a_new_stream() {
    let samples = noise_f32(1000);
    let expected = image(&mel(), &samples);
    let mut spectrogram = Spectrogram::new(&mel(), None).unwrap();
    for end in [Spectrogram::reset, |spectrogram: &mut Spectrogram| spectrogram.finish(&mut Vec::new())] {
        spectrogram.push(&[1.0; 777], &mut Vec::new());
        end(&mut spectrogram);
        let mut frames = Vec::new();
        spectrogram.push(&samples, &mut frames);
        assert_eq!(frames, expected);
        spectrogram.reset();
    }
}

#[test]
fn unfit_normalisation_is_refused() {
    let normalization = Normalization { mean: vec![0.0; 79], std: vec![1.0; 80] };
    assert!(Spectrogram::new(&mel(), Some(normalization)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Default::default() })]

    /// Any split gives the same columns bit for bit, each as soon as its last sample is there.
    #[test]
    fn splits_change_nothing(cuts in prop::collection::vec(0usize..4000, 0..12), is_mel: bool) {
        let settings = if is_mel { mel() } else { linear() };
        let samples = noise_f32(4000);
        let whole = image(&settings, &samples);
        let mut cuts = cuts;
        cuts.extend([0, samples.len()]);
        cuts.sort_unstable();
        let mut spectrogram = Spectrogram::new(&settings, None).unwrap();
        let mut frames = Vec::new();
        for cut in cuts.windows(2) {
            spectrogram.push(&samples[cut[0]..cut[1]], &mut frames);
            prop_assert_eq!(frames.len() as u64, settings.clock().frames(cut[1] as u64) * settings.bins() as u64);
        }
        spectrogram.finish(&mut frames);
        prop_assert_eq!(frames, whole);
    }

    /// Samples to come change nothing that is already out.
    #[test]
    fn the_future_changes_nothing(now in 0usize..3000, poison in prop::sample::select(vec![f32::NAN, f32::INFINITY, 1e30])) {
        let mut samples = noise_f32(3000);
        let expected = image(&mel(), &samples[..now]);
        samples[now..].fill(poison);
        let poisoned = image(&mel(), &samples);
        prop_assert_eq!(&poisoned[..expected.len()], &expected[..]);
    }
}
