//! Sound from files and streams: decoded, mixed down to mono, resampled, piece by piece in constant memory.

pub mod capture;
mod compressed;
mod mix;
mod pcm;
mod resample;

use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};

pub use resample::Resampler;
use symphonia::core::io::ReadOnlySource;

use self::compressed::Compressed;
use self::pcm::Pcm;
use crate::{Error, Result};

/// The lowest sample rate that is believed or made.
pub const MIN_RATE_HZ: u32 = 1_000;
/// The highest sample rate that is believed or made.
pub const MAX_RATE_HZ: u32 = 768_000;
/// The most channels that are believed.
pub const MAX_CHANNELS: usize = 64;
/// The longest sound that a header's claim is believed: longer is taken for a placeholder.
const MAX_DURATION_S: f64 = 1_000.0 * 3_600.0;
/// The longest piece of the source that is resampled at once.
const MAX_PIECE_S: f64 = 0.5;
/// What one [`AudioStream::read`] of a file gives at least. Codecs come in packets of 20 ms, and whoever computes with
/// the samples reads all its weights for each piece.
const FILE_PIECE_S: f64 = 4.0;
/// Bytes that tell a format.
const MAGIC_BYTES: usize = 16;
/// What helps when we cannot read a file.
const REMEDY: &str = "convert it first, for example: ffmpeg -i INPUT -ar 16000 -ac 1 OUTPUT.wav";

/// A stream of mono samples in [−1, 1] at the rate asked for, pulled piece by piece.
///
/// Several channels become their mean. Values beyond [−1, 1], which only float files and lossy codecs hold, are
/// clipped as any integer format would clip them; NaN and infinities become 0 and are counted as [damage]. No sample
/// is changed in any other way when the source is mono and its rate is the one asked for.
///
/// [damage]: Self::damage
pub struct AudioStream {
    source: Source,
    resampler: Resampler,
    /// Decoded samples at the source's rate; those up to `resampled` have gone through the resampler.
    decoded: Vec<f32>,
    resampled: usize,
    /// Samples that a read waits for, unless the end comes first.
    least: usize,
    state: State,
}

/// Where a stream stands.
enum State {
    Reading,
    /// Everything was delivered, except this error.
    Ended(Option<Error>),
}

/// Where the samples come from.
enum Source {
    Pcm(Pcm),
    Compressed(Box<Compressed>),
}

/// What a source says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFormat {
    /// Short lower-case name of the coding, such as `pcm_s16`, `flac` or `opus`.
    pub codec: String,
    /// Samples per second and channel.
    pub sample_rate_hz: u32,
    /// Channels, before they are mixed down.
    pub channels: usize,
    /// How long the header says it lasts, in seconds. It may err, or know nothing.
    pub duration_s: Option<f64>,
}

