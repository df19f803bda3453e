//! `dfcnn lm`: language models from text, between formats, and how good they are.

use std::f64::consts::LN_10;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use dfcnn::atomic_file;
use dfcnn::ctc::lm::compact::Compact;
use dfcnn::ctc::lm::estimate::{self, Corpus, Options};
use dfcnn::ctc::lm::{self, NGrams, Perplexity, arpa};
use dfcnn::lines::Lines;
use serde::Serialize;

use super::Verbosity;

/// Make language models from text, convert and measure them.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(Build),
    Convert(Convert),
    Perplexity(Measure),
}

/// Learn a language model from text.
///
/// Texts have one sentence a line, spelled as the transcripts are (lower case, no punctuation); gzipped ones are unpacked.
/// The model is of interpolated modified Kneser-Ney smoothing. For one that goes beside a speech model, --prune 0,1,2 and
/// more keep it small.
#[derive(Debug, Args)]
struct Build {
    /// Texts; - is standard input
    #[arg(value_name = "TEXT", required = true)]
    texts: Vec<PathBuf>,
    /// Longest n-grams, in words
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=lm::MAX_ORDER as i64))]
    order: u8,
    /// For each order, leave out n-grams that occur so often or less; the last holds for all that follow
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0")]
    prune: Vec<u32>,
    /// Keep so many words, the most frequent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    vocab: Option<u32>,
    /// Compact model to write
    #[arg(long, value_name = "FILE", required_unless_present = "arpa")]
    out: Option<PathBuf>,
    /// ARPA file to write
    #[arg(long, value_name = "FILE")]
    arpa: Option<PathBuf>,
}

/// Turn an ARPA file, plain or gzipped, into a compact model.
#[derive(Debug, Args)]
struct Convert {
    /// ARPA file of order 1 to 6
    #[arg(value_name = "ARPA")]
    arpa: PathBuf,
    /// Compact model to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Tell how well a language model predicts text.
///
/// Perplexities are per word, where a sentence's end counts as one.
#[derive(Debug, Args)]
struct Measure {
    /// Compact model or ARPA file
    #[arg(value_name = "LM")]
    model: PathBuf,
    /// Texts, one sentence a line; - is standard input
    #[arg(value_name = "TEXT", required = true)]
    texts: Vec<PathBuf>,
    /// Print JSON Lines: one object of type "sentence" for each sentence, then one of type "perplexity"
    #[arg(long)]
    json: bool,
}

/// A line of type `sentence`.
#[derive(Serialize)]
#[serde(tag = "type", rename = "sentence")]
struct SentenceLine {
    log10_prob: f64,
    words: u64,
    unknown: u64,
}

/// The last line, of type `perplexity`; without text there is none.
#[derive(Serialize)]
#[serde(tag = "type", rename = "perplexity")]
struct PerplexityLine {
    perplexity: f64,
    perplexity_without_unknown: f64,
    unknown: u64,
    words: u64,
    sentences: u64,
}

/// Does what was asked.
pub fn run(arguments: &Arguments, verbosity: Verbosity) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Build(arguments) => build(arguments, verbosity),
        Command::Convert(arguments) => convert(arguments, verbosity),
        Command::Perplexity(arguments) => measure(arguments, verbosity),
    }
}

fn build(arguments: &Build, verbosity: Verbosity) -> anyhow::Result<()> {
    let mut corpus = Corpus::new();
    for path in &arguments.texts {
        corpus.read(lines(path)?)?;
    }
    verbosity.note(format_args!("{} words of text", corpus.words()));
    let options = Options {
        order: arguments.order.into(),
        prune: arguments.prune.clone(),
        vocabulary: arguments.vocab.map(|words| words as usize),
    };
    let (model, discounts) = estimate::estimate(corpus, &options)?;
    for (order, discounts) in (1..).zip(discounts) {
        let [d1, d2, d3] = discounts.values;
        verbosity.note(format_args!("discounts of {order}-grams: {d1:.4} {d2:.4} {d3:.4}"));
        if !discounts.estimated {
            verbosity.warn(format_args!("too little or odd text to tell discounts of {order}-grams; took usual ones"));
        }
    }
    if let Some(path) = &arguments.arpa {
        atomic_file::write(path, |file| arpa::write(&model, file))?;
        described(path, &model, None, verbosity);
    }
    if let Some(path) = &arguments.out {
        described(path, &model, Some(Compact::write(&model, path)?), verbosity);
    }
    Ok(())
}

fn convert(arguments: &Convert, verbosity: Verbosity) -> anyhow::Result<()> {
    let model = arpa::read(&arguments.arpa)?;
    described(&arguments.out, &model, Some(Compact::write(&model, &arguments.out)?), verbosity);
    Ok(())
}

fn measure(arguments: &Measure, verbosity: Verbosity) -> anyhow::Result<()> {
    let start = Instant::now();
    let model = lm::load(&arguments.model)?;
    verbosity.note(format_args!("loaded in {:.1} ms", start.elapsed().as_secs_f64() * 1e3));
    let mut out = io::stdout().lock();
    let mut sum = Perplexity::default();
    let start = Instant::now();
    for path in &arguments.texts {
        let mut lines = lines(path)?;
        while let Some(line) = lines.next()? {
            if line.trim().is_empty() {
                continue;
            }
            let mut sentence = Perplexity::default();
            sentence.add(&*model, line);
            if arguments.json {
                let Perplexity { words, unknown, .. } = sentence;
                let line = SentenceLine { log10_prob: sentence.log_prob / LN_10, words, unknown };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
            }
            sum += sentence;
        }
    }
    let scores = sum.words + sum.sentences;
    verbosity.note(format_args!("{:.0} ns a score", start.elapsed().as_secs_f64() * 1e9 / scores.max(1) as f64));
    let (perplexity, perplexity_without_unknown) = (sum.with_unknown(), sum.without_unknown());
    let Perplexity { unknown, words, sentences, .. } = sum;
    if arguments.json {
        let line = PerplexityLine { perplexity, perplexity_without_unknown, unknown, words, sentences };
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
        return Ok(());
    }
    writeln!(out, "perplexity with unknown words: {perplexity:.2}")?;
    writeln!(out, "perplexity without unknown words: {perplexity_without_unknown:.2}")?;
    writeln!(out, "unknown words: {unknown}")?;
    writeln!(out, "words: {words}")?;
    writeln!(out, "sentences: {sentences}")?;
    Ok(())
}

/// The lines of a file or of standard input.
fn lines(path: &Path) -> dfcnn::Result<Lines> {
    if path == Path::new("-") { Lines::new(path, io::stdin()) } else { Lines::open(path) }
}

/// Says what was written: how many n-grams of each order, and the size where it is known.
fn described(path: &Path, model: &NGrams, bytes: Option<usize>, verbosity: Verbosity) {
    let counts: Vec<String> =
        (1..).zip(model.counts()).map(|(order, count)| format!("{count} {order}-grams")).collect();
    let size = bytes.map_or_else(String::new, |bytes| format!(", {:.2} MB", bytes as f64 / 1e6));
    verbosity.warn(format_args!("{}: {}{size}", path.display(), counts.join(", ")));
}
