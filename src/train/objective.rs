//! The CTC loss of a batch and its gradient with respect to the logits.
//!
//! What is minimised is the loss per label: the sum over all utterances, divided by the number of all their labels. So
//! every label counts the same, in short and in long utterances, and the gradient's norm does not depend on how much
//! sound a batch holds. An utterance in which nothing is said counts as if it were speech of
//! its length.

use rayon::prelude::*;

use crate::ctc::loss::{CtcLoss, NoLoss};
use crate::layers::Images;

/// English speech has about so many output steps of 40 ms for each letter.
const STEPS_PER_LABEL: usize = 2;

/// What came of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// The sum over the utterances, in nats.
    pub loss: f64,
    /// Utterances that have a loss.
    pub utterances: usize,
    /// Labels of them, and what utterances in which nothing is said count for.
    pub labels: usize,
    /// Utterances that say something and of which the best path is nothing but blanks.
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
///
/// With label smoothing the gradient is that of `(1 − ε) · CTC + ε · Σ KL(uniform ‖ network)`, the sum being over the steps
/// (Kim et al. 2018): no class may become impossible. What is reported is the CTC loss alone.
pub struct Objective {
    blank: u32,
    /// ε.
    smoothing: f32,
    /// Of the loss per label, `[Σ steps, classes]`.
    pub gradient: Vec<f32>,
}

impl Objective {
    pub fn new(blank: u32, smoothing: f32) -> Self {
        Self { blank, smoothing, gradient: Vec::new() }
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
        let (blank, smoothing) = (self.blank, self.smoothing);
        let results: Vec<_> = tasks
            .into_par_iter()
            .with_max_len(1)
            .map_init(
                || CtcLoss::new(blank),
                |ctc, (log_probs, labels, gradient)| {
                    let loss = ctc.loss_and_gradient(log_probs, classes, labels, gradient);
                    if smoothing > 0.0 && loss.is_ok() {
                        smooth(log_probs, classes, smoothing, gradient);
                    }
                    let mute = log_probs.chunks_exact(classes).all(|row| is_greatest(row, blank));
                    let silent = labels.is_empty();
                    let weight =
                        if silent { (log_probs.len() / classes / STEPS_PER_LABEL).max(1) } else { labels.len() };
                    (loss, weight, mute && !silent)
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

/// The gradient with respect to the logits of the smoothed loss: `∂KL/∂logit = softmax − 1 / classes`.
fn smooth(log_probs: &[f32], classes: usize, smoothing: f32, gradient: &mut [f32]) {
    let uniform = 1.0 / classes as f32;
    for (gradient, log_prob) in gradient.iter_mut().zip(log_probs) {
        *gradient = (1.0 - smoothing) * *gradient + smoothing * (log_prob.exp() - uniform);
    }
}

fn is_greatest(row: &[f32], class: u32) -> bool {
    let value = row[class as usize];
    row.iter().all(|&other| other <= value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::FrameShape;

    #[test]
    fn an_utterance_in_which_nothing_is_said_counts_as_speech_of_its_length() {
        let (classes, shape) = (3, FrameShape { frequency: 1, channels: 3 });
        let mut objective = Objective::new(0, 0.0);
        let uniform = |lengths: Vec<usize>| {
            let len = lengths.iter().sum::<usize>() * classes;
            Images::new(shape, lengths, vec![-(classes as f32).ln(); len])
        };
        let outcome = objective.evaluate(&uniform(vec![10, 6]), &[vec![], vec![1, 2, 1]]);
        assert_eq!((outcome.utterances, outcome.labels, outcome.empty), (2, 10 / STEPS_PER_LABEL + 3, 1));
        // Blank is less likely than it should be, everything else more.
        let expected = [-2.0, 1.0, 1.0].map(|g| g / 3.0 / outcome.labels as f32);
        let silent = objective.gradient[..10 * classes].chunks(classes);
        assert!(silent.flat_map(|row| row.iter().zip(expected)).all(|(g, expected)| (g - expected).abs() < 1e-6));
        assert_eq!(objective.evaluate(&uniform(vec![1]), &[vec![]]).labels, 1);
    }

    /// Finite differences of the smoothed loss.
    #[test]
    fn smoothing_has_the_gradient_of_its_loss() {
        let (classes, steps, smoothing) = (4, 5, 0.3);
        let logits: Vec<f64> = (0..steps * classes).map(|index| ((index * 7 % 11) as f64 - 5.0) / 4.0).collect();
        let labels = vec![vec![1, 3]];
        let images = |logits: &[f64]| {
            let rows = logits.chunks(classes).flat_map(|row| {
                let sum = row.iter().map(|x| x.exp()).sum::<f64>().ln();
                row.iter().map(move |x| (x - sum) as f32)
            });
            Images::new(FrameShape { frequency: 1, channels: classes }, vec![steps], rows.collect())
        };
        let loss = |logits: &[f64]| {
            let log_probs = images(logits);
            let ctc = Objective::new(0, 0.0).evaluate(&log_probs, &labels).loss;
            let kl: f64 = log_probs.values.iter().map(|&p| -f64::from(p) / classes as f64).sum();
            ((1.0 - smoothing) * ctc + smoothing * kl) / 2.0 // two labels
        };
        let mut objective = Objective::new(0, smoothing as f32);
        objective.evaluate(&images(&logits), &labels);
        for index in 0..logits.len() {
            let at = |shift: f64| {
                let mut logits = logits.clone();
                logits[index] += shift;
                loss(&logits)
            };
            let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((difference - f64::from(objective.gradient[index])).abs() < 1e-3, "{index}: {difference}");
        }
    }
}
