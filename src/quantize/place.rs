//! Where a network is rounded to bytes: behind the layer that makes an image, before anything looks at it.

use std::collections::BTreeSet;

use super::meaning;
use crate::network::{Architecture, Layer, NamedLayer, Quantize, Residual, Tensor, Weights};
use crate::{Error, Result};

/// Steps of the scale that are tried below the one that reaches the greatest weight, in percent of it.
const LEAST_PERCENT: usize = 70;
/// The largest number of steps that a bias may be: it must stay far from what 32 bits hold.
const MOST_BIAS_STEPS: f32 = (1 << 28) as f32;

/// The paths of the layers whose images are rounded when the convolutions in `int8` compute with bytes; the empty path is
/// the input.
pub fn places(layers: &[NamedLayer], int8: &BTreeSet<String>) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    let mut note = |path: &str| {
        places.insert(path.to_owned());
        meaning(0.0, 1.0)
    };
    Placing { int8, meaning: &mut note }.layers(layers, "", true, false);
    places
}

/// The network with the convolutions in `int8` computing with bytes that mean what `meaning` says of each image.
pub fn quantized(
    architecture: &Architecture,
    weights: &Weights,
    int8: &BTreeSet<String>,
    meaning: &dyn Fn(&str) -> Quantize,
) -> Result<(Architecture, Weights)> {
    let mut layers =
        Placing { int8, meaning: &mut |path| meaning(path) }.layers(architecture.layers(), "", true, false);
    let mut weights = weights.clone();
    mark(&mut layers, "", int8, &mut weights, None)?;
    let architecture = Architecture::new(architecture.input(), layers)?;
    weights.check(&architecture)?;
    Ok((architecture, weights))
}

struct Placing<'a> {
    int8: &'a BTreeSet<String>,
    meaning: &'a mut dyn FnMut(&str) -> Quantize,
}

/// Layers that keep bytes as they are.
fn keeps_bytes(layer: &Layer) -> bool {
    matches!(layer, Layer::MaxPool(_) | Layer::FrequencyCollapse | Layer::Dropout(_))
}

impl Placing<'_> {
    /// Puts the rounding between `layers`. `start`: whether what comes in is still to be rounded, as at the network's
    /// start; `end`: whether bytes would be of use behind the last layer.
    fn layers(&mut self, layers: &[NamedLayer], prefix: &str, start: bool, end: bool) -> Vec<NamedLayer> {
        let mut placed = Vec::with_capacity(layers.len());
        if start && self.wanted(layers, prefix, false) {
            let settings = (self.meaning)("");
            placed.push(NamedLayer { name: free_name("input", layers), layer: Layer::Quantize(settings) });
        }
        for (index, NamedLayer { name, layer }) in layers.iter().enumerate() {
            let (path, rest) = (format!("{prefix}{name}"), &layers[index + 1..]);
            let layer_placed = match layer {
                Layer::Residual(residual) => {
                    // Its sum is of bytes if both its paths are.
                    let behind = if starts_with_relu(rest) { &rest[1..] } else { rest };
                    let wanted = self.wanted(behind, prefix, end);
                    let inner = format!("{path}.");
                    Layer::Residual(Residual {
                        branch: self.layers(
                            &residual.branch,
                            &inner,
                            false,
                            wanted && self.makes(&residual.branch, &inner),
                        ),
                        shortcut: self.layers(
                            &residual.shortcut,
                            &inner,
                            false,
                            wanted && self.makes(&residual.shortcut, &inner),
                        ),
                    })
                }
                other => other.clone(),
            };
            placed.push(NamedLayer { name: name.clone(), layer: layer_placed });
            if !keeps_bytes(layer) && self.wanted(rest, prefix, end) {
                let settings = (self.meaning)(&path);
                placed.push(NamedLayer { name: free_name(name, layers), layer: Layer::Quantize(settings) });
            }
        }
        placed
    }

    /// Whether `layers` begin with one that computes with bytes, or only with such as keep them; `end` says whether they
    /// are of use behind the last.
    fn wanted(&self, layers: &[NamedLayer], prefix: &str, end: bool) -> bool {
        let Some(NamedLayer { name, layer }) = layers.iter().find(|layer| !keeps_bytes(&layer.layer)) else {
            return end;
        };
        let path = format!("{prefix}{name}");
        match layer {
            Layer::Convolution(_) => self.int8.contains(&path),
            Layer::Residual(residual) => {
                let inner = format!("{path}.");
                self.wanted(&residual.branch, &inner, false) || self.wanted(&residual.shortcut, &inner, false)
            }
            _ => false,
        }
    }

    /// Whether the last of `layers` computes with bytes, so that rounding behind it costs nothing.
    fn makes(&self, layers: &[NamedLayer], prefix: &str) -> bool {
        let last = layers.iter().rev().find(|layer| !matches!(layer.layer, Layer::Activation(_)));
        last.is_some_and(|last| self.int8.contains(&format!("{prefix}{}", last.name)))
    }
}

