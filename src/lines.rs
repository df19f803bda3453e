//! Text line by line, plain or gzipped, with bounds and with line numbers for errors.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::{Error, Result};

/// What every gzip file begins with (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The lines of a UTF-8 text, from a file or a stream; what is gzipped is unpacked on the way.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    number: usize,
    line: Vec<u8>,
}

impl Lines {
    /// Longer ones are no sentences.
    const LONGEST: u64 = 1 << 20;

    /// The lines of a file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(path, File::open(path).map_err(Error::read(path))?)
    }

    /// The lines of a stream; `path` names it in errors.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub fn new(path: impl AsRef<Path>, stream: impl Read + 'static) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let mut plain = BufReader::with_capacity(1 << 16, stream);
        let gzipped = plain.fill_buf().map_err(Error::read(&path))?.starts_with(&GZIP);
        let reader: Box<dyn BufRead> =
            if gzipped { Box::new(BufReader::new(MultiGzDecoder::new(plain))) } else { Box::new(plain) };
        Ok(Self { path, reader, number: 0, line: Vec::new() })
    }

    /// The next line without its end, or nothing after the last.
    ///
    /// # Errors
    /// When the text cannot be read, a line is longer than a mebibyte or is not UTF-8.
    #[expect(clippy::should_implement_trait, reason = "the line is lent")]
    pub fn next(&mut self) -> Result<Option<&str>> {
        self.line.clear();
        let mut bounded = (&mut self.reader).take(Self::LONGEST);
        let length = bounded.read_until(b'\n', &mut self.line).map_err(Error::read(&self.path))?;
        if length == 0 {
            return Ok(None);
        }
        self.number += 1;
        if length as u64 == Self::LONGEST && !self.line.ends_with(b"\n") {
            return Err(self.error("longer than a mebibyte; is this the right file?"));
        }
        match std::str::from_utf8(&self.line) {
            Ok(line) => Ok(Some(line.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']))),
            Err(_) => Err(self.error("not UTF-8 text; convert it, for instance with iconv")),
        }
    }

    /// How many lines were read: the number of the latest.
    pub fn number(&self) -> usize {
        self.number
    }

    /// What the text is called.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error about the latest line, or the first if there is none.
    pub fn error(&self, problem: impl Into<String>) -> Error {
        Error::line(&self.path, self.number.max(1), problem)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn lines(bytes: Vec<u8>) -> Result<Vec<String>> {
        let mut lines = Lines::new("text", std::io::Cursor::new(bytes))?;
        let mut all = Vec::new();
        while let Some(line) = lines.next()? {
            all.push(line.to_owned());
        }
        assert_eq!(lines.number(), all.len());
        Ok(all)
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_gzipped_are_the_same() {
        let text = "a b\r\n\n c";
        assert_eq!(lines(text.into()).unwrap(), ["a b", "", " c"]);
        assert_eq!(lines(gzipped(text.as_bytes())).unwrap(), ["a b", "", " c"]);
        assert_eq!(lines([gzipped(b"a\n"), gzipped(b"b")].concat()).unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_is_not_text_is_an_error() {
        let mut cut = gzipped(&b"a sentence\n".repeat(1000));
        cut.truncate(cut.len() / 2);
        assert!(matches!(lines(cut), Err(Error::Read { .. })));
        assert!(lines(b"fine\n\xff\n".to_vec()).unwrap_err().to_string().starts_with("text:2: not UTF-8"));
        let endless = gzipped(&vec![b' '; 5 << 20]);
        assert!(lines(endless).unwrap_err().to_string().contains("mebibyte"));
    }
}
