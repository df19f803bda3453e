//! **A network in 8 bits**: which convolutions compute with bytes, what the bytes mean, and what that costs in accuracy,
//! found out by letting the network hear sound.
//!
//! Filters are int8 with a scale for each output channel, images are u8 with one scale and zero point (Jacob et al. 2018,
//! "Quantization and training of neural networks for efficient integer-arithmetic-only inference").

mod place;
mod range;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::inference::Session;
use crate::inference::native::{NativeNetwork, NativeSession};
use crate::layers::{Images, OpenNetwork};
use crate::network::{Architecture, Folded, Layer, NamedLayer, Quantize, Weights, fold_batch_norm};
use crate::{Error, Result};

use range::Range;

/// Sound that the network has heard in f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// `[n, bins]`
    pub frames: Vec<f32>,
    /// `[steps, classes]`
    pub log_probs: Vec<f32>,
}

/// What becomes of a convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its path.
    pub path: String,
    /// Whether it computes with bytes.
    pub int8: bool,
    /// How far the network is from its f32 form when this convolution alone computes with bytes: see
    /// [`Quantizer::divergence`]. `None` where bytes would bring nothing and were not tried.
    pub alone: Option<f64>,
    /// Multiply-adds for one of its output frames, over its time stride: its share of the network's cost.
    pub cost: f64,
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The network in 8 bits, batch normalisation folded.
    pub architecture: Architecture,
    /// Its weights.
    pub weights: Weights,
    /// Every convolution in the order of the layers.
    pub choices: Vec<Choice>,
    /// How far it is from its f32 form.
    pub divergence: f64,
}

/// A network on its way to 8 bits.
pub struct Quantizer {
    architecture: Architecture,
    weights: Weights,
    open: OpenNetwork,
    /// Of each image that could become bytes, by the path of the layer that makes it.
    ranges: HashMap<String, Range>,
}

impl Quantizer {
    /// Prepares a network, computing with `threads` threads.
    ///
    /// # Errors
    /// [`Error::Network`] when the weights are not those of the architecture, or when it is in 8 bits already.
    pub fn new(architecture: &Architecture, weights: &Weights, threads: usize) -> Result<Self> {
        if architecture.summary().iter().any(|layer| layer.kind == "quantize") {
            return Err(Error::network("", "the network is in 8 bits already; quantize the model that it was made of"));
        }
        let Folded { architecture, weights, .. } = fold_batch_norm(architecture, weights)?;
        let all: BTreeSet<String> = dense(&architecture);
        let places = place::places(architecture.layers(), &all);
        let ranges = places.into_iter().map(|path| (path, Range::default())).collect();
        let open = OpenNetwork::new(&architecture, &weights, threads)?;
        Ok(Self { architecture, weights, open, ranges })
    }

    /// Takes notice of the values that `frames`, `[n, bins]`, lead to.
    pub fn observe(&mut self, frames: &[f32]) {
        let input = self.architecture.input();
        let count = frames.len() / input.len();
        if self.architecture.output_frames(count) == 0 {
            return;
        }
        let images = Images::new(input, vec![count], frames.to_vec());
        self.open.forward(&images);
        if let Some(range) = self.ranges.get_mut("") {
            range.add(frames);
        }
        for (path, output) in self.open.outputs() {
            if let Some(range) = self.ranges.get_mut(path) {
                range.add(&output.values);
            }
        }
    }

    /// The network with the convolutions at these paths in 8 bits.
    ///
    /// # Errors
    /// [`Error::Network`] when one of them cannot be.
    pub fn quantized(&self, int8: &BTreeSet<String>) -> Result<(Architecture, Weights)> {
        let meaning = |path: &str| self.ranges.get(path).map_or_else(|| Range::default().bytes(), Range::bytes);
        place::quantized(&self.architecture, &self.weights, int8, &meaning)
    }

    /// How far the network with the convolutions at these paths in 8 bits is from its f32 form: the Kullback–Leibler
    /// divergence of its classes, in nats per step, the mean over all steps of `sound`.
    ///
    /// # Errors
    /// As [`Quantizer::quantized`].
    pub fn divergence(&self, int8: &BTreeSet<String>, sound: &[Heard], threads: usize) -> Result<f64> {
        let (architecture, weights) = self.quantized(int8)?;
        let network = Arc::new(NativeNetwork::new(&architecture, &weights)?);
        let classes = architecture.output().len();
        let next = AtomicUsize::new(0);
        let work = || -> Result<f64> {
            let mut session = NativeSession::new(Arc::clone(&network), 1)?;
            let (mut sum, mut log_probs) = (0.0, Vec::new());
            while let Some(heard) = sound.get(next.fetch_add(1, Ordering::Relaxed)) {
                log_probs.clear();
                session.push(&heard.frames, &mut log_probs)?;
                session.finish(&mut log_probs)?;
                sum += divergence(&heard.log_probs, &log_probs);
            }
            Ok(sum)
        };
        let sums: Vec<Result<f64>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let steps: usize = sound.iter().map(|heard| heard.log_probs.len() / classes).sum();
        Ok(sums.into_iter().sum::<Result<f64>>()? / steps.max(1) as f64)
    }

