//! Normalisation that is fixed at training time: per utterance it would need the utterance's end first.

use crate::error::{Error, Result};

/// Mean and standard deviation of each bin over the training data: a value `x` becomes `(x − mean) / std`.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    /// `[bins]`
    pub mean: Vec<f32>,
    /// `[bins]`, all positive.
    pub std: Vec<f32>,
}

impl Normalization {
    /// Whether this normalises columns of `bins` finite values to finite values.
    ///
    /// # Errors
    /// When lengths differ from `bins`, a value is not finite, or a deviation is not positive.
    pub fn validate(&self, bins: usize) -> Result<()> {
        let problem = |text| Err(Error::setting("spectrogram normalization", text));
        for (name, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != bins {
                return problem(format!("{} values of {name} for {bins} bins; there must be one each", values.len()));
            }
            if let Some(bin) = values.iter().position(|value| !value.is_finite()) {
                return problem(format!("{name} of bin {bin} is {}, not a finite number", values[bin]));
            }
        }
        match self.std.iter().position(|&std| std < f32::MIN_POSITIVE) {
            Some(bin) => problem(format!("std of bin {bin} is {}; it must be positive", self.std[bin])),
            None => Ok(()),
        }
    }

    /// Normalises one column, `[bins]`.
    pub fn apply(&self, column: &mut [f32]) {
        for ((value, mean), std) in column.iter_mut().zip(&self.mean).zip(&self.std) {
            *value = (*value - mean) / std;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_usable_normalisations_pass() {
        let with = |mean: &[f32], std: &[f32]| Normalization { mean: mean.to_vec(), std: std.to_vec() }.validate(2);
        assert!(with(&[1.0, -1.0], &[0.5, 2.0]).is_ok());
        for (mean, std) in [
            (&[1.0][..], &[1.0, 1.0][..]),
            (&[1.0, 1.0], &[1.0, 1.0, 1.0]),
            (&[f32::NAN, 1.0], &[1.0, 1.0]),
            (&[1.0, 1.0], &[1.0, f32::INFINITY]),
            (&[1.0, 1.0], &[0.0, 1.0]),
            (&[1.0, 1.0], &[-1.0, 1.0]),
            (&[1.0, 1.0], &[1e-40, 1.0]),
        ] {
            assert!(with(mean, std).is_err(), "{mean:?} {std:?}");
        }
    }
}
