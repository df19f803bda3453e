//! Layers in order: outputs walk forward through them, gradients backward.

use super::activation::Activation;
use super::batch_norm::BatchNorm;
use super::convolution::Convolution;
use super::crew::Crew;
use super::dropout::Dropout;
use super::frequency_collapse::FrequencyCollapse;
use super::images::Images;
use super::local_response_norm::LocalResponseNorm;
use super::log_softmax::LogSoftmax;
use super::parameter::Parameter;
use super::pool::{Kind, Pool};
use super::quantize::Quantize;
use super::residual::Residual;
use super::{Mode, Rule};
use crate::network::{self, Architecture, FrameShape, Layer, NamedLayer};

/// What every layer needs to work with.
pub struct Pass<'a> {
    pub crew: &'a mut Crew,
    pub parameters: &'a mut [Parameter],
    pub mode: Mode,
    /// How gradients pass activations.
    pub rule: Rule,
    /// Whether the gradients of weights are wanted too.
    pub learning: bool,
    /// Whether parameters have changed since the last forward pass.
    pub changed: bool,
}

/// A gradient on its way back, and the memory for the next one.
#[derive(Default)]
pub struct Flow {
    /// The gradient with respect to a layer's outputs, which the layer makes that with respect to its inputs.
    pub gradient: Images,
    pub spare: Images,
}

impl Flow {
    /// What the layer has written to `spare` is the gradient now.
    pub fn turn(&mut self) {
        std::mem::swap(&mut self.gradient, &mut self.spare);
    }
}

/// Which of the network's parameters belong to a layer, by name.
pub struct Source<'a> {
    architecture: &'a Architecture,
    layers: u64,
    /// Whether a ReLU runs as part of the layer before it.
    fused: bool,
}

impl<'a> Source<'a> {
    pub fn new(architecture: &'a Architecture, fused: bool) -> Self {
        Self { architecture, layers: 0, fused }
    }

    /// The index of the parameter at `path`.
    pub fn parameter(&self, path: &str) -> Option<usize> {
        self.architecture.parameters().iter().position(|parameter| parameter.path == path)
    }

    fn output(&self, path: &str) -> FrameShape {
        let row = self.architecture.summary().iter().find(|row| row.path == path);
        row.map_or(self.architecture.input(), |row| row.output)
    }
}

/// One layer, or several that run as one.
pub enum Node {
    Convolution(Box<Convolution>),
    BatchNorm(BatchNorm),
    Activation(Activation),
    Pool(Pool),
    LocalResponseNorm(LocalResponseNorm),
    Dropout(Dropout),
    Residual(Box<Residual>),
    FrequencyCollapse(FrequencyCollapse),
    LogSoftmax(LogSoftmax),
    Quantize(Quantize),
}

macro_rules! each_kind {
    ($node:expr, $layer:ident => $work:expr) => {
        match $node {
            Node::Convolution($layer) => $work,
            Node::BatchNorm($layer) => $work,
            Node::Activation($layer) => $work,
            Node::Pool($layer) => $work,
            Node::LocalResponseNorm($layer) => $work,
            Node::Dropout($layer) => $work,
            Node::Residual($layer) => $work,
            Node::FrequencyCollapse($layer) => $work,
            Node::LogSoftmax($layer) => $work,
            Node::Quantize($layer) => $work,
        }
    };
}

impl Node {
    fn output(&self) -> &Images {
        each_kind!(self, layer => &layer.output)
    }

    fn forward(&mut self, input: &Images, pass: &mut Pass<'_>) {
        each_kind!(self, layer => layer.forward(input, pass))
    }

    /// Turns `flow` from the gradient of the outputs into that of the inputs, unless nobody asks for it.
    fn backward(&mut self, input: &Images, flow: &mut Flow, wanted: bool, pass: &mut Pass<'_>) {
        each_kind!(self, layer => layer.backward(input, flow, wanted, pass))
    }

    fn has_parameters(&self) -> bool {
        match self {
            Node::Convolution(_) | Node::BatchNorm(_) => true,
            Node::Residual(residual) => residual.has_parameters(),
            Node::Activation(_)
            | Node::Pool(_)
            | Node::LocalResponseNorm(_)
            | Node::Dropout(_)
            | Node::FrequencyCollapse(_)
            | Node::LogSoftmax(_)
            | Node::Quantize(_) => false,
        }
    }
}

/// Layers one after the other.
pub struct Sequence {
    nodes: Vec<Node>,
    /// Of each node, that of its first layer.
    paths: Vec<String>,
}

