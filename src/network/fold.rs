//! The network that inference runs: batch normalisation folded into the convolutions before it, dropout left out.

use std::collections::BTreeMap;

use super::architecture::Architecture;
use super::layer::{BatchNorm, Layer, NamedLayer};
use super::weights::{Tensor, Weights};
use crate::{Error, Result};

/// A network without batch normalisations behind convolutions.
#[derive(Debug, PartialEq)]
pub struct Folded {
    /// The layers that are left.
    pub architecture: Architecture,
    /// Their weights.
    pub weights: Weights,
    /// What the filters of a convolution, found by its path, were multiplied by, one factor for each output channel.
    pub scales: Scales,
}

/// The same function with fewer layers. At inference a batch normalisation `γ (y − μ) / √(σ² + ε) + β` directly after a
/// convolution `y = w ∗ x + b` is the convolution with `w' = w γ / √(σ² + ε)` and `b' = (b − μ) γ / √(σ² + ε) + β`;
/// dropout does nothing. A batch normalisation after anything else stays, and after int8 filters, whose scales the factor
/// would leave.
///
/// # Errors
/// [`Error::Network`] when the weights are not those of the architecture.
pub fn fold_batch_norm(architecture: &Architecture, weights: &Weights) -> Result<Folded> {
    weights.check(architecture)?;
    let (mut weights, mut scales) = (weights.clone(), BTreeMap::new());
    let layers = fold(architecture.layers(), "", &mut weights, &mut scales)?;
    let architecture = Architecture::new(architecture.input(), layers)?;
    weights.check(&architecture)?;
    Ok(Folded { architecture, weights, scales })
}

type Scales = BTreeMap<String, Vec<f32>>;

fn fold(layers: &[NamedLayer], prefix: &str, weights: &mut Weights, scales: &mut Scales) -> Result<Vec<NamedLayer>> {
    let mut folded: Vec<NamedLayer> = Vec::with_capacity(layers.len());
    for NamedLayer { name, layer } in layers {
        let path = format!("{prefix}{name}");
        let layer = match (layer, folded.last_mut()) {
            (Layer::Dropout(_), _) => continue,
            (Layer::BatchNorm(norm), Some(NamedLayer { name, layer: Layer::Convolution(convolution) }))
                if !convolution.int8 =>
            {
                convolution.bias = true;
                let convolution = format!("{prefix}{name}");
                let scale = fold_into(&convolution, &path, norm, weights)?;
                scales.insert(convolution, scale);
                continue;
            }
            (Layer::Residual(residual), _) => {
                let mut residual = residual.clone();
                let prefix = format!("{path}.");
                residual.branch = fold(&residual.branch, &prefix, weights, scales)?;
                residual.shortcut = fold(&residual.shortcut, &prefix, weights, scales)?;
                Layer::Residual(residual)
            }
            (other, _) => other.clone(),
        };
        folded.push(NamedLayer { name: name.clone(), layer });
    }
    Ok(folded)
}

