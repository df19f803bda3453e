//! The loop: batches in, steps, validation, checkpoints, until the budget is spent or somebody asks to stop.
//!
//! ```text
//! run/start/             the untrained bundle: recipe, tokens, normalisation
//! run/checkpoints/       last and previous, from which the run resumes
//! run/best/              the bundle with the lowest character error in validation
//! run/last/              the bundle at the end, or where the run was stopped
//! run/history/           if wanted, the bundles after 50, 100, 200, 400 … steps
//! run/metrics.jsonl      what happened
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use super::alarm;
use super::augment::Augmenter;
use super::checkpoint::{Folder, State};
use super::config::{Budget, Config};
use super::corpus::Corpus;
use super::ema::Ema;
use super::examples;
use super::learner::{Learner, Rule, Step};
use super::loader::{Batch, Loader};
use super::metrics::{EvaluationLine, FiltersLine, Line, Log, StepLine, Window};
use super::schedule::{Length, Progress, Schedule};
use super::validation::Validation;
use crate::dataset::batches::Batches;
use crate::dataset::text::{Normalizer, Report, Selection};
use crate::layers::Network;
use crate::model::{Model, Recipe};
use crate::network::{Architecture, Layer, Precision, Weights};
use crate::tokens::Tokens;
use crate::{Error, Result};

/// Batches made ahead of the step that is being done.
const AHEAD: u64 = 3;
/// Steps in a line of the log.
const WINDOW: u64 = 10;
/// Skipped steps in a row after which a run cannot be saved by going on.
const MOST_SKIPPED: u64 = 50;
/// What the smoothed loss keeps per step.
const SMOOTHING: f64 = 0.98;
/// Seconds of sound heard at once in validation, where no gradients are kept.
const VALIDATION_BATCH_S: f64 = 30.0;

/// What a run begins with.
#[derive(Debug, Clone)]
pub struct Start {
    /// The front-end and the layers.
    pub recipe: Recipe,
    /// What the classes mean.
    pub tokens: Tokens,
    /// A model whose tensors are taken where name and shape agree, and its normalisation.
    pub from: Option<Model>,
}

