//! Batch normalisation per channel (Ioffe & Szegedy 2015), a following ReLU included. Symbols are the paper's.

use super::Mode;
use super::images::Images;
use super::sequence::{Flow, Pass, Source};
use crate::network;

/// Weight of the newest batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// Normalises with the statistics of all frames of the batch in training, with the running ones in evaluation.
pub struct BatchNorm {
    epsilon: f64,
    relu: bool,
    gamma: usize,
    beta: usize,
    running_mean: usize,
    running_var: usize,
    /// What the last forward pass did: `y = scale · x + shift`, and the μ and 1 / √(σ² + ε) behind it.
    scale: Vec<f32>,
    shift: Vec<f32>,
    mean: Vec<f32>,
    inverse_deviation: Vec<f64>,
    mode: Mode,
    pub output: Images,
}

impl BatchNorm {
    pub fn new(settings: &network::BatchNorm, channels: usize, relu: bool, path: &str, source: &Source<'_>) -> Self {
        let index = |name: &str| source.parameter(&format!("{path}.{name}")).expect("the survey lists it");
        Self {
            epsilon: f64::from(settings.epsilon),
            relu,
            gamma: index("weight"),
            beta: index("bias"),
            running_mean: index("running_mean"),
            running_var: index("running_var"),
            scale: vec![0.0; channels],
            shift: vec![0.0; channels],
            mean: vec![0.0; channels],
            inverse_deviation: vec![0.0; channels],
            mode: Mode::Evaluation,
            output: Images::default(),
        }
    }

    pub fn forward(&mut self, input: &Images, pass: &mut Pass<'_>) {
        let channels = self.mean.len();
        let count = (input.values.len() / channels) as f64;
        let kernels = pass.crew.kernels;
        self.mode = pass.mode;
        // No values have no statistics; they change nothing.
        let training = matches!(pass.mode, Mode::Training { .. }) && count > 0.0;
        let moments = training.then(|| {
            pass.crew.sum(input.values.len(), input.shape.len(), 2 * channels, |range, sums| {
                kernels.add_moments(&input.values[range], sums);
            })
        });
        for c in 0..channels {
            let (mean, variance) = match &moments {
                Some(sums) => {
                    let mean = sums[c] / count;
                    let variance = (sums[channels + c] / count - mean * mean).max(0.0);
                    // As in PyTorch, the running variance is the unbiased one.
                    let unbiased = variance * count / (count - 1.0).max(1.0);
                    for (index, new) in [(self.running_mean, mean), (self.running_var, unbiased)] {
                        let running = &mut pass.parameters[index].values[c];
                        *running = (f64::from(*running) * (1.0 - MOMENTUM) + new * MOMENTUM) as f32;
                    }
                    (mean, variance)
                }
                None => {
                    let running = |index: usize| f64::from(pass.parameters[index].values[c]);
                    (running(self.running_mean), running(self.running_var))
                }
            };
            let inverse_deviation = 1.0 / (variance + self.epsilon).sqrt();
            let scale = f64::from(pass.parameters[self.gamma].values[c]) * inverse_deviation;
            self.scale[c] = scale as f32;
            self.shift[c] = (f64::from(pass.parameters[self.beta].values[c]) - mean * scale) as f32;
            self.mean[c] = mean as f32;
            self.inverse_deviation[c] = inverse_deviation;
        }
        self.output.resize_like(input);
        let affine = [&self.scale[..], &self.shift[..]];
        pass.crew.rows(&mut self.output.values, input.shape.len(), |first, out, _| {
            let x = input.values[first..][..out.len()].chunks(input.shape.len());
            x.zip(out.chunks_mut(input.shape.len())).for_each(|(x, out)| kernels.normalize(x, affine, self.relu, out));
        });
    }

    pub fn backward(&mut self, input: &Images, flow: &mut Flow, wanted: bool, pass: &mut Pass<'_>) {
        let channels = self.mean.len();
        let count = (input.values.len() / channels).max(1) as f64;
        let kernels = pass.crew.kernels;
        let affine = [&self.scale[..], &self.shift[..]];
        let sums = pass.crew.sum(input.values.len(), input.shape.len(), 2 * channels, |range, sums| {
            let (x, dy) = (&input.values[range.clone()], &flow.gradient.values[range]);
            kernels.add_normalize_sums(x, dy, affine, self.relu, &self.mean, sums);
        });
        // ∂L/∂x = a · ∂L/∂y + b · x + c: the paper's three equations after the statistics' gradients, collected.
        let mut coefficients = [(); 3].map(|()| vec![0.0; channels]);
        for c in 0..channels {
            let (sum, products) = (sums[c], sums[channels + c]);
            pass.parameters[self.gamma].gradients[c] = (products * self.inverse_deviation[c]) as f32;
            pass.parameters[self.beta].gradients[c] = sum as f32;
            let scale = f64::from(self.scale[c]);
            coefficients[0][c] = scale as f32;
            if let Mode::Training { .. } = self.mode {
                let b = -scale * self.inverse_deviation[c].powi(2) * products / count;
                coefficients[1][c] = b as f32;
                coefficients[2][c] = (-scale * sum / count - b * f64::from(self.mean[c])) as f32;
            }
        }
        if !wanted {
            return;
        }
        let coefficients = coefficients.each_ref().map(|values| &values[..]);
        pass.crew.rows(&mut flow.gradient.values, input.shape.len(), |first, dy, _| {
            let x = input.values[first..][..dy.len()].chunks(input.shape.len());
            for (x, dy) in x.zip(dy.chunks_mut(input.shape.len())) {
                kernels.normalize_gradient(x, affine, self.relu, coefficients, dy);
            }
        });
    }
}
