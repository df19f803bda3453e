//! The `dfcnn` program: parse, dispatch, print the errors, pick the exit code.

mod cli;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use cli::interrupt::{self, Interrupted};

/// 0: all done; 1: something could not be done, even if the rest was; 2: the command line makes no sense;
/// 130: the user stopped it.
fn main() -> ExitCode {
    let mut all_done = true;
    let outcome = cli::Cli::parse().run(&mut |error| {
        print_error(&error);
        all_done = false;
    });
    match outcome.map_err(anyhow::Error::downcast::<clap::Error>) {
        Ok(()) => {}
        Err(Ok(usage)) => usage.exit(),
        Err(Err(error)) if is_broken_pipe(&error) => {} // the reader has what it wanted
        Err(Err(error)) => {
            print_error(&error);
            if error.is::<Interrupted>() {
                return ExitCode::from(interrupt::EXIT_CODE);
            }
            all_done = false;
        }
    }
    if all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Unlike `eprintln!`, does not panic when standard error is closed.
fn print_error(error: &anyhow::Error) {
    let _ = writeln!(io::stderr(), "dfcnn: {error}");
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.into_iter().any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
