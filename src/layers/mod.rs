//! **The mathematics of training**: whole utterances forward through the layers and gradients backward, one file per
//! layer kind.
//!
//! A batch is packed: no frame is padding but what a layer itself adds at an utterance's ends, so a network computes for
//! an utterance the same in any company (batch normalisation in training aside) and the same as when it streams.

mod activation;
mod batch_norm;
mod convolution;
mod crew;
mod dropout;
mod frequency_collapse;
mod images;
mod local_response_norm;
mod log_softmax;
mod open;
mod parameter;
mod pool;
mod quantize;
mod residual;
mod sequence;

pub use images::Images;
pub use open::{OpenNetwork, Rule};
pub use parameter::Parameter;

use crate::Result;
use crate::kernels::Kernels;
use crate::network::{Architecture, Role, Tensor, Weights};

use crew::Crew;
use sequence::{Flow, Pass, Sequence, Source};

/// How a forward pass is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, and dropout as `seed` says: another one for every step.
    Training {
        /// What dropout's choices follow from.
        seed: u64,
    },
    /// Running statistics, no dropout: what inference computes.
    Evaluation,
}

/// What a gradient that enters the network is with respect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Respect {
    /// The outputs of the last layer.
    Outputs,
    /// The inputs of the log-softmax at the end, such as `softmax − posterior` of a CTC loss.
    Logits,
}

/// Smaller gradients count as zero: their products would be subnormal, and a step on such numbers takes twice as long.
const LEAST_GRADIENT: f32 = 1e-20;

/// A network that can be trained.
///
/// Memory: the outputs of every layer, two gradients as large as the largest output (two more in every residual), and a
/// few megabytes per thread. It is kept from batch to batch, so that after the first of its size a step allocates
/// nothing of note.
pub struct Network {
    architecture: Architecture,
    parameters: Vec<Parameter>,
    layers: Sequence,
    crew: Crew,
    /// Whether parameters may have changed since the last forward pass.
    changed: bool,
    mode: Mode,
    input: Images,
    flow: Flow,
}

impl Network {
    /// A network with random filters that follow from `seed`, computing with `threads` threads, one of them the
    /// caller's if there is only one. Results do not depend on their number.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(architecture: &Architecture, seed: u64, threads: usize) -> Result<Self> {
        Self::with_kernels(architecture, seed, threads, Kernels::detect())
    }

    /// The same for one instruction set.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn with_kernels(architecture: &Architecture, seed: u64, threads: usize, kernels: Kernels) -> Result<Self> {
        let mut source = Source::new(architecture, true);
        Ok(Self {
            parameters: parameter::initial(architecture, seed),
            layers: Sequence::new(architecture.layers(), architecture.input(), "", &mut source),
            crew: Crew::new(threads, kernels)?,
            changed: true,
            mode: Mode::Evaluation,
            input: Images::default(),
            flow: Flow::default(),
            architecture: architecture.clone(),
        })
    }

    /// What the network is.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The parameters in the order of the layers, with their gradients.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The same, to be changed.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        self.changed = true;
        &mut self.parameters
    }

    /// Takes the values of all parameters from `weights`.
    ///
    /// # Errors
    /// When the weights are not those of the architecture.
    pub fn load(&mut self, weights: &Weights) -> Result<()> {
        weights.check(&self.architecture)?;
        for parameter in self.parameters_mut() {
            if let Some(tensor) = weights.get(&parameter.path) {
                parameter.values.copy_from_slice(&tensor.values);
            }
        }
        Ok(())
    }

    /// The values of all parameters.
    pub fn store(&self) -> Weights {
        let mut weights = Weights::default();
        for Parameter { path, shape, values, .. } in &self.parameters {
            weights.insert(path.clone(), Tensor { shape: shape.clone(), values: values.clone() });
        }
        weights
    }

    /// What the network makes of `input`. In training the running statistics take notice of the batch.
    ///
    /// # Panics
    /// When the frames of `input` have another shape than the architecture's.
    pub fn forward(&mut self, input: &Images, mode: Mode) -> &Images {
        assert_eq!(input.shape, self.architecture.input(), "frames of the network's input shape");
        self.input.copy_from(input);
        self.mode = mode;
        let Self { parameters, crew, layers, input, changed, .. } = self;
        layers.forward(
            input,
            &mut Pass { crew, parameters, mode, rule: Rule::Gradient, learning: true, changed: *changed },
        );
        *changed = false;
        layers.output(input)
    }

    /// Sets every parameter's gradients to those of a loss whose gradient with respect to the last outputs or logits is
    /// `gradient`, `[Σ frames, channels]`.
    ///
    /// # Panics
    /// When there are not as many values as outputs, or when `respect` is to logits that the network has not.
    pub fn backward(&mut self, gradient: &[f32], respect: Respect) {
        self.run_backward(gradient, respect, false);
    }

    /// Does the same, and returns the gradient with respect to the input.
    ///
    /// # Panics
    /// As [`Network::backward`].
    pub fn backward_to_input(&mut self, gradient: &[f32], respect: Respect) -> &Images {
        self.run_backward(gradient, respect, true);
        &self.flow.gradient
    }

    fn run_backward(&mut self, gradient: &[f32], respect: Respect, wanted: bool) {
        let Self { parameters, crew, layers, input, flow, mode, .. } = self;
        let output = layers.output(input);
        assert_eq!(gradient.len(), output.values.len(), "a gradient for every output");
        flow.gradient.resize_like(output);
        let zero_or = |&g: &f32| if g.abs() < LEAST_GRADIENT { 0.0 } else { g };
        flow.gradient.values.iter_mut().zip(gradient).for_each(|(value, g)| *value = zero_or(g));
        let skipped = match respect {
            Respect::Outputs => 0,
            Respect::Logits => {
                assert!(layers.ends_with_log_softmax(), "the network has no log-softmax at its end");
                1
            }
        };
        let mut pass = Pass { crew, parameters, mode: *mode, rule: Rule::Gradient, learning: true, changed: false };
        layers.backward(input, flow, wanted, skipped, &mut pass);
        debug_assert!(self.parameters.iter().all(|p| p.role.is_trained() || p.gradients.iter().all(|&g| g == 0.0)));
        debug_assert!(self.parameters.iter().all(|p| p.role != Role::Weight || p.gradients.len() == p.values.len()));
    }
}
