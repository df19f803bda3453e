//! From samples to log-probabilities and text, against reference outputs made outside the project.

mod golden;

use std::path::Path;
use std::sync::Arc;

use dfcnn::audio::AudioStream;
use dfcnn::ctc::GreedyDecoder;
use dfcnn::inference::Session;
use dfcnn::inference::native::{NativeNetwork, NativeSession};
use dfcnn::kernels::Kernels;
use dfcnn::model::Model;
use dfcnn::spectrogram::Spectrogram;

/// Difference allowed from log-probabilities computed in f64.
const TOLERANCE: f32 = 2e-4;
/// Difference allowed from PyTorch's f32 log-probabilities, on features that themselves differ by rounding.
const BOOTSTRAP_TOLERANCE: f32 = 2e-4;

/// The log-probabilities of a recording, heard in pieces.
fn log_probs(model: &Model, path: &Path, kernels: Kernels) -> Vec<f32> {
    let network = NativeNetwork::with_kernels(&model.architecture, &model.weights, kernels).unwrap();
    let mut session = NativeSession::new(Arc::new(network), 1).unwrap();
    let mut spectrogram = Spectrogram::new(&model.spectrogram, Some(model.normalization.clone())).unwrap();
    let mut audio = AudioStream::open(path, model.spectrogram.sample_rate_hz).unwrap();
    let (mut samples, mut frames, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    while audio.read(&mut samples).unwrap() > 0 {
        for samples in samples.chunks(1234) {
            frames.clear();
            spectrogram.push(samples, &mut frames);
            session.push(&frames, &mut outputs).unwrap();
        }
        samples.clear();
    }
    session.finish(&mut outputs).unwrap();
    outputs
}

fn greedy_text(model: &Model, log_probs: &[f32]) -> String {
    let mut decoder = GreedyDecoder::new(model.tokens.blank(), model.tokens.len());
    let mut emissions = Vec::new();
    decoder.push(log_probs, &mut emissions);
    decoder.finish(&mut emissions);
    model.tokens.text(&emissions.iter().map(|emission| emission.token).collect::<Vec<_>>())
}

#[test]
fn our_clip_gives_the_reference_log_probabilities() {
    let model = golden::bootstrap::model();
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("audio/harbour.wav");
    let wanted = golden::npy(golden::committed("corridor.npy"));
    for kernels in Kernels::available() {
        let found = log_probs(&model, &clip, kernels);
        assert_eq!(found.len(), wanted.values.len());
        let difference = golden::largest_difference(&found, &wanted.values);
        assert!(difference < TOLERANCE, "{}: {difference}", kernels.name());
        assert_eq!(greedy_text(&model, &found), greedy_text(&model, &wanted.values));
    }
}

#[test]
fn the_bootstrap_clips_give_the_reference_logits_and_text() {
    let Some(model) = golden::bootstrap::f32_model() else { return };
    for clip in golden::clips() {
        let mut wanted = golden::npy(clip.path("logits.npy")).values;
        for row in wanted.chunks_exact_mut(model.tokens.len()) {
            let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            row.iter_mut().for_each(|x| *x -= sum.ln() as f32);
        }
        for kernels in Kernels::available() {
            let found = log_probs(&model, &clip.path("wav"), kernels);
            assert_eq!(found.len(), wanted.len());
            let difference = golden::largest_difference(&found, &wanted);
            assert!(difference < BOOTSTRAP_TOLERANCE, "{}: {difference}", kernels.name());
            assert_eq!(greedy_text(&model, &found), clip.greedy);
        }
    }
}
