//! `dfcnn train`: from data to a model.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args, CommandFactory, ValueEnum};
use dfcnn::atomic_file;
use dfcnn::dataset::prepare::Options;
use dfcnn::dataset::shards::Precision;
use dfcnn::model::{Model, Recipe};
use dfcnn::network::{Architecture, Layer, NamedLayer};
use dfcnn::tokens::Tokens;
use dfcnn::train::metrics::{EvaluationLine, StepLine};
use dfcnn::train::schedule::Decay;
use dfcnn::train::{Budget, Config, End, Event, Source, Start, Trainer};
use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt::{self, Interrupted};
use super::{Cli, Verbosity, prepare, threads};

/// Train a model.
///
/// Writes the best model so far to RUN/best, the newest to RUN/last, and what happens to RUN/metrics.jsonl. Ctrl-C saves
/// everything; --resume goes on from there, and after a crash from the last checkpoint.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("budget").multiple(false))]
pub struct Arguments {
    /// What to train on: datasets from `dfcnn prepare`, or manifests; a number after `=` says how often their utterances
    /// are seen per epoch
    #[arg(value_name = "DATA[=WEIGHT]", required_unless_present = "resume", conflicts_with = "resume")]
    data: Vec<String>,
    /// Folder for all that the run writes
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Go on with the run; its settings are kept, a new budget may be given
    #[arg(long)]
    resume: bool,
    /// Datasets or manifests to validate with
    #[arg(long, value_name = "DATA", num_args = 1.., conflicts_with = "resume")]
    dev: Vec<PathBuf>,

    /// The network to train: a model.toml [default: that of --init-from]
    #[arg(long, value_name = "FILE", required_unless_present_any = ["init_from", "resume"], conflicts_with = "resume")]
    recipe: Option<PathBuf>,
    /// Begin with this model's weights where names and shapes agree; with other tokens the last layer begins anew
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    init_from: Option<PathBuf>,
    /// A tokens.txt [default: that of --init-from, or a–z, space and apostrophe]
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    tokens: Option<PathBuf>,

    /// End after this many minutes; the learning rate ends with them
    #[arg(long, value_name = "MINUTES", group = "budget")]
    max_minutes: Option<f64>,
    /// End after this many steps
    #[arg(long, value_name = "STEPS", group = "budget")]
    max_steps: Option<u64>,
    /// End after this many times through the data
    #[arg(long, value_name = "EPOCHS", group = "budget")]
    epochs: Option<u64>,

    #[command(flatten)]
    settings: Settings,

