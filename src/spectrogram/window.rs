//! What the samples of a frame are multiplied by.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

/// A window in its periodic form: of length N + 1 it would be symmetric, its last value is left out (Harris 1978).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// `0.5 − 0.5 cos(2πn / N)`.
    Hann,
    /// `0.54 − 0.46 cos(2πn / N)`.
    Hamming,
}

impl Window {
    /// The window's values, `[samples]`.
    pub fn coefficients(self, samples: usize) -> Vec<f32> {
        let offset = match self {
            Self::Hann => 0.5,
            Self::Hamming => 0.54,
        };
        let value = |n: usize| offset - (1.0 - offset) * (TAU * n as f64 / samples as f64).cos();
        (0..samples).map(|n| value(n) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_periodic() {
        assert_eq!(Window::Hann.coefficients(4), [0.0, 0.5, 1.0, 0.5]);
        assert_eq!(Window::Hamming.coefficients(4), [0.08, 0.54, 1.0, 0.54]);
    }
}
