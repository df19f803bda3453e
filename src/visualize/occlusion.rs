//! What the network needs: a patch of the spectrogram is covered, and how much less probable a token becomes tells how
//! much the patch mattered (Zeiler & Fergus 2013, §4.2).

use crate::layers::{Images, OpenNetwork};

/// What covers the spectrogram, and how far it moves each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// Its extent, `[frames, bins]`; each at least 1.
    pub size: [usize; 2],
    /// From one place to the next, `[frames, bins]`; each at least 1.
    pub stride: [usize; 2],
}

/// An output to be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Output step.
    pub step: usize,
    /// Class.
    pub class: usize,
}

/// What covering did to each target.
#[derive(Debug, Clone, PartialEq)]
pub struct Occlusion {
    /// Places along `[time, frequency]`; place `[i, j]` covers from frame `i · stride[0]` and bin `j · stride[1]` on.
    pub places: [usize; 2],
    /// `[targets, time places, frequency places]`: by how much the output fell, in nats if it is a log-probability.
    /// Negative where the target became more probable.
    pub falls: Vec<f32>,
}

/// Utterances that are computed together.
const BATCH: usize = 8;

/// Covers the spectrogram `image`, one utterance, with zeros (once normalised, the mean over the training data) at every
/// place of `patch`, and watches `targets`. After each batch `progress` is told the share that is done.
///
/// Only the frames that the targets under a patch see are computed again, which changes nothing of the result.
///
/// # Panics
/// When `image` is not one utterance, a target does not exist, or an extent or stride of the patch is 0.
pub fn occlusion(
    network: &mut OpenNetwork,
    image: &Images,
    targets: &[Target],
    patch: Patch,
    mut progress: impl FnMut(f64),
) -> Occlusion {
    assert_eq!(image.lengths.len(), 1, "one utterance");
    assert!(patch.size.iter().chain(&patch.stride).all(|&extent| extent > 0), "a patch with an extent");
    let (frames, bins) = (image.lengths[0], image.shape.frequency);
    let places = [frames.div_ceil(patch.stride[0]), bins.div_ceil(patch.stride[1])];
    let before: Vec<f32> = {
        let output = network.forward(image);
        targets.iter().map(|target| value(output, 0, *target)).collect()
    };
    let mut falls = vec![0.0; targets.len() * places[0] * places[1]];
    let all: Vec<[usize; 2]> = (0..places[0]).flat_map(|i| (0..places[1]).map(move |j| [i, j])).collect();
    for (batch, group) in all.chunks(BATCH).enumerate() {
        let crops: Vec<_> =
            group.iter().filter_map(|&place| Crop::new(network, image, targets, patch, place)).collect();
        if !crops.is_empty() {
            let lengths = crops.iter().map(|crop| crop.values.len() / image.shape.len()).collect();
            let values = crops.iter().flat_map(|crop| &crop.values).copied().collect();
            let output = network.forward(&Images::new(image.shape, lengths, values));
            for (utterance, crop) in crops.iter().enumerate() {
                for &index in &crop.targets {
                    let target = Target { step: targets[index].step - crop.first_step, ..targets[index] };
                    let [i, j] = crop.place;
                    falls[(index * places[0] + i) * places[1] + j] = before[index] - value(output, utterance, target);
                }
            }
        }
        progress(((batch + 1) * BATCH).min(all.len()) as f64 / all.len() as f64);
    }
    Occlusion { places, falls }
}

fn value(output: &Images, utterance: usize, target: Target) -> f32 {
    let first: usize = output.lengths[..utterance].iter().sum();
    assert!(target.step < output.lengths[utterance] && target.class < output.shape.len(), "an output of the network");
    output.values[(first + target.step) * output.shape.len() + target.class]
}

/// The covered frames that the targets which see a patch see.
struct Crop {
    place: [usize; 2],
    targets: Vec<usize>,
    first_step: usize,
    values: Vec<f32>,
}

impl Crop {
    /// `None` if no target sees the patch.
    fn new(network: &OpenNetwork, image: &Images, all: &[Target], patch: Patch, place: [usize; 2]) -> Option<Self> {
        let (frames, bins, time) = (image.lengths[0], image.shape.frequency, network.architecture().time());
        let range = |axis: usize, size: usize| {
            let start = place[axis] * patch.stride[axis];
            start..(start + patch.size[axis]).min(size)
        };
        let (hidden_frames, hidden_bins) = (range(0, frames), range(1, bins));
        let sees = |target: &Target| {
            let anchor = target.step * time.stride;
            anchor + time.lookahead >= hidden_frames.start && anchor < hidden_frames.end + time.history
        };
        let targets: Vec<usize> = (0..all.len()).filter(|&index| sees(&all[index])).collect();
        let steps = || targets.iter().map(|&index| all[index].step);
        let (first, last) = (steps().min()?, steps().max()?);
        // A whole number of steps, so that the strides fall on the same frames.
        let first_step = (first * time.stride).saturating_sub(time.history) / time.stride;
        let end = (last * time.stride + time.lookahead + 1).min(frames);
        let (start, width, channels) = (first_step * time.stride, image.shape.len(), image.shape.channels);
        let mut values = image.values[start * width..end * width].to_vec();
        for frame in hidden_frames.start.max(start)..hidden_frames.end.min(end) {
            let column = &mut values[(frame - start) * width..][..width];
            column[hidden_bins.start * channels..hidden_bins.end * channels].fill(0.0);
        }
        Some(Self { place, targets, first_step, values })
    }
}
