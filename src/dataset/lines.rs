//! Text files line by line, with bounds and with line numbers for errors.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The lines of a UTF-8 text file that are not blank, with their numbers for error messages.
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    number: usize,
}

impl Lines {
    /// Longer ones are no list of utterances.
    const LONGEST: u64 = 1 << 20;

    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::read(path))?;
        Ok(Self { path: path.to_path_buf(), reader: BufReader::new(file), number: 0 })
    }

    pub(super) fn next(&mut self) -> Result<Option<String>> {
        loop {
            let mut bytes = Vec::new();
            let mut bounded = (&mut self.reader).take(Self::LONGEST);
            let length = bounded.read_until(b'\n', &mut bytes).map_err(Error::read(&self.path))?;
            self.number += 1;
            if length == 0 {
                return Ok(None);
            }
            if length as u64 == Self::LONGEST && !bytes.ends_with(b"\n") {
                return Err(self.error("longer than a mebibyte: not a list of utterances"));
            }
            let line = String::from_utf8(bytes).map_err(|_| self.error("not UTF-8 text"))?;
            let line = line.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
            if !line.trim().is_empty() {
                return Ok(Some(line.to_owned()));
            }
        }
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::line(&self.path, self.number, problem)
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
