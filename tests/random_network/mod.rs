//! Random networks that hold every layer kind, and streams through them.

use dfcnn::inference::Session;
use dfcnn::network::{
    Activation, Architecture, BatchNorm, Convolution, FrameShape, FrequencyPadding, Layer, LocalResponseNorm,
    NamedLayer, Pool, Residual, Role, Tensor, TimePadding, Weights,
};
use dfcnn::quantize::Quantizer;
use half::f16;

/// Repeatable values in [-1, 1).
pub struct Noise(pub u64);

impl Noise {
    pub fn value(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1), (self.0 >> 33) as usize % limit).1
    }

    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }
}

fn named(name: impl Into<String>, layer: Layer) -> NamedLayer {
    NamedLayer { name: name.into(), layer }
}

/// A convolution with every setting drawn.
fn convolution(noise: &mut Noise, out_channels: usize, groups: usize, time_stride: usize) -> Layer {
    let kernel = [1 + noise.below(6), 1 + 2 * noise.below(2)];
    let dilation = [1 + noise.below(2), 1];
    let past = noise.below(dilation[0] * (kernel[0] - 1) + 1);
    Layer::Convolution(Convolution {
        out_channels,
        kernel,
        stride: [time_stride, 1],
        dilation,
        groups,
        time_padding: TimePadding { past, future: dilation[0] * (kernel[0] - 1) - past },
        frequency_padding: FrequencyPadding { low: kernel[1] / 2, high: kernel[1] / 2 },
        bias: noise.below(2) == 0,
        int8: false,
    })
}

/// A network that holds every layer kind, its other settings drawn from `seed`.
pub fn network(seed: u64) -> (Architecture, Weights) {
    let noise = &mut Noise(seed);
    let input = FrameShape { frequency: 9 + noise.below(12), channels: 1 + noise.below(2) };
    let pool = |kernel, stride| Pool {
        kernel,
        stride,
        time_padding: TimePadding { past: kernel[0] - 1, future: 0 },
        frequency_padding: FrequencyPadding { low: 1, high: 0 },
    };
    let time_stride = 1 + noise.below(3);
    let layers = vec![
        named("first", convolution(noise, 16, 1, time_stride)),
        named("norm", Layer::BatchNorm(BatchNorm { epsilon: 1e-5 })),
        named("relu", Layer::Activation(Activation::Relu)),
        named("response", Layer::LocalResponseNorm(LocalResponseNorm { size: 5, alpha: 0.1, beta: 0.75, k: 2.0 })),
        // With many channels, what follows goes other ways.
        named("second", convolution(noise, if seed.is_multiple_of(3) { 64 } else { 24 }, 2, 1)),
        named("pool", Layer::MaxPool(pool([2 + noise.below(2), 2], Some([1 + noise.below(3), 2])))),
        named("leaky", Layer::Activation(Activation::LeakyRelu { slope: 0.1 })),
        named("third", convolution(noise, 12, 1, 1)),
        named("average", Layer::AveragePool(pool([2, 2], Some([1, 1])))),
        named("lone-norm", Layer::BatchNorm(BatchNorm { epsilon: 1e-3 })),
        named("gelu", Layer::Activation(Activation::Gelu)),
        named("collapse", Layer::FrequencyCollapse),
        named("mix", convolution(noise, 20, 1, 1)),
        named(
            "residual",
            Layer::Residual(Residual {
                branch: vec![
                    named("depthwise", convolution(noise, 20, 20, 1)),
                    named("norm", Layer::BatchNorm(BatchNorm { epsilon: 1e-5 })),
                    named("silu", Layer::Activation(Activation::Silu)),
                    named("pointwise", convolution(noise, 20, 1, 1)),
                ],
                shortcut: if noise.below(2) == 0 { Vec::new() } else { vec![named("s", convolution(noise, 20, 4, 1))] },
            }),
        ),
        named("after", Layer::Activation(Activation::Relu)),
        named("dropout", Layer::Dropout(dfcnn::network::Dropout { rate: 0.3 })),
        named("wide", convolution(noise, 40, 1, 1)),
        named("wide-norm", Layer::BatchNorm(BatchNorm { epsilon: 1e-5 })),
        named("tanh", Layer::Activation(Activation::Tanh)),
        named("clip", Layer::Activation(Activation::ClippedRelu { ceiling: 0.9 })),
        named("sigmoid", Layer::Activation(Activation::Sigmoid)),
        named("out", convolution(noise, 7, 1, 1)),
        named("softmax", Layer::LogSoftmax),
    ];
    let architecture = Architecture::new(input, layers).expect("a valid network");
    let mut weights = Weights::default();
    for parameter in architecture.parameters() {
        let fan_in = parameter.shape[1..].iter().product::<usize>().max(1) as f32;
        let mut values = noise.values(parameter.len());
        match parameter.role {
            // Half of the networks have filters as models come: in half precision.
            Role::Weight if seed.is_multiple_of(2) => {
                values.iter_mut().for_each(|x| *x = f16::from_f32(*x * (3.0 / fan_in).sqrt()).to_f32());
            }
            Role::Weight => values.iter_mut().for_each(|x| *x *= (3.0 / fan_in).sqrt()),
            Role::Scale | Role::RunningVar => values.iter_mut().for_each(|x| *x = 1.0 + 0.5 * *x),
            _ => values.iter_mut().for_each(|x| *x *= 0.3),
        }
        weights.insert(&parameter.path, Tensor { shape: parameter.shape.clone(), values });
    }
    (architecture, weights)
}

/// Pushes `frames` in pieces of the given sizes (the last one repeated) and finishes.
pub fn streamed(session: &mut dyn Session, frames: &[f32], width: usize, pieces: &[usize]) -> Vec<f32> {
    let mut outputs = Vec::new();
    let mut rest = frames;
    let mut sizes = pieces.iter().chain(std::iter::repeat(pieces.last().expect("a size")));
    while !rest.is_empty() {
        let size = (sizes.next().expect("endless") * width).min(rest.len());
        session.push(&rest[..size], &mut outputs).expect("whole frames");
        rest = &rest[size..];
    }
    session.finish(&mut outputs).expect("an end");
    outputs
}

/// [`network`] with every convolution that can be in 8 bits, calibrated on noise.
#[allow(dead_code, reason = "not every test binary uses it")]
pub fn int8_network(seed: u64) -> (Architecture, Weights) {
    let (architecture, weights) = network(seed);
    let mut quantizer = Quantizer::new(&architecture, &weights, 1).expect("a network in 32 bits");
    quantizer.observe(&Noise(seed ^ 9).values(150 * architecture.input().len()));
    let int8 = ["first", "third", "mix", "residual.pointwise", "wide", "out"].map(String::from).into();
    quantizer.quantized(&int8).expect("a network in 8 bits")
}