/// Folds the batch normalisation at path `norm_path` into the convolution at path `path`; what its filters were multiplied by.
fn fold_into(path: &str, norm_path: &str, norm: &BatchNorm, weights: &mut Weights) -> Result<Vec<f32>> {
    let mut take = |name: &str| {
        let path = format!("{norm_path}.{name}");
        weights.remove(&path).map(|tensor| tensor.values).ok_or_else(|| Error::network(path, "the weights lack this"))
    };
    let (gamma, beta, mean, variance) = (take("weight")?, take("bias")?, take("running_mean")?, take("running_var")?);
    let scale: Vec<f64> = gamma
        .iter()
        .zip(&variance)
        .map(|(&g, &v)| f64::from(g) / (f64::from(v) + f64::from(norm.epsilon)).sqrt())
        .collect();

    let weight_path = format!("{path}.weight");
    let filters = weights.get_mut(&weight_path).ok_or_else(|| Error::network(weight_path, "the weights lack this"))?;
    let taps = filters.values.len() / scale.len();
    for (filter, scale) in filters.values.chunks_exact_mut(taps).zip(&scale) {
        filter.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * scale) as f32);
    }

    let bias_path = format!("{path}.bias");
    let bias = weights.remove(&bias_path).map_or_else(|| vec![0.0; scale.len()], |tensor| tensor.values);
    let values = bias.iter().zip(&mean).zip(&beta).zip(&scale);
    let values: Vec<f32> = values
        .map(|(((&bias, &mean), &beta), scale)| ((f64::from(bias) - f64::from(mean)) * scale + f64::from(beta)) as f32)
        .collect();
    weights.insert(bias_path, Tensor { shape: vec![values.len()], values });
    Ok(scale.into_iter().map(|scale| scale as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::FrameShape;

    /// An image `[time, frequency, channels]` with its shape.
    type Image = (usize, FrameShape, Vec<f64>);

    /// The plainest forward pass over the kinds these tests use.
    fn forward(layers: &[NamedLayer], prefix: &str, weights: &Weights, image: Image) -> Image {
        layers.iter().fold(image, |(frames, shape, values), NamedLayer { name, layer }| {
            let path = format!("{prefix}{name}");
            let get = |name: &str| weights.get(&format!("{path}.{name}")).map(|tensor| tensor.values.as_slice());
            match layer {
                Layer::Convolution(c) => {
                    let [time, frequency] = layer.windows();
                    let rows = time.output_size(frames).unwrap();
                    let out = FrameShape {
                        frequency: frequency.output_size(shape.frequency).unwrap(),
                        channels: c.out_channels,
                    };
                    let group = shape.channels / c.groups;
                    let mut sums = Vec::new();
                    for (t, f, o) in triples(rows, out.frequency, out.channels) {
                        let mut sum = get("bias").map_or(0.0, |bias| f64::from(bias[o]));
                        for (i, kt, kf) in triples(group, c.kernel[0], c.kernel[1]) {
                            let x = (t * c.stride[0] + kt * c.dilation[0]).checked_sub(c.time_padding.past);
                            let y = (f * c.stride[1] + kf * c.dilation[1]).checked_sub(c.frequency_padding.low);
                            let (Some(x), Some(y)) = (x, y) else { continue };
                            if x < frames && y < shape.frequency {
                                let channel = o / (c.out_channels / c.groups) * group + i;
                                let weight =
                                    get("weight").unwrap()[((o * group + i) * c.kernel[0] + kt) * c.kernel[1] + kf];
                                sum += f64::from(weight) * values[(x * shape.frequency + y) * shape.channels + channel];
                            }
                        }
                        sums.push(sum);
                    }
                    (rows, out, sums)
                }
                Layer::BatchNorm(norm) => {
                    let [gamma, beta, mean, variance] =
                        ["weight", "bias", "running_mean", "running_var"].map(|name| get(name).unwrap());
                    let normal = |(index, value): (usize, f64)| {
                        let c = index % shape.channels;
                        let deviation = f64::from(variance[c] + norm.epsilon).sqrt();
                        f64::from(gamma[c]) * (value - f64::from(mean[c])) / deviation + f64::from(beta[c])
                    };
                    (frames, shape, values.into_iter().enumerate().map(normal).collect())
                }
                Layer::Activation(_) => (frames, shape, values.into_iter().map(|value| value.max(0.0)).collect()),
                Layer::Dropout(_) => (frames, shape, values),
                Layer::Residual(residual) => {
                    let prefix = format!("{path}.");
                    let (frames, shape, a) =
                        forward(&residual.branch, &prefix, weights, (frames, shape, values.clone()));
                    let (_, _, b) = forward(&residual.shortcut, &prefix, weights, (frames, shape, values));
                    (frames, shape, a.iter().zip(&b).map(|(a, b)| a + b).collect())
                }
                other => unreachable!("no test uses {}", other.kind()),
            }
        })
    }

    fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| (i, j, k))))
    }

    const INPUT: FrameShape = FrameShape { frequency: 5, channels: 2 };

    fn network(layers: &str) -> Architecture {
        #[derive(serde::Deserialize)]
        struct Description {
            layers: Vec<NamedLayer>,
        }
        Architecture::new(INPUT, toml::from_str::<Description>(layers).unwrap().layers).unwrap()
    }

    /// Values that differ everywhere; variances positive.
    fn weights(architecture: &Architecture) -> Weights {
        let mut weights = Weights::default();
        let mut seed = 1u32;
        for parameter in architecture.parameters() {
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / (1 << 24) as f32
            };
            let shift = if parameter.path.ends_with("running_var") { 0.1 } else { -0.5 };
            let values = (0..parameter.len()).map(|_| next() + shift).collect();
            weights.insert(&parameter.path, Tensor { shape: parameter.shape.clone(), values });
        }
        weights
    }

    fn image() -> Image {
        (7, INPUT, (0..7 * INPUT.len()).map(|i| (i as f64 * 0.7).sin()).collect())
    }

    #[test]
    fn the_folded_network_is_the_same_function() {
        let architecture = network(
            r#"
            [[layers]]
            name = "first"
            kind = "batch-norm"
            [[layers]]
            name = "conv"
            kind = "convolution"
            out_channels = 4
            kernel = [3, 3]
            stride = [1, 2]
            groups = 2
            time_padding = { past = 2 }
            frequency_padding = { low = 1, high = 1 }
            bias = false
            [[layers]]
            name = "drop"
            kind = "dropout"
            rate = 0.5
            [[layers]]
            name = "norm"
            kind = "batch-norm"
            [[layers]]
            name = "again"
            kind = "batch-norm"
            epsilon = 0.1
            [[layers]]
            name = "residual"
            kind = "residual"
            [[layers.branch]]
            name = "conv"
            kind = "convolution"
            out_channels = 3
            kernel = [1, 1]
            [[layers.branch]]
            name = "norm"
            kind = "batch-norm"
            [[layers.branch]]
            name = "relu"
            kind = "activation"
            function = "relu"
            [[layers.branch]]
            name = "last"
            kind = "batch-norm"
            [[layers.shortcut]]
            name = "down"
            kind = "convolution"
            out_channels = 3
            kernel = [1, 1]
            bias = false
            "#,
        );
        let weights = weights(&architecture);
        let Folded { architecture: folded, weights: folded_weights, scales } =
            fold_batch_norm(&architecture, &weights).unwrap();
        assert_eq!(scales.keys().collect::<Vec<_>>(), ["conv", "residual.conv"]);
        let paths: Vec<_> = folded.summary().iter().map(|layer| layer.path.as_str()).collect();
        let expected =
            ["first", "conv", "residual", "residual.conv", "residual.relu", "residual.last", "residual.down"];
        assert_eq!(paths, expected);
        assert_eq!((folded.output(), folded.time()), (architecture.output(), architecture.time()));

        let (frames, shape, before) = forward(architecture.layers(), "", &weights, image());
        let (folded_frames, folded_shape, after) = forward(folded.layers(), "", &folded_weights, image());
        assert_eq!((frames, shape), (7, FrameShape { frequency: 3, channels: 3 }));
        assert_eq!((folded_frames, folded_shape), (frames, shape));
        let apart = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(before.iter().any(|value| value.abs() > 0.1) && apart < 1e-5, "apart by {apart}");
    }

    #[test]
    fn nothing_to_fold_changes_nothing() {
        let architecture =
            network("[[layers]]\nname='c'\nkind='convolution'\nout_channels=3\nkernel=[3,3]\nbias=false");
        let weights = weights(&architecture);
        let folded = fold_batch_norm(&architecture, &weights).unwrap();
        assert_eq!(folded, Folded { architecture, weights, scales: BTreeMap::new() });
    }

    #[test]
    fn weights_of_another_network_are_refused() {
        let architecture = network("[[layers]]\nname='n'\nkind='batch-norm'");
        let mut weights = weights(&architecture);
        weights.remove("n.running_mean");
        let error = fold_batch_norm(&architecture, &weights).unwrap_err().to_string();
        assert!(error.contains("n.running_mean"), "{error}");
    }
}
