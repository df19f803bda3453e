//! How a beam search is made.

use std::fmt;
use std::sync::Arc;

use crate::ctc::hotwords::HotWords;
use crate::ctc::lm::LanguageModel;
use crate::{Error, Result};

const MAX_WIDTH: usize = 4096;
/// Weights, bonuses and penalties beyond this drown the sound.
const MAX_WEIGHT: f64 = 100.0;

/// How to search. The score of a text y with the words w₁ … wₙ is
/// ln P(y | sound) + α · ln P(w₁ … wₙ `</s>`) + β · n − penalty · unknown words + hot words.
#[derive(Clone)]
pub struct BeamOptions {
    /// Hypotheses kept after each step.
    pub width: usize,
    /// How many readings of the text [`BeamDecoder::readings`](super::BeamDecoder::readings) gives; at most `width`.
    pub nbest: usize,
    /// In a step only the `most_tokens` most probable tokens are tried, …
    pub most_tokens: usize,
    /// … and of them only those less than this below the most probable class, as a difference of natural logarithms.
    pub token_range: f64,
    /// Hypotheses this much below the best are dropped.
    pub score_range: f64,
    /// What is said about words; where the vocabulary has no spaces, about tokens.
    pub language_model: Option<Arc<dyn LanguageModel>>,
    /// α: the language model's weight.
    pub lm_weight: f64,
    /// β: what each word gains.
    pub word_bonus: f64,
    /// What each word costs that neither the language model nor the hot words know; without a language model nothing.
    pub unknown_penalty: f64,
    /// Phrases to expect.
    pub hot_words: Option<Arc<HotWords>>,
}

impl Default for BeamOptions {
    /// 64 hypotheses without a language model.
    fn default() -> Self {
        Self {
            width: 64,
            nbest: 1,
            most_tokens: 12,
            token_range: 8.0,
            score_range: 20.0,
            language_model: None,
            lm_weight: 0.5,
            word_bonus: 0.0,
            unknown_penalty: 10.0,
            hot_words: None,
        }
    }
}

impl BeamOptions {
    /// Whether a search can be made so.
    ///
    /// # Errors
    /// [`Error::Setting`] names the first that is out of range.
    pub fn validate(&self) -> Result<()> {
        let refuse = |setting: &str, problem: String| Err(Error::setting(setting, problem));
        if !(1..=MAX_WIDTH).contains(&self.width) {
            return refuse("beam width", format!("{} is not in 1 … {MAX_WIDTH}; try 64", self.width));
        }
        if !(1..=self.width).contains(&self.nbest) {
            let problem =
                format!("{} readings out of {} hypotheses; take fewer or a wider beam", self.nbest, self.width);
            return refuse("n-best", problem);
        }
        if self.most_tokens == 0 {
            return refuse("tokens per step", "0; take 1 or more".into());
        }
        for (setting, value) in [("token range", self.token_range), ("score range", self.score_range)] {
            if value.is_nan() || value < 0.0 {
                return refuse(setting, format!("{value} is not 0 or more"));
            }
        }
        for (setting, value, lowest) in [
            ("language model weight", self.lm_weight, 0.0),
            ("word bonus", self.word_bonus, -MAX_WEIGHT),
            ("unknown word penalty", self.unknown_penalty, 0.0),
        ] {
            if !(lowest..=MAX_WEIGHT).contains(&value) {
                return refuse(setting, format!("{value} is not in {lowest} … {MAX_WEIGHT}"));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for BeamOptions {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut shown = f.debug_struct("BeamOptions");
        shown.field("width", &self.width).field("language_model", &self.language_model.is_some());
        shown.field("lm_weight", &self.lm_weight).field("word_bonus", &self.word_bonus).finish_non_exhaustive()
    }
}
