//! The network, what AdamW remembers of it and the average of its weights: what one step changes.

use rayon::prelude::*;

use super::checkpoint::{Checkpoint, State};
use super::clip::clip_global_norm;
use super::ema::Ema;
use super::loader::{Batch, Part};
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
    /// See [`Objective`].
    pub label_smoothing: f32,
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
    /// One for each part of a batch, all with the same weights.
    replicas: Vec<Replica>,
    moments: Vec<Moments>,
    /// The average of every parameter. Running statistics are averaged with the weights (as in timm's ModelEmaV2): those
    /// of the newest weights alone are not those of the average.
    average: Vec<Vec<f32>>,
    /// Running statistics before the step, in case it is skipped.
    statistics: Vec<Vec<f32>>,
    rule: Rule,
    pool: rayon::ThreadPool,
}

/// The network as one part of a batch walks through it.
///
/// The parts are normalised apart (ghost batch normalisation, Hoffer et al. 2017), so they need nothing of one another
/// until their gradients are added up, and as many threads as there are parts need not wait for each other in between.
struct Replica {
    network: Network,
    objective: Objective,
}

impl Replica {
    /// Forward, and backward if the loss is finite.
    fn pass(&mut self, part: &Part) -> Outcome {
        let Self { network, objective } = self;
        let log_probs = network.forward(&part.images, Mode::Training { seed: part.seed });
        let outcome = objective.evaluate(log_probs, &part.labels);
        if outcome.finite && outcome.loss.is_finite() {
            network.backward(&objective.gradient, Respect::Logits);
        }
        outcome
    }
}

