//! The definition of every layer kind, in plain f64 loops: what the engine's forward pass is compared with, and what its
//! gradients are differences of.

use std::collections::HashMap;

use dfcnn::layers::{Images, Network};
use dfcnn::network::{Activation, FrameShape, Layer, NamedLayer};

/// A batch: the values of each utterance, `[frames, frequency, channels]`.
pub type Batch = Vec<Vec<f64>>;

/// Parameters by path.
pub type Values = HashMap<String, Vec<f64>>;

pub fn batch(images: &Images) -> Batch {
    images.utterances().map(|values| values.iter().copied().map(f64::from).collect()).collect()
}

pub fn values(network: &Network) -> Values {
    let parameters = network.parameters().iter();
    parameters.map(|p| (p.path.clone(), p.values.iter().copied().map(f64::from).collect())).collect()
}

/// Outputs of `layers` and their shape. `training` makes batch norm use the batch's statistics; dropout does nothing.
pub fn forward(
    layers: &[NamedLayer],
    prefix: &str,
    mut shape: FrameShape,
    values: &Values,
    mut batch: Batch,
    training: bool,
) -> (FrameShape, Batch) {
    for NamedLayer { name, layer } in layers {
        let path = format!("{prefix}{name}");
        let parameter = |name: &str| values.get(&format!("{path}.{name}"));
        let channels = shape.channels;
        let per_bin = |batch: &mut Batch, change: &dyn Fn(&mut [f64])| {
            batch.iter_mut().for_each(|utterance| utterance.chunks_exact_mut(channels).for_each(change));
        };
        match layer {
            Layer::Convolution(c) => {
                let output = slide(layer, shape, c.out_channels);
                let (depth, filters) = (channels / c.groups, c.out_channels / c.groups);
                let weights = parameter("weight").unwrap();
                batch = batch
                    .iter()
                    .map(|x| {
                        windows(layer, shape, output, x, &mut |out, taps| {
                            let mut sum = parameter("bias").map_or(0.0, |bias| bias[out]);
                            for &(tap, bin) in taps {
                                for i in 0..depth {
                                    let w = weights[(out * depth + i) * c.kernel[0] * c.kernel[1] + tap];
                                    sum += w * bin[out / filters * depth + i];
                                }
                            }
                            sum
                        })
                    })
                    .collect();
                shape = output;
            }
            Layer::MaxPool(_) | Layer::AveragePool(_) => {
                let output = slide(layer, shape, channels);
                let area = layer.windows().map(|window| window.kernel).iter().product::<usize>() as f64;
                batch = batch
                    .iter()
                    .map(|x| {
                        windows(layer, shape, output, x, &mut |channel, taps| {
                            let under = taps.iter().map(|(_, bin)| bin[channel]);
                            match layer {
                                Layer::MaxPool(_) => under.fold(f64::NEG_INFINITY, f64::max),
                                _ => under.sum::<f64>() / area,
                            }
                        })
                    })
                    .collect();
                shape = output;
            }
            Layer::BatchNorm(norm) => {
                let [gamma, beta] = ["weight", "bias"].map(|name| parameter(name).unwrap());
                let (mean, variance) = if training {
                    moments(&batch, channels)
                } else {
                    (parameter("running_mean").unwrap().clone(), parameter("running_var").unwrap().clone())
                };
                per_bin(&mut batch, &|bin| {
                    for (c, x) in bin.iter_mut().enumerate() {
                        *x = gamma[c] * (*x - mean[c]) / (variance[c] + f64::from(norm.epsilon)).sqrt() + beta[c];
                    }
                });
            }
            Layer::Activation(function) => {
                per_bin(&mut batch, &|bin| bin.iter_mut().for_each(|x| *x = activate(*function, *x)));
            }
            Layer::LocalResponseNorm(norm) => per_bin(&mut batch, &|bin| {
                let old = bin.to_vec();
                for (c, x) in bin.iter_mut().enumerate() {
                    let around = c.saturating_sub(norm.size / 2)..(c + norm.size / 2 + 1).min(old.len());
                    let squares: f64 = old[around].iter().map(|x| x * x).sum();
                    *x /= (f64::from(norm.k) + f64::from(norm.alpha) * squares).powf(f64::from(norm.beta));
                }
            }),
            Layer::Dropout(_) => {}
            Layer::Quantize(_) => unreachable!("no network of these tests computes with bytes"),
            Layer::Residual(residual) => {
                let prefix = format!("{path}.");
                let run = |layers| forward(layers, &prefix, shape, values, batch.clone(), training);
                let ((output, branch), (_, shortcut)) = (run(&residual.branch), run(&residual.shortcut));
                let add = |(a, b): (Vec<f64>, Vec<f64>)| a.iter().zip(&b).map(|(a, b)| a + b).collect();
                batch = branch.into_iter().zip(shortcut).map(add).collect();
                shape = output;
            }
            Layer::FrequencyCollapse => {
                let bins = shape.frequency;
                for utterance in &mut batch {
                    for frame in utterance.chunks_exact_mut(shape.len()) {
                        let old = frame.to_vec();
                        frame.iter_mut().enumerate().for_each(|(i, x)| *x = old[i % bins * channels + i / bins]);
                    }
                }
                shape = FrameShape { frequency: 1, channels: shape.len() };
            }
            Layer::LogSoftmax => per_bin(&mut batch, &|bin| {
                let normalizer = bin.iter().map(|x| x.exp()).sum::<f64>().ln();
                bin.iter_mut().for_each(|x| *x -= normalizer);
            }),
        }
    }
    (shape, batch)
}

