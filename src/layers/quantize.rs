//! Rounding to bytes.

use super::images::Images;
use super::sequence::{Flow, Pass};
use crate::network;

/// Rounds each value. Its gradient is taken for that of a function that only cuts off, the straight-through estimator
/// (Bengio et al. 2013): the true one is zero almost everywhere.
pub struct Quantize {
    settings: network::Quantize,
    pub output: Images,
}

impl Quantize {
    pub fn new(settings: network::Quantize) -> Self {
        Self { settings, output: Images::default() }
    }

    pub fn forward(&mut self, input: &Images, pass: &mut Pass<'_>) {
        self.output.resize_like(input);
        let settings = self.settings;
        pass.crew.rows(&mut self.output.values, 1, |first, out, _| {
            let x = &input.values[first..][..out.len()];
            out.iter_mut().zip(x).for_each(|(out, &x)| *out = settings.round(x));
        });
    }

    pub fn backward(&mut self, input: &Images, flow: &mut Flow, _: bool, pass: &mut Pass<'_>) {
        let network::Quantize { scale, zero_point } = self.settings;
        let zero = f32::from(zero_point);
        let passed = -zero * scale..=(255.0 - zero) * scale;
        pass.crew.rows(&mut flow.gradient.values, 1, |first, gradient, _| {
            let x = &input.values[first..][..gradient.len()];
            let cut = gradient.iter_mut().zip(x).filter(|(_, x)| !passed.contains(x));
            cut.for_each(|(gradient, _)| *gradient = 0.0);
        });
    }
}
