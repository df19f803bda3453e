//! A network to look into: every layer's output, and the way back from any layer to the input.

use super::crew::Crew;
use super::images::Images;
use super::parameter::{self, Parameter};
use super::sequence::{Flow, Pass, Sequence, Source};
use super::{LEAST_GRADIENT, Mode};
use crate::Result;
use crate::kernels::Kernels;
use crate::network::{Architecture, Weights};

/// How what is sent back passes an activation (Springenberg et al. 2015, fig. 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Times the slope: the gradient (Simonyan et al. 2013).
    Gradient,
    /// Positive values only, times the slope: guided backpropagation (Springenberg et al. 2015).
    Guided,
    /// Positive values only, whatever the slope: the deconvnet (Zeiler & Fergus 2013). The way back
    /// through a convolution is the transposed filters, and through a max-pool the unpooling with its switches.
    Deconvnet,
}

/// A network in evaluation, one layer at a time: unlike in [`Network`](super::Network), no ReLU is part of another layer.
pub struct OpenNetwork {
    architecture: Architecture,
    parameters: Vec<Parameter>,
    layers: Sequence,
    crew: Crew,
    input: Images,
    flow: Flow,
    /// Whether nothing has been computed yet.
    fresh: bool,
}

impl OpenNetwork {
    /// The network with these weights, computing with `threads` threads.
    ///
    /// # Errors
    /// When the weights are not those of the architecture, or the threads cannot be started.
    pub fn new(architecture: &Architecture, weights: &Weights, threads: usize) -> Result<Self> {
        weights.check(architecture)?;
        let mut parameters = parameter::initial(architecture, 0);
        for parameter in &mut parameters {
            if let Some(tensor) = weights.get(&parameter.path) {
                parameter.values.copy_from_slice(&tensor.values);
            }
        }
        let mut source = Source::new(architecture, false);
        Ok(Self {
            parameters,
            layers: Sequence::new(architecture.layers(), architecture.input(), "", &mut source),
            crew: Crew::new(threads, Kernels::detect())?,
            input: Images::default(),
            flow: Flow::default(),
            fresh: true,
            architecture: architecture.clone(),
        })
    }

    /// What the network is.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// What the network makes of `input`.
    ///
    /// # Panics
    /// When the frames of `input` have another shape than the architecture's.
    pub fn forward(&mut self, input: &Images) -> &Images {
        assert_eq!(input.shape, self.architecture.input(), "frames of the network's input shape");
        self.input.copy_from(input);
        let Self { parameters, crew, layers, input, fresh, .. } = self;
        let mode = Mode::Evaluation;
        layers.forward(
            input,
            &mut Pass { crew, parameters, mode, rule: Rule::Gradient, learning: false, changed: *fresh },
        );
        *fresh = false;
        layers.output(input)
    }

    /// The output of every layer in the last [`forward`](Self::forward), with the layer's path, in the order of
    /// [`Architecture::summary`].
    pub fn outputs(&self) -> Vec<(&str, &Images)> {
        let mut outputs = Vec::new();
        self.layers.outputs(&mut outputs);
        outputs
    }

    /// Sends `signal`, in the shape of the output of the layer at `path`, back to the input of the last
    /// [`forward`](Self::forward), and returns what arrives.
    ///
    /// # Panics
    /// When there is no such layer, or the signal has not its output's size.
    pub fn backward(&mut self, path: &str, signal: &[f32], rule: Rule) -> &Images {
        let mut outputs = Vec::new();
        self.layers.outputs(&mut outputs);
        let output = outputs.iter().find(|(own, _)| *own == path).map(|(_, output)| *output);
        let output = output.expect("a layer of the network");
        assert_eq!(signal.len(), output.values.len(), "a value for every output of {path}");
        self.flow.gradient.resize_like(output);
        let zero_or = |&g: &f32| if g.abs() < LEAST_GRADIENT { 0.0 } else { g };
        self.flow.gradient.values.iter_mut().zip(signal).for_each(|(value, g)| *value = zero_or(g));
        let Self { parameters, crew, layers, input, flow, .. } = self;
        let mut pass = Pass { crew, parameters, mode: Mode::Evaluation, rule, learning: false, changed: false };
        layers.backward_from(path, input, flow, &mut pass);
        &flow.gradient
    }
}
