//! The exponential moving average of the weights (Polyak & Juditsky 1992): what is evaluated and shipped.

/// How slowly the average follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ema {
    /// What is kept per step, once there were enough steps.
    pub decay: f32,
}

impl Ema {
    /// Step `t`, counted from 1: `average ← d · average + (1 − d) · values` with `d = min(decay, t / (t + 10))`, so that
    /// the random start is soon forgotten.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn update(&self, t: u64, average: &mut [f32], values: &[f32]) {
        assert_eq!(average.len(), values.len(), "one average per value");
        let decay = self.decay.min((t as f64 / (t as f64 + 10.0)) as f32);
        for (average, value) in average.iter_mut().zip(values) {
            *average += (1.0 - decay) * (value - *average);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_soon_at_first_and_slowly_later() {
        let ema = Ema { decay: 0.99 };
        let mut average = [100.0];
        (1..=50).for_each(|t| ema.update(t, &mut average, &[1.0]));
        assert!((average[0] - 1.0).abs() < 1e-3, "{average:?}");
        ema.update(100_000, &mut average, &[2.0]);
        assert!((average[0] - 1.01).abs() < 1e-3, "{average:?}");
        let before = average;
        ema.update(7, &mut average, &before);
        assert_eq!(average, before);
    }
}
