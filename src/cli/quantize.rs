//! `dfcnn quantize`: a model that computes with bytes.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::Args;
use dfcnn::Error;
use dfcnn::dataset::manifest::{Manifest, Utterance};
use dfcnn::dataset::sound::SoundReader;
use dfcnn::model::Model;
use dfcnn::network::Precision;
use dfcnn::quantize::{Choice, Found, Heard, Quantizer};
use dfcnn::recognizer::{Acoustics, Engine};
use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt::{self, Interrupted};
use super::{Verbosity, threads};

/// Make a model that computes in 8 bits: half the size, and three to four times as fast on processors with AVX-512 VNNI.
///
/// On others it is slower than 32 bits; `dfcnn doctor` shows what this one has.
///
/// The model hears the sounds of a manifest, which show how large its values become; the texts do not matter. Use sound
/// like that it will hear, but not what it is tested on. Then each convolution is tried in 8 bits, and those that hurt most
/// stay in 32 bits until what the network says is close enough to what it said before. A table tells what became of each.
///
/// The result is a model like any other: `dfcnn evaluate --model DIR` tells what it costs in words.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A model's folder [default: the model inside the program]
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Lists of utterances, or the folders that hold them
    #[arg(long, value_name = "MANIFEST", required = true, num_args = 1..)]
    calibrate: Vec<PathBuf>,
    /// Folder for the new model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Take only N utterances, evenly spread over the manifests
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// How far the network may be from its form in 32 bits: Kullback–Leibler divergence of its classes, nats per step
    #[arg(long, value_name = "NATS", default_value_t = MOST_DIVERGENCE)]
    divergence: f64,
    /// Threads that compute [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// With this, word errors on our development sets rose by at most 0.2 points: benches/record/2026-11-23-int8.md.
const MOST_DIVERGENCE: f64 = 0.0005;

/// Longer utterances are left out: the search keeps all their images.
const LONGEST_S: f64 = 60.0;

/// Quantizes.
pub fn run(arguments: &Arguments, verbosity: Verbosity) -> anyhow::Result<()> {
    if !(arguments.divergence >= 0.0 && arguments.divergence.is_finite()) {
        let problem = format!("{} is no divergence; it is a number from 0 on", arguments.divergence);
        return Err(Error::setting("--divergence", problem).into());
    }
    let model = match &arguments.model {
        Some(folder) => Model::load(folder)?,
        None => Model::embedded()?,
    };
    let threads = threads(arguments.threads);
    let mut quantizer = Quantizer::new(&model.architecture, &model.weights, threads)?;
    let utterances = arguments.utterances(verbosity)?;
    let stop = interrupt::flag()?;
    let goes_on = || !stop.load(Ordering::Relaxed);
    let interrupted = || Interrupted("nothing was written".into());

    let bar = if verbosity.quiet { ProgressBar::hidden() } else { ProgressBar::new(utterances.len() as u64) };
    let template = "{msg} {wide_bar} {human_pos} of {human_len}, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
    bar.set_message("hearing");
    let mut sound = Vec::with_capacity(utterances.len());
    let mut ear = Ear::new(&model)?;
    for utterance in &utterances {
        if !goes_on() {
            return Err(interrupted().into());
        }
        let heard = ear.hear(utterance)?;
        quantizer.observe(&heard.frames);
        sound.push(heard);
        bar.inc(1);
    }
    bar.set_length(quantizer.measurements() as u64);
    bar.set_position(0);
    bar.set_message("measuring");
    let found = quantizer.search(&sound, arguments.divergence, threads, || {
        bar.inc(1);
        goes_on()
    })?;
    bar.finish_and_clear();
    let Some(found) = found else { return Err(interrupted().into()) };
    let text = table(&found, sound.len());
    let Found { architecture, weights, .. } = found;
    let int8 = architecture.int8_convolutions();
    if int8 == 0 {
        let problem = "no convolution can be in 8 bits at this divergence; allow a larger one";
        return Err(Error::setting("--divergence", problem).into());
    }
    let model = Model { name: format!("{}-int8", model.name), architecture, weights, ..model };
    model.save(&arguments.out, Precision::F32)?;
    io::stdout().lock().write_all(text.as_bytes()).map_err(Error::write("-"))?;
    Ok(())
}

