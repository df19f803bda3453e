//! How the network's output becomes text: what the subcommands that recognise have in common.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, CommandFactory};
use dfcnn::Error;
use dfcnn::ctc::Decoding;
use dfcnn::ctc::beam::BeamOptions;
use dfcnn::ctc::hotwords::{HotWord, HotWords};
use dfcnn::ctc::lm;
use dfcnn::dataset::text::Normalizer;
use dfcnn::model::Model;
use dfcnn::tokens::Tokens;

use super::Cli;

/// With a language model that nothing is known about.
const LM_WEIGHT: f64 = 0.5;
const WORD_BONUS: f64 = 1.0;

/// How to decode. Without any of these: with the model's own language model, or greedily if it has none.
#[derive(Debug, Args)]
#[command(next_help_heading = "Decoding")]
pub struct DecodingChoice {
    /// Language model (ARPA, also .gz, or binary) [default: the model's own, if it has one]
    #[arg(long, value_name = "FILE")]
    lm: Option<PathBuf>,
    /// Decode greedily: just what the network hears
    #[arg(long, conflicts_with_all = ["lm", "lm_weight", "word_bonus", "unknown_penalty", "width", "hot_words", "hot_word_file"])]
    greedy: bool,
    /// How much the language model counts [default: what suits the model's own, 0.5 for another]
    #[arg(long, value_name = "ALPHA", value_delimiter = ',')]
    lm_weight: Vec<f64>,
    /// What each word gains; more makes fewer deletions and more insertions [default: what suits the model's own language
    /// model, 1 for another, 0 without]
    #[arg(long, value_name = "BETA", value_delimiter = ',', allow_negative_numbers = true)]
    word_bonus: Vec<f64>,
    /// What each word costs that the language model does not know [default: 10]
    #[arg(long, value_name = "PENALTY")]
    unknown_penalty: Option<f64>,
    /// Search with N hypotheses [default: 64]
    #[arg(long = "beam", value_name = "N")]
    width: Option<usize>,
    /// A word or phrase to expect, as often as you like; a boost of 3 to 10 is usual, 5 if not given
    #[arg(long = "hotword", value_name = "PHRASE[:BOOST]")]
    hot_words: Vec<HotWord>,
    /// A file with a phrase to expect on each line
    #[arg(long = "hotwords", value_name = "FILE")]
    hot_word_file: Option<PathBuf>,
}

impl DecodingChoice {
    /// The one decoding that was asked for, with `nbest` readings.
    pub fn decoding(&self, model: &Model, nbest: Option<usize>) -> anyhow::Result<Decoding> {
        match &self.decodings(model, nbest)?[..] {
            [decoding] => Ok(decoding.clone()),
            _ => {
                let problem = "several values for --lm-weight or --word-bonus: only `dfcnn evaluate` compares them";
                Err(Cli::command().error(clap::error::ErrorKind::TooManyValues, problem))?
            }
        }
    }

    /// What was asked for with each of the weights, and of them with each of the bonuses; at least one.
    pub fn decodings(&self, model: &Model, nbest: Option<usize>) -> dfcnn::Result<Vec<Decoding>> {
        if self.greedy {
            return Ok(vec![Decoding::Greedy]);
        }
        let hot_words = self.hot_words(&model.tokens)?;
        let asked_for = hot_words.is_some() || self.width.is_some() || nbest.is_some() || !self.word_bonus.is_empty();
        let usual = match (&self.lm, model.decoding()) {
            (Some(path), _) => BeamOptions {
                language_model: Some(Arc::from(lm::load(path)?)),
                lm_weight: LM_WEIGHT,
                word_bonus: WORD_BONUS,
                ..BeamOptions::default()
            },
            (None, Decoding::Beam(own)) => own,
            (None, Decoding::Greedy) if !self.lm_weight.is_empty() || self.unknown_penalty.is_some() => {
                let problem = "this model has no language model that it could be about; name one with --lm";
                return Err(Error::setting("language model", problem));
            }
            (None, Decoding::Greedy) if !asked_for => return Ok(vec![Decoding::Greedy]),
            (None, Decoding::Greedy) => BeamOptions::default(),
        };
        let or = |values: &[f64], usual: f64| if values.is_empty() { vec![usual] } else { values.to_vec() };
        let options = BeamOptions {
            width: self.width.unwrap_or(usual.width.max(nbest.unwrap_or(1))),
            nbest: nbest.unwrap_or(1),
            unknown_penalty: self.unknown_penalty.unwrap_or(usual.unknown_penalty),
            hot_words,
            ..usual
        };
        let mut decodings = Vec::new();
        for lm_weight in or(&self.lm_weight, options.lm_weight) {
            for word_bonus in or(&self.word_bonus, options.word_bonus) {
                let options = BeamOptions { lm_weight, word_bonus, ..options.clone() };
                options.validate()?;
                decodings.push(Decoding::Beam(options));
            }
        }
        Ok(decodings)
    }

    /// The hot words in the form of the vocabulary.
    fn hot_words(&self, tokens: &Tokens) -> dfcnn::Result<Option<Arc<HotWords>>> {
        let mut phrases = self.hot_words.clone();
        if let Some(path) = &self.hot_word_file {
            phrases.extend(HotWord::load(path)?);
        }
        if phrases.is_empty() {
            return Ok(None);
        }
        let normalizer = Normalizer::new(tokens);
        for HotWord { phrase, .. } in &mut phrases {
            let normal = normalizer.normalize(phrase).map_err(|reason| {
                let name = format!("hot word {phrase:?}");
                Error::setting(name, format!("{reason}; spell it with the letters that the model writes"))
            })?;
            *phrase = normal;
        }
        HotWords::new(&phrases, tokens).map(Arc::new).map(Some)
    }
}
