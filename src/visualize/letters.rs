//! The letters that a network heard, and where in its output they stand.

use crate::ctc::{Emission, GreedyDecoder};
use crate::network::{Architecture, Layer};
use crate::tokens::Tokens;

/// The tokens of the best path through `log_probs`, `[steps, classes]`.
pub fn best_path(log_probs: &[f32], tokens: &Tokens) -> Vec<Emission> {
    let (mut decoder, mut emissions) = (GreedyDecoder::new(tokens.blank(), tokens.len()), Vec::new());
    decoder.push(log_probs, &mut emissions);
    decoder.finish(&mut emissions);
    emissions
}

/// The step of its run at which a token is most probable.
pub fn surest_step(emission: &Emission, log_probs: &[f32], classes: usize) -> usize {
    let run = emission.start_step as usize..emission.end_step as usize;
    let log_prob = |step: &usize| log_probs[step * classes + emission.token as usize];
    run.clone().max_by(|a, b| log_prob(a).total_cmp(&log_prob(b))).unwrap_or(run.start)
}

/// The path of the layer that makes the logits: behind the log-softmax every class would have a part in what one of them
/// sends back.
pub fn logits(architecture: &Architecture) -> &str {
    let last = architecture.layers().iter().rev().find(|layer| layer.layer != Layer::LogSoftmax);
    last.map_or("", |layer| layer.name.as_str())
}
