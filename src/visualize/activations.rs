//! What every layer made of a clip: all outputs of one pass.

use crate::layers::OpenNetwork;
use crate::network::LayerSummary;

/// One value of a layer's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Output frame of the layer.
    pub step: usize,
    /// Frequency bin of the layer.
    pub bin: usize,
    /// Channel, that is filter, of the layer.
    pub channel: usize,
}

/// A layer's output for one clip.
#[derive(Debug, Clone, Copy)]
pub struct Map<'a> {
    /// The layer: its path, shape, and time step in input frames.
    pub layer: &'a LayerSummary,
    /// `[steps, frequency, channels]`
    pub values: &'a [f32],
}

/// The outputs of every layer in the network's last pass, which was over one utterance, in the order of the summary.
///
/// # Panics
/// When the last pass was over several utterances.
pub fn activations(network: &OpenNetwork) -> Vec<Map<'_>> {
    let (summary, outputs) = (network.architecture().summary(), network.outputs());
    assert_eq!(summary.len(), outputs.len(), "an output for every layer");
    summary
        .iter()
        .zip(outputs)
        .map(|(layer, (path, output))| {
            assert!(output.lengths.len() <= 1 && layer.path == path, "one utterance, and the layers of the summary");
            Map { layer, values: &output.values }
        })
        .collect()
}

impl Map<'_> {
    /// Output frames.
    pub fn steps(&self) -> usize {
        self.values.len() / self.layer.output.len()
    }

    /// The value of one unit.
    ///
    /// # Panics
    /// When there is no such unit.
    pub fn at(&self, unit: Unit) -> f32 {
        self.values[self.index(unit)]
    }

    /// Where the value of `unit` lies in [`values`](Self::values).
    pub fn index(&self, unit: Unit) -> usize {
        let shape = self.layer.output;
        assert!(unit.bin < shape.frequency && unit.channel < shape.channels, "a unit of {}", self.layer.path);
        (unit.step * shape.frequency + unit.bin) * shape.channels + unit.channel
    }

    /// The values of one channel, `[steps, frequency]`.
    pub fn channel(&self, channel: usize) -> impl Iterator<Item = f32> {
        self.values.iter().skip(channel).step_by(self.layer.output.channels).copied()
    }

    /// Where a channel is strongest, the earliest and lowest of several; `None` if there is no step.
    pub fn strongest(&self, channel: usize) -> Option<Unit> {
        let greater = |best: Option<(usize, f32)>, (at, value): (usize, f32)| match best {
            Some((_, most)) if value <= most || value.is_nan() => best,
            _ => Some((at, value)),
        };
        let (at, _) = self.channel(channel).enumerate().fold(None, greater)?;
        let bins = self.layer.output.frequency;
        Some(Unit { step: at / bins, bin: at % bins, channel })
    }
}
