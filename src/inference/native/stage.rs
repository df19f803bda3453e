//! Layers compiled into stages, and rows walking through them.

use std::collections::HashMap;

use super::Crew;
use super::convolution::{Compiled, Depthwise, Direct};
use super::elementwise::{Collapse, Map};
use super::pool::{Kind, Pooling};
use super::residual::{ResidualStage, ResidualState};
use super::window::{RowWindow, Rows};
use super::winograd::{Winograd, WinogradState};
use crate::network::{Activation, Architecture, FrameShape, Layer, NamedLayer, Weights};
use crate::{Error, Result};

/// One or several layers that run as one.
pub enum Stage {
    Direct(Direct),
    Depthwise(Depthwise),
    Winograd(Winograd),
    Pooling(Pooling),
    Map(Map),
    Collapse(Collapse),
    Residual(ResidualStage),
}

/// What a stream keeps for a stage.
pub enum State {
    Nothing,
    Window(RowWindow),
    Winograd(Box<WinogradState>),
    Residual(Box<ResidualState>),
}

/// What layers are compiled from. Batch norms behind convolutions are folded already.
pub struct Source<'a> {
    weights: &'a Weights,
    shapes: HashMap<&'a str, FrameShape>,
}

impl<'a> Source<'a> {
    pub fn new(architecture: &'a Architecture, weights: &'a Weights) -> Self {
        let shapes = architecture.summary().iter().map(|row| (row.path.as_str(), row.output)).collect();
        Self { weights, shapes }
    }

    /// The values of a parameter.
    pub fn values(&self, path: &str) -> Result<&'a [f32]> {
        match self.weights.get(path) {
            Some(tensor) => Ok(&tensor.values),
            None => Err(Error::network(path, "the weights lack this parameter")),
        }
    }

    /// Compiles `layers` whose paths begin with `prefix`.
    pub fn compile(&self, layers: &[NamedLayer], input: FrameShape, prefix: &str) -> Result<Vec<Stage>> {
        let mut stages = Vec::with_capacity(layers.len());
        let mut shape = input;
        let mut rest = layers.iter().peekable();
        while let Some(NamedLayer { name, layer }) = rest.next() {
            let path = format!("{prefix}{name}");
            let output = match self.shapes.get(path.as_str()) {
                Some(&output) => output,
                None => return Err(Error::network(path, "the architecture lacks this layer")),
            };
            let is_relu = |next: &&NamedLayer| matches!(next.layer, Layer::Activation(Activation::Relu));
            let mut relu_follows = || rest.next_if(is_relu).is_some();
            stages.push(match layer {
                Layer::Convolution(settings) => {
                    let convolution = Compiled::new(settings, shape, output, relu_follows(), &path, self)?;
                    if Winograd::suits(&convolution) {
                        Stage::Winograd(Winograd::new(convolution))
                    } else if Depthwise::suits(&convolution) {
                        Stage::Depthwise(Depthwise::new(convolution))
                    } else {
                        Stage::Direct(Direct::new(convolution))
                    }
                }
                Layer::Residual(residual) => {
                    Stage::Residual(ResidualStage::new(residual, shape, relu_follows(), &path, self)?)
                }
                Layer::MaxPool(_) => Stage::Pooling(Pooling::new(layer, Kind::Max, shape, output)),
                Layer::AveragePool(_) => Stage::Pooling(Pooling::new(layer, Kind::Average, shape, output)),
                Layer::BatchNorm(settings) => Stage::Map(Map::batch_norm(settings, &path, self)?),
                Layer::Activation(activation) => Stage::Map(Map::Activation(*activation)),
                Layer::LocalResponseNorm(settings) => {
                    Stage::Map(Map::LocalResponseNorm { settings: settings.clone(), channels: shape.channels })
                }
                Layer::LogSoftmax => Stage::Map(Map::LogSoftmax { channels: shape.channels }),
                Layer::FrequencyCollapse => Stage::Collapse(Collapse { input: shape }),
                Layer::Dropout(_) => continue,
            });
            shape = output;
        }
        Ok(stages)
    }
}

impl Stage {
    pub fn state(&self) -> State {
        match self {
            Self::Direct(stage) => State::Window(RowWindow::new(stage.window)),
            Self::Depthwise(stage) => State::Window(RowWindow::new(stage.window)),
            Self::Pooling(stage) => State::Window(RowWindow::new(stage.window)),
            Self::Winograd(stage) => State::Winograd(Box::new(stage.state())),
            Self::Residual(stage) => State::Residual(Box::new(stage.state())),
            Self::Map(_) | Self::Collapse(_) => State::Nothing,
        }
    }

    /// Rows it takes for one that it makes.
    pub fn time_stride(&self) -> usize {
        match self {
            Self::Direct(stage) => stage.window.stride,
            Self::Depthwise(stage) => stage.window.stride,
            Self::Pooling(stage) => stage.window.stride,
            Self::Residual(stage) => stage.time_stride(),
            Self::Winograd(_) | Self::Map(_) | Self::Collapse(_) => 1,
        }
    }

    pub fn reset(&self, state: &mut State) {
        match (self, state) {
            (_, State::Nothing) => {}
            (_, State::Window(window)) => window.reset(),
            (_, State::Winograd(state)) => state.reset(),
            (Self::Residual(stage), State::Residual(state)) => stage.reset(state),
            (_, State::Residual(_)) => unreachable!("a stage keeps the state it made"),
        }
    }
}

/// Takes `rows` through `stages`, and at the `end` the padding that stands for the future; `rows` then holds the
/// outputs. `made` is scratch.
pub fn run(stages: &[Stage], states: &mut [State], end: bool, crew: &Crew, rows: &mut Rows, made: &mut Rows) {
    for (stage, state) in stages.iter().zip(states) {
        if let Stage::Map(map) = stage {
            map.apply(rows);
            continue;
        }
        match (stage, state) {
            (Stage::Direct(stage), State::Window(window)) => stage.step(window, rows, end, crew, made),
            (Stage::Depthwise(stage), State::Window(window)) => stage.step(window, rows, end, crew, made),
            (Stage::Pooling(stage), State::Window(window)) => stage.step(window, rows, end, crew, made),
            (Stage::Winograd(stage), State::Winograd(state)) => stage.step(state, rows, end, crew, made),
            (Stage::Residual(stage), State::Residual(state)) => stage.step(state, rows, end, crew, made),
            (Stage::Collapse(stage), _) => stage.apply(rows, made),
            _ => unreachable!("a stage keeps the state it made"),
        }
        std::mem::swap(rows, made);
    }
}
