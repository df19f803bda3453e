//! What was heard, as a WAV file that is valid at any time.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dfcnn::{Error, Result};
use hound::{SampleFormat, WavSpec, WavWriter};

/// How often the header is brought up to date.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// The most samples in a file: its header counts bytes in 32 bits.
const MOST_SAMPLES: u32 = (u32::MAX - 1024) / 2;

/// A 16-bit mono recording; where it gets too long for WAV (37 hours at 16 kHz), it goes on in `name-2.wav`.
pub struct Recording {
    path: PathBuf,
    sample_rate: u32,
    most_samples: u32,
    /// Files so far.
    files: u32,
    writer: WavWriter<BufWriter<File>>,
    flushed_at: Instant,
}

impl Recording {
    pub fn create(path: &Path, sample_rate_hz: u32) -> Result<Self> {
        Self::with_most(path, sample_rate_hz, MOST_SAMPLES)
    }

    fn with_most(path: &Path, sample_rate: u32, most_samples: u32) -> Result<Self> {
        let writer = open(path, sample_rate)?;
        let path = path.to_path_buf();
        Ok(Self { path, sample_rate, most_samples, files: 1, writer, flushed_at: Instant::now() })
    }

    /// Writes `samples`, mono in [−1, 1], and rounds them to the 16 bits that were written: who hears the recording hears
    /// exactly the same.
    pub fn write(&mut self, samples: &mut [f32]) -> Result<()> {
        for sample in samples {
            if self.writer.len() == self.most_samples {
                self.go_on()?;
            }
            let rounded = (*sample * 32_768.0).round().clamp(-32_768.0, 32_767.0);
            *sample = rounded / 32_768.0;
            self.writer.write_sample(rounded as i16).map_err(|error| cannot_write(&self.path, error))?;
        }
        if self.flushed_at.elapsed() >= FLUSH_EVERY {
            self.writer.flush().map_err(|error| cannot_write(&self.path, error))?;
            self.flushed_at = Instant::now();
        }
        Ok(())
    }

    /// The next file.
    fn go_on(&mut self) -> Result<()> {
        self.writer.flush().map_err(|error| cannot_write(&self.path, error))?;
        self.files += 1;
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let stem = if self.files == 2 { &*stem } else { stem.rsplit_once('-').map_or(&*stem, |(stem, _)| stem) };
        self.path = self.path.with_file_name(format!("{stem}-{}.wav", self.files));
        self.writer = open(&self.path, self.sample_rate)?;
        Ok(())
    }

    /// Closes the file.
    pub fn finish(self) -> Result<()> {
        self.writer.finalize().map_err(|error| cannot_write(&self.path, error))
    }
}

fn open(path: &Path, sample_rate: u32) -> Result<WavWriter<BufWriter<File>>> {
    let spec = WavSpec { channels: 1, sample_rate, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let mut writer = WavWriter::create(path, spec).map_err(|error| cannot_write(path, error))?;
    writer.flush().map_err(|error| cannot_write(path, error))?;
    Ok(writer)
}

fn cannot_write(path: &Path, error: hound::Error) -> Error {
    let source = match error {
        hound::Error::IoError(source) => source,
        other => io::Error::other(other),
    };
    Error::write(path)(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(path: &Path) -> Vec<f32> {
        let samples = hound::WavReader::open(path).unwrap().into_samples::<i16>();
        samples.map(|sample| f32::from(sample.unwrap()) / 32_768.0).collect()
    }

    #[test]
    fn what_is_heard_is_what_is_written_and_at_any_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heard.wav");
        let mut recording = Recording::create(&path, 16_000).unwrap();
        assert_eq!(samples(&path), []);
        let mut heard = [0.0, 1.0, -1.0, 0.123_456_7, -3e-5, 2.0];
        recording.write(&mut heard).unwrap();
        assert!(heard[3] != 0.123_456_7 && (heard[3] - 0.123_456_7).abs() < 2e-5);
        recording.flushed_at = Instant::now().checked_sub(FLUSH_EVERY).unwrap();
        recording.write(&mut []).unwrap();
        assert_eq!(samples(&path), heard, "while it is still being written");
        recording.finish().unwrap();
        assert_eq!(samples(&path), heard);
    }

    #[test]
    fn a_long_recording_goes_on_in_further_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut recording = Recording::with_most(&folder.path().join("a-b.wav"), 8_000, 3).unwrap();
        recording.write(&mut [0.25; 8]).unwrap();
        recording.finish().unwrap();
        let lengths = ["a-b.wav", "a-b-2.wav", "a-b-3.wav"].map(|name| samples(&folder.path().join(name)).len());
        assert_eq!(lengths, [3, 3, 2]);
    }

    #[test]
    fn a_folder_that_is_not_there() {
        let error = Recording::create(Path::new("/nowhere/at/all.wav"), 16_000).err().unwrap().to_string();
        assert!(error.starts_with("/nowhere/at/all.wav: cannot write"), "{error}");
    }
}
