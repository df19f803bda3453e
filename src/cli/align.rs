//! `dfcnn align`: when each word of a known text was said.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;
use dfcnn::Error;
use dfcnn::ctc;
use dfcnn::dataset::text::{Dropped, Normalizer};
use dfcnn::recognizer::{Acoustics, Engine};
use dfcnn::transcript::{Event, Segment};

use super::output::{Form, Format, LayoutChoice, Output};
use super::sources::Source;
use super::{ModelChoice, Verbosity};

/// The longest text that is read.
const MOST_TEXT_BYTES: u64 = 1 << 22;

/// Find out when each word of a text was said.
///
/// The text is brought into the form of the model's vocabulary; whatever stands in it must be said in the recording, and
/// nothing else should be. The confidence of a word says how well it is heard at its place.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A recording
    #[arg(value_name = "AUDIO")]
    file: PathBuf,
    /// What is said in it
    #[arg(long, required_unless_present = "text_file", conflicts_with = "text_file")]
    text: Option<String>,
    /// A file (UTF-8) with what is said in it
    #[arg(long, value_name = "FILE")]
    text_file: Option<PathBuf>,
    /// What to print
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Form::Tsv)]
    format: Form,
    /// Threads that compute
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    #[command(flatten)]
    model: ModelChoice,
    #[command(flatten)]
    layout: LayoutChoice,
}

/// Hears the whole recording, aligns, prints.
pub fn run(arguments: &Arguments, verbosity: Verbosity) -> anyhow::Result<()> {
    let text = arguments.text()?;
    let model = arguments.model.load()?;
    let engine = Engine::new(&model)?;
    let source = Source::file(&arguments.file);
    let named = |problem: &str| Error::data(&arguments.file, problem);
    let normalizer = Normalizer::new(&model.tokens);
    let unfit = |reason: Dropped| named(&format!("its text cannot be aligned: {reason}"));
    let normal = normalizer.normalize(&text).map_err(unfit)?;
    if normal.is_empty() {
        return Err(unfit(Dropped::Empty).into());
    }
    verbosity.note(format_args!("aligned text: {normal}"));
    let labels = normalizer.encode(&normal).map_err(unfit)?;

    let mut acoustics = Acoustics::new(&engine, arguments.threads.into())?;
    let mut sound = source.open(engine.clock().sample_rate_hz)?;
    let (mut samples, mut log_probs, mut heard) = (Vec::new(), Vec::new(), 0);
    while sound.read(&mut samples)? > 0 {
        acoustics.push(&samples, &mut log_probs)?;
        heard += samples.len() as u64;
        samples.clear();
    }
    acoustics.finish(&mut log_probs)?;
    let alignment = ctc::align(&log_probs, model.tokens.len(), model.tokens.blank(), &labels)
        .map_err(|error| named(&error.to_string()))?;

    let format = Format {
        form: arguments.format,
        names: false,
        partials: false,
        alternatives: false,
        layout: arguments.layout.layout(),
    };
    let (name, mut output) = (source.name(), Output::new(io::stdout().lock(), "-", format)?);
    output.begin()?;
    if let Some(segment) = Segment::new(engine.words(&alignment.emissions)) {
        output.event(&name, &Event::Final(segment))?;
    }
    output.end(&name, engine.clock().seconds(heard))?;
    Ok(())
}

impl Arguments {
    fn text(&self) -> dfcnn::Result<String> {
        let Some(path) = &self.text_file else { return Ok(self.text.clone().unwrap_or_default()) };
        let bytes = fs::metadata(path).map_err(Error::read(path))?.len();
        if bytes > MOST_TEXT_BYTES {
            return Err(Error::data(
                path,
                format!("{bytes} bytes; a text of at most {MOST_TEXT_BYTES} can be aligned"),
            ));
        }
        fs::read_to_string(path).map_err(Error::read(path))
    }
}