/// What happens in a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step is done.
    Step {
        /// The last few steps.
        line: &'a StepLine,
        /// The part of the budget that is spent, 0 to 1.
        done: f64,
        /// Whether the line is complete and in the log now.
        logged: bool,
    },
    /// A validation set, or a part of it, was heard.
    Evaluation(&'a EvaluationLine),
    /// A bundle was written here.
    Model(&'a Path),
    /// Something that the user should know.
    Warning(String),
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The budget is spent.
    Finished,
    /// Somebody asked; the run can be resumed.
    Stopped,
}

/// A run.
pub struct Trainer {
    folder: PathBuf,
    config: Config,
    start: Model,
    corpus: Arc<Corpus>,
    batches: Batches,
    schedule: Schedule,
    validations: Vec<Validation>,
    checkpoints: Folder,
    learner: Learner,
    state: State,
    log: Log,
    warnings: Vec<String>,
}

impl Trainer {
    /// A new run in `folder`, which is made. Weights do not depend on `threads`.
    ///
    /// # Errors
    /// When the folder holds a run, or settings, model and data do not fit each other.
    pub fn start(folder: &Path, config: &Config, start: Start, threads: usize) -> Result<Self> {
        let Start { recipe, tokens, from } = start;
        config.validate()?;
        recipe.check()?;
        recipe.check_tokens(&tokens)?;
        if recipe.architecture.int8_convolutions() > 0 {
            let problem = "is in 8 bits, which gradients cannot train; train the model that it was made of";
            return Err(Error::setting("the network", problem));
        }
        if Self::is_run(folder) {
            let problem = "holds a run already; go on with it by --resume, or name another folder";
            return Err(Error::data(folder, problem));
        }
        let corpus = open_corpus(config, &recipe, &tokens)?;
        let network = Network::new(&recipe.architecture, config.seed.into(), 1)?;
        let mut weights = network.store();
        let normalization = match &from {
            None => corpus.normalization(),
            Some(model) if model.spectrogram == recipe.spectrogram => model.normalization.clone(),
            Some(_) => {
                let problem = "the model to begin with has another front-end than the recipe; its filters mean nothing";
                return Err(Error::setting("init-from", problem));
            }
        };
        let taken = from.as_ref().map(|model| take(&mut weights, &model.weights));
        let model = Model::new(recipe, normalization, weights, tokens)?;
        let state = State { config: to_text(config)?, ..State::default() };
        let mut trainer = Self::assemble(folder, config.clone(), model, corpus, state, threads)?;
        if let Some(taken) = taken {
            let all = trainer.start.weights.len();
            trainer.warnings.push(format!("{taken} of {all} tensors come from the model to begin with"));
        }
        trainer.start.save(folder.join("start"), Precision::F32)?;
        trainer.checkpoints.save(&trainer.learner.checkpoint(trainer.state.clone()))?;
        Ok(trainer)
    }

    /// Goes on with the run in `folder` where its newest checkpoint stands, to the end of `budget` if there is a new one.
    ///
    /// # Errors
    /// When there is no whole checkpoint, or what the run was made of is gone.
    pub fn resume(folder: &Path, budget: Option<Budget>, threads: usize) -> Result<Self> {
        if !Self::is_run(folder) {
            return Err(Error::data(folder, "holds no run to resume; begin one without --resume"));
        }
        let no_checkpoint = || Error::data(folder, "has no checkpoint; begin the run anew in another folder");
        let (checkpoint, problems) = Folder::create(&folder.join("checkpoints"))?.load()?.ok_or_else(no_checkpoint)?;
        let unreadable = |error: toml::de::Error| Error::data(folder, format!("the checkpoint's settings: {error}"));
        let mut config: Config = toml::from_str(&checkpoint.state.config).map_err(unreadable)?;
        config.budget = budget.unwrap_or(config.budget);
        config.validate()?;
        let model = Model::load(folder.join("start"))?;
        let corpus = open_corpus(&config, &model.recipe(), &model.tokens)?;
        let state = State { config: to_text(&config)?, ..checkpoint.state.clone() };
        let mut trainer = Self::assemble(folder, config, model, corpus, state, threads)?;
        trainer.learner.restore(&checkpoint)?;
        trainer.warnings = problems;
        Ok(trainer)
    }

    /// Whether there is a run in `folder`.
    pub fn is_run(folder: &Path) -> bool {
        folder.join("checkpoints").is_dir()
    }

    fn assemble(
        folder: &Path,
        config: Config,
        start: Model,
        corpus: Corpus,
        state: State,
        threads: usize,
    ) -> Result<Self> {
        let batches = Batches::new(config.batches(), corpus.items(&start.spectrogram));
        let length = match config.budget {
            Budget::Steps(steps) => Length::Steps(steps),
            Budget::Minutes(minutes) => Length::Minutes(minutes),
            Budget::Epochs(epochs) => Length::Steps((0..epochs).map(|epoch| batches.epoch(epoch).len() as u64).sum()),
        };
        let rule = Rule {
            optimizer: config.optimizer(),
            ema: Ema { decay: config.ema_decay },
            greatest_norm: config.greatest_norm,
            label_smoothing: config.label_smoothing,
        };
        let open = |folder: &PathBuf| Validation::open(folder, &start.spectrogram, &start.tokens);
        let validations = config.dev.iter().map(open).collect::<Result<_>>()?;
        let checkpoints = Folder::create(&folder.join("checkpoints"))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            learner: Learner::new(&start.architecture, &start.weights, rule, config.parts, threads)?,
            schedule: config.schedule(length),
            log: Log::open(&folder.join("metrics.jsonl"), state.steps)?,
            corpus: Arc::new(corpus),
            warnings: Vec::new(),
            batches,
            validations,
            checkpoints,
            config,
            start,
            state,
        })
    }

    /// What is used of the data and what is not.
    pub fn report(&self) -> &Report {
        &self.corpus.report
    }

    /// Where the run stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The averaged weights: what is evaluated and shipped.
    pub fn average(&self) -> Weights {
        self.learner.average()
    }

    fn progress(&self) -> Progress {
        Progress { steps: self.state.steps, minutes: self.state.minutes }
    }

    /// Trains until the budget is spent or `stop` is set; then the step under way is finished and everything saved.
    ///
    /// # Errors
    /// When data is damaged, nothing can be written, or too many steps in a row were not finite.
    pub fn run(&mut self, stop: &AtomicBool, observe: &mut dyn FnMut(Event)) -> Result<End> {
        let loader = self.loader()?;
        std::mem::take(&mut self.warnings).into_iter().for_each(|text| observe(Event::Warning(text)));
        let (epoch, number) = (self.state.epoch, self.state.batch);
        let (request, requests) = mpsc::channel();
        let (out, batches) = mpsc::channel();
        std::thread::scope(|scope| {
            // Dropped at the end of the closure, which ends the thread.
            let (request, batches) = (request, batches);
            scope.spawn(move || loader.serve(epoch, number, &requests, &out));
            self.steps(&request, &batches, stop, observe)
        })
    }

    /// A page with `count` utterances of the first epoch as they were recorded and as augmentation changes them: one HTML
    /// file that needs nothing else.
    ///
    /// # Errors
    /// When data is damaged, or the run does not augment.
    pub fn augmented(&self, count: usize) -> Result<String> {
        let loader = self.loader()?;
        if loader.augmenter.is_none() {
            return Err(Error::setting("show-augmented", "nothing is augmented at --augment 0"));
        }
        examples::page(&loader.examples(count)?, self.start.spectrogram.bins())
    }

    fn loader(&self) -> Result<Loader> {
        Ok(Loader {
            corpus: Arc::clone(&self.corpus),
            batches: self.batches.clone(),
            augmenter: self
                .config
                .augmentation()
                .map(|a| Augmenter::new(a, &self.start.spectrogram, &self.start.normalization.mean))
                .transpose()?,
            architecture: self.start.architecture.clone(),
            settings: self.start.spectrogram.clone(),
            normalization: self.start.normalization.clone(),
            parts: self.config.parts,
            seed: self.config.seed.into(),
        })
    }

    fn steps(
        &mut self,
        request: &mpsc::Sender<bool>,
        batches: &mpsc::Receiver<Result<Batch>>,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<End> {
        let begin = Instant::now();
        let minutes_before = self.state.minutes;
        let (mut saved, mut evaluated) = (self.state.minutes, self.state.minutes);
        let (mut saved_step, mut evaluated_step) = (self.state.steps, None);
        let (mut window, mut skipped_in_a_row) = (Window::default(), 0);
        let seen = self.seen();
        (seen..seen + AHEAD).for_each(|number| self.request(request, number));
        let end = loop {
            if self.schedule.is_over(self.progress()) {
                break End::Finished;
            }
            if stop.load(Ordering::Relaxed) {
                break End::Stopped;
            }
            let before = Instant::now();
            let batch = match batches.recv() {
                Ok(Ok(batch)) => batch,
                Ok(Err(error)) => {
                    self.save()?;
                    return Err(error);
                }
                Err(mpsc::RecvError) => return Err(Error::data(&self.folder, "the thread that reads data has died")),
            };
            let learning_rate = self.schedule.learning_rate(self.progress());
            let step = self.learner.step(&batch, self.state.steps + 1, learning_rate);
            self.account(&batch, &step, observe);
            self.request(request, self.seen() + AHEAD - 1);
            window.push(&step, batch.audio_s, before.elapsed().as_secs_f64());
            self.state.minutes = minutes_before + begin.elapsed().as_secs_f64() / 60.0;

            let line = StepLine {
                step: self.state.steps,
                minutes: self.state.minutes,
                learning_rate,
                skipped: self.state.skipped_steps,
                ..window.line()
            };
            let logged = window.steps == WINDOW;
            if logged {
                self.log.write(&Line::Step(line.clone()))?;
                window = Window::default();
            }
            observe(Event::Step { line: &line, done: self.schedule.done(self.progress()), logged });

            skipped_in_a_row = if step.skipped { skipped_in_a_row + 1 } else { 0 };
            if skipped_in_a_row == MOST_SKIPPED {
                return Err(self.diverged());
            }
            if self.config.history && !step.skipped && is_kept(self.state.steps) {
                self.save_model(&format!("history/{:08}", self.state.steps), observe)?;
            }
            if self.state.minutes - evaluated >= self.config.evaluate_minutes && !step.skipped {
                self.evaluate(stop, observe)?;
                self.state.minutes = minutes_before + begin.elapsed().as_secs_f64() / 60.0;
                (evaluated, evaluated_step) = (self.state.minutes, Some(self.state.steps));
            }
            if self.state.minutes - saved >= self.config.checkpoint_minutes && !step.skipped {
                // A full disk may be emptied before the run is over.
                match self.save() {
                    Ok(()) => saved_step = self.state.steps,
                    Err(error) => observe(Event::Warning(format!("{error}; the run goes on without a checkpoint"))),
                }
                saved = self.state.minutes;
            }
        };
        if end == End::Finished && evaluated_step != Some(self.state.steps) {
            self.evaluate(stop, observe)?;
        }
        if saved_step != self.state.steps || end == End::Finished {
            self.save()?;
        }
        self.save_model("last", observe)?;
        Ok(end)
    }

    /// Batches done over all epochs.
    fn seen(&self) -> u64 {
        self.state.steps + self.state.skipped_steps
    }

    /// Asks for batch `number`, counted over all epochs. Whether it is augmented depends on what was known [`AHEAD`]
    /// batches earlier, so a resumed run asks for the same.
    fn request(&self, request: &mpsc::Sender<bool>, number: u64) {
        // Nobody listens after an error, which the next batch brings.
        let _ = request.send(self.state.augment_from.is_some_and(|from| number >= from));
    }

    /// Takes notice of a step.
    fn account(&mut self, batch: &Batch, step: &Step, observe: &mut dyn FnMut(Event)) {
        let state = &mut self.state;
        (state.epoch, state.batch) = (batch.epoch, batch.number + 1);
        state.audio_s += batch.audio_s;
        if step.skipped {
            state.skipped_steps += 1;
            let text = format!("step {} skipped: the loss or its gradient is not finite", state.steps + 1);
            observe(Event::Warning(text));
            return;
        }
        state.steps += 1;
        let loss = step.outcome.loss / step.outcome.labels.max(1) as f64;
        let smoothed = state.loss.map_or(loss, |before| before * SMOOTHING + loss * (1.0 - SMOOTHING));
        state.loss = Some(smoothed);
        if state.augment_from.is_none() && smoothed < self.config.augment_after && self.config.augment > 0.0 {
            state.augment_from = Some(state.steps + state.skipped_steps + AHEAD - 1);
            let text = format!("step {}: augmentation begins at {smoothed:.2} nats per label", state.steps);
            observe(Event::Warning(text));
        }
        for alarm in alarm::watch(state, smoothed, &step.outcome) {
            observe(Event::Warning(alarm.to_string()));
        }
    }

    fn diverged(&self) -> Error {
        let problem = format!(
            "{MOST_SKIPPED} steps in a row had no finite loss or gradient; the last good checkpoint is {}; begin anew \
             with a lower learning rate, from the best model if there is one (--init-from)",
            self.checkpoints.path("last").display()
        );
        Error::data(&self.folder, problem)
    }

    /// Validates with the averaged weights; the best so far become a bundle.
    fn evaluate(&mut self, stop: &AtomicBool, observe: &mut dyn FnMut(Event)) -> Result<()> {
        let Self { learner, validations, start, .. } = self;
        let front_end = (&start.spectrogram, &start.normalization);
        let mut sets = Vec::new();
        for validation in validations.iter() {
            let lines = learner.with_average(|network| {
                validation.evaluate(network, front_end, &start.tokens, VALIDATION_BATCH_S, stop)
            })?;
            match lines {
                Some(lines) => sets.push(lines),
                None => return Ok(()),
            }
        }
        if let Some(filters) = first_filters(&start.architecture, &self.learner.average()) {
            self.log.write(&Line::Filters(FiltersLine { step: self.state.steps, ..filters }))?;
        }
        // The first line of each is about the whole set.
        let best = sets.iter().map(|lines| lines[0].cer).sum::<f64>() / sets.len() as f64;
        for mut line in sets.into_iter().flatten() {
            (line.step, line.minutes) = (self.state.steps, self.state.minutes);
            observe(Event::Evaluation(&line));
            self.log.write(&Line::Evaluation(line))?;
        }
        if best.is_finite() && self.state.best.is_none_or(|before| best < before) {
            self.state.best = Some(best);
            self.save_model("best", observe)?;
        }
        Ok(())
    }

    fn save(&self) -> Result<()> {
        self.checkpoints.save(&self.learner.checkpoint(self.state.clone()))
    }

    /// Writes the averaged weights as a bundle.
    fn save_model(&self, name: &str, observe: &mut dyn FnMut(Event)) -> Result<()> {
        let folder = self.folder.join(name);
        let model = Model { weights: self.learner.average(), ..self.start.clone() };
        model.save(&folder, Precision::F16)?;
        observe(Event::Model(&folder));
        Ok(())
    }
}

