//! Functions of each value on its own.

use super::Rule;
use super::images::Images;
use super::sequence::{Flow, Pass};
use crate::network;

/// An activation; a ReLU directly behind a convolution, a batch norm or a residual is part of that.
pub struct Activation {
    function: network::Activation,
    pub output: Images,
}

impl Activation {
    pub fn new(function: network::Activation) -> Self {
        Self { function, output: Images::default() }
    }

    pub fn forward(&mut self, input: &Images, pass: &mut Pass<'_>) {
        self.output.resize_like(input);
        let function = self.function;
        pass.crew.rows(&mut self.output.values, 1, |first, out, _| {
            let x = &input.values[first..][..out.len()];
            out.iter_mut().zip(x).for_each(|(out, &x)| *out = value(function, x));
        });
    }

    pub fn backward(&mut self, input: &Images, flow: &mut Flow, _: bool, pass: &mut Pass<'_>) {
        let (function, rule) = (self.function, pass.rule);
        pass.crew.rows(&mut flow.gradient.values, 1, |first, gradient, _| {
            let x = &input.values[first..][..gradient.len()];
            gradient.iter_mut().zip(x).for_each(|(gradient, &x)| {
                *gradient = match rule {
                    Rule::Gradient => *gradient * slope(function, x),
                    Rule::Guided => gradient.max(0.0) * slope(function, x),
                    Rule::Deconvnet => gradient.max(0.0),
                }
            });
        });
    }
}

/// √(2/π) of the tanh approximation of GELU.
const GELU: f32 = 0.797_884_6;
/// The cubic term's factor in it.
const GELU_CUBIC: f32 = 0.044_715;

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn value(function: network::Activation, x: f32) -> f32 {
    match function {
        network::Activation::Relu => x.max(0.0),
        network::Activation::LeakyRelu { slope } => x.max(0.0) + slope * x.min(0.0),
        network::Activation::ClippedRelu { ceiling } => x.max(0.0).min(ceiling),
        network::Activation::Sigmoid => sigmoid(x),
        network::Activation::Tanh => x.tanh(),
        network::Activation::Silu => x * sigmoid(x),
        network::Activation::Gelu => 0.5 * x * (1.0 + (GELU * (x + GELU_CUBIC * x * x * x)).tanh()),
    }
}

/// The derivative of [`value`].
fn slope(function: network::Activation, x: f32) -> f32 {
    match function {
        network::Activation::Relu => f32::from(x > 0.0),
        network::Activation::LeakyRelu { slope } => {
            if x > 0.0 {
                1.0
            } else {
                slope
            }
        }
        network::Activation::ClippedRelu { ceiling } => f32::from(x > 0.0 && x < ceiling),
        network::Activation::Sigmoid => sigmoid(x) * (1.0 - sigmoid(x)),
        network::Activation::Tanh => 1.0 - x.tanh() * x.tanh(),
        network::Activation::Silu => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
        network::Activation::Gelu => {
            let t = (GELU * (x + GELU_CUBIC * x * x * x)).tanh();
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * GELU * (1.0 + 3.0 * GELU_CUBIC * x * x)
        }
    }
}
