//! How well a model predicts a text.

use super::{LanguageModel, Lines};
use crate::Result;

/// Sums over a text. A sentence's end counts as a word that was predicted, as in other tools.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Perplexity {
    /// Sentences.
    pub sentences: u64,
    /// Words without sentence ends.
    pub words: u64,
    /// Words that the model does not have.
    pub unknown: u64,
    /// Σ ln P over words and sentence ends.
    pub log_prob: f64,
    /// What of that is due to unknown words.
    pub log_prob_unknown: f64,
}

impl Perplexity {
    /// Adds a sentence, whose words are parted by white space.
    pub fn add(&mut self, model: &(impl LanguageModel + ?Sized), sentence: &str) {
        let mut state = model.start();
        for word in sentence.split_whitespace() {
            let (log_prob, next) = model.score(&state, word);
            state = next;
            self.words += 1;
            self.log_prob += f64::from(log_prob);
            if !model.knows(word) {
                self.unknown += 1;
                self.log_prob_unknown += f64::from(log_prob);
            }
        }
        self.sentences += 1;
        self.log_prob += f64::from(model.finish(&state));
    }

    /// Adds a text, one sentence a line; blank lines are none.
    ///
    /// # Errors
    /// When the text cannot be read.
    pub fn read(&mut self, model: &(impl LanguageModel + ?Sized), mut lines: Lines) -> Result<()> {
        while let Some(line) = lines.next()? {
            if !line.trim().is_empty() {
                self.add(model, line);
            }
        }
        Ok(())
    }

    /// Perplexity per word and sentence end, unknown words scored as `<unk>`. NaN for no text.
    pub fn with_unknown(&self) -> f64 {
        (-self.log_prob / (self.words + self.sentences) as f64).exp()
    }

    /// Perplexity of the known words and sentence ends alone. NaN for no text.
    pub fn without_unknown(&self) -> f64 {
        let known = self.words + self.sentences - self.unknown;
        (-(self.log_prob - self.log_prob_unknown) / known as f64).exp()
    }
}