    /// Write this many utterances before and after augmentation to RUN/augmented.html, then train
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    show_augmented: Option<u16>,
    /// Stop at sound that is missing or cannot be decoded
    #[arg(long)]
    strict: bool,
    /// Threads that compute [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// How it is trained. What is not given is as in [`Config::new`].
#[derive(Debug, Args)]
#[command(next_help_heading = "How it is trained")]
struct Settings {
    /// Seed of every random choice [default: 1]
    #[arg(long, conflicts_with = "resume")]
    seed: Option<u32>,
    /// Seconds of sound in a batch [default: 16]; memory and the number of steps depend on it
    #[arg(long, value_name = "SECONDS", conflicts_with = "resume")]
    batch_seconds: Option<f64>,
    /// Parts of a batch that are computed and normalised apart [default: 2]: use as many as there are cores
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    parts: Option<usize>,
    /// Leave out shorter utterances [default: 0.3]
    #[arg(long, value_name = "SECONDS", conflicts_with = "resume")]
    shortest: Option<f64>,
    /// Leave out longer utterances [default: 20]
    #[arg(long, value_name = "SECONDS", conflicts_with = "resume")]
    longest: Option<f64>,
    /// Epochs until everything is seen, short utterances first [default: 3]
    #[arg(long, value_name = "EPOCHS", conflicts_with = "resume")]
    curriculum: Option<u64>,
    /// The longest utterance of the curriculum's first epoch [default: 3]
    #[arg(long, value_name = "SECONDS", conflicts_with = "resume")]
    curriculum_longest: Option<f64>,
    /// The greatest learning rate [default: 0.0012]
    #[arg(long, value_name = "RATE", conflicts_with = "resume")]
    learning_rate: Option<f32>,
    /// The last learning rate as a part of the greatest [default: 0.02]
    #[arg(long, value_name = "PART", conflicts_with = "resume")]
    last_learning_rate: Option<f32>,
    /// Steps until the greatest learning rate [default: 200]
    #[arg(long, value_name = "STEPS", conflicts_with = "resume")]
    warmup: Option<u64>,
    /// How the learning rate falls [default: cosine]
    #[arg(long, value_name = "SHAPE", conflicts_with = "resume")]
    decay: Option<Shape>,
    /// AdamW's weight decay [default: 0.01]
    #[arg(long, value_name = "PART", conflicts_with = "resume")]
    weight_decay: Option<f32>,
    /// The greatest norm of a gradient [default: 1]
    #[arg(long, value_name = "NORM", conflicts_with = "resume")]
    clip: Option<f32>,
    /// The part of the loss that wants all tokens alike [default: 0]
    #[arg(long, value_name = "PART", conflicts_with = "resume")]
    label_smoothing: Option<f32>,
    /// What the averaged weights keep per step [default: 0.999]; less at first
    #[arg(long, value_name = "PART", conflicts_with = "resume")]
    ema: Option<f32>,
    /// How strong augmentation is; 0 is none, 1 hides whole words of short utterances [default: 0.4]
    #[arg(long, value_name = "STRENGTH", conflicts_with = "resume")]
    augment: Option<f32>,
    /// Augment once the loss per label, in nats, is below this [default: 1]
    #[arg(long, value_name = "LOSS", conflicts_with = "resume")]
    augment_after: Option<f64>,
    /// Minutes between validations [default: 15]
    #[arg(long, value_name = "MINUTES", conflicts_with = "resume")]
    evaluate_minutes: Option<f64>,
    /// Minutes between checkpoints [default: 5]
    #[arg(long, value_name = "MINUTES", conflicts_with = "resume")]
    checkpoint_minutes: Option<f64>,
    /// Keep the network after 50, 100, 200, 400 … steps in RUN/history, for `dfcnn see --filters … --evolution`
    #[arg(long, conflicts_with = "resume")]
    history: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shape {
    Cosine,
    Linear,
}

/// Trains, from the start or from where a run stands.
pub fn run(arguments: &Arguments, verbosity: Verbosity) -> anyhow::Result<()> {
    let stop = interrupt::flag()?;
    let threads = threads(arguments.threads);
    let budget = arguments.budget();
    let mut trainer = if arguments.resume {
        Trainer::resume(&arguments.run, budget, threads)?
    } else {
        let usage = "say when to end: --max-minutes, --max-steps or --epochs";
        let no_budget = || Cli::command().error(clap::error::ErrorKind::MissingRequiredArgument, usage);
        arguments.start(budget.ok_or_else(no_budget)?, threads, verbosity, &stop)?
    };
    verbosity.warn(trainer.report().to_string().replace('\n', "; "));
    if let Some(count) = arguments.show_augmented {
        let (page, path) = (trainer.augmented(count.into())?, arguments.run.join("augmented.html"));
        atomic_file::write(&path, |file| file.write_all(page.as_bytes()))?;
        verbosity.warn(format_args!("wrote {}", path.display()));
    }
    let mut display = Display::new(verbosity);
    let end = trainer.run(&stop, &mut |event| display.show(event))?;
    display.bar.finish_and_clear();
    match end {
        End::Finished => Ok(()),
        End::Stopped => {
            let text = format!("go on with: dfcnn train --resume --run {}", arguments.run.display());
            Err(Interrupted(text).into())
        }
    }
}

impl Arguments {
    fn budget(&self) -> Option<Budget> {
        let minutes = self.max_minutes.map(Budget::Minutes);
        minutes.or(self.max_steps.map(Budget::Steps)).or(self.epochs.map(Budget::Epochs))
    }

