//! `dfcnn report`: a training run as a page to look at.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use dfcnn::atomic_file;
use dfcnn::train::report;

use super::Verbosity;

/// Write a page about a training run: losses, error rates, transcripts.
///
/// The page is one HTML file that needs no network. It may be written while the run goes on.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run's folder, as given to `dfcnn train --run`
    run: PathBuf,
    /// The page [default: report.html in the run's folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the page.
pub fn run(arguments: &Arguments, verbosity: Verbosity) -> anyhow::Result<()> {
    let page = report::page(&arguments.run)?;
    let out = arguments.out.clone().unwrap_or_else(|| arguments.run.join("report.html"));
    atomic_file::write(&out, |file| file.write_all(page.as_bytes()))?;
    verbosity.warn(format_args!("wrote {}", out.display()));
    Ok(())
}
