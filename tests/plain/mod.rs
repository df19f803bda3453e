//! The mathematics of every layer over a whole utterance, as plainly as it can be written, in f64.

use dfcnn::network::{Activation, Architecture, FrameShape, Layer, NamedLayer, Weights};

/// `[frames, frequency, channels]`.
#[derive(Clone)]
struct Image {
    shape: FrameShape,
    frames: usize,
    values: Vec<f64>,
}

impl Image {
    fn new(shape: FrameShape, frames: usize) -> Self {
        Self { shape, frames, values: vec![0.0; frames * shape.len()] }
    }

    fn index(&self, t: usize, f: usize, c: usize) -> usize {
        (t * self.shape.frequency + f) * self.shape.channels + c
    }

    /// The value at a place that may lie in the padding.
    fn get(&self, t: isize, f: isize, c: usize) -> Option<f64> {
        let inside = (0..self.frames as isize).contains(&t) && (0..self.shape.frequency as isize).contains(&f);
        inside.then(|| self.values[self.index(t as usize, f as usize, c)])
    }

    fn fill(mut self, value: impl Fn(usize, usize, usize) -> f64) -> Self {
        for t in 0..self.frames {
            for f in 0..self.shape.frequency {
                for c in 0..self.shape.channels {
                    let at = self.index(t, f, c);
                    self.values[at] = value(t, f, c);
                }
            }
        }
        self
    }
}

/// The network's outputs for a whole utterance.
pub fn forward(architecture: &Architecture, weights: &Weights, frames: &[f32]) -> Vec<f64> {
    let shape = architecture.input();
    let values = frames.iter().map(|&x| f64::from(x)).collect();
    let image = Image { shape, frames: frames.len() / shape.len(), values };
    layers(architecture.layers(), "", weights, image).values
}

fn layers(layers: &[NamedLayer], prefix: &str, weights: &Weights, mut image: Image) -> Image {
    for NamedLayer { name, layer } in layers {
        image = apply(layer, &format!("{prefix}{name}"), weights, image);
    }
    image
}

fn apply(layer: &Layer, path: &str, weights: &Weights, x: Image) -> Image {
    let parameter = |name: &str| weights.get(&format!("{path}.{name}")).expect("a parameter").values.clone();
    let [time, frequency] = layer.windows();
    let slide = |channels| {
        let frames = time.output_size(x.frames).unwrap_or(0);
        let bins = frequency.output_size(x.shape.frequency).expect("checked");
        Image::new(FrameShape { frequency: bins, channels }, frames)
    };
    // Where tap (i, j) of output (t, f) lies in the input.
    let tap = |t: usize, f: usize, i: usize, j: usize| {
        let at = |n: usize, k: usize, w: dfcnn::network::arithmetic::Window| {
            (n * w.stride + k * w.dilation) as isize - w.padding[0] as isize
        };
        (at(t, i, time), at(f, j, frequency))
    };
    let taps = || (0..time.kernel).flat_map(|i| (0..frequency.kernel).map(move |j| (i, j)));
    match layer {
        Layer::Convolution(settings) => {
            let w = parameter("weight");
            let bias = if settings.bias { parameter("bias") } else { vec![0.0; settings.out_channels] };
            let depth = x.shape.channels / settings.groups;
            let filters = settings.out_channels / settings.groups;
            slide(settings.out_channels).fill(|t, f, o| {
                let mut sum = f64::from(bias[o]);
                for (i, j) in taps() {
                    for k in 0..depth {
                        let (t, f) = tap(t, f, i, j);
                        let value = x.get(t, f, o / filters * depth + k).unwrap_or(0.0);
                        sum += value * f64::from(w[((o * depth + k) * time.kernel + i) * frequency.kernel + j]);
                    }
                }
                sum
            })
        }
        Layer::MaxPool(_) => slide(x.shape.channels).fill(|t, f, c| {
            let values = taps().filter_map(|(i, j)| {
                let (t, f) = tap(t, f, i, j);
                x.get(t, f, c)
            });
            values.fold(f64::NEG_INFINITY, f64::max)
        }),
        Layer::AveragePool(_) => slide(x.shape.channels).fill(|t, f, c| {
            let values = taps().map(|(i, j)| {
                let (t, f) = tap(t, f, i, j);
                x.get(t, f, c).unwrap_or(0.0)
            });
            values.sum::<f64>() / (time.kernel * frequency.kernel) as f64
        }),
        Layer::BatchNorm(settings) => {
            let (scale, shift) = (parameter("weight"), parameter("bias"));
            let (mean, variance) = (parameter("running_mean"), parameter("running_var"));
            x.clone().fill(|t, f, c| {
                let deviation = f64::from(variance[c]) + f64::from(settings.epsilon);
                let normal = (x.values[x.index(t, f, c)] - f64::from(mean[c])) / deviation.sqrt();
                normal * f64::from(scale[c]) + f64::from(shift[c])
            })
        }
        Layer::Activation(activation) => x.clone().fill(|t, f, c| activate(*activation, x.values[x.index(t, f, c)])),
        Layer::LocalResponseNorm(s) => x.clone().fill(|t, f, c| {
            let first = c.saturating_sub(s.size / 2);
            let last = (c + (s.size - s.size / 2)).min(x.shape.channels);
            let sum: f64 = (first..last).map(|c| x.values[x.index(t, f, c)].powi(2)).sum();
            x.values[x.index(t, f, c)] / (f64::from(s.k) + f64::from(s.alpha) * sum).powf(f64::from(s.beta))
        }),
        Layer::Dropout(_) => x,
        Layer::Quantize(q) => x.clone().fill(|t, f, c| {
            let (scale, zero) = (f64::from(q.scale), f64::from(q.zero_point));
            scale * (x.values[x.index(t, f, c)] / scale).round_ties_even().clamp(-zero, 255.0 - zero)
        }),
        Layer::Residual(residual) => {
            let prefix = format!("{path}.");
            let branch = layers(&residual.branch, &prefix, weights, x.clone());
            let shortcut = layers(&residual.shortcut, &prefix, weights, x);
            branch.clone().fill(|t, f, c| branch.values[branch.index(t, f, c)] + shortcut.values[branch.index(t, f, c)])
        }
        Layer::FrequencyCollapse => {
            let bins = x.shape.frequency;
            Image::new(FrameShape { frequency: 1, channels: x.shape.len() }, x.frames)
                .fill(|t, _, c| x.values[x.index(t, c % bins, c / bins)])
        }
        Layer::LogSoftmax => x.clone().fill(|t, f, c| {
            let sum: f64 = (0..x.shape.channels).map(|c| x.values[x.index(t, f, c)].exp()).sum();
            x.values[x.index(t, f, c)] - sum.ln()
        }),
    }
}

fn activate(activation: Activation, x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu { slope } => {
            if x > 0.0 {
                x
            } else {
                f64::from(slope) * x
            }
        }
        Activation::ClippedRelu { ceiling } => x.clamp(0.0, f64::from(ceiling)),
        Activation::Sigmoid => sigmoid,
        Activation::Tanh => x.tanh(),
        Activation::Silu => x * sigmoid,
        Activation::Gelu => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
    }
}