impl Learner {
    /// A network with these weights, before the first step. Weights do not depend on `threads`, but on the `parts` that a
    /// batch has.
    pub fn new(
        architecture: &Architecture,
        weights: &Weights,
        rule: Rule,
        parts: usize,
        threads: usize,
    ) -> Result<Self> {
        let replica = || -> Result<Replica> {
            let mut network = Network::new(architecture, 0, (threads / parts).max(1))?;
            network.load(weights)?;
            Ok(Replica { network, objective: Objective::new(0, rule.label_smoothing) })
        };
        let replicas = (0..parts).map(|_| replica()).collect::<Result<Vec<_>>>()?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| Error::setting("threads", format!("cannot start {threads}: {error}")))?;
        let parameters = replicas[0].network.parameters();
        Ok(Self {
            moments: parameters.iter().map(|p| Moments::new(p.values.len())).collect(),
            average: parameters.iter().map(|p| p.values.clone()).collect(),
            statistics: parameters.iter().filter(|p| !p.role.is_trained()).map(|p| p.values.clone()).collect(),
            replicas,
            rule,
            pool,
        })
    }

    /// Step `t`, counted from 1. A step whose loss or gradient is not finite changes nothing.
    pub fn step(&mut self, batch: &Batch, t: u64, learning_rate: f32) -> Step {
        let Self { replicas, moments, average, statistics, rule, pool } = self;
        for (kept, parameter) in statistics.iter_mut().zip(untrained(&mut replicas[0].network)) {
            kept.copy_from_slice(&parameter.values);
        }
        let used = batch.parts.len();
        let mut outcomes = vec![Outcome::default(); used];
        pool.install(|| {
            let passes = replicas.par_iter_mut().zip(&batch.parts).zip(&mut outcomes).with_max_len(1);
            passes.for_each(|((replica, part), outcome)| *outcome = replica.pass(part));
        });
        let outcome = outcomes.iter().copied().reduce(Outcome::and).unwrap_or_default();
        let mut norm = f32::NAN;
        if outcome.finite && outcome.loss.is_finite() {
            let shares: Vec<f32> =
                outcomes.iter().map(|part| part.labels as f32 / outcome.labels.max(1) as f32).collect();
            pool.install(|| by_parameter(&mut replicas[..used]).for_each(|mut copies| join(&mut copies, &shares)));
            let parameters = replicas[0].network.parameters_mut().iter_mut();
            let mut gradients: Vec<&mut [f32]> =
                parameters.filter(|p| p.role.is_trained()).map(|p| &mut p.gradients[..]).collect();
            norm = pool.install(|| clip_global_norm(&mut gradients, rule.greatest_norm));
        }
        let skipped = !norm.is_finite();
        if skipped {
            for Replica { network, .. } in replicas {
                for (kept, parameter) in statistics.iter().zip(untrained(network)) {
                    parameter.values.copy_from_slice(kept);
                }
            }
        } else {
            let all = by_parameter(replicas).zip(moments.par_iter_mut()).zip(average.par_iter_mut());
            pool.install(|| {
                all.for_each(|((mut copies, moments), average)| {
                    let Some((Parameter { role, values, gradients, .. }, others)) = copies.split_first_mut() else {
                        return;
                    };
                    if role.is_trained() {
                        let decay = *role == Role::Weight;
                        rule.optimizer.update(t, learning_rate, decay, values, gradients, moments);
                    }
                    rule.ema.update(t, average, values);
                    others.iter_mut().for_each(|other| other.values.copy_from_slice(values));
                });
            });
        }
        Step { outcome, norm, skipped }
    }

    /// Does `work` with a network that has the averaged weights.
    pub fn with_average<T>(&mut self, work: impl FnOnce(&mut Network) -> T) -> T {
        self.swap_average();
        let result = work(&mut self.replicas[0].network);
        self.swap_average();
        result
    }

    fn swap_average(&mut self) {
        for (parameter, average) in self.replicas[0].network.parameters_mut().iter_mut().zip(&mut self.average) {
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
            weights: self.replicas[0].network.store(),
            ema: self.average(),
            first_moment: self.named(|p, index| trained(p).then(|| &self.moments[index].first)),
            second_moment: self.named(|p, index| trained(p).then(|| &self.moments[index].second)),
            state,
        }
    }

    /// Becomes what was saved. The error says what is missing.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let Self { replicas, moments, average, .. } = self;
        replicas.iter_mut().try_for_each(|replica| replica.network.load(&checkpoint.weights))?;
        for ((parameter, moments), average) in replicas[0].network.parameters().iter().zip(moments).zip(average) {
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
        for (index, parameter) in self.replicas[0].network.parameters().iter().enumerate() {
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

/// Every parameter in turn, in all replicas.
fn by_parameter(replicas: &mut [Replica]) -> impl IndexedParallelIterator<Item = Vec<&mut Parameter>> {
    let mut parameters: Vec<Vec<&mut Parameter>> = Vec::new();
    for Replica { network, .. } in replicas {
        let copies = network.parameters_mut();
        parameters.resize_with(copies.len(), Vec::new);
        parameters.iter_mut().zip(copies).for_each(|(all, copy)| all.push(copy));
    }
    parameters.into_par_iter().with_max_len(1)
}

/// Makes the first copy of a parameter that of the whole batch: the gradients of the parts weighted by their `shares` of
/// the labels, and the mean of the running statistics.
fn join(copies: &mut [&mut Parameter], shares: &[f32]) {
    let Some((first, others)) = copies.split_first_mut() else { return };
    if first.role.is_trained() {
        first.gradients.iter_mut().for_each(|gradient| *gradient *= shares[0]);
        for (other, share) in others.iter().zip(&shares[1..]) {
            first.gradients.iter_mut().zip(&other.gradients).for_each(|(sum, gradient)| *sum += share * gradient);
        }
    } else {
        for other in others.iter() {
            first.values.iter_mut().zip(&other.values).for_each(|(sum, value)| *sum += value);
        }
        let part = 1.0 / shares.len() as f32;
        first.values.iter_mut().for_each(|sum| *sum *= part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Images;
    use crate::network::FrameShape;
    use crate::random::Random;

    const LAYERS: &str = r#"
        layers = [
            { name = "c1", kind = "convolution", out_channels = 6, kernel = [3, 3], time_padding = { past = 1, future = 1 } },
            { name = "r1", kind = "activation", function = "relu" },
            { name = "collapse", kind = "frequency-collapse" },
            { name = "out", kind = "convolution", out_channels = 4, kernel = [1, 1] },
            { name = "log-softmax", kind = "log-softmax" },
        ]
    "#;

    /// Utterances cut into parts as `of` says.
    fn batch(of: &[&[usize]]) -> Batch {
        let utterance = |index: usize| {
            let mut random = Random::new(index as u64);
            let frames = 8 + 3 * index;
            let values: Vec<f32> = (0..frames * 5).map(|_| random.normal()).collect();
            (frames, values, vec![1 + index as u32 % 3; 1 + index])
        };
        let part = |indices: &&[usize]| {
            let utterances: Vec<_> = indices.iter().map(|&index| utterance(index)).collect();
            let values = utterances.iter().flat_map(|(_, values, _)| values.clone()).collect();
            let lengths = utterances.iter().map(|(frames, ..)| *frames).collect();
            let images = Images::new(FrameShape { frequency: 5, channels: 1 }, lengths, values);
            Part { images, labels: utterances.into_iter().map(|(.., labels)| labels).collect(), seed: 0 }
        };
        Batch { epoch: 0, number: 0, parts: of.iter().map(part).collect(), audio_s: 1.0 }
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        #[derive(serde::Deserialize)]
        struct File {
            layers: Vec<crate::network::NamedLayer>,
        }
        let file: File = toml::from_str(LAYERS).unwrap();
        let architecture = Architecture::new(FrameShape { frequency: 5, channels: 1 }, file.layers).unwrap();
        let weights = Network::new(&architecture, 7, 1).unwrap().store();
        let rule =
            Rule { optimizer: AdamW::default(), ema: Ema { decay: 0.9 }, greatest_norm: 1e9, label_smoothing: 0.0 };
        let steps = |parts: &[&[usize]], threads| {
            let mut learner = Learner::new(&architecture, &weights, rule, 3, threads).unwrap();
            let steps: Vec<Step> = (1..4).map(|t| learner.step(&batch(parts), t, 1e-3)).collect();
            (steps[2], learner.replicas.iter().map(|replica| replica.network.store()).collect::<Vec<_>>())
        };
        let (whole, weights) = steps(&[&[0, 1, 2, 3]], 1);
        let (apart, other) = steps(&[&[0, 2], &[3], &[1]], 1);
        assert_eq!(whole.outcome.labels, apart.outcome.labels);
        assert!((whole.outcome.loss - apart.outcome.loss).abs() < 1e-4 * whole.outcome.loss.abs());
        assert!((whole.norm - apart.norm).abs() < 1e-4 * whole.norm, "{} {}", whole.norm, apart.norm);
        for (path, tensor) in weights[0].iter() {
            let values = &other[0].get(path).unwrap().values;
            assert!(tensor.values.iter().zip(values).all(|(a, b)| (a - b).abs() < 1e-4), "{path}");
        }
        assert!(other[1..].iter().all(|replica| *replica == other[0]), "replicas stay equal");
        assert!(steps(&[&[0, 2], &[3], &[1]], 4).1 == other, "threads change nothing");
    }
}