    /// A new run.
    fn start(
        &self,
        budget: Budget,
        threads: usize,
        verbosity: Verbosity,
        stop: &AtomicBool,
    ) -> anyhow::Result<Trainer> {
        if Trainer::is_run(&self.run) {
            let problem = "holds a run already; go on with it by --resume, or name another folder";
            return Err(dfcnn::Error::data(&self.run, problem).into());
        }
        let from = self.init_from.as_ref().map(Model::load).transpose()?;
        let tokens = match (&self.tokens, &from) {
            (Some(path), _) => Tokens::load(path)?,
            (None, Some(model)) => model.tokens.clone(),
            (None, None) => Model::embedded()?.tokens,
        };
        let recipe = match (&self.recipe, &from) {
            (Some(path), _) => Recipe::load(path)?,
            (None, Some(model)) => with_classes(model.recipe(), tokens.len())?,
            (None, None) => Model::embedded()?.recipe(), // clap wants one of them
        };
        recipe.check_tokens(&tokens)?;
        let options = Options {
            settings: recipe.spectrogram.clone(),
            precision: Precision::Bits8,
            threads,
            longest_s: prepare::LONGEST_S,
            strict: self.strict,
        };
        let dataset = |path: &Path| self.dataset(path, &options, verbosity, stop);
        let mut config = Config::new(Vec::new(), budget);
        for argument in &self.data {
            let (path, weight) = weighted(argument);
            config.sources.push(Source { folder: dataset(path)?, weight });
        }
        config.dev = self.dev.iter().map(|path| dataset(path)).collect::<anyhow::Result<_>>()?;
        self.settings.change(&mut config);
        Ok(Trainer::start(&self.run, &config, Start { recipe, tokens, from }, threads)?)
    }

