//! What each filter answers to most in any amount of sound (Zeiler & Fergus 2013, fig. 2: the top nine).

use std::ops::RangeInclusive;

use super::activations::{Map, Unit};
use super::receptive_field::Field;
use crate::network::Architecture;

/// An answer of a filter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The number of the clip.
    pub clip: usize,
    /// Where in the layer's output for that clip.
    pub unit: Unit,
    /// What the unit's value was.
    pub value: f32,
}

/// For every filter of every layer the clips that it answers to most, each with its strongest unit there. A filter answers
/// with values above zero. Memory does not depend on how many clips are looked at.
#[derive(Debug, Clone)]
pub struct Strongest {
    most: usize,
    /// By line of the summary, by channel; the strongest first, of equals the earliest.
    hits: Vec<Vec<Vec<Hit>>>,
}

impl Strongest {
    /// For the layers of `architecture`, keeping at most `most` clips a filter.
    pub fn new(architecture: &Architecture, most: usize) -> Self {
        let hits = architecture.summary().iter().map(|layer| vec![Vec::new(); layer.output.channels]).collect();
        Self { most, hits }
    }

    /// Takes notice of a clip, whose number is greater than those before, in the outputs of all layers.
    ///
    /// # Panics
    /// When `maps` are not those of the architecture.
    pub fn look(&mut self, clip: usize, maps: &[Map<'_>]) {
        assert_eq!(maps.len(), self.hits.len(), "an output for every layer");
        for (map, hits) in maps.iter().zip(&mut self.hits) {
            let (bins, channels) = (map.layer.output.frequency, hits.len());
            let mut best = vec![(0.0f32, 0); channels];
            for (place, values) in map.values.chunks_exact(channels).enumerate() {
                for (best, &value) in best.iter_mut().zip(values) {
                    if value > best.0 {
                        *best = (value, place);
                    }
                }
            }
            for (channel, ((value, place), hits)) in best.into_iter().zip(hits).enumerate() {
                let rank = hits.partition_point(|hit| hit.value >= value);
                if value > 0.0 && rank < self.most {
                    let unit = Unit { step: place / bins, bin: place % bins, channel };
                    hits.insert(rank, Hit { clip, unit, value });
                    hits.truncate(self.most);
                }
            }
        }
    }

    /// The answers of a filter of the layer in line `line` of the summary, the strongest first.
    ///
    /// # Panics
    /// When there is no such filter.
    pub fn of(&self, line: usize, channel: usize) -> &[Hit] {
        &self.hits[line][channel]
    }
}

/// The frames of a clip that suffice to compute one unit, from a frame on at which every layer has a step: a little more
/// than the unit's `field` of the input. `None` if it sees padding only.
pub fn window(field: &Field, unit: Unit, frames: usize, time_stride: usize) -> Option<RangeInclusive<usize>> {
    let seen = field.time.of(unit.step, frames)?;
    Some(seen.start() / time_stride * time_stride..=*seen.end())
}
