//! Uncompressed samples: WAV (hound reads its header and samples) and headerless PCM, as they arrive.

use std::io::{self, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use hound::{Sample, SampleFormat, WavSpec, WavSpecEx};

use super::mix::mix;
use super::{REMEDY, SourceFormat, check_format, truncated};
use crate::{Error, Result};

/// Bytes before the samples that a header may take, pictures and all.
const MAX_HEADER_BYTES: u64 = 64 << 20;
/// The longest format chunk that means anything: WAVE_FORMAT_EXTENSIBLE.
const MAX_FORMAT_BYTES: u32 = 40;
/// Bytes asked for at once. A pipe gives fewer, and what it gives is delivered.
const BLOCK_BYTES: usize = 16 << 10;

/// A reader of uncompressed samples.
pub struct Pcm {
    path: PathBuf,
    reader: Box<dyn Read + Send>,
    format: SourceFormat,
    spec: WavSpecEx,
    /// Bytes of samples still to come, where the header says so.
    promised_bytes: Option<u64>,
    frames: u64,
    /// Bytes read; the first `filled` wait for the rest of their frame.
    block: Vec<u8>,
    filled: usize,
    interleaved: Vec<f32>,
    damage: u64,
}

impl Pcm {
    /// Reads a WAV's header.
    pub fn wav(path: impl Into<PathBuf>, reader: impl Read + Send + 'static) -> Result<Self> {
        let path = path.into();
        let mut limited = reader.take(MAX_HEADER_BYTES);
        let header = read_header(&mut limited);
        let header_bytes = MAX_HEADER_BYTES - limited.limit();
        let header = header.map_err(|error| header_error(&path, error, header_bytes))?;
        check_samples(&path, &header.spec)?;
        let promised_bytes = promise(header.file_bytes, header_bytes, header.data_bytes);
        Ok(Self::new(path, Box::new(limited.into_inner()), header.spec, promised_bytes))
    }

    /// Signed 16-bit little-endian mono samples without a header.
    pub fn raw(path: impl Into<PathBuf>, reader: impl Read + Send + 'static, sample_rate: u32) -> Self {
        let spec = WavSpec { channels: 1, sample_rate, bits_per_sample: 16, sample_format: SampleFormat::Int };
        Self::new(path.into(), Box::new(reader), WavSpecEx { spec, bytes_per_sample: 2 }, None)
    }

    fn new(path: PathBuf, reader: Box<dyn Read + Send>, spec: WavSpecEx, promised_bytes: Option<u64>) -> Self {
        let WavSpec { channels, sample_rate, bits_per_sample, sample_format } = spec.spec;
        let kind = match sample_format {
            SampleFormat::Float => 'f',
            SampleFormat::Int if bits_per_sample == 8 => 'u',
            SampleFormat::Int => 's',
        };
        let frame_bytes = u64::from(channels) * u64::from(spec.bytes_per_sample);
        let format = SourceFormat {
            codec: format!("pcm_{kind}{bits_per_sample}"),
            sample_rate_hz: sample_rate,
            channels: channels.into(),
            duration_s: promised_bytes.map(|bytes| (bytes / frame_bytes) as f64 / f64::from(sample_rate)),
        };
        Self {
            path,
            reader,
            format,
            spec,
            promised_bytes,
            frames: 0,
            block: vec![0; BLOCK_BYTES],
            filled: 0,
            interleaved: Vec::new(),
            damage: 0,
        }
    }

    pub fn format(&self) -> &SourceFormat {
        &self.format
    }

    pub fn damage(&self) -> u64 {
        self.damage
    }

    /// Appends what one read of the source gives, or nothing at the end.
    pub fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        let sample_bytes = usize::from(self.spec.bytes_per_sample);
        let frame_bytes = sample_bytes * self.format.channels;
        loop {
            let room = (self.block.len() - self.filled) as u64;
            let want = self.promised_bytes.map_or(room, |promised| promised.min(room)) as usize;
            let got = match self.reader.read(&mut self.block[self.filled..self.filled + want]) {
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::read(&self.path)(error)),
            };
            if got == 0 {
                return self.end();
            }
            if let Some(promised) = &mut self.promised_bytes {
                *promised -= got as u64;
            }
            self.filled += got;
            let whole = self.filled - self.filled % frame_bytes;
            if whole == 0 {
                continue;
            }
            self.interleaved.clear();
            for bytes in self.block[..whole].chunks_exact(sample_bytes) {
                self.interleaved.push(sample(bytes, &self.spec).map_err(|error| unreadable(&self.path, error))?);
            }
            self.block.copy_within(whole..self.filled, 0);
            self.filled -= whole;
            self.frames += (whole / frame_bytes) as u64;
            self.damage += mix(&self.interleaved, self.format.channels, mono);
            return Ok(());
        }
    }

    fn end(&mut self) -> Result<()> {
        if self.promised_bytes.is_some_and(|promised| promised > 0) {
            let got_s = self.frames as f64 / f64::from(self.format.sample_rate_hz);
            return Err(truncated(&self.path, got_s, self.format.duration_s));
        }
        if self.filled > 0 {
            self.damage += 1;
            self.filled = 0;
        }
        Ok(())
    }
}