/// Whether the history has a bundle after `steps`: most is learnt early.
fn is_kept(steps: u64) -> bool {
    steps.is_multiple_of(50) && (steps / 50).is_power_of_two()
}

/// The filters of the first layer, if it is a convolution that a screen can show.
fn first_filters(architecture: &Architecture, weights: &Weights) -> Option<FiltersLine> {
    const MOST: usize = 4096;
    let first = architecture.layers().first()?;
    let Layer::Convolution(convolution) = &first.layer else { return None };
    let tensor = weights.get(&format!("{}.weight", first.name))?;
    let (filter, kernel) = (tensor.values.len() / convolution.out_channels, convolution.kernel);
    let shown = kernel[0] * kernel[1];
    let filters = tensor.values.chunks_exact(filter).map(|filter| filter[..shown].to_vec()).collect();
    (shown * convolution.out_channels <= MOST).then_some(FiltersLine { step: 0, kernel, filters })
}

fn open_corpus(config: &Config, recipe: &Recipe, tokens: &Tokens) -> Result<Corpus> {
    let selection =
        Selection { normalizer: Normalizer::new(tokens), shortest_s: config.shortest_s, longest_s: config.longest_s };
    let steps = |frames| recipe.architecture.output_frames(frames);
    Corpus::open(&config.sources, &recipe.spectrogram, &selection, steps)
}

fn to_text(config: &Config) -> Result<String> {
    toml::to_string(config).map_err(|error| Error::setting("settings", error.to_string()))
}

/// Takes the tensors of `from` that `weights` have too, in the same shape, and says how many.
fn take(weights: &mut Weights, from: &Weights) -> usize {
    let mut taken = 0;
    for (path, tensor) in from.iter() {
        if let Some(own) = weights.get_mut(path).filter(|own| own.shape == tensor.shape) {
            *own = tensor.clone();
            taken += 1;
        }
    }
    taken
}