fn slide(layer: &Layer, input: FrameShape, channels: usize) -> FrameShape {
    FrameShape { frequency: layer.windows()[1].output_size(input.frequency).unwrap(), channels }
}

/// What a window gives for a channel from its `(tap, bin's channels)`.
type Value<'a> = dyn FnMut(usize, &[(usize, &[f64])]) -> f64 + 'a;

/// `value(channel, [(tap, bin's channels)])` of every output; taps in the padding are left out.
fn windows(layer: &Layer, input: FrameShape, output: FrameShape, x: &[f64], value: &mut Value<'_>) -> Vec<f64> {
    let [time, frequency] = layer.windows();
    let frames = x.len() / input.len();
    let mut made = Vec::new();
    for t in 0..time.output_size(frames).unwrap_or(0) {
        for f in 0..output.frequency {
            let mut taps = Vec::new();
            for tap in 0..time.kernel * frequency.kernel {
                let t = (t * time.stride + tap / frequency.kernel * time.dilation).checked_sub(time.padding[0]);
                let f = f * frequency.stride + tap % frequency.kernel * frequency.dilation;
                if let (Some(t), Some(f)) = (t, f.checked_sub(frequency.padding[0]))
                    && t < frames
                    && f < input.frequency
                {
                    taps.push((tap, &x[(t * input.frequency + f) * input.channels..][..input.channels]));
                }
            }
            made.extend((0..output.channels).map(|channel| value(channel, &taps)));
        }
    }
    made
}

/// Mean and biased variance of every channel.
pub fn moments(batch: &Batch, channels: usize) -> (Vec<f64>, Vec<f64>) {
    let bins: Vec<&[f64]> = batch.iter().flat_map(|utterance| utterance.chunks_exact(channels)).collect();
    let mean = |value: &dyn Fn(&[f64]) -> f64| bins.iter().map(|bin| value(bin)).sum::<f64>() / bins.len() as f64;
    let means: Vec<f64> = (0..channels).map(|c| mean(&|bin| bin[c])).collect();
    let variances = (0..channels).map(|c| mean(&|bin| (bin[c] - means[c]).powi(2))).collect();
    (means, variances)
}

fn activate(function: Activation, x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match function {
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
        Activation::Gelu => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
    }
}