/// What a WAV says before its samples.
struct Header {
    spec: WavSpecEx,
    /// Length of the whole file.
    file_bytes: u64,
    /// Length of the samples.
    data_bytes: u64,
}

/// Reads up to the first sample. We walk over the chunks ourselves, because hound insists on lengths that add up, and
/// a stream's do not; hound reads what the format chunk means.
fn read_header(reader: &mut impl Read) -> hound::Result<Header> {
    let [riff, file_bytes, wave] = [read_4(reader)?, read_4(reader)?, read_4(reader)?];
    if !(riff == *b"RIFF" || riff == *b"RF64") || wave != *b"WAVE" {
        return Err(hound::Error::FormatError("no RIFF tag found"));
    }
    let mut file_bytes = u64::from(u32::from_le_bytes(file_bytes)) + 8;
    let mut spec = None;
    let mut long_data_bytes = None;
    loop {
        let (kind, bytes) = (read_4(reader)?, u32::from_le_bytes(read_4(reader)?));
        let mut rest = u64::from(bytes) + u64::from(bytes % 2);
        match (&kind, spec) {
            (b"data", Some(spec)) => {
                let data_bytes = long_data_bytes.unwrap_or(bytes.into());
                return Ok(Header { spec, file_bytes, data_bytes });
            }
            (b"data", None) => return Err(hound::Error::FormatError("missing fmt chunk")),
            (b"fmt ", _) => {
                let mut format = vec![0; bytes.min(MAX_FORMAT_BYTES) as usize];
                reader.read_exact(&mut format)?;
                rest -= format.len() as u64;
                spec = Some(read_format(&format)?);
            }
            // Lengths beyond 32 bits (EBU Tech 3306).
            (b"ds64", _) if riff == *b"RF64" && bytes >= 16 => {
                let mut lengths = [0; 16];
                reader.read_exact(&mut lengths)?;
                rest -= 16;
                let lengths = u128::from_le_bytes(lengths);
                file_bytes = (lengths as u64).saturating_add(8);
                long_data_bytes = Some((lengths >> 64) as u64);
            }
            _ => {}
        }
        if io::copy(&mut reader.take(rest), &mut io::sink())? < rest {
            return Err(hound::Error::IoError(ErrorKind::UnexpectedEof.into()));
        }
    }
}

