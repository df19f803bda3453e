//! Layers that see one row at a time.

use super::pipeline::Tools;
use super::stage::Source;
use super::window::Rows;
use crate::Result;
use crate::network::{Activation, BatchNorm, FrameShape, LocalResponseNorm, Quantize};

/// A layer that changes values in place.
pub enum Map {
    Activation(Activation),
    /// `x · scale + shift` per channel: a batch norm that no convolution precedes.
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    LocalResponseNorm {
        settings: LocalResponseNorm,
        channels: usize,
    },
    LogSoftmax {
        channels: usize,
    },
}

impl Map {
    pub fn batch_norm(settings: &BatchNorm, path: &str, source: &Source<'_>) -> Result<Self> {
        let values = |name: &str| source.values(&format!("{path}.{name}"));
        let (weight, bias) = (values("weight")?, values("bias")?);
        let (mean, variance) = (values("running_mean")?, values("running_var")?);
        let scale: Vec<f32> = weight.iter().zip(variance).map(|(w, v)| w / (v + settings.epsilon).sqrt()).collect();
        let shift = bias.iter().zip(mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Ok(Self::Affine { scale, shift })
    }

    pub fn apply(&self, rows: &mut [f32]) {
        match self {
            Self::Activation(activation) => rows.iter_mut().for_each(|x| *x = activate(*activation, *x)),
            Self::Affine { scale, shift } => {
                for row in rows.chunks_exact_mut(scale.len()) {
                    row.iter_mut().zip(scale).zip(shift).for_each(|((x, a), b)| *x = *x * a + b);
                }
            }
            Self::LocalResponseNorm { settings, channels } => {
                rows.chunks_exact_mut(*channels).for_each(|row| local_response_norm(settings, row));
            }
            Self::LogSoftmax { channels } => rows.chunks_exact_mut(*channels).for_each(log_softmax),
        }
    }
}

fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu { slope } => x.max(0.0) + slope * x.min(0.0),
        Activation::ClippedRelu { ceiling } => x.max(0.0).min(ceiling),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => 0.5 * x * (1.0 + (GELU * (x + 0.044_715 * x * x * x)).tanh()),
    }
}

/// √(2/π) of the tanh approximation of GELU.
const GELU: f32 = 0.797_884_6;

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn local_response_norm(settings: &LocalResponseNorm, row: &mut [f32]) {
    let squares: Vec<f32> = row.iter().map(|x| x * x).collect();
    let before = settings.size / 2;
    for (channel, x) in row.iter_mut().enumerate() {
        let first = channel.saturating_sub(before);
        let last = (channel + settings.size - before).min(squares.len());
        let sum: f32 = squares[first..last].iter().sum();
        *x /= (settings.k + settings.alpha * sum).powf(settings.beta);
    }
}

fn log_softmax(row: &mut [f32]) {
    let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = row.iter().map(|x| (x - greatest).exp()).sum();
    let normalizer = greatest + sum.ln();
    row.iter_mut().for_each(|x| *x -= normalizer);
}

/// `[frequency, channels]` to `[1, channels · frequency]`: a transposition of each row.
pub struct Collapse {
    pub input: FrameShape,
}

impl Collapse {
    pub fn apply<T: Copy + Default>(&self, rows: &[T], made: &mut Rows<T>) {
        let FrameShape { frequency, channels } = self.input;
        let made = made.resize(rows.len()).chunks_exact_mut(self.input.len());
        for (row, made) in rows.chunks_exact(self.input.len()).zip(made) {
            for (channel, made) in made.chunks_exact_mut(frequency).enumerate() {
                made.iter_mut().enumerate().for_each(|(bin, made)| *made = row[bin * channels + channel]);
            }
        }
    }
}

/// To bytes or back from them.
pub struct Rounding {
    pub settings: Quantize,
}

impl Rounding {
    pub fn quantize(&self, rows: &[f32], tools: &mut Tools, made: &mut Rows<u8>) {
        let Quantize { scale, zero_point } = self.settings;
        tools.kernels.quantize(rows, 1.0 / scale, zero_point, made.resize(rows.len()));
    }

    pub fn dequantize(&self, rows: &[u8], tools: &mut Tools, made: &mut Rows) {
        let Quantize { scale, zero_point } = self.settings;
        tools.kernels.dequantize(rows, scale, zero_point, made.resize(rows.len()));
    }
}