    /// The folder of a dataset; a manifest is prepared within the run's folder.
    fn dataset(
        &self,
        path: &Path,
        options: &Options,
        verbosity: Verbosity,
        stop: &AtomicBool,
    ) -> anyhow::Result<PathBuf> {
        let absolute = std::path::absolute(path).map_err(dfcnn::Error::read(path))?;
        if absolute.join("dataset.toml").exists() {
            return Ok(absolute);
        }
        // Several manifests may have the same name.
        let hash = crc32fast::hash(absolute.as_os_str().as_encoded_bytes());
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let out = std::path::absolute(&self.run).map_err(dfcnn::Error::write(&self.run))?;
        let out = out.join("data").join(format!("{hash:08x}")).join(&*name);
        prepare::dataset(&[path.to_path_buf()], &out, options, verbosity, stop)?;
        Ok(out)
    }
}

impl Settings {
    fn change(&self, config: &mut Config) {
        fn set<T: Copy>(setting: &mut T, wanted: Option<T>) {
            *setting = wanted.unwrap_or(*setting);
        }
        set(&mut config.seed, self.seed);
        set(&mut config.batch_s, self.batch_seconds);
        set(&mut config.parts, self.parts);
        set(&mut config.shortest_s, self.shortest);
        set(&mut config.longest_s, self.longest);
        set(&mut config.curriculum_epochs, self.curriculum);
        set(&mut config.curriculum_longest_s, self.curriculum_longest);
        set(&mut config.learning_rate, self.learning_rate);
        set(&mut config.last_learning_rate, self.last_learning_rate);
        set(&mut config.warmup_steps, self.warmup);
        let decay = |shape| match shape {
            Shape::Cosine => Decay::Cosine,
            Shape::Linear => Decay::Linear,
        };
        set(&mut config.decay, self.decay.map(decay));
        set(&mut config.weight_decay, self.weight_decay);
        set(&mut config.greatest_norm, self.clip);
        set(&mut config.label_smoothing, self.label_smoothing);
        set(&mut config.ema_decay, self.ema);
        set(&mut config.augment, self.augment);
        set(&mut config.augment_after, self.augment_after);
        set(&mut config.evaluate_minutes, self.evaluate_minutes);
        set(&mut config.checkpoint_minutes, self.checkpoint_minutes);
        config.history = self.history;
    }
}

/// `DATA=2.5` as path and weight; without a number after the last `=` all of it is the path.
fn weighted(argument: &str) -> (&Path, f64) {
    let parts = argument.rsplit_once('=').and_then(|(path, weight)| Some((path, weight.parse().ok()?)));
    let (path, weight) = parts.unwrap_or((argument, 1.0));
    (Path::new(path), weight)
}

/// The recipe with as many classes as there are tokens.
fn with_classes(recipe: Recipe, classes: usize) -> dfcnn::Result<Recipe> {
    let mut layers = recipe.architecture.layers().to_vec();
    let last = layers.iter_mut().rev().find_map(|NamedLayer { layer, .. }| match layer {
        Layer::Convolution(convolution) => Some(convolution),
        _ => None,
    });
    if let Some(last) = last {
        last.out_channels = classes;
    }
    Ok(Recipe { architecture: Architecture::new(recipe.architecture.input(), layers)?, ..recipe })
}

/// How often a line is printed where no bar can be seen.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// What the bar is divided into.
const BAR: u64 = 10_000;

/// What the user sees of a run.
struct Display {
    verbosity: Verbosity,
    bar: ProgressBar,
    begin: Instant,
    /// The part of the budget spent before the first step that was seen.
    done_before: Option<f64>,
    line_at: Instant,
}

impl Display {
    fn new(verbosity: Verbosity) -> Self {
        let bar = if verbosity.quiet { ProgressBar::hidden() } else { ProgressBar::new(BAR) };
        bar.set_style(ProgressStyle::with_template("{wide_bar} {msg}").expect("the template is a constant"));
        let now = Instant::now();
        Self { verbosity, bar, begin: now, done_before: None, line_at: now }
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Step { line, done, logged } => self.step(line, done, logged),
            Event::Evaluation(line) => self.print(evaluation(line)),
            Event::Model(folder) => self.verbosity.note(format_args!("wrote {}", folder.display())),
            Event::Warning(text) => self.print(text),
        }
    }

    fn print(&self, text: String) {
        self.bar.suspend(|| self.verbosity.warn(text));
    }

    fn step(&mut self, line: &StepLine, done: f64, logged: bool) {
        let before = *self.done_before.get_or_insert(done);
        self.bar.set_position((done * BAR as f64) as u64);
        // Few steps say little about the loss.
        if !logged {
            return;
        }
        let left_s = self.begin.elapsed().as_secs_f64() * (1.0 - done) / (done - before).max(1e-9);
        let left = if left_s < 1e7 { format!("{:.0} min left", left_s / 60.0) } else { "…".into() };
        let StepLine { step, loss_per_label, learning_rate, audio_seconds_per_second, .. } = line;
        let text = format!(
            "step {step}: {loss_per_label:.3} nats per label, {audio_seconds_per_second:.0} s of sound per second, \
             learning rate {learning_rate:.1e}, {left}"
        );
        if self.bar.is_hidden() && self.line_at.elapsed() >= LINE_EVERY {
            self.line_at = Instant::now();
            self.verbosity.warn(&text);
        }
        self.bar.set_message(text);
    }
}

fn evaluation(line: &EvaluationLine) -> String {
    let EvaluationLine { step, set, wer, cer, utterances, samples, .. } = line;
    let mut text =
        format!("step {step}: {set}: WER {:.1} %, CER {:.1} %, {utterances} utterances", 100.0 * wer, 100.0 * cer);
    // Parts of a set show no transcripts: the whole has.
    if !set.contains('/') {
        for sample in samples {
            text += &format!("\n  said:  {}\n  heard: {}", sample.reference, sample.hypothesis);
        }
    }
    text
}
