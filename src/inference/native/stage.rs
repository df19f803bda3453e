//! Layers compiled into stages, and rows walking through them.

use std::collections::HashMap;
use std::iter::Peekable;

use super::convolution::{Compiled, Depthwise, Direct};
use super::elementwise::{Collapse, Map, Rounding};
use super::int8::Int8;
use super::pipeline::Tools;
use super::pool::{Kind, Pooling};
use super::residual::{ResidualStage, ResidualState, Sum};
use super::window::{Flow, RowWindow};
use super::winograd::{Winograd, WinogradState};
use crate::kernels::Kernels;
use crate::kernels::bytes::ByteSum;
use crate::network::{Activation, Folded, FrameShape, Layer, NamedLayer, Quantize, Weights};
use crate::{Error, Result};

/// One or several layers that run as one.
pub enum Stage {
    Direct(Direct),
    Depthwise(Depthwise),
    Winograd(Box<Winograd>),
    Int8(Int8),
    Pooling(Pooling),
    BytePooling(Pooling<u8>),
    Map(Map),
    Collapse(Collapse),
    Residual(ResidualStage),
    Quantize(Rounding),
    Dequantize(Rounding),
}

/// What a stream keeps for a stage.
pub enum State {
    Nothing,
    Window(RowWindow),
    Bytes(RowWindow<u8>),
    Winograd(Box<WinogradState>),
    Residual(Box<ResidualState>),
}

/// What layers are compiled from.
pub struct Source<'a> {
    kernels: Kernels,
    /// The network with batch norms behind convolutions folded, and the weights before that.
    folded: &'a Folded,
    unfolded: &'a Weights,
    shapes: HashMap<&'a str, FrameShape>,
    /// Whether last bits may depend on how rows come: what is rounded to bytes later must not.
    pub along_time: bool,
}

impl<'a> Source<'a> {
    pub fn new(folded: &'a Folded, unfolded: &'a Weights, kernels: Kernels) -> Self {
        let architecture = &folded.architecture;
        let shapes = architecture.summary().iter().map(|row| (row.path.as_str(), row.output)).collect();
        Self { kernels, folded, unfolded, shapes, along_time: architecture.int8_convolutions() == 0 }
    }

