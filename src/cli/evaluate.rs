//! `dfcnn evaluate`: how much of a test set is heard right.

mod hear;
mod show;
mod tune;

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::Args;
use cpu_time::ProcessTime;
use dfcnn::Error;
use dfcnn::dataset::manifest::Manifest;
use dfcnn::dataset::text::{Dropped, Normalizer};
use dfcnn::evaluate::calibration::Calibration;
use dfcnn::evaluate::results::Results;
use dfcnn::recognizer::{Options, Recognizer};
use indicatif::{ProgressBar, ProgressStyle};

use super::backend::BackendChoice;
use super::decoding::DecodingChoice;
use super::interrupt::{self, Interrupted};
use super::segments::SegmentChoice;
use super::{ModelChoice, Report, Verbosity, parallel, threads};
use hear::Task;
use show::{Costs, Show};
use tune::Comparison;

/// Measure word and character error rates on recordings with known texts.
///
/// Reads NeMo JSON Lines, Kaldi data folders, LJSpeech's metadata.csv and Common Voice tables. Each utterance goes through
/// the streaming recogniser; its text is brought into the form of the model's vocabulary, and utterances whose text that
/// vocabulary cannot spell, digits for example, are left out and counted.
///
/// Lists of values for --lm-weight and --word-bonus, such as `0.3,0.5,0.7`, are compared: the network hears everything
/// once, and a table gives the word error rate with each pair.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Lists of utterances, or the folders that hold them
    #[arg(value_name = "MANIFEST", required = true)]
    manifests: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelChoice,
    /// Take only N utterances, evenly spread over the manifests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Utterances heard at the same time, each by one thread [default: as many as there are cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Show each speaker too
    #[arg(long)]
    speakers: bool,
    /// Show every utterance that was not heard right, the worst first
    #[arg(long)]
    errors: bool,
    /// Show how far the confidence of words can be trusted
    #[arg(long)]
    calibration: bool,
    /// Print JSON Lines
    #[arg(long)]
    json: bool,
    /// Stop at a manifest that cannot be read or sound that is missing or cannot be decoded
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    decoding: DecodingChoice,
    #[command(flatten)]
    segments: SegmentChoice,
    #[command(flatten)]
    backend: BackendChoice,
}

/// What is asked for, and what of it cannot be done.
#[derive(Default)]
struct Tasks {
    tasks: Vec<Task>,
    /// Manifests and sound files.
    failed: Vec<Error>,
    /// Utterances with a text that cannot be compared.
    dropped: Vec<(String, Dropped)>,
}

