//! `dfcnn listen`: live transcription.

mod delay;
mod live;
mod recording;
mod screen;
mod tui;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};
use dfcnn::Error;
use dfcnn::audio::capture::{BLOCK_S, Capture, Speed, Wanted};
use dfcnn::recognizer::{Engine, Options, Recognizer};

use super::backend::BackendChoice;
use super::decoding::DecodingChoice;
use super::interrupt;
use super::output::{Form, Format, LayoutChoice, Output};
use super::segments::SegmentChoice;
use super::{Cli, ModelChoice, Verbosity};
use live::{Live, View};
use recording::Recording;
use screen::Screen;
use tui::Tui;

/// Turn what a microphone hears into text, live.
///
/// On a terminal the present words are rewritten until they are final, above a line with level, delay and losses. Elsewhere
/// each final is a line. Ctrl-C (or SIGTERM) prints the last words and ends; a second one leaves at once.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The microphone, by name or id as `dfcnn devices` lists them [default: the system's]
    #[arg(long, value_name = "NAME", env = "DFCNN_DEVICE", hide_env_values = true)]
    device: Option<String>,
    /// Samples per second to ask the microphone for [default: what it prefers; any will do]
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Play a recording in real time instead, as if it were heard
    #[arg(long, value_name = "FILE", conflicts_with_all = ["device", "rate"])]
    input: Option<PathBuf>,
    /// How fast to play it: a number, or `max` for as fast as it goes without missing anything
    #[arg(long, value_name = "TIMES", requires = "input", default_value = "1")]
    speed: Played,
    /// Write what is heard to a WAV file, which is valid at any time
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Also write the finals to a file, in the form that its name ends in: txt, jsonl, srt, vtt, ctm, tsv
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Print JSON Lines: partials and finals with times
    #[arg(long)]
    json: bool,
    /// Show the spectrogram, the letters and the text over the whole terminal
    #[arg(long, conflicts_with = "json")]
    tui: bool,
    /// Threads that compute; our own engine takes one for pieces as short as a microphone's
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    #[command(flatten)]
    model: ModelChoice,
    #[command(flatten)]
    decoding: DecodingChoice,
    #[command(flatten)]
    segments: SegmentChoice,
    #[command(flatten)]
    layout: LayoutChoice,
    #[command(flatten)]
    backend: BackendChoice,
}

/// A speed as the command line has it.
#[derive(Debug, Clone, Copy)]
struct Played(Speed);

impl FromStr for Played {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self(Speed::Unpaced)),
            times => times.parse().map(|times| Self(Speed::Times(times))).map_err(|_| "a number or `max`".to_owned()),
        }
    }
}

/// Listens until the user ends it, or the file does.
pub fn run(arguments: &Arguments, verbosity: Verbosity) -> anyhow::Result<()> {
    let on_terminal = io::stdout().is_terminal() && io::stderr().is_terminal();
    if arguments.tui && !on_terminal {
        return Err(usage("--tui needs a terminal").into());
    }
    let outputs = [&arguments.record, &arguments.save].into_iter().flatten();
    if let Some(path) = outputs.into_iter().find(|path| arguments.input.as_ref().is_some_and(|input| same(input, path)))
    {
        return Err(usage(format!("{} is what is to be heard; record and save to another file", path.display())).into());
    }
    let model = arguments.model.load()?;
    let decoding = arguments.decoding.decoding(&model, None)?;
    let options =
        Options { threads: arguments.threads.into(), decoding: Some(decoding), tentative: true, ..Options::default() };
    let options = arguments.segments.apply(options);
    let engine = arguments.backend.engine(model, verbosity)?;
    let mut recognizer = Recognizer::with_engine(&engine, &options)?;
    let rate_hz = recognizer.sample_rate_hz();
    let save = arguments.save.as_deref().map(|path| arguments.transcript(path)).transpose()?;
    let recording = arguments.record.as_deref().map(|path| Recording::create(path, rate_hz)).transpose()?;

    verbosity.note(recognizer.description());
    let budget = Budget::measure(&engine, &mut recognizer)?;
    verbosity.note(&budget);
    let stop = interrupt::flag()?;
    let capture = match &arguments.input {
        Some(path) => Capture::file(path, arguments.speed.0, rate_hz)?,
        None => Capture::microphone(Wanted { device: arguments.device.clone(), rate_hz: arguments.rate }, rate_hz)?,
    };
    verbosity.note(format_args!("hearing {}", capture.description()));
    let view = if arguments.tui {
        View::Tui(Box::new(Tui::new(&engine, &stop)?))
    } else if on_terminal && !arguments.json {
        View::Screen(Screen::new(verbosity.quiet))
    } else {
        let form = if arguments.json { Form::Json } else { Form::Text };
        View::Lines(Output::new(io::stdout(), "-", arguments.format(form))?)
    };
    Live { recognizer, capture, recording, save, view, verbosity, stop }.run()
}

