//! Dropout (Srivastava et al. 2014), in its inverted form: nothing changes at inference.

use super::Mode;
use super::crew::Crew;
use super::images::Images;
use super::sequence::{Flow, Pass};
use crate::network;
use crate::random::Random;

/// Which values are dropped follows from the step's seed, the layer and the place, so that no mask need be kept.
pub struct Dropout {
    rate: f32,
    layer: u64,
    mode: Mode,
    pub output: Images,
}

impl Dropout {
    /// `layer` makes this layer's choices differ from others'.
    pub fn new(settings: &network::Dropout, layer: u64) -> Self {
        Self { rate: settings.rate, layer, mode: Mode::Evaluation, output: Images::default() }
    }

    pub fn forward(&mut self, input: &Images, pass: &mut Pass<'_>) {
        self.mode = pass.mode;
        self.output.copy_from(input);
        thin(self.rate, self.layer, self.mode, &mut self.output.values, pass.crew);
    }

    pub fn backward(&mut self, _: &Images, flow: &mut Flow, _: bool, pass: &mut Pass<'_>) {
        thin(self.rate, self.layer, self.mode, &mut flow.gradient.values, pass.crew);
    }
}

/// Drops some of `values` in training and scales the rest.
fn thin(rate: f32, layer: u64, mode: Mode, values: &mut [f32], crew: &Crew) {
    /// Values that share a stream of random numbers.
    const BLOCK: usize = 4096;
    let Mode::Training { seed } = mode else { return };
    let scale = 1.0 / (1.0 - rate);
    crew.rows(values, BLOCK, |first, values, _| {
        for (index, values) in (first / BLOCK..).zip(values.chunks_mut(BLOCK)) {
            let mut random = Random::for_item(seed, &[layer, index as u64]);
            values.iter_mut().for_each(|value| *value = if random.chance(rate) { 0.0 } else { *value * scale });
        }
    });
}
