//! Dropout (Srivastava et al. 2014), in its inverted form: nothing changes at inference.

use super::Mode;
use super::crew::Crew;
use super::images::Images;
use super::random::scramble;
use super::sequence::{Flow, Pass};
use crate::network;

/// Which values are dropped follows from the step's seed, the layer and the place, so that no mask need be kept.
pub struct Dropout {
    rate: f64,
    layer: u64,
    mode: Mode,
    pub output: Images,
}

impl Dropout {
    /// `layer` makes this layer's choices differ from others'.
    pub fn new(settings: &network::Dropout, layer: u64) -> Self {
        Self { rate: f64::from(settings.rate), layer, mode: Mode::Evaluation, output: Images::default() }
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
fn thin(rate: f64, layer: u64, mode: Mode, values: &mut [f32], crew: &Crew) {
    let Mode::Training { seed } = mode else { return };
    let seed = scramble(seed ^ scramble(layer));
    // Of 2^32 equally likely numbers, this many drop a value.
    let dropped = (rate * 2f64.powi(32)) as u64;
    let scale = (1.0 / (1.0 - rate)) as f32;
    crew.rows(values, 1, |first, values, _| {
        for (index, value) in (first as u64..).zip(values) {
            let keep = scramble(seed.wrapping_add(index)) >> 32 >= dropped;
            *value = if keep { *value * scale } else { 0.0 };
        }
    });
}