fn starts_with_relu(layers: &[NamedLayer]) -> bool {
    layers.first().is_some_and(|first| first.layer == Layer::Activation(crate::network::Activation::Relu))
}

/// A name for the rounding behind `name` that none of `layers` has.
fn free_name(name: &str, layers: &[NamedLayer]) -> String {
    let mut free = format!("{name}-u8");
    while layers.iter().any(|layer| layer.name == free) {
        free.push('-');
    }
    free
}

/// Makes the filters of the convolutions in `int8` int8. `input`: what bytes mean that come in, and returned is what those
/// mean that go out.
fn mark(
    layers: &mut [NamedLayer],
    prefix: &str,
    int8: &BTreeSet<String>,
    weights: &mut Weights,
    mut input: Option<Quantize>,
) -> Result<()> {
    for NamedLayer { name, layer } in layers {
        let path = format!("{prefix}{name}");
        match layer {
            Layer::Convolution(convolution) if int8.contains(&path) => {
                convolution.int8 = true;
                let bytes = input.ok_or_else(|| Error::network(&path, "nothing rounds its input to bytes"))?;
                round_filters(&path, bytes, weights)?;
            }
            Layer::Residual(residual) => {
                let inner = format!("{path}.");
                mark(&mut residual.branch, &inner, int8, weights, input)?;
                mark(&mut residual.shortcut, &inner, int8, weights, input)?;
            }
            _ => {}
        }
        input = match layer {
            Layer::Quantize(settings) => Some(*settings),
            layer if keeps_bytes(layer) => input,
            _ => None,
        };
    }
    Ok(())
}

/// Rounds the filters of the convolution at `path` to int8 times a scale of each, chosen for the least squared error.
fn round_filters(path: &str, input: Quantize, weights: &mut Weights) -> Result<()> {
    let name = format!("{path}.weight");
    let bias = weights.get(&format!("{path}.bias")).map(|bias| bias.values.clone());
    let filters = weights.get_mut(&name).ok_or_else(|| Error::network(&name, "the weights lack this"))?;
    let channels = filters.shape[0];
    let taps = filters.values.len() / channels;
    let mut scales = Vec::with_capacity(channels);
    for (channel, filter) in filters.values.chunks_exact_mut(taps).enumerate() {
        let greatest = filter.iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
        let whole = greatest / 127.0;
        let tried = (LEAST_PERCENT..=100).rev().step_by(2).map(|percent| whole * percent as f32 / 100.0);
        let error = |scale: f32| -> f64 {
            filter.iter().map(|&weight| f64::from(weight - rounded(weight, scale)).powi(2)).sum()
        };
        let best = tried.map(|scale| (error(scale), scale)).min_by(|(a, _), (b, _)| a.total_cmp(b));
        // Filters of next to nothing under a large bias.
        let bias = bias.as_ref().map_or(0.0, |bias| bias[channel].abs());
        let least = (bias / MOST_BIAS_STEPS / input.scale).max(1e-9);
        let scale = best.map_or(whole, |(_, scale)| scale).clamp(least, 1e9);
        filter.iter_mut().for_each(|weight| *weight = rounded(*weight, scale));
        scales.push(scale);
    }
    weights.insert(format!("{name}_scale"), Tensor { shape: vec![channels], values: scales });
    Ok(())
}

fn rounded(weight: f32, scale: f32) -> f32 {
    if scale > 0.0 { scale * (weight / scale).round().clamp(-127.0, 127.0) } else { 0.0 }
}