fn read_4(reader: &mut impl Read) -> io::Result<[u8; 4]> {
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What a format chunk means: hound is shown a WAV that has this chunk and no samples.
fn read_format(format: &[u8]) -> hound::Result<WavSpecEx> {
    let length = (format.len() as u32).to_le_bytes();
    let wav = [&b"RIFF\0\0\0\0WAVEfmt "[..], &length, format, b"data\0\0\0\0"].concat();
    let spec = hound::WavReader::new(Cursor::new(wav))?.spec();
    let block_align = u16::from_le_bytes([format[12], format[13]]);
    Ok(WavSpecEx { spec, bytes_per_sample: block_align / spec.channels })
}

/// One sample in [−1, 1], little-endian.
fn sample(mut bytes: &[u8], spec: &WavSpecEx) -> hound::Result<f32> {
    let WavSpecEx { spec: WavSpec { bits_per_sample, sample_format, .. }, bytes_per_sample } = *spec;
    match sample_format {
        SampleFormat::Float => f32::read(&mut bytes, sample_format, bytes_per_sample, bits_per_sample),
        SampleFormat::Int => {
            let value = i32::read(&mut bytes, sample_format, bytes_per_sample, bits_per_sample)?;
            Ok(value as f32 / (1u32 << (bits_per_sample - 1)) as f32)
        }
    }
}

/// Refuses sample formats that [`sample`] cannot read, and absurd rates and channels.
fn check_samples(path: &Path, spec: &WavSpecEx) -> Result<()> {
    let WavSpec { channels, sample_rate, bits_per_sample, sample_format } = spec.spec;
    check_format(path, sample_rate, channels.into())?;
    match (sample_format, spec.bytes_per_sample, bits_per_sample) {
        (SampleFormat::Int, 1, 8) | (SampleFormat::Int, 2, 16) | (SampleFormat::Int, 3 | 4, 24) => Ok(()),
        (SampleFormat::Int | SampleFormat::Float, 4, 32) => Ok(()),
        (_, bytes, bits) => {
            let problem = format!("a WAV with {bits}-bit samples in {bytes} bytes each is not supported; {REMEDY}");
            Err(Error::audio(path, problem))
        }
    }
}

/// How many bytes of samples to expect, or `None` to read to the end: writers that cannot seek back leave a placeholder.
fn promise(file_bytes: u64, header_bytes: u64, data_bytes: u64) -> Option<u64> {
    // What they leave: 0 (Python, GStreamer), almost 2³¹ (SoX, arecord), almost 2³² (FFmpeg).
    let is_placeholder = |bytes: u64| matches!(bytes, 0 | 0x7fff_0000..=0x8000_ffff | 0xffff_0000..=0xffff_ffff);
    match data_bytes {
        // A sound of no samples, before other chunks.
        0 if !is_placeholder(file_bytes.saturating_sub(8)) && file_bytes > header_bytes => Some(0),
        bytes => (!is_placeholder(bytes)).then_some(bytes),
    }
}

fn header_error(path: &Path, error: hound::Error, header_bytes: u64) -> Error {
    match error {
        _ if header_bytes == 0 => Error::audio(path, "nothing arrived; send a WAV, or name a raw sample rate"),
        _ if header_bytes == MAX_HEADER_BYTES => {
            let problem = format!("no samples within the first {} MiB; {REMEDY}", MAX_HEADER_BYTES >> 20);
            Error::audio(path, problem)
        }
        hound::Error::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Error::audio(path, "the file is cut off within its WAV header; copy or download it again")
        }
        error => unreadable(path, error),
    }
}

fn unreadable(path: &Path, error: hound::Error) -> Error {
    match error {
        hound::Error::IoError(error) => Error::read(path)(error),
        hound::Error::Unsupported => Error::audio(path, format!("a compressed WAV is not supported; {REMEDY}")),
        error => {
            let reason = error.to_string();
            let reason = reason.trim_start_matches("Ill-formed WAVE file: ");
            Error::audio(path, format!("not a WAV that I can read ({reason}); {REMEDY}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_not_believed() {
        assert_eq!(promise(1044, 44, 1000), Some(1000));
        assert_eq!(promise(44, 44, 0), None, "Python writing to a pipe");
        assert_eq!(promise(8, 44, 0), None);
        assert_eq!(promise(46, 44, 2), Some(2), "one sample");
        assert_eq!(promise(144, 44, 0), Some(0), "no samples, then another chunk");
        for placeholder in [0xffff_ffff, 0xffff_ffff - 36, 0x7fff_ffff, 0x7fff_f000, 0x8000_0000] {
            assert_eq!(promise(placeholder + 8, 44, placeholder), None, "{placeholder:#x}");
        }
        assert_eq!(promise(3_000_000_044, 44, 3_000_000_000), Some(3_000_000_000));
    }
}
