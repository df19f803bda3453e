//! What gradients train, and what they train it with.

use crate::network::{self, Architecture, Layer, NamedLayer, Role};
use crate::random::Random;

/// A parameter with its values and, after a backward pass, the gradient of the loss with respect to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name in the weights file, e.g. `t0.depthwise.weight`.
    pub path: String,
    /// Its extents.
    pub shape: Vec<usize>,
    /// What it does. Parameters whose role is not trained have gradients of zero.
    pub role: Role,
    /// Its values, row-major.
    pub values: Vec<f32>,
    /// One for each value.
    pub gradients: Vec<f32>,
}

impl Parameter {
    fn new(parameter: &network::Parameter) -> Self {
        let network::Parameter { path, shape, role } = parameter.clone();
        let fill = if matches!(role, Role::Scale | Role::RunningVar) { 1.0 } else { 0.0 };
        Self { path, shape, role, values: vec![fill; parameter.len()], gradients: vec![0.0; parameter.len()] }
    }
}

/// Standard deviation of the last convolution's filters relative to the others': the network begins undecided.
const LAST_GAIN: f32 = 0.1;

/// The parameters of `architecture`, filters drawn from normal distributions of variance 2 / fan-in (He et al. 2015,
/// eq. 10), biases 0.
pub fn initial(architecture: &Architecture, seed: u64) -> Vec<Parameter> {
    let mut random = Random::new(seed);
    let mut parameters: Vec<Parameter> = architecture.parameters().iter().map(Parameter::new).collect();
    let last = last_convolution(architecture.layers()).map(|name| format!("{name}.weight"));
    for parameter in parameters.iter_mut().filter(|parameter| parameter.role == Role::Weight) {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let gain = if Some(&parameter.path) == last.as_ref() { LAST_GAIN } else { 1.0 };
        let deviation = gain * (2.0 / fan_in as f32).sqrt();
        parameter.values.iter_mut().for_each(|value| *value = deviation * random.normal());
    }
    parameters
}

/// The convolution whose outputs are the logits, if the network ends so.
fn last_convolution(layers: &[NamedLayer]) -> Option<&str> {
    let last = layers.iter().rev().find(|layer| !matches!(layer.layer, Layer::LogSoftmax | Layer::Dropout(_)))?;
    matches!(last.layer, Layer::Convolution(_)).then_some(&last.name)
}
