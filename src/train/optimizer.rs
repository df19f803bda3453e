//! AdamW (Loshchilov & Hutter 2019, algorithm 2), with the paper's symbols.

/// Settings of AdamW, the same for all tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the mean gradient.
    pub beta1: f32,
    /// Decay of the mean square of the gradient.
    pub beta2: f32,
    /// Keeps the step finite where the gradient is next to nothing.
    pub epsilon: f32,
    /// Part of a weight that goes per step and unit of the learning rate.
    pub weight_decay: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weight_decay: 1e-2 }
    }
}

/// What AdamW remembers of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// `m`, the mean gradient.
    pub first: Vec<f32>,
    /// `v`, the mean square of the gradient.
    pub second: Vec<f32>,
}

impl Moments {
    /// Of a tensor with `len` values, before the first step.
    pub fn new(len: usize) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len] }
    }
}

impl AdamW {
    /// Step `t`, counted from 1, of one tensor. `decay` says whether its weights decay: filters yes, biases and
    /// normalisation no.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn update(
        &self,
        t: u64,
        learning_rate: f32,
        decay: bool,
        values: &mut [f32],
        gradient: &[f32],
        moments: &mut Moments,
    ) {
        assert!(gradient.len() == values.len() && moments.first.len() == values.len(), "one gradient per value");
        let Self { beta1, beta2, epsilon, weight_decay } = *self;
        // 1 − β^t in f64: in f32 the first steps of β₂ = 0.999 would lose three digits.
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(t as f64);
        let step = (f64::from(learning_rate) / correction(beta1)) as f32;
        let root = correction(beta2).sqrt() as f32;
        let keep = if decay { 1.0 - learning_rate * weight_decay } else { 1.0 };
        let state = moments.first.iter_mut().zip(&mut moments.second);
        for ((theta, &g), (m, v)) in values.iter_mut().zip(gradient).zip(state) {
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *theta = keep * *theta - step * *m / (v.sqrt() / root + epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    /// PyTorch, see tests/data/golden/adamw.py.
    #[test]
    fn golden_steps() {
        let file = SafeTensors::deserialize(include_bytes!("../../tests/data/golden/adamw.safetensors")).unwrap();
        let f32s = |name: &str| -> Vec<f32> {
            let bytes = file.tensor(name).unwrap().data();
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let adamw = AdamW { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weight_decay: 0.05 };
        for (name, decay) in [("decay", true), ("plain", false)] {
            let mut values = f32s("start");
            let (count, gradients, expected) = (values.len(), f32s("gradients"), f32s(name));
            let mut moments = Moments::new(count);
            for (t, (gradient, expected)) in gradients.chunks(count).zip(expected.chunks(count)).enumerate() {
                adamw.update(t as u64 + 1, 0.01, decay, &mut values, gradient, &mut moments);
                for (ours, theirs) in values.iter().zip(expected) {
                    assert!((ours - theirs).abs() < 2e-6, "{name}, step {}: {ours} {theirs}", t + 1);
                }
            }
        }
    }
}