impl Arguments {
    /// Those to hear, of all that the manifests list.
    fn utterances(&self, verbosity: Verbosity) -> dfcnn::Result<Vec<Utterance>> {
        let mut all = Vec::new();
        for path in &self.calibrate {
            let manifest = Manifest::read(path, false)?;
            if let Some(first) = manifest.missing.first() {
                let (count, first) = (manifest.missing.len(), first.display());
                let text = format!("{count} sound files are missing and left out, the first is {first}");
                verbosity.warn(format_args!("{}: {text}", path.display()));
            }
            let short = |utterance: &Utterance| utterance.duration_s.is_none_or(|duration_s| duration_s <= LONGEST_S);
            all.extend(manifest.utterances.into_iter().filter(short));
        }
        if all.is_empty() {
            let path = self.calibrate.first().map_or(Path::new(""), PathBuf::as_path);
            return Err(Error::data(path, format!("lists no sound of at most {LONGEST_S} s to calibrate with")));
        }
        let (count, limit) = (all.len() as u64, self.limit.min(all.len() as u64));
        let wanted = |index: &u64| (u128::from(*index) * u128::from(limit)) % u128::from(count) < u128::from(limit);
        Ok((0..count).zip(all).filter(|(index, _)| wanted(index)).map(|(_, utterance)| utterance).collect())
    }
}

/// What hears with the model as it is.
struct Ear {
    acoustics: Acoustics,
    reader: SoundReader,
}

impl Ear {
    fn new(model: &Model) -> dfcnn::Result<Self> {
        let engine = Engine::new(model)?;
        Ok(Self { acoustics: Acoustics::new(&engine, 1)?, reader: SoundReader::new(engine.clock()) })
    }

    fn hear(&mut self, utterance: &Utterance) -> dfcnn::Result<Heard> {
        let Self { acoustics, reader } = self;
        acoustics.reset();
        let mut heard = Heard { frames: Vec::new(), log_probs: Vec::new() };
        reader.read(utterance, |piece| {
            acoustics.push(piece, &mut heard.log_probs)?;
            heard.frames.extend_from_slice(acoustics.frames());
            Ok(())
        })?;
        acoustics.finish(&mut heard.log_probs)?;
        heard.frames.extend_from_slice(acoustics.frames());
        Ok(heard)
    }
}

/// What became of each convolution.
fn table(found: &Found, utterances: usize) -> String {
    let total: f64 = found.choices.iter().map(|choice| choice.cost).sum();
    let width =
        found.choices.iter().map(|choice| choice.path.chars().count()).max().unwrap_or(0).max("convolution".len());
    let mut text = format!("{:width$}  share of cost  divergence alone  runs in\n", "convolution");
    for Choice { path, int8, alone, cost } in &found.choices {
        let alone = alone.map_or_else(|| "-".to_owned(), |alone| format!("{alone:.6}"));
        let bits = match (int8, alone.as_str()) {
            (true, _) => "8 bits",
            (false, "-") => "32 bits: 8 are no faster here",
            (false, _) => "32 bits: hurts most",
        };
        let _ = writeln!(text, "{path:width$}  {:11.1} %  {alone:>16}  {bits}", 100.0 * cost / total);
    }
    let int8: Vec<&Choice> = found.choices.iter().filter(|choice| choice.int8).collect();
    let part = 100.0 * int8.iter().map(|choice| choice.cost).sum::<f64>() / total;
    let _ = writeln!(
        text,
        "\n{} of {} convolutions in 8 bits, {part:.1} % of the cost; divergence {:.6} nats per step, over {utterances} utterances",
        int8.len(),
        found.choices.len(),
        found.divergence
    );
    text
}
