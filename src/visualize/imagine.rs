//! The image that a unit answers to most, found from noise by gradient ascent: activation maximisation (Erhan et al. 2009;
//! Simonyan et al. 2013, §2), with the decay and the blur of Yosinski et al. 2015, §3.

use super::activations::{Unit, activations};
use super::receptive_field::Field;
use crate::layers::{Images, OpenNetwork, Rule};
use crate::network::FrameShape;
use crate::random::Random;

/// Steps of the ascent.
const ROUNDS: usize = 96;
/// The first and the last step, in standard deviations of the image: the root of the mean square over what the unit sees.
const STEPS: [f32; 2] = [0.5, 0.1];
/// What every step takes from the image, so that only what matters stays.
const DECAY: f32 = 0.01;
/// Every so many steps the image is blurred, but for the last ones.
const BLURRED: usize = 4;
const SHARP: usize = 24;
/// Speech lies between these, in standard deviations from the mean; the lower is silence.
const BOUNDS: [f32; 2] = [-2.5, 3.0];

/// What was imagined.
#[derive(Debug, Clone, PartialEq)]
pub struct Imagined {
    /// The normalised image, `[frames, bins]`; silent where the unit sees nothing.
    pub image: Images,
    /// The unit: in the middle of its layer's bins, at the first step that sees no padding.
    pub unit: Unit,
}

/// Imagines what `channel` of the layer at `path`, with this `field` of the input and `bins` bins, answers to most. An
/// activation behind the layer is best left out: where it is flat, there is no way up.
///
/// # Panics
/// When there is no such layer.
pub fn imagine(network: &mut OpenNetwork, path: &str, channel: usize, field: &Field, seed: u64) -> Imagined {
    let shape = network.architecture().input();
    let layer =
        network.architecture().summary().iter().find(|layer| layer.path == path).expect("a layer of the network");
    let step = (field.time.before.max(0) as usize).div_ceil(field.time.stride.max(1) as usize);
    let frames = (step as i64 * field.time.stride + field.time.after + 1).max(1) as usize;
    let unit = Unit { step, bin: layer.output.frequency / 2, channel };
    let mut random = Random::for_item(seed, &[channel as u64]);
    let values = (0..frames * shape.len()).map(|_| 0.3 * random.normal()).collect();
    let mut image = Images::new(shape, vec![frames], values);
    let mut seen = vec![false; image.values.len()];
    for round in 0..ROUNDS {
        network.forward(&image);
        let maps = activations(network);
        let map = maps.iter().find(|map| map.layer.path == path).expect("a layer of the network");
        let mut signal = vec![0.0; map.values.len()];
        signal[map.index(unit)] = 1.0;
        let gradient = &network.backward(path, &signal, Rule::Gradient).values;
        seen.iter_mut().zip(gradient).for_each(|(seen, slope)| *seen |= *slope != 0.0);
        let count = gradient.iter().filter(|slope| **slope != 0.0).count().max(1);
        let size = (gradient.iter().map(|slope| slope * slope).sum::<f32>() / count as f32).sqrt();
        let along = round as f32 / (ROUNDS - 1) as f32;
        let rate = STEPS[0] * (STEPS[1] / STEPS[0]).powf(along) / size.max(f32::MIN_POSITIVE);
        for (value, slope) in image.values.iter_mut().zip(gradient) {
            *value = ((1.0 - DECAY) * *value + rate * slope).clamp(BOUNDS[0], BOUNDS[1]);
        }
        if round % BLURRED == BLURRED - 1 && round + SHARP < ROUNDS {
            blur(&mut image.values, shape);
        }
    }
    image.values.iter_mut().zip(&seen).filter(|(_, seen)| !**seen).for_each(|(value, _)| *value = BOUNDS[0]);
    Imagined { image, unit }
}

/// A little of every value goes to its neighbours in time and frequency.
fn blur(values: &mut [f32], shape: FrameShape) {
    let (row, channels) = (shape.len(), shape.channels);
    for stride in [channels, row] {
        let before = values.to_vec();
        for (at, value) in values.iter_mut().enumerate() {
            // At an end the value is its own neighbour.
            let first = if stride == row { at < row } else { at % row < channels };
            let last = if stride == row { at + row >= before.len() } else { at % row >= row - channels };
            let below = if first { before[at] } else { before[at - stride] };
            let above = if last { before[at] } else { before[at + stride] };
            *value = 0.5 * before[at] + 0.25 * (below + above);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::network::{Folded, fold_batch_norm};
    use crate::visualize::receptive_field::fields;

    /// Much more than noise, and at least as much as random images of the same range.
    #[test]
    fn what_is_imagined_is_answered() {
        let model = Model::embedded().unwrap();
        let Folded { architecture, weights, .. } = fold_batch_norm(&model.architecture, &model.weights).unwrap();
        let mut network = OpenNetwork::new(&architecture, &weights, 2).unwrap();
        for (path, channel) in [("c1", 4), ("c3", 7), ("col", 11)] {
            let line = architecture.summary().iter().position(|layer| layer.path == path).unwrap();
            let field = fields(&architecture, line)[0].unwrap();
            let Imagined { image, unit } = imagine(&mut network, path, channel, &field, 1);
            let mut value = |image: &Images| {
                network.forward(image);
                activations(&network)[line].at(unit)
            };
            let imagined = value(&image);
            let mut random = Random::new(5);
            let noise = |random: &mut Random| image.values.iter().map(|_| random.normal().clamp(-2.5, 3.0)).collect();
            let others = (0..8).map(|_| value(&Images::new(image.shape, image.lengths.clone(), noise(&mut random))));
            let best = others.fold(f32::NEG_INFINITY, f32::max);
            assert!(imagined > 0.0 && imagined > 1.2 * best, "{path}: {imagined} and {best}");
            assert!(image.values.iter().all(|value| (-2.5..=3.0).contains(value)));
        }
    }

    #[test]
    fn a_blur_keeps_what_is_even() {
        let shape = FrameShape { frequency: 3, channels: 1 };
        let mut even = vec![2.0; 12];
        blur(&mut even, shape);
        assert_eq!(even, [2.0; 12]);
        let mut point = vec![0.0; 15];
        point[7] = 16.0;
        blur(&mut point, shape);
        assert_eq!(point, [0.0, 0.0, 0.0, 1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0, 0.0, 0.0, 0.0]);
    }
}