    /// The values of a parameter.
    pub fn values(&self, path: &str) -> Result<&'a [f32]> {
        match self.folded.weights.get(path) {
            Some(tensor) => Ok(&tensor.values),
            None => Err(Error::network(path, "the weights lack this parameter")),
        }
    }

    /// The filters of the convolution at `path` before a batch norm was folded into them, and what that multiplied them by;
    /// `folded` where there was none.
    pub fn unfolded(&self, path: &str, folded: &'a [f32]) -> (&'a [f32], Option<&'a [f32]>) {
        match (self.folded.scales.get(path), self.unfolded.get(&format!("{path}.weight"))) {
            (Some(scale), Some(filters)) => (&filters.values, Some(scale)),
            _ => (folded, None),
        }
    }

    /// Compiles all layers; the outputs are floats.
    pub fn network(&self) -> Result<Vec<Stage>> {
        let architecture = &self.folded.architecture;
        let (mut stages, bytes) = self.compile(architecture.layers(), architecture.input(), "", None)?;
        to_floats(&mut stages, bytes);
        Ok(stages)
    }

    /// Compiles `layers` whose paths begin with `prefix`. What comes in are floats, or `bytes` that mean something; so
    /// is what goes out.
    fn compile(
        &self,
        layers: &[NamedLayer],
        input: FrameShape,
        prefix: &str,
        mut bytes: Option<Quantize>,
    ) -> Result<(Vec<Stage>, Option<Quantize>)> {
        let mut stages = Vec::with_capacity(layers.len());
        let mut shape = input;
        let mut collapsed = None;
        let mut rest = layers.iter().peekable();
        while let Some(NamedLayer { name, layer }) = rest.next() {
            let path = format!("{prefix}{name}");
            let output = match self.shapes.get(path.as_str()) {
                Some(&output) => output,
                None => return Err(Error::network(path, "the architecture lacks this layer")),
            };
            let is_relu = |next: &&NamedLayer| matches!(next.layer, Layer::Activation(Activation::Relu));
            let after_collapse = collapsed.take();
            let mut relu_follows = || rest.next_if(is_relu).is_some();
            match (layer, bytes) {
                (Layer::Convolution(settings), Some(input)) if settings.int8 => {
                    let convolution =
                        Compiled::new(settings, shape, output, relu_follows(), after_collapse, &path, self)?;
                    let Some((filters, scales)) = self.folded.weights.int8(&format!("{path}.weight")) else {
                        return Err(Error::network(path, "the weights lack the scales of int8 filters"));
                    };
                    bytes = next_quantize(&mut rest);
                    stages.push(Stage::Int8(Int8::new(convolution, (&filters, scales), input, bytes)));
                }
                (Layer::Convolution(settings), _) => {
                    to_floats(&mut stages, bytes.take());
                    let convolution =
                        Compiled::new(settings, shape, output, relu_follows(), after_collapse, &path, self)?;
                    stages.push(if Winograd::suits(&convolution) {
                        Stage::Winograd(Box::new(Winograd::new(convolution, self.along_time, &self.kernels)))
                    } else if Depthwise::suits(&convolution) {
                        Stage::Depthwise(Depthwise::new(convolution))
                    } else {
                        Stage::Direct(Direct::new(convolution, self.along_time, self.kernels))
                    });
                }
                (Layer::Residual(residual), _) => {
                    let relu = relu_follows();
                    let prefix = format!("{path}.");
                    let (mut branch, a) = self.compile(&residual.branch, shape, &prefix, bytes)?;
                    let (mut shortcut, b) = self.compile(&residual.shortcut, shape, &prefix, bytes)?;
                    let bytes_follow = if a.is_some() && b.is_some() { next_quantize(&mut rest) } else { None };
                    let sum = match (a, b, bytes_follow) {
                        (Some(a), Some(b), Some(output)) => Sum::Bytes(ByteSum {
                            scales: [a.scale / output.scale, b.scale / output.scale],
                            zeros: [a.zero_point, b.zero_point],
                            zero: output.zero_point,
                            relu,
                        }),
                        _ => {
                            to_floats(&mut branch, a);
                            to_floats(&mut shortcut, b);
                            Sum::Floats { relu }
                        }
                    };
                    bytes = bytes_follow;
                    stages.push(Stage::Residual(ResidualStage { paths: [branch, shortcut], sum }));
                }
                (Layer::Quantize(settings), _) if bytes == Some(*settings) => {}
                (Layer::Quantize(settings), _) => {
                    to_floats(&mut stages, bytes.take());
                    stages.push(Stage::Quantize(Rounding { settings: *settings }));
                    bytes = Some(*settings);
                }
                (Layer::MaxPool(_), Some(_)) => {
                    stages.push(Stage::BytePooling(Pooling::of_bytes(layer, shape, output)));
                }
                // The order of its filters is as good as an order of the values.
                (Layer::FrequencyCollapse, _) if is_dense(rest.peek()) => collapsed = Some(shape),
                (Layer::FrequencyCollapse, _) => stages.push(Stage::Collapse(Collapse { input: shape })),
                (Layer::Dropout(_), _) => continue,
                (
                    Layer::MaxPool(_)
                    | Layer::AveragePool(_)
                    | Layer::BatchNorm(_)
                    | Layer::Activation(_)
                    | Layer::LocalResponseNorm(_)
                    | Layer::LogSoftmax,
                    _,
                ) => {
                    to_floats(&mut stages, bytes.take());
                    stages.push(match layer {
                        Layer::AveragePool(_) => Stage::Pooling(Pooling::new(layer, Kind::Average, shape, output)),
                        Layer::BatchNorm(settings) => Stage::Map(Map::batch_norm(settings, &path, self)?),
                        Layer::Activation(activation) => Stage::Map(Map::Activation(*activation)),
                        Layer::LocalResponseNorm(settings) => {
                            Stage::Map(Map::LocalResponseNorm { settings: settings.clone(), channels: shape.channels })
                        }
                        Layer::LogSoftmax => Stage::Map(Map::LogSoftmax { channels: shape.channels }),
                        _ => Stage::Pooling(Pooling::new(layer, Kind::Max, shape, output)),
                    });
                }
            }
            shape = output;
        }
        Ok((stages, bytes))
    }
}

/// Makes floats of `bytes` with that meaning, if there are any.
fn to_floats(stages: &mut Vec<Stage>, bytes: Option<Quantize>) {
    stages.extend(bytes.map(|settings| Stage::Dequantize(Rounding { settings })));
}

/// Whether a layer is a convolution each of whose filters sees all channels.
fn is_dense(layer: Option<&&NamedLayer>) -> bool {
    layer.is_some_and(|layer| matches!(&layer.layer, Layer::Convolution(convolution) if convolution.groups == 1))
}

/// Takes the next layer if it rounds to bytes.
fn next_quantize<'a>(rest: &mut Peekable<impl Iterator<Item = &'a NamedLayer>>) -> Option<Quantize> {
    let Layer::Quantize(settings) = rest.peek()?.layer else { return None };
    rest.next();
    Some(settings)
}

