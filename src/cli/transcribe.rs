//! `dfcnn transcribe`: recordings to text.

mod files;
mod hear;

use std::io;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use dfcnn::Error;
use dfcnn::recognizer::{Options, Recognizer};

use super::backend::BackendChoice;
use super::decoding::DecodingChoice;
use super::output::{Form, Format, LayoutChoice, Output};
use super::segments::SegmentChoice;
use super::sources::{STANDARD_INPUT, Source};
use super::{Cli, ModelChoice, Report, Verbosity};
use hear::Hearing;

/// Turn recordings into text.
///
/// Reads WAV, FLAC, MP3, Ogg Vorbis, Ogg Opus and AAC/M4A, at any sample rate and with any number of channels. What is
/// said between two pauses is a line of text, after `name: ` when there are several files.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Recordings, folders of recordings, patterns such as '*.wav'; `-` is standard input: a WAV, or raw samples with --raw
    #[arg(value_name = "FILE", required_unless_present = "raw_rate_hz")]
    files: Vec<PathBuf>,
    /// Standard input is raw PCM: signed 16 bit, little-endian, mono, RATE samples a second
    #[arg(long = "raw", value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..))]
    raw_rate_hz: Option<u32>,
    /// What to print
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Form::Text)]
    format: Form,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// With JSON: also print partial results, while the sound comes in
    #[arg(long)]
    partials: bool,
    /// Write a file for each recording into DIR, in folders as the recordings
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Recordings heard at the same time [default: as many as there are cores]
    #[arg(long, value_name = "N", requires = "output_dir", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Threads that compute, for each recording
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    #[command(flatten)]
    model: ModelChoice,
    #[command(flatten)]
    decoding: DecodingChoice,
    /// With JSON: also print the N best readings of what is final
    #[arg(long, value_name = "N", help_heading = "Decoding")]
    nbest: Option<usize>,
    #[command(flatten)]
    segments: SegmentChoice,
    #[command(flatten)]
    layout: LayoutChoice,
    #[command(flatten)]
    backend: BackendChoice,
}

/// Transcribes every file; one that cannot be read is reported, and the next one is taken.
pub fn run(arguments: &Arguments, verbosity: Verbosity, report: Report) -> anyhow::Result<()> {
    let (sources, unreadable) = arguments.sources()?;
    let format = arguments.format(sources.len())?;
    let model = arguments.model.load()?;
    let decoding = arguments.decoding.decoding(&model, arguments.nbest)?;
    let options = Options { threads: arguments.threads.into(), decoding: Some(decoding), ..Options::default() };
    let options = arguments.segments.apply(options);
    let engine = arguments.backend.engine(model, verbosity)?;
    let recognizer = Recognizer::with_engine(&engine, &options)?;
    verbosity.note(recognizer.description());
    unreadable.into_iter().for_each(|error| report(error.into()));
    if let Some(folder) = &arguments.output_dir {
        let jobs = super::threads(arguments.jobs);
        return files::Files { folder, format, jobs, engine: &engine, options: &options }
            .write(&sources, verbosity, report);
    }
    let mut hearing = Hearing::new(recognizer, verbosity);
    let mut output = Output::new(io::stdout().lock(), "-", format)?;
    for source in &sources {
        match hearing.open(source).and_then(|mut sound| hearing.transcribe(source, &mut sound, &mut output)) {
            Ok(()) => {}
            Err(error @ Error::Write { .. }) => return Err(error.into()), // nobody hears the rest either
            Err(error) => {
                output.error(&source.name(), &error)?;
                report(error.into());
            }
        }
    }
    Ok(())
}

fn usage(problem: impl std::fmt::Display) -> clap::Error {
    Cli::command().error(ErrorKind::ArgumentConflict, problem)
}

impl Arguments {
    /// What to transcribe, in order, and the folders that cannot be looked into.
    fn sources(&self) -> Result<(Vec<Source>, Vec<Error>), clap::Error> {
        let standard_input = Path::new(STANDARD_INPUT);
        match self.files.iter().filter(|file| *file == standard_input).count() {
            0 if self.raw_rate_hz.is_some() && !self.files.is_empty() => {
                return Err(usage("--raw is about standard input: give `-` as a FILE, or no FILE at all"));
            }
            0 | 1 => {}
            _ => return Err(usage("standard input (`-`) can be read only once")),
        }
        let files = if self.files.is_empty() { &[PathBuf::from(STANDARD_INPUT)] } else { self.files.as_slice() };
        let expand = |file: &PathBuf| match self.raw_rate_hz {
            _ if file != standard_input => Source::expand(file),
            Some(rate_hz) => vec![Ok(Source::RawStandardInput(rate_hz))],
            None => vec![Ok(Source::StandardInput)],
        };
        let (mut sources, mut unreadable) = (Vec::new(), Vec::new());
        for source in files.iter().flat_map(expand) {
            match source {
                Ok(source) => sources.push(source),
                Err(error) => unreadable.push(error),
            }
        }
        Ok((sources, unreadable))
    }

    /// How the results of so many sources are written.
    fn format(&self, sources: usize) -> Result<Format, clap::Error> {
        let form = if self.json { Form::Json } else { self.format };
        if form != Form::Json && (self.partials || self.nbest.is_some()) {
            return Err(usage("--partials and --nbest are for JSON: add --json"));
        }
        if !form.names_files() && sources > 1 && self.output_dir.is_none() {
            return Err(usage("captions of several recordings go to several files: add --output-dir DIR"));
        }
        let names = sources > 1 && self.output_dir.is_none();
        let (partials, alternatives) = (self.partials, self.nbest.is_some());
        Ok(Format { form, names, partials, alternatives, layout: self.layout.layout() })
    }
}
