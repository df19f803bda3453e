//! `dfcnn transcribe`: recordings to text.

use std::fmt;
use std::io::{self, StdoutLock};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use dfcnn::Error;
use dfcnn::audio::{AudioStream, SourceFormat};
use dfcnn::recognizer::{Options, Recognizer};

use super::decoding::DecodingChoice;
use super::output::{Format, Output};
use super::progress::Progress;
use super::{Cli, ModelChoice, Report, Verbosity};

const STANDARD_INPUT: &str = "-";

/// Turn recordings into text.
///
/// Reads WAV, FLAC, MP3, Ogg Vorbis, Ogg Opus and AAC/M4A, at any sample rate and with any number of channels. A file's
/// text is one line, or one about every half minute if it is longer, after `name: ` when there are several files.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Recordings; `-` is standard input: a WAV, or raw samples with --raw
    #[arg(value_name = "FILE", required_unless_present = "raw_rate_hz")]
    files: Vec<PathBuf>,
    /// Standard input is raw PCM: signed 16 bit, little-endian, mono, RATE samples a second
    #[arg(long = "raw", value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..))]
    raw_rate_hz: Option<u32>,
    /// Print JSON Lines: text, times and words
    #[arg(long)]
    json: bool,
    /// Also print partial results, while the sound comes in
    #[arg(long, requires = "json")]
    partials: bool,
    /// Threads that compute
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    #[command(flatten)]
    model: ModelChoice,
    #[command(flatten)]
    decoding: DecodingChoice,
    /// Also print the N best readings of what is final
    #[arg(long, value_name = "N", requires = "json", help_heading = "Decoding")]
    nbest: Option<usize>,
}

/// Transcribes every file; one that cannot be read is reported, and the next one is taken.
pub fn run(arguments: Arguments, verbosity: Verbosity, report: Report) -> anyhow::Result<()> {
    let sources = arguments.sources()?;
    let model = arguments.model.load()?;
    let decoding = arguments.decoding.decoding(&model.tokens, arguments.nbest)?;
    let recognizer = Recognizer::new(&model, &Options { threads: arguments.threads.into(), decoding })?;
    verbosity.note(recognizer.description());
    let format = match arguments.json {
        true => Format::Json { partials: arguments.partials, alternatives: arguments.nbest.is_some() },
        false => Format::Text { names: sources.len() > 1 },
    };
    let mut transcription = Transcription { recognizer, output: Output::new(io::stdout().lock(), format), verbosity };
    for source in &sources {
        match transcription.transcribe(source) {
            Ok(()) => {}
            Err(error @ Error::Write { .. }) => return Err(error.into()), // nobody hears the rest either
            Err(error) => {
                transcription.output.error(&source.name(), &error)?;
                report(error.into());
            }
        }
    }
    Ok(())
}

impl Arguments {
    /// What to transcribe, in order.
    fn sources(&self) -> anyhow::Result<Vec<Source>> {
        let standard_input = Path::new(STANDARD_INPUT);
        let usage = |problem: &str| Cli::command().error(clap::error::ErrorKind::ArgumentConflict, problem);
        match self.files.iter().filter(|file| *file == standard_input).count() {
            0 if self.raw_rate_hz.is_some() && !self.files.is_empty() => {
                Err(usage("--raw is about standard input: give `-` as a FILE, or no FILE at all"))?
            }
            0 | 1 => {}
            _ => Err(usage("standard input (`-`) can be read only once"))?,
        }
        let files = if self.files.is_empty() { &[PathBuf::from(STANDARD_INPUT)] } else { self.files.as_slice() };
        let source = |file: &PathBuf| match self.raw_rate_hz {
            _ if file != standard_input => Source::File(file.clone()),
            Some(rate_hz) => Source::RawStandardInput(rate_hz),
            None => Source::StandardInput,
        };
        Ok(files.iter().map(source).collect())
    }
}

/// Where sound comes from.
#[derive(Debug)]
enum Source {
    File(PathBuf),
    /// A WAV file.
    StandardInput,
    /// Samples at this rate in Hz.
    RawStandardInput(u32),
}

impl Source {
    fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::StandardInput | Self::RawStandardInput(_) => Path::new(STANDARD_INPUT),
        }
    }

    fn name(&self) -> String {
        self.path().display().to_string()
    }

    /// Opens it, to be resampled to `rate_hz`.
    fn open(&self, rate_hz: u32) -> dfcnn::Result<AudioStream> {
        match self {
            Self::File(path) => AudioStream::open(path, rate_hz),
            Self::StandardInput => AudioStream::wav_reader(STANDARD_INPUT, io::stdin(), rate_hz),
            Self::RawStandardInput(input_rate_hz) => {
                AudioStream::raw(STANDARD_INPUT, io::stdin(), *input_rate_hz, rate_hz)
            }
        }
    }
}

/// One recogniser that hears source after source.
struct Transcription<'a> {
    recognizer: Recognizer,
    output: Output<StdoutLock<'a>>,
    verbosity: Verbosity,
}

impl Transcription<'_> {
    /// Prints what is said in `source`; when it breaks off, first what was heard until then.
    fn transcribe(&mut self, source: &Source) -> dfcnn::Result<()> {
        let name = source.name();
        let rate_hz = self.recognizer.sample_rate_hz();
        let mut sound = source.open(rate_hz)?;
        self.verbosity.note(format_args!("{name}: {}, heard at {rate_hz} Hz", Described(sound.source())));
        let heard_s = self.hear(&name, &mut sound);
        for event in self.recognizer.finish()? {
            self.output.event(&name, &event)?;
        }
        if sound.damage() > 0 {
            self.verbosity.warn(format_args!("{name}: damaged in {} places; the rest is transcribed", sound.damage()));
        }
        self.output.end(&name, heard_s?)
    }

    /// Gives the recogniser all of `sound` and says how long it was, in seconds.
    fn hear(&mut self, name: &str, sound: &mut AudioStream) -> dfcnn::Result<f64> {
        let progress = Progress::new(name, sound.duration_s(), self.verbosity.quiet);
        let mut samples = Vec::new();
        let mut heard_samples = 0;
        let mut heard_s = 0.0;
        while sound.read(&mut samples)? > 0 {
            for event in self.recognizer.push(&samples)? {
                progress.suspend(|| self.output.event(name, &event))?;
            }
            heard_samples += samples.len();
            heard_s = heard_samples as f64 / f64::from(self.recognizer.sample_rate_hz());
            progress.set(heard_s);
            samples.clear();
        }
        Ok(heard_s)
    }
}

/// Says how something was recorded.
struct Described<'a>(&'a SourceFormat);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let SourceFormat { codec, sample_rate_hz, channels, duration_s } = self.0;
        write!(f, "{codec}, {sample_rate_hz} Hz, {channels} channel{}", if *channels == 1 { "" } else { "s" })?;
        duration_s.map_or(Ok(()), |duration_s| write!(f, ", {duration_s:.1} s"))
    }
}