    /// Puts as many convolutions into 8 bits as keep the divergence at most at `most`: those that hurt most when they alone
    /// are in 8 bits stay in f32. `each` is told of every measurement and may end the search by returning false; the
    /// result is then `None`.
    ///
    /// # Errors
    /// As [`Quantizer::quantized`].
    pub fn search(
        &self,
        sound: &[Heard],
        most: f64,
        threads: usize,
        mut each: impl FnMut() -> bool,
    ) -> Result<Option<Found>> {
        let mut choices = self.choices();
        for choice in choices.iter_mut().filter(|choice| choice.int8) {
            if !each() {
                return Ok(None);
            }
            choice.alone = Some(self.divergence(&BTreeSet::from([choice.path.clone()]), sound, threads)?);
        }
        loop {
            if !each() {
                return Ok(None);
            }
            let int8 = choices.iter().filter(|choice| choice.int8).map(|choice| choice.path.clone()).collect();
            let divergence = self.divergence(&int8, sound, threads)?;
            let worst = choices.iter_mut().filter(|choice| choice.int8).max_by(|a, b| {
                let hurt = |choice: &Choice| choice.alone.unwrap_or_default();
                hurt(a).total_cmp(&hurt(b))
            });
            match worst {
                // A divergence that is no number is too much.
                Some(worst) if divergence.is_nan() || divergence > most => worst.int8 = false,
                _ => {
                    let (architecture, weights) = self.quantized(&int8)?;
                    return Ok(Some(Found { architecture, weights, choices, divergence }));
                }
            }
        }
    }

    /// The paths of the convolutions that 8 bits can bring something.
    pub fn eligible(&self) -> BTreeSet<String> {
        self.choices().into_iter().filter(|choice| choice.int8).map(|choice| choice.path).collect()
    }

    /// How many measurements a search makes at least.
    pub fn measurements(&self) -> usize {
        self.eligible().len() + 1
    }

    /// Every convolution, in 8 bits where that can bring something.
    fn choices(&self) -> Vec<Choice> {
        let dense = dense(&self.architecture);
        let channels = |path: &str| self.weights.get(&format!("{path}.weight")).map_or(0, |filters| filters.shape[1]);
        let convolutions = self.architecture.summary().iter().filter(|layer| layer.kind == "convolution");
        let choice = |layer: &crate::network::LayerSummary| Choice {
            path: layer.path.clone(),
            // Instructions take four channels at once.
            int8: dense.contains(&layer.path) && channels(&layer.path).is_multiple_of(4),
            alone: None,
            cost: layer.multiply_adds as f64 / layer.time.stride as f64,
        };
        convolutions.map(choice).collect()
    }
}

/// The convolutions that could be in 8 bits.
fn dense(architecture: &Architecture) -> BTreeSet<String> {
    fn collect(layers: &[NamedLayer], prefix: &str, dense: &mut BTreeSet<String>) {
        for NamedLayer { name, layer } in layers {
            let path = format!("{prefix}{name}");
            match layer {
                Layer::Convolution(convolution) if convolution.groups == 1 => {
                    dense.insert(path);
                }
                Layer::Residual(residual) => {
                    let prefix = format!("{path}.");
                    collect(&residual.branch, &prefix, dense);
                    collect(&residual.shortcut, &prefix, dense);
                }
                _ => {}
            }
        }
    }
    let mut paths = BTreeSet::new();
    collect(architecture.layers(), "", &mut paths);
    paths.retain(|path| {
        let filters = architecture.parameters().iter().find(|parameter| parameter.path == format!("{path}.weight"));
        filters.is_some_and(|filters| filters.shape[1..].iter().product::<usize>() <= crate::network::MAX_INT8_PRODUCTS)
    });
    paths
}

/// `Σ p (log p − log q)` over all steps and classes; infinite when there are not as many of both.
fn divergence(wanted: &[f32], found: &[f32]) -> f64 {
    if wanted.len() != found.len() {
        return f64::INFINITY;
    }
    let term = |(&p, &q): (&f32, &f32)| f64::from(p).exp() * (f64::from(p) - f64::from(q));
    wanted.iter().zip(found).map(term).sum()
}

/// What bytes mean that stand for values from `least` to `most`, zero always among them.
fn meaning(least: f32, most: f32) -> Quantize {
    let (least, most) = (least.min(0.0), most.max(0.0));
    let scale = ((most - least) / 255.0).clamp(1e-9, 1e9);
    Quantize { scale, zero_point: (-least / scale).round().clamp(0.0, 255.0) as u8 }
}

#[cfg(test)]
mod tests;