impl AudioStream {
    /// Opens a sound file: WAV (8, 16, 24, 32 bit, float), FLAC, MP3, AAC or M4A, Ogg with Vorbis, Opus or FLAC.
    /// Its first bytes decide which, not its name.
    ///
    /// # Errors
    /// [`Error::Read`] if the system will not read it, [`Error::Audio`] if it is no sound we know or claims what no
    /// sound has, [`Error::Setting`] for a `rate_hz` outside [`MIN_RATE_HZ`] ..= [`MAX_RATE_HZ`].
    pub fn open(path: &Path, rate_hz: u32) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::read(path))?;
        let about = file.metadata().map_err(Error::read(path))?;
        if about.is_dir() {
            return Err(Error::audio(path, "this is a folder; name the sound files in it"));
        }
        let mut magic = Vec::with_capacity(MAGIC_BYTES);
        file.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut magic).map_err(Error::read(path))?;
        if magic.is_empty() {
            return Err(Error::audio(path, "the file is empty; copy, record or download it again"));
        }
        let source = if magic.starts_with(b"RIFF") || magic.starts_with(b"RF64") {
            Source::Pcm(Pcm::wav(path, Cursor::new(magic).chain(file))?)
        } else if compressed::is_known(&magic) {
            let compressed = if about.is_file() {
                file.rewind().map_err(Error::read(path))?;
                Compressed::open(path, Box::new(file))?
            } else {
                Compressed::open(path, Box::new(ReadOnlySource::new(Cursor::new(magic).chain(file))))?
            };
            Source::Compressed(Box::new(compressed))
        } else {
            let problem = format!("not a sound file that I know (WAV, FLAC, MP3, Ogg, AAC, M4A); {REMEDY}");
            return Err(Error::audio(path, problem));
        };
        let least = if about.is_file() { (FILE_PIECE_S * f64::from(rate_hz)) as usize } else { 1 };
        Self::new(source, rate_hz, least)
    }

    /// A WAV that arrives bit by bit, such as standard input; `name` stands for it in errors. Returns once the header
    /// is there. A header without lengths (0, or the greatest number), as streaming writers leave it, is fine.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn wav_reader(name: impl Into<PathBuf>, reader: impl Read + Send + 'static, rate_hz: u32) -> Result<Self> {
        Self::new(Source::Pcm(Pcm::wav(name, reader)?), rate_hz, 1)
    }

    /// Headerless signed 16-bit little-endian mono samples at `input_rate_hz`, delivered as they arrive; `name` stands
    /// for them in errors. Half a sample at the end counts as damage.
    ///
    /// # Errors
    /// [`Error::Setting`] for a rate outside [`MIN_RATE_HZ`] ..= [`MAX_RATE_HZ`].
    pub fn raw(
        name: impl Into<PathBuf>,
        reader: impl Read + Send + 'static,
        input_rate_hz: u32,
        rate_hz: u32,
    ) -> Result<Self> {
        Self::new(Source::Pcm(Pcm::raw(name, reader, input_rate_hz)), rate_hz, 1)
    }

    fn new(source: Source, rate_hz: u32, least: usize) -> Result<Self> {
        let resampler = Resampler::new(source.format().sample_rate_hz, rate_hz)?;
        Ok(Self { source, resampler, decoded: Vec::new(), resampled: 0, least, state: State::Reading })
    }

    /// What the source says of itself.
    pub fn source(&self) -> &SourceFormat {
        self.source.format()
    }

    /// How long the source's header says the sound lasts, in seconds; `None` if it does not say or cannot be believed.
    pub fn duration_s(&self) -> Option<f64> {
        self.source().duration_s.filter(|duration_s| (0.0..=MAX_DURATION_S).contains(duration_s))
    }

    /// Damage met so far: packets that could not be decoded and gaps between packets (silence stands in for both, so
    /// that what follows keeps its time), and samples that were not numbers.
    pub fn damage(&self) -> u64 {
        match &self.source {
            Source::Pcm(pcm) => pcm.damage(),
            Source::Compressed(compressed) => compressed.damage(),
        }
    }

    /// Appends the next piece to `samples` and returns its length; 0 is the end. What arrives bit by bit is given at
    /// once, a file in pieces of a few seconds.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Audio`] where the source breaks off. By then every good sample before it has been
    /// delivered; after it, the stream is at its end.
    pub fn read(&mut self, samples: &mut Vec<f32>) -> Result<usize> {
        let start = samples.len();
        while samples.len() - start < self.least {
            if let State::Ended(error) = &mut self.state {
                if samples.len() > start {
                    break;
                }
                return error.take().map_or(Ok(0), Err);
            }
            if self.resampled == self.decoded.len() {
                self.decoded.clear();
                self.resampled = 0;
                match self.source.read(&mut self.decoded) {
                    Ok(0) => self.end(None, samples),
                    Ok(_) => {}
                    Err(error) => self.end(Some(error), samples),
                }
            } else {
                let most = (MAX_PIECE_S * f64::from(self.source.format().sample_rate_hz)) as usize;
                let piece = &self.decoded[self.resampled..];
                let piece = &piece[..piece.len().min(most)];
                self.resampler.push(piece, samples);
                self.resampled += piece.len();
            }
        }
        // The resampling filter overshoots where the sound is at full scale.
        samples[start..].iter_mut().for_each(|sample| *sample = sample.clamp(-1.0, 1.0));
        Ok(samples.len() - start)
    }

    fn end(&mut self, error: Option<Error>, samples: &mut Vec<f32>) {
        self.resampler.push(&self.decoded, samples);
        self.resampled = self.decoded.len();
        self.resampler.finish(samples);
        self.state = State::Ended(error);
    }
}

impl Source {
    fn format(&self) -> &SourceFormat {
        match self {
            Self::Pcm(pcm) => pcm.format(),
            Self::Compressed(compressed) => compressed.format(),
        }
    }

    /// Appends the next mono samples at the source's rate and returns how many; 0 is the end.
    fn read(&mut self, mono: &mut Vec<f32>) -> Result<usize> {
        let start = mono.len();
        match self {
            Self::Pcm(pcm) => pcm.read(mono)?,
            Self::Compressed(compressed) => compressed.read(mono)?,
        }
        Ok(mono.len() - start)
    }
}

/// Refuses what no sound has.
fn check_format(path: &Path, sample_rate_hz: u32, channels: usize) -> Result<()> {
    if !(MIN_RATE_HZ..=MAX_RATE_HZ).contains(&sample_rate_hz) {
        let problem = format!(
            "the header claims {sample_rate_hz} samples per second, which is not between {MIN_RATE_HZ} and \
             {MAX_RATE_HZ}; the file is damaged, make it again"
        );
        return Err(Error::audio(path, problem));
    }
    if !(1..=MAX_CHANNELS).contains(&channels) {
        let problem = format!(
            "the header claims {channels} channels, which is not between 1 and {MAX_CHANNELS}; the file is damaged, \
             make it again"
        );
        return Err(Error::audio(path, problem));
    }
    Ok(())
}

/// The sound breaks off before its promised end.
fn truncated(path: &Path, got_s: f64, promised_s: Option<f64>) -> Error {
    let of = promised_s.map_or(String::new(), |promised_s| format!(" of {promised_s:.2} s"));
    let problem = format!(
        "the file is cut off: it ends after {got_s:.2} s{of}; what was there was used, copy it again for the rest"
    );
    Error::audio(path, problem)
}
