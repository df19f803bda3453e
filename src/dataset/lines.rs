//! The lines of manifests and indices: those that are not blank, with times that can be.

use std::path::Path;

use crate::{Result, lines};

/// The lines of a text file that are not blank.
pub(super) struct Lines(lines::Lines);

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        lines::Lines::open(path).map(Self)
    }

    pub(super) fn next(&mut self) -> Result<Option<String>> {
        while let Some(line) = self.0.next()? {
            if !line.trim().is_empty() {
                return Ok(Some(line.to_owned()));
            }
        }
        Ok(None)
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> crate::Error {
        self.0.error(problem)
    }

    /// A time that can be: finite and not negative.
    pub(super) fn seconds(&self, name: &str, value: f64) -> Result<f64> {
        if value.is_finite() && value >= 0.0 {
            Ok(value)
        } else {
            Err(self.error(format!("{name} is {value} seconds")))
        }
    }
}
