//! A batch of utterances, packed without padding.

use crate::network::FrameShape;

/// Images of one frame shape and any lengths, end to end: `[Σ lengths, frequency, channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    /// What one frame holds.
    pub shape: FrameShape,
    /// Frames of each utterance.
    pub lengths: Vec<usize>,
    /// The values of all frames of all utterances.
    pub values: Vec<f32>,
}

impl Default for Images {
    fn default() -> Self {
        Self { shape: FrameShape { frequency: 1, channels: 1 }, lengths: Vec::new(), values: Vec::new() }
    }
}

impl Images {
    /// A batch of `values`.
    ///
    /// # Panics
    /// When the values are not as many as the lengths and the shape ask for.
    pub fn new(shape: FrameShape, lengths: Vec<usize>, values: Vec<f32>) -> Self {
        let images = Self { shape, lengths, values };
        assert_eq!(images.values.len(), images.frames() * shape.len(), "the values fill the images");
        images
    }

    /// Frames of all utterances together.
    pub fn frames(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// The values of each utterance in turn, `[frames, frequency, channels]`.
    pub fn utterances(&self) -> impl Iterator<Item = &[f32]> {
        let mut rest = &self.values[..];
        self.lengths.iter().map(move |&length| {
            let (utterance, later) = rest.split_at(length * self.shape.len());
            rest = later;
            utterance
        })
    }

    /// The values of each utterance, to be written.
    pub(super) fn utterances_mut(&mut self) -> Vec<&mut [f32]> {
        let mut rest = &mut self.values[..];
        let mut utterances = Vec::with_capacity(self.lengths.len());
        for length in &self.lengths {
            let (utterance, later) = rest.split_at_mut(length * self.shape.len());
            rest = later;
            utterances.push(utterance);
        }
        utterances
    }

    /// Takes shape and lengths; values are left from earlier use, to be written.
    pub(super) fn resize(&mut self, shape: FrameShape, lengths: impl Iterator<Item = usize>) {
        self.shape = shape;
        self.lengths.clear();
        self.lengths.extend(lengths);
        self.values.resize(self.frames() * shape.len(), 0.0);
    }

    /// Takes the shape and lengths of `other`; values are left from earlier use, to be written.
    pub(super) fn resize_like(&mut self, other: &Images) {
        self.resize(other.shape, other.lengths.iter().copied());
    }

    /// Becomes a copy of `other`.
    pub(super) fn copy_from(&mut self, other: &Images) {
        self.resize_like(other);
        self.values.copy_from_slice(&other.values);
    }
}
