//! The settings of a run: all that its weights depend on, data apart. They are in every checkpoint.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::augment::Augmentation;
use super::optimizer::AdamW;
use super::schedule::{Decay, Length, Schedule};
use crate::dataset::batches::{self, Curriculum};
use crate::{Error, Result};

/// A spectrogram dataset to train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its folder, as `dfcnn prepare` made it.
    pub folder: PathBuf,
    /// How often its utterances are seen per epoch.
    pub weight: f64,
}

/// How long a run takes; the learning rate ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Budget {
    /// This many optimiser steps.
    Steps(u64),
    /// This many minutes, validation included.
    Minutes(f64),
    /// This many times through the data.
    Epochs(u64),
}

/// The settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Decides about every random choice.
    pub seed: u32,
    /// When the run ends.
    pub budget: Budget,
    /// Seconds of sound in a batch.
    pub batch_s: f64,
    /// Parts of a batch that walk through the network apart, each with batch statistics of its own. As many threads share
    /// a step without waiting for one another.
    pub parts: usize,
    /// Shorter utterances are left out, in seconds.
    pub shortest_s: f64,
    /// Longer utterances are left out, in seconds.
    pub longest_s: f64,
    /// Epochs until everything is seen, the short utterances first; 0 for all at once.
    pub curriculum_epochs: u64,
    /// The longest utterance of the first epoch of a curriculum, in seconds.
    pub curriculum_longest_s: f64,
    /// The greatest learning rate.
    pub learning_rate: f32,
    /// The last learning rate as a part of the greatest.
    pub last_learning_rate: f32,
    /// Steps from nothing to the greatest learning rate.
    pub warmup_steps: u64,
    /// How it falls from there.
    pub decay: Decay,
    /// AdamW's decay of filters.
    pub weight_decay: f32,
    /// Gradients of the loss per label are scaled down to this norm.
    pub greatest_norm: f32,
    /// The part of the loss that wants all classes alike; 0 for none.
    pub label_smoothing: f32,
    /// What the average of the weights keeps per step.
    pub ema_decay: f32,
    /// How strong augmentation is: 0 is none, 1 is [`Augmentation::default`].
    pub augment: f32,
    /// Augmentation begins when the smoothed loss per label, in nats, has fallen below this. Earlier it throws a network
    /// back that has not learnt anything yet.
    pub augment_after: f64,
    /// Minutes from one validation to the next.
    pub evaluate_minutes: f64,
    /// Minutes from one checkpoint to the next: what `kill -9` can cost.
    pub checkpoint_minutes: f64,
    /// Whether bundles of the network at ever longer intervals are kept, to see how it came to what it is.
    #[serde(default)]
    pub history: bool,
    /// What is trained on.
    pub sources: Vec<Source>,
    /// Folders of the datasets to validate with.
    pub dev: Vec<PathBuf>,
}

impl Config {
    /// A run on these datasets with everything else as it usually is.
    pub fn new(sources: Vec<Source>, budget: Budget) -> Self {
        Self {
            seed: 1,
            budget,
            batch_s: 16.0,
            parts: 2,
            shortest_s: 0.3,
            longest_s: 20.0,
            curriculum_epochs: 3,
            curriculum_longest_s: 3.0,
            learning_rate: 1.2e-3,
            last_learning_rate: 0.02,
            warmup_steps: 200,
            decay: Decay::Cosine,
            weight_decay: 1e-2,
            greatest_norm: 1.0,
            label_smoothing: 0.0,
            ema_decay: 0.999,
            augment: 0.4,
            augment_after: 1.0,
            evaluate_minutes: 15.0,
            checkpoint_minutes: 5.0,
            history: false,
            sources,
            dev: Vec::new(),
        }
    }

    /// Refuses settings that cannot be carried out.
    ///
    /// # Errors
    /// Names the first one as the user writes it.
    pub fn validate(&self) -> Result<()> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let part = |value: f32| (0.0..=1.0).contains(&value);
        let budget = match self.budget {
            Budget::Steps(count) | Budget::Epochs(count) => count > 0,
            Budget::Minutes(minutes) => positive(minutes),
        };
        let weights = self.sources.iter().all(|source| (0.01..=100.0).contains(&source.weight));
        for (holds, setting, problem) in [
            (!self.sources.is_empty(), "data", "name at least one dataset or manifest to train on"),
            (weights, "data", "a weight must be from 0.01 to 100"),
            (budget, "budget", "must be positive"),
            (positive(self.batch_s), "batch-seconds", "must be positive"),
            ((1..=64).contains(&self.parts), "parts", "must be from 1 to 64"),
            (self.longest_s > self.shortest_s, "longest", "must be greater than the shortest"),
            (positive(self.curriculum_longest_s), "curriculum-longest", "must be positive"),
            (positive(self.learning_rate.into()), "learning-rate", "must be positive"),
            (part(self.last_learning_rate), "last-learning-rate", "must be a part of the greatest, from 0 to 1"),
            (part(self.weight_decay), "weight-decay", "must be from 0 to 1"),
            (positive(self.greatest_norm.into()), "clip", "must be positive"),
            (
                part(self.label_smoothing) && self.label_smoothing < 1.0,
                "label-smoothing",
                "must be at least 0 and below 1",
            ),
            (part(self.ema_decay) && self.ema_decay < 1.0, "ema", "must be at least 0 and below 1"),
            ((0.0..=10.0).contains(&self.augment), "augment", "must be from 0 to 10"),
            (!self.augment_after.is_nan(), "augment-after", "must be a number"),
            (self.evaluate_minutes >= 0.0, "evaluate-minutes", "must not be negative"),
            (self.checkpoint_minutes >= 0.0, "checkpoint-minutes", "must not be negative"),
        ] {
            if !holds {
                return Err(Error::setting(setting, problem));
            }
        }
        Ok(())
    }

    pub(super) fn batches(&self) -> batches::Settings {
        let curriculum = Curriculum { epochs: self.curriculum_epochs, longest_s: self.curriculum_longest_s };
        batches::Settings {
            seconds: self.batch_s,
            curriculum: (self.curriculum_epochs > 0).then_some(curriculum),
            seed: self.seed.into(),
        }
    }

    /// The learning rate over a run of `length`.
    pub(super) fn schedule(&self, length: Length) -> Schedule {
        Schedule {
            peak: self.learning_rate,
            last: self.last_learning_rate,
            warmup_steps: self.warmup_steps,
            decay: self.decay,
            length,
        }
    }

    pub(super) fn optimizer(&self) -> AdamW {
        AdamW { weight_decay: self.weight_decay, ..AdamW::default() }
    }

    /// The usual augmentation, as much of it as is wanted; `None` for none.
    pub(super) fn augmentation(&self) -> Option<Augmentation> {
        (self.augment > 0.0).then(|| Augmentation::default().scaled(self.augment))
    }
}
