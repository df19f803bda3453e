//! Local response normalisation across channels (Krizhevsky et al. 2012, §3.3).

use super::images::Images;
use super::sequence::{Flow, Pass};
use crate::network;

/// `b = a / s^β` with `s = k + α Σ a²` over neighbouring channels.
pub struct LocalResponseNorm {
    settings: network::LocalResponseNorm,
    pub output: Images,
}

impl LocalResponseNorm {
    pub fn new(settings: &network::LocalResponseNorm) -> Self {
        Self { settings: settings.clone(), output: Images::default() }
    }

    pub fn forward(&mut self, input: &Images, pass: &mut Pass<'_>) {
        self.output.resize_like(input);
        let (settings, channels) = (&self.settings, input.shape.channels);
        pass.crew.rows(&mut self.output.values, channels, |first, out, scratch| {
            let a = input.values[first..][..out.len()].chunks_exact(channels);
            for (a, b) in a.zip(out.chunks_exact_mut(channels)) {
                sums(settings, a, &mut scratch.sums);
                for ((b, &a), &s) in b.iter_mut().zip(a).zip(&scratch.sums) {
                    *b = a * s.powf(-settings.beta);
                }
            }
        });
    }

    /// `∂L/∂a_i = ∂L/∂b_i s_i^−β − 2αβ a_i Σ_j ∂L/∂b_j a_j s_j^(−β−1)`, the sum over the channels whose `s` holds `a_i`;
    /// being centred, they are the same as those under `s_i`.
    pub fn backward(&mut self, input: &Images, flow: &mut Flow, _: bool, pass: &mut Pass<'_>) {
        let (settings, channels) = (&self.settings, input.shape.channels);
        pass.crew.rows(&mut flow.gradient.values, channels, |first, gradient, scratch| {
            let a = input.values[first..][..gradient.len()].chunks_exact(channels);
            let terms = &mut scratch.products.at_least(channels)[..channels];
            for (a, gradient) in a.zip(gradient.chunks_exact_mut(channels)) {
                sums(settings, a, &mut scratch.sums);
                for (((term, g), a), s) in terms.iter_mut().zip(gradient.iter_mut()).zip(a).zip(&scratch.sums) {
                    let power = s.powf(-settings.beta);
                    *term = *g * a * power / s;
                    *g *= power;
                }
                for (channel, (g, a)) in gradient.iter_mut().zip(a).enumerate() {
                    let sum: f32 = terms[around(settings, channel, channels)].iter().sum();
                    *g -= 2.0 * settings.alpha * settings.beta * a * sum;
                }
            }
        });
    }
}

/// The channels under the sum for `channel`.
fn around(settings: &network::LocalResponseNorm, channel: usize, channels: usize) -> std::ops::Range<usize> {
    let half = settings.size / 2;
    channel.saturating_sub(half)..(channel + half + 1).min(channels)
}

/// `s` of every channel.
fn sums(settings: &network::LocalResponseNorm, a: &[f32], sums: &mut Vec<f32>) {
    sums.clear();
    sums.extend((0..a.len()).map(|channel| {
        let squares: f32 = a[around(settings, channel, a.len())].iter().map(|a| a * a).sum();
        settings.k + settings.alpha * squares
    }));
}