impl Sequence {
    /// Compiles `layers` over frames of `shape`; their paths begin with `prefix`.
    pub fn new(layers: &[NamedLayer], mut shape: FrameShape, prefix: &str, source: &mut Source<'_>) -> Self {
        let (mut nodes, mut paths) = (Vec::with_capacity(layers.len()), Vec::with_capacity(layers.len()));
        let mut rest = layers.iter().peekable();
        while let Some(NamedLayer { name, layer }) = rest.next() {
            let path = format!("{prefix}{name}");
            let output = source.output(&path);
            source.layers += 1;
            let fused = source.fused;
            let mut relu_follows = || {
                let relu = Layer::Activation(network::Activation::Relu);
                fused && rest.next_if(|next| next.layer == relu).is_some()
            };
            nodes.push(match layer {
                Layer::Convolution(settings) => {
                    let relu = relu_follows();
                    Node::Convolution(Box::new(Convolution::new(settings, shape, output, relu, &path, source)))
                }
                Layer::BatchNorm(settings) => {
                    let relu = relu_follows();
                    Node::BatchNorm(BatchNorm::new(settings, shape.channels, relu, &path, source))
                }
                Layer::Residual(settings) => {
                    let relu = relu_follows();
                    Node::Residual(Box::new(Residual::new(settings, shape, relu, &path, source)))
                }
                Layer::Activation(function) => Node::Activation(Activation::new(*function)),
                Layer::MaxPool(_) => Node::Pool(Pool::new(layer, Kind::Max, shape, output)),
                Layer::AveragePool(_) => Node::Pool(Pool::new(layer, Kind::Average, shape, output)),
                Layer::LocalResponseNorm(settings) => Node::LocalResponseNorm(LocalResponseNorm::new(settings)),
                Layer::Dropout(settings) => Node::Dropout(Dropout::new(settings, source.layers)),
                Layer::FrequencyCollapse => Node::FrequencyCollapse(FrequencyCollapse::default()),
                Layer::LogSoftmax => Node::LogSoftmax(LogSoftmax::default()),
                Layer::Quantize(settings) => Node::Quantize(Quantize::new(*settings)),
            });
            shape = output;
            paths.push(path);
        }
        Self { nodes, paths }
    }

    pub fn has_parameters(&self) -> bool {
        self.nodes.iter().any(Node::has_parameters)
    }

    /// What the last layer made of `input`.
    pub fn output<'a>(&'a self, input: &'a Images) -> &'a Images {
        self.nodes.last().map_or(input, Node::output)
    }

    pub fn forward(&mut self, input: &Images, pass: &mut Pass<'_>) {
        for index in 0..self.nodes.len() {
            let (before, rest) = self.nodes.split_at_mut(index);
            rest[0].forward(before.last().map_or(input, Node::output), pass);
        }
    }

    /// Turns `flow` from the gradient of the outputs into that of the inputs, if `wanted`; the last `skipped` layers
    /// are left out.
    pub fn backward(&mut self, input: &Images, flow: &mut Flow, wanted: bool, skipped: usize, pass: &mut Pass<'_>) {
        // Below the first layer with parameters nobody asks for gradients.
        let first = if wanted { 0 } else { self.nodes.iter().position(Node::has_parameters).unwrap_or(usize::MAX) };
        for index in (first..self.nodes.len() - skipped).rev() {
            let (before, rest) = self.nodes.split_at_mut(index);
            let input = before.last().map_or(input, Node::output);
            rest[0].backward(input, flow, wanted || index > first, pass);
        }
    }

    /// Which node is the layer at `path` or has it inside.
    fn position(&self, path: &str) -> Option<usize> {
        let is_or_holds = |own: &String| {
            path.strip_prefix(own.as_str()).is_some_and(|inside| inside.is_empty() || inside.starts_with('.'))
        };
        self.paths.iter().position(is_or_holds)
    }

    /// Whether the layer at `path` is one of these or inside one.
    pub fn holds(&self, path: &str) -> bool {
        self.position(path).is_some()
    }

    /// Turns `flow` from the gradient of the outputs of the layer at `path`, which is one of these or inside one, into
    /// that of the input.
    pub fn backward_from(&mut self, path: &str, input: &Images, flow: &mut Flow, pass: &mut Pass<'_>) {
        let Some(index) = self.position(path) else { return };
        let mut skipped = self.nodes.len() - index - 1;
        let (before, rest) = self.nodes.split_at_mut(index);
        if let Node::Residual(residual) = &mut rest[0]
            && self.paths[index] != path
        {
            residual.backward_from(path, before.last().map_or(input, Node::output), flow, pass);
            skipped += 1;
        }
        self.backward(input, flow, true, skipped, pass);
    }

    /// Appends the output of every layer, in the order of the architecture's summary.
    pub fn outputs<'a>(&'a self, outputs: &mut Vec<(&'a str, &'a Images)>) {
        for (node, path) in self.nodes.iter().zip(&self.paths) {
            outputs.push((path, node.output()));
            if let Node::Residual(residual) = node {
                residual.outputs(outputs);
            }
        }
    }

    pub fn ends_with_log_softmax(&self) -> bool {
        matches!(self.nodes.last(), Some(Node::LogSoftmax(_)))
    }
}
