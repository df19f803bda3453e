//! The network, what AdamW remembers of it and the average of its weights: what one step changes.

use rayon::prelude::*;

use super::checkpoint::{Checkpoint, State};
use super::clip::clip_global_norm;
use super::ema::Ema;
use super::loader::Batch;
use super::objective::{Objective, Outcome};
use super::optimizer::{AdamW, Moments};
use crate::layers::{Mode, Network, Parameter, Respect};
use crate::network::{Architecture, Role, Tensor, Weights};
use crate::{Error, Result};

/// How a step is done.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub optimizer: AdamW,
    pub ema: Ema,
    pub greatest_norm: f32,
}

/// What came of a step.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub outcome: Outcome,
    /// Of the gradient of the loss per label, before clipping.
    pub norm: f32,
    /// Left out, since something was not finite.
    pub skipped: bool,
}

/// Everything that learns.
pub struct Learner {
    network: Network,
    moments: Vec<Moments>,
    /// The average of every parameter. Running statistics are averaged with the weights (as in timm's ModelEmaV2): those
    /// of the newest weights alone are not those of the average.
    average: Vec<Vec<f32>>,
    /// Running statistics before the step, in case it is skipped.
    statistics: Vec<Vec<f32>>,
    objective: Objective,
    rule: Rule,
    pool: rayon::ThreadPool,
}

impl Learner {
    /// A network with these weights, before the first step.
    pub fn new(architecture: &Architecture, weights: &Weights, rule: Rule, threads: usize) -> Result<Self> {
        let mut network = Network::new(architecture, 0, threads)?;
        network.load(weights)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| Error::setting("threads", format!("cannot start {threads}: {error}")))?;
        let parameters = network.parameters();
        Ok(Self {
            moments: parameters.iter().map(|p| Moments::new(p.values.len())).collect(),
            average: parameters.iter().map(|p| p.values.clone()).collect(),
            statistics: parameters.iter().filter(|p| !p.role.is_trained()).map(|p| p.values.clone()).collect(),
            objective: Objective::new(0),
            network,
            rule,
            pool,
        })
    }

    /// Step `t`, counted from 1. A step whose loss or gradient is not finite changes nothing.
    pub fn step(&mut self, batch: &Batch, t: u64, learning_rate: f32) -> Step {
        let Self { network, moments, average, statistics, objective, rule, pool } = self;
        for (kept, parameter) in statistics.iter_mut().zip(untrained(network)) {
            kept.copy_from_slice(&parameter.values);
        }
        let log_probs = network.forward(&batch.images, Mode::Training { seed: batch.seed });
        let outcome = pool.install(|| objective.evaluate(log_probs, &batch.labels));
        let mut norm = f32::NAN;
        if outcome.finite && outcome.loss.is_finite() {
            network.backward(&objective.gradient, Respect::Logits);
            let trained = network.parameters_mut().iter_mut().filter(|p| p.role.is_trained());
            let mut gradients: Vec<&mut [f32]> = trained.map(|p| &mut p.gradients[..]).collect();
            norm = clip_global_norm(&mut gradients, rule.greatest_norm);
        }
        let skipped = !norm.is_finite();
        if skipped {
            for (kept, parameter) in statistics.iter().zip(untrained(network)) {
                parameter.values.copy_from_slice(kept);
            }
        } else {
            let parameters = network.parameters_mut().par_iter_mut().with_max_len(1);
            let all = parameters.zip(moments.par_iter_mut()).zip(average.par_iter_mut());
            pool.install(|| {
                all.for_each(|((parameter, moments), average)| {
                    let Parameter { role, values, gradients, .. } = parameter;
                    if role.is_trained() {
                        let decay = *role == Role::Weight;
                        rule.optimizer.update(t, learning_rate, decay, values, gradients, moments);
                    }
                    rule.ema.update(t, average, values);
                });
            });
        }
        Step { outcome, norm, skipped }
    }

    /// Does `work` with a network that has the averaged weights.
    pub fn with_average<T>(&mut self, work: impl FnOnce(&mut Network) -> T) -> T {
        self.swap_average();
        let result = work(&mut self.network);
        self.swap_average();
        result
    }

    fn swap_average(&mut self) {
        for (parameter, average) in self.network.parameters_mut().iter_mut().zip(&mut self.average) {
            std::mem::swap(&mut parameter.values, average);
        }
    }

    /// The averaged weights.
    pub fn average(&self) -> Weights {
        self.named(|_, index| Some(&self.average[index]))
    }

    /// All of it, to be saved.
    pub fn checkpoint(&self, state: State) -> Checkpoint {
        let trained = |parameter: &Parameter| parameter.role.is_trained();
        Checkpoint {
            weights: self.network.store(),
            ema: self.average(),
            first_moment: self.named(|p, index| trained(p).then(|| &self.moments[index].first)),
            second_moment: self.named(|p, index| trained(p).then(|| &self.moments[index].second)),
            state,
        }
    }

    /// Becomes what was saved. The error says what is missing.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.network.load(&checkpoint.weights)?;
        let Self { network, moments, average, .. } = self;
        for ((parameter, moments), average) in network.parameters().iter().zip(moments).zip(average) {
            let copy = |from: &Weights, to: &mut Vec<f32>| {
                let tensor = from.get(&parameter.path).filter(|tensor| tensor.shape == parameter.shape);
                let missing = || Error::network(&parameter.path, "the checkpoint lacks a tensor of this shape");
                tensor.ok_or_else(missing).map(|tensor| to.copy_from_slice(&tensor.values))
            };
            copy(&checkpoint.ema, average)?;
            if parameter.role.is_trained() {
                copy(&checkpoint.first_moment, &mut moments.first)?;
                copy(&checkpoint.second_moment, &mut moments.second)?;
            }
        }
        Ok(())
    }

    fn named<'a>(&'a self, values: impl Fn(&Parameter, usize) -> Option<&'a Vec<f32>>) -> Weights {
        let mut weights = Weights::default();
        for (index, parameter) in self.network.parameters().iter().enumerate() {
            if let Some(values) = values(parameter, index) {
                let tensor = Tensor { shape: parameter.shape.clone(), values: values.clone() };
                weights.insert(parameter.path.clone(), tensor);
            }
        }
        weights
    }
}

fn untrained(network: &mut Network) -> impl Iterator<Item = &mut Parameter> {
    network.parameters_mut().iter_mut().filter(|parameter| !parameter.role.is_trained())
}
