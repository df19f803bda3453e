//! `dfcnn prepare`: manifests to a spectrogram dataset.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use dfcnn::dataset::manifest::Manifest;
use dfcnn::dataset::prepare::{self, Options};
use dfcnn::dataset::shards::Precision;
use dfcnn::model::{Model, Recipe};
use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt::{self, Interrupted};
use super::{Verbosity, threads};

/// Reasons that are named before the rest is only counted.
const NAMED: usize = 5;

/// Turn recordings with their texts into a spectrogram dataset to train on.
///
/// Reads NeMo JSON Lines, Kaldi data folders, LJSpeech's metadata.csv and Common Voice tables. Goes on where it was
/// interrupted when it is run again.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Lists of utterances, or the folders that hold them
    #[arg(value_name = "MANIFEST", required = true)]
    manifests: Vec<PathBuf>,
    /// Folder for the dataset
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What to train: a model.toml or a model's folder; its front-end makes the columns
    #[arg(long, value_name = "PATH")]
    recipe: PathBuf,
    /// Bits of a value
    #[arg(long, value_name = "8|16", default_value = "8", value_parser = ["8", "16"])]
    bits: String,
    /// Leave out utterances that last longer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = LONGEST_S)]
    longest: f64,
    /// Stop at sound that is missing or cannot be decoded
    #[arg(long)]
    strict: bool,
    /// Threads that decode and transform [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// The longest utterance that is prepared unless something else is asked for, in seconds.
pub const LONGEST_S: f64 = 60.0;

/// Makes the dataset.
pub fn run(arguments: &Arguments, verbosity: Verbosity) -> anyhow::Result<()> {
    let options = Options {
        settings: recipe(&arguments.recipe)?.spectrogram,
        precision: if arguments.bits == "8" { Precision::Bits8 } else { Precision::Bits16 },
        threads: threads(arguments.threads),
        longest_s: arguments.longest,
        strict: arguments.strict,
    };
    let stop = interrupt::flag()?;
    dataset(&arguments.manifests, &arguments.out, &options, verbosity, &stop)
}

/// The recipe in a `model.toml` or in a model's folder.
pub fn recipe(path: &Path) -> dfcnn::Result<Recipe> {
    if path.is_dir() { Ok(Model::load(path)?.recipe()) } else { Recipe::load(path) }
}

/// Makes a dataset of several manifests and says what was left out.
pub fn dataset(
    manifests: &[PathBuf],
    out: &Path,
    options: &Options,
    verbosity: Verbosity,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let mut utterances = Vec::new();
    for path in manifests {
        let manifest = Manifest::read(path, options.strict)?;
        if let Some(first) = manifest.missing.first() {
            let (count, first) = (manifest.missing.len(), first.display());
            let text = format!("{count} sound files are missing and left out, the first is {first}");
            verbosity.warn(format_args!("{}: {text}", path.display()));
        }
        utterances.extend(manifest.utterances);
    }
    let bar = if verbosity.quiet { ProgressBar::hidden() } else { ProgressBar::new(utterances.len() as u64) };
    let template = "{msg} {wide_bar} {human_pos} of {human_len} utterances, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
    bar.set_message(out.display().to_string());
    let summary = prepare::prepare(&utterances, out, options, &|count| {
        bar.inc(count as u64);
        !stop.load(Ordering::Relaxed)
    })?;
    bar.finish_and_clear();
    if !summary.complete {
        let text = format!("{} is not complete; run the same command again to go on", out.display());
        return Err(Interrupted(text).into());
    }
    for failed in summary.failed.iter().take(NAMED) {
        verbosity.warn(format_args!("left out: {failed}"));
    }
    if summary.failed.len() > NAMED {
        verbosity.warn(format_args!("left out: {} more", summary.failed.len() - NAMED));
    }
    let hours = options.settings.clock().frame_start_s(summary.frames) / 3600.0;
    verbosity.warn(format_args!("{}: {} utterances, {hours:.2} h", out.display(), summary.utterances));
    Ok(())
}