/// Whether both names lead to one file, which writing would destroy before it is read.
fn same(input: &Path, output: &Path) -> bool {
    matches!((input.canonicalize(), output.canonicalize()), (Ok(input), Ok(output)) if input == output)
}

fn usage(problem: impl std::fmt::Display) -> clap::Error {
    Cli::command().error(ErrorKind::ArgumentConflict, problem)
}

impl Arguments {
    fn format(&self, form: Form) -> Format {
        Format { form, names: false, partials: form == Form::Json, alternatives: false, layout: self.layout.layout() }
    }

    /// The file that gets the finals, in the form of its name.
    fn transcript(&self, path: &Path) -> anyhow::Result<Output<File>> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let known = |form: &&Form| form.extension().eq_ignore_ascii_case(extension);
        let Some(form) = Form::value_variants().iter().find(known) else {
            let problem = format!("{}: --save knows names that end in txt, jsonl, srt, vtt, ctm, tsv", path.display());
            return Err(usage(problem).into());
        };
        let file = File::create(path).map_err(Error::write(path))?;
        Ok(Output::new(file, path, Format { partials: false, ..self.format(*form) })?)
    }
}

/// What the delay is made of, from a letter's sound to its appearance, in milliseconds.
struct Budget {
    block_ms: f64,
    window_ms: f64,
    lookahead_ms: f64,
    step_ms: f64,
    /// How much later than it could the network tends to tell a letter.
    habit_ms: f64,
    compute_ms: f64,
}

impl Budget {
    /// Measures how long the recogniser computes on a block of sound.
    fn measure(engine: &Engine, recognizer: &mut Recognizer) -> dfcnn::Result<Self> {
        let block = vec![0.0; engine.clock().samples(BLOCK_S) as usize];
        let mut times_ms = Vec::new();
        for _ in 0..100 {
            let start = Instant::now();
            recognizer.push(&block)?;
            times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        recognizer.reset();
        times_ms.sort_by(f64::total_cmp);
        Ok(Self {
            block_ms: 1e3 * BLOCK_S,
            window_ms: engine.clock().window_ms(),
            lookahead_ms: 1e3 * engine.lookahead_s(),
            step_ms: 1e3 * engine.steps().step_s,
            habit_ms: 1e3 * engine.steps().delay_s,
            compute_ms: times_ms[95],
        })
    }
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { block_ms, window_ms, lookahead_ms, step_ms, habit_ms, compute_ms } = self;
        let all = block_ms + window_ms + lookahead_ms + step_ms + habit_ms + compute_ms;
        write!(
            f,
            "delay of a letter, at most: block {block_ms:.0} + window {window_ms:.0} + look-ahead {lookahead_ms:.0} + step \
             {step_ms:.0} + the network's habit {habit_ms:.0} + computing {compute_ms:.1} = {all:.0} ms"
        )
    }
}
