//! The CTC loss of a batch and its gradient with respect to the logits.
//!
//! What is minimised is the loss per label: the sum over all utterances, divided by the number of all their labels. So
//! every label counts the same, in short and in long utterances, and the gradient's norm does not depend on how much
//! sound a batch holds.

use rayon::prelude::*;

use crate::ctc::loss::{CtcLoss, NoLoss};
use crate::layers::Images;

/// What came of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// The sum over the utterances, in nats.
    pub loss: f64,
    /// Utterances that have a loss.
    pub utterances: usize,
    /// Labels of them.
    pub labels: usize,
    /// Utterances of which the best path is nothing but blanks.
    pub empty: usize,
    /// Whether everything was finite.
    pub finite: bool,
}

impl Outcome {
    /// What came of two parts of a batch.
    pub fn and(self, other: Self) -> Self {
        Self {
            loss: self.loss + other.loss,
            utterances: self.utterances + other.utterances,
            labels: self.labels + other.labels,
            empty: self.empty + other.empty,
            finite: self.finite && other.finite,
        }
    }
}

/// Computes losses; keeps the gradient.
pub struct Objective {
    blank: u32,
    /// Of the loss per label, `[Σ steps, classes]`.
    pub gradient: Vec<f32>,
}

impl Objective {
    pub fn new(blank: u32) -> Self {
        Self { blank, gradient: Vec::new() }
    }

    /// The loss of `log_probs` against each utterance's `labels`. An utterance with fewer steps than its labels take
    /// counts for nothing.
    pub fn evaluate(&mut self, log_probs: &Images, labels: &[Vec<u32>]) -> Outcome {
        let classes = log_probs.shape.channels;
        self.gradient.clear();
        self.gradient.resize(log_probs.values.len(), 0.0);
        let mut rest = &mut self.gradient[..];
        let mut tasks = Vec::with_capacity(labels.len());
        for (log_probs, labels) in log_probs.utterances().zip(labels) {
            let (gradient, later) = rest.split_at_mut(log_probs.len());
            rest = later;
            tasks.push((log_probs, labels, gradient));
        }
        let blank = self.blank;
        let results: Vec<_> = tasks
            .into_par_iter()
            .with_max_len(1)
            .map_init(
                || CtcLoss::new(blank),
                |ctc, (log_probs, labels, gradient)| {
                    let loss = ctc.loss_and_gradient(log_probs, classes, labels, gradient);
                    (loss, labels.len(), log_probs.chunks_exact(classes).all(|row| is_greatest(row, blank)))
                },
            )
            .collect();
        let mut outcome = Outcome { finite: true, ..Outcome::default() };
        for (loss, labels, empty) in results {
            outcome.empty += usize::from(empty);
            match loss {
                Ok(loss) => {
                    outcome.loss += loss;
                    outcome.utterances += 1;
                    outcome.labels += labels;
                }
                Err(NoLoss::TooFewSteps { .. }) => {}
                Err(NoLoss::NotFinite) => outcome.finite = false,
            }
        }
        let scale = 1.0 / outcome.labels.max(1) as f32;
        self.gradient.iter_mut().for_each(|g| *g *= scale);
        outcome
    }
}

fn is_greatest(row: &[f32], class: u32) -> bool {
    let value = row[class as usize];
    row.iter().all(|&other| other <= value)
}