/// Hears every utterance and compares.
pub fn run(arguments: &Arguments, verbosity: Verbosity, report: Report) -> anyhow::Result<()> {
    let model = arguments.model.load()?;
    let Tasks { tasks, mut failed, dropped } = arguments.tasks(&Normalizer::new(&model.tokens))?;
    for (id, reason) in &dropped {
        verbosity.note(format_args!("left out: {id}: {reason}"));
    }
    let mut decodings = arguments.decoding.decodings(&model, None)?;
    let engine = arguments.backend.engine(model, verbosity)?;
    let stop = interrupt::flag()?;
    let bar = if verbosity.quiet { ProgressBar::hidden() } else { ProgressBar::new(tasks.len() as u64) };
    let template = "{wide_bar} {human_pos} of {human_len} utterances, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
    let jobs = threads(arguments.jobs);
    let interrupted = || Interrupted("nothing was evaluated; a part can be chosen with --limit".into());
    if decodings.len() > 1 {
        let (comparison, errors) = Comparison::new(&engine, &tasks, decodings, jobs, &stop, || bar.inc(1))?;
        bar.finish_and_clear();
        if stop.load(Ordering::Relaxed) {
            return Err(interrupted().into());
        }
        failed.extend(errors);
        failed.into_iter().for_each(|error| report(error.into()));
        let text = if arguments.json { comparison.json() } else { comparison.text() };
        io::stdout().lock().write_all(text.as_bytes()).map_err(Error::write("-"))?;
        return Ok(());
    }

    let options = arguments.segments.apply(Options { decoding: Some(decodings.remove(0)), ..Options::default() });
    verbosity.note(Recognizer::with_engine(&engine, &options)?.description());
    let (began, cpu) = (Instant::now(), ProcessTime::try_now());
    let ears = (0..jobs.min(tasks.len())).map(|_| hear::words(&engine, &options)).collect::<dfcnn::Result<_>>()?;
    let outcomes = parallel::all(&tasks, ears, &stop, |outcome| {
        bar.inc(1);
        !(arguments.strict && outcome.is_err())
    });
    let wall_s = began.elapsed().as_secs_f64();
    let cpu_s = cpu.and_then(|cpu| cpu.try_elapsed()).map(|elapsed| elapsed.as_secs_f64())?;
    bar.finish_and_clear();
    if stop.load(Ordering::Relaxed) {
        return Err(interrupted().into());
    }

    let mut results = Results::default();
    let mut calibration = Calibration::default();
    let mut heard_s = 0.0;
    for (task, outcome) in tasks.iter().zip(outcomes) {
        match outcome {
            None => {} // after a failure with --strict
            Some(Err(error)) if arguments.strict => return Err(error.into()),
            Some(Err(error)) => failed.push(error),
            Some(Ok((words, duration_s))) => {
                heard_s += duration_s;
                let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
                calibration.compare(&task.reference, words.iter().map(|word| (word.text.as_str(), word.confidence)));
                results.push(task.heard(texts.join(" ")));
            }
        }
    }
    let costs = Costs { jobs, heard_s, wall_s, cpu_s, failed: failed.len(), dropped: dropped.len() };
    let calibration = arguments.calibration.then_some(&calibration);
    let Arguments { speakers, errors, .. } = *arguments;
    let show = Show { results: &results, calibration, costs: &costs, speakers, errors };
    let text = if arguments.json { show.json(&failed)? } else { show.text() };
    failed.into_iter().for_each(|error| report(error.into()));
    io::stdout().lock().write_all(text.as_bytes()).map_err(Error::write("-"))?;
    Ok(())
}

impl Arguments {
    /// The utterances of all manifests, in their order.
    fn tasks(&self, normalizer: &Normalizer) -> dfcnn::Result<Tasks> {
        let mut tasks = Tasks::default();
        let mut utterances = Vec::new();
        for (path, set) in self.manifests.iter().zip(set_names(&self.manifests)) {
            match Manifest::read(path, self.strict) {
                Ok(manifest) => {
                    utterances.extend(manifest.utterances.into_iter().map(|utterance| (set.clone(), utterance)));
                    let missing = |audio: PathBuf| {
                        let problem = "does not exist; its utterances are left out";
                        Error::data(path, format!("the sound file {} {problem}", audio.display()))
                    };
                    tasks.failed.extend(manifest.missing.into_iter().map(missing));
                }
                Err(error) if self.strict => return Err(error),
                Err(error) => tasks.failed.push(error),
            }
        }
        let count = utterances.len();
        let limit = self.limit.map_or(count, |limit| count.min(limit as usize));
        let mut utterances = utterances.into_iter().enumerate();
        for place in 0..limit {
            let wanted = (place as u128 * count as u128 / limit as u128) as usize;
            let Some((_, (set, utterance))) = utterances.find(|(index, _)| *index == wanted) else { break };
            match normalizer.normalize(&utterance.text) {
                Ok(reference) => tasks.tasks.push(Task { set, utterance, reference }),
                // What is heard in silence counts.
                Err(Dropped::Empty) => tasks.tasks.push(Task { set, utterance, reference: String::new() }),
                Err(reason) => tasks.dropped.push((utterance.id, reason)),
            }
        }
        Ok(tasks)
    }
}

/// The manifests' names without folder and ending, or whole where they would be the same.
fn set_names(manifests: &[PathBuf]) -> Vec<String> {
    let stem = |path: &Path| path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let mut counts: HashMap<String, usize> = HashMap::new();
    manifests.iter().for_each(|path| *counts.entry(stem(path)).or_default() += 1);
    let name = |path: &PathBuf| if counts[&stem(path)] == 1 { stem(path) } else { path.display().to_string() };
    manifests.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_names_of_their_own() {
        let names = |paths: &[&str]| set_names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["a/dev.jsonl", "kaldi/test/"]), ["dev", "test"]);
        assert_eq!(names(&["a/dev.jsonl", "b/dev.tsv", "c.tsv"]), ["a/dev.jsonl", "b/dev.tsv", "c"]);
    }
}
