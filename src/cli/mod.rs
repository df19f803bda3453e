//! What the user may ask for: one file per subcommand, and what they share.

mod align;
mod average;
mod backend;
mod decoding;
mod devices;
mod doctor;
mod evaluate;
mod export;
mod inspect;
pub mod interrupt;
mod listen;
mod lm;
mod output;
mod parallel;
mod prepare;
mod progress;
mod quantize;
mod report;
mod see;
mod segments;
mod sources;
mod train;
mod transcribe;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;

use clap::{Args, Parser, Subcommand};
use dfcnn::model::Model;

/// Turns speech into text while it is being spoken.
#[derive(Debug, Parser)]
#[command(name = "dfcnn", version, max_term_width = 100)]
#[command(after_help = "Results go to standard output, everything else to standard error.\n\
    Exit code: 0 all done, 1 something could not be done, 2 wrong usage, 130 stopped.")]
pub struct Cli {
    #[command(flatten)]
    verbosity: Verbosity,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Align(align::Arguments),
    Average(average::Arguments),
    Devices(devices::Arguments),
    Doctor(doctor::Arguments),
    Evaluate(Box<evaluate::Arguments>),
    Export(export::Arguments),
    Inspect(inspect::Arguments),
    Listen(Box<listen::Arguments>),
    Lm(lm::Arguments),
    Prepare(prepare::Arguments),
    Quantize(quantize::Arguments),
    Report(report::Arguments),
    See(Box<see::Arguments>),
    Train(Box<train::Arguments>),
    Transcribe(Box<transcribe::Arguments>),
}

/// Takes an error that concerns one input only; the subcommand then goes on with the next.
pub type Report<'a> = &'a mut dyn FnMut(anyhow::Error);

impl Cli {
    /// Does what was asked. An error ends it; errors that did not are given to `report`.
    pub fn run(self, report: Report) -> anyhow::Result<()> {
        match self.command {
            Command::Align(arguments) => align::run(&arguments, self.verbosity),
            Command::Average(arguments) => average::run(&arguments, self.verbosity),
            Command::Devices(arguments) => devices::run(&arguments),
            Command::Doctor(arguments) => doctor::run(&arguments, self.verbosity),
            Command::Evaluate(arguments) => evaluate::run(&arguments, self.verbosity, report),
            Command::Export(arguments) => export::run(&arguments, self.verbosity),
            Command::Inspect(arguments) => inspect::run(&arguments, &mut io::stdout().lock()),
            Command::Listen(arguments) => listen::run(&arguments, self.verbosity),
            Command::Lm(arguments) => lm::run(&arguments, self.verbosity),
            Command::Prepare(arguments) => prepare::run(&arguments, self.verbosity),
            Command::Quantize(arguments) => quantize::run(&arguments, self.verbosity),
            Command::Report(arguments) => report::run(&arguments, self.verbosity),
            Command::See(arguments) => see::run(&arguments, self.verbosity, report),
            Command::Train(arguments) => train::run(&arguments, self.verbosity),
            Command::Transcribe(arguments) => transcribe::run(&arguments, self.verbosity, report),
        }
    }
}

/// How much is said on standard error.
#[derive(Debug, Clone, Copy, Args)]
pub struct Verbosity {
    /// Say what runs: model, engine, instruction set, delay, and how each file was recorded
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Show no progress and no warnings, only errors
    #[arg(short, long, global = true)]
    quiet: bool,
}

impl Verbosity {
    /// Says something that only `-v` wants to know.
    fn note(self, text: impl fmt::Display) {
        if self.verbose {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Says something that all but `-q` should know.
    fn warn(self, text: impl fmt::Display) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "dfcnn: {text}");
        }
    }
}

/// As many threads as wanted, or as there are cores.
fn threads(wanted: Option<u16>) -> usize {
    wanted.map_or_else(|| thread::available_parallelism().map_or(1, Into::into), Into::into)
}

/// The model to use.
#[derive(Debug, Args)]
struct ModelChoice {
    /// Folder of the model [default: the one inside the program]
    #[arg(long = "model", value_name = "DIR", env = "DFCNN_MODEL", hide_env_values = true)]
    folder: Option<PathBuf>,
}

impl ModelChoice {
    fn load(&self) -> dfcnn::Result<Model> {
        match &self.folder {
            Some(folder) => Model::load(folder),
            None => Model::embedded(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
