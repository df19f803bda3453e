//! Layers compiled into stages, and rows walking through them.

use super::Crew;
use super::convolution::{Depthwise, Direct};
use super::elementwise::{Collapse, Map};
use super::pool::Pooling;
use super::residual::{ResidualStage, ResidualState};
use super::window::Window;
use super::winograd::{Winograd, WinogradState};
use crate::network::{Activation, FrameShape, Layer, NamedLayer, Weights};
use crate::Result;

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
    Window(Window),
    Winograd(WinogradState),
    Residual(ResidualState),
}

/// Compiles `layers` under the path `prefix`; batch norms behind convolutions are folded already.
pub fn compile(layers: &[NamedLayer], input: FrameShape, prefix: &str, weights: &Weights) -> Result<Vec<Stage>> {
    let mut stages = Vec::with_capacity(layers.len());
    let mut shape = input;
    let mut rest = layers.iter().peekable();
    while let Some(NamedLayer { name, layer }) = rest.next() {
        let path = format!("{prefix}{name}");
        let output = layer.output_shape(shape).map_err(|problem| crate::Error::network(&path, problem))?;
        let mut relu_follows = || {
            let is_relu = |next: &&NamedLayer| matches!(next.layer, Layer::Activation(Activation::Relu));
            rest.next_if(|next| is_relu(&next)).is_some()
        };
        let stage = match layer {
            Layer::Convolution(convolution) => {
                let relu = relu_follows();
                if Winograd::suits(convolution, output) {
                    Stage::Winograd(Winograd::new(convolution, shape, output, relu, &path, weights)?)
                } else if Depthwise::suits(convolution, shape) {
                    Stage::Depthwise(Depthwise::new(convolution, shape, output, relu, &path, weights)?)
                } else {
                    Stage::Direct(Direct::new(convolution, shape, output, relu, &path, weights)?)
                }
            }
            Layer::Residual(residual) => {
                Stage::Residual(ResidualStage::new(residual, shape, output, relu_follows(), &path, weights)?)
            }
            Layer::MaxPool(pool) => Stage::Pooling(Pooling::max(pool, shape, output)),
            Layer::AveragePool(pool) => Stage::Pooling(Pooling::average(pool, shape, output)),
            Layer::BatchNorm(settings) => Stage::Map(Map::batch_norm(settings, &path, weights)?),
            Layer::Activation(activation) => Stage::Map(Map::Activation(*activation)),
            Layer::LocalResponseNorm(settings) => Stage::Map(Map::local_response_norm(settings, shape)),
            Layer::LogSoftmax => Stage::Map(Map::LogSoftmax { channels: shape.channels }),
            Layer::FrequencyCollapse => Stage::Collapse(Collapse { input: shape }),
            Layer::Dropout(_) => {
                shape = output;
                continue;
            }
        };
        stages.push(stage);
        shape = output;
    }
    Ok(stages)
}

impl Stage {
    pub fn state(&self) -> State {
        match self {
            Self::Direct(stage) => State::Window(Window::new(stage.window)),
            Self::Depthwise(stage) => State::Window(Window::new(stage.window)),
            Self::Pooling(stage) => State::Window(Window::new(stage.window)),
            Self::Winograd(stage) => State::Winograd(stage.state()),
            Self::Residual(stage) => State::Residual(stage.state()),
            Self::Map(_) | Self::Collapse(_) => State::Nothing,
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
pub fn run(
    stages: &[Stage],
    states: &mut [State],
    end: bool,
    crew: &Crew,
    rows: &mut Vec<f32>,
    made: &mut Vec<f32>,
) {
    for (stage, state) in stages.iter().zip(states) {
        if let Stage::Map(map) = stage {
            map.apply(rows);
            continue;
        }
        made.clear();
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
