//! Log of the softmax over the channels.

use super::images::Images;
use super::sequence::{Flow, Pass};

/// `y = x − ln Σ e^x`.
#[derive(Default)]
pub struct LogSoftmax {
    pub output: Images,
}

impl LogSoftmax {
    pub fn forward(&mut self, input: &Images, pass: &mut Pass<'_>) {
        self.output.copy_from(input);
        let channels = input.shape.channels;
        pass.crew.rows(&mut self.output.values, channels, |_, out, _| {
            for row in out.chunks_exact_mut(channels) {
                let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = row.iter().map(|x| (x - greatest).exp()).sum();
                let normalizer = greatest + sum.ln();
                row.iter_mut().for_each(|x| *x -= normalizer);
            }
        });
    }

    /// `∂L/∂x = ∂L/∂y − e^y Σ ∂L/∂y`.
    pub fn backward(&mut self, _: &Images, flow: &mut Flow, _: bool, pass: &mut Pass<'_>) {
        let (channels, output) = (self.output.shape.channels, &self.output.values);
        pass.crew.rows(&mut flow.gradient.values, channels, |first, gradient, _| {
            let y = output[first..][..gradient.len()].chunks_exact(channels);
            for (gradient, y) in gradient.chunks_exact_mut(channels).zip(y) {
                let sum: f32 = gradient.iter().sum();
                gradient.iter_mut().zip(y).for_each(|(g, y)| *g -= y.exp() * sum);
            }
        });
    }
}