impl Stage {
    pub fn state(&self) -> State {
        match self {
            Self::Direct(stage) => State::Window(RowWindow::new(stage.window)),
            Self::Depthwise(stage) => State::Window(RowWindow::new(stage.window)),
            Self::Pooling(stage) => State::Window(RowWindow::new(stage.window)),
            Self::Int8(stage) => State::Bytes(RowWindow::new(stage.window)),
            Self::BytePooling(stage) => State::Bytes(RowWindow::new(stage.window)),
            Self::Winograd(stage) => State::Winograd(Box::new(stage.state())),
            Self::Residual(stage) => State::Residual(Box::new(stage.state())),
            Self::Map(_) | Self::Collapse(_) | Self::Quantize(_) | Self::Dequantize(_) => State::Nothing,
        }
    }

    /// Rows it takes for one that it makes.
    pub fn time_stride(&self) -> usize {
        match self {
            Self::Direct(stage) => stage.window.stride,
            Self::Depthwise(stage) => stage.window.stride,
            Self::Pooling(stage) => stage.window.stride,
            Self::Int8(stage) => stage.window.stride,
            Self::BytePooling(stage) => stage.window.stride,
            Self::Residual(stage) => stage.time_stride(),
            Self::Winograd(_) | Self::Map(_) | Self::Collapse(_) | Self::Quantize(_) | Self::Dequantize(_) => 1,
        }
    }

    /// Whether it makes or takes images that are more than one bin high.
    pub fn sees_frequencies(&self) -> bool {
        match self {
            Self::Direct(stage) => stage.output.frequency > 1,
            Self::Depthwise(stage) => stage.output.frequency > 1,
            Self::Pooling(stage) => stage.output.frequency > 1,
            Self::Int8(stage) => stage.output.frequency > 1,
            Self::BytePooling(stage) => stage.output.frequency > 1,
            Self::Residual(stage) => stage.paths.iter().flatten().any(Self::sees_frequencies),
            Self::Winograd(_) | Self::Collapse(_) => true,
            Self::Map(_) | Self::Quantize(_) | Self::Dequantize(_) => false,
        }
    }

    pub fn reset(&self, state: &mut State) {
        match (self, state) {
            (_, State::Nothing) => {}
            (_, State::Window(window)) => window.reset(),
            (_, State::Bytes(window)) => window.reset(),
            (_, State::Winograd(state)) => state.reset(),
            (Self::Residual(stage), State::Residual(state)) => stage.reset(state),
            (_, State::Residual(_)) => unreachable!("a stage keeps the state it made"),
        }
    }
}

/// Takes `rows` through `stages`, as [`step`] does through one.
pub fn run(stages: &[Stage], states: &mut [State], end: bool, tools: &mut Tools, rows: &mut Flow, made: &mut Flow) {
    for (stage, state) in stages.iter().zip(states) {
        step(stage, state, end, tools, rows, made);
    }
}

/// Takes `rows` through `stage`, and at the `end` the padding that stands for the future; `rows` then holds the outputs.
/// `made` is scratch.
pub fn step(stage: &Stage, state: &mut State, end: bool, tools: &mut Tools, rows: &mut Flow, made: &mut Flow) {
    if let Stage::Map(map) = stage {
        return map.apply(&mut rows.floats);
    }
    made.clear();
    let (floats, bytes) = (&rows.floats, &rows.bytes);
    match (stage, state) {
        (Stage::Direct(stage), State::Window(window)) => stage.step(window, floats, end, tools, &mut made.floats),
        (Stage::Depthwise(stage), State::Window(window)) => stage.step(window, floats, end, tools, &mut made.floats),
        (Stage::Pooling(stage), State::Window(window)) => stage.step(window, floats, end, tools, &mut made.floats),
        (Stage::Winograd(stage), State::Winograd(state)) => stage.step(state, floats, end, tools, &mut made.floats),
        (Stage::Int8(stage), State::Bytes(window)) => stage.step(window, bytes, end, tools, made),
        (Stage::BytePooling(stage), State::Bytes(window)) => stage.step(window, bytes, end, tools, &mut made.bytes),
        (Stage::Residual(stage), State::Residual(state)) => stage.step(state, rows, end, tools, made),
        (Stage::Collapse(stage), _) => {
            stage.apply(floats, &mut made.floats);
            stage.apply(bytes, &mut made.bytes);
        }
        (Stage::Quantize(stage), _) => stage.quantize(floats, tools, &mut made.bytes),
        (Stage::Dequantize(stage), _) => stage.dequantize(bytes, tools, &mut made.floats),
        _ => unreachable!("a stage keeps the state it made"),
    }
    std::mem::swap(rows, made);
}
