//! Language models: how probable a word is after the words before it.
//!
//! The models are n-grams with back-off. [`estimate`] makes one from text, [`arpa`] exchanges it with other tools,
//! [`compact`] is the small, fast form that is shipped.

pub mod arpa;
pub mod compact;
mod counts;
pub mod estimate;
mod look_ahead;
mod ngrams;
mod perplexity;
mod trie;
mod vocabulary;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

pub use ngrams::NGrams;
pub use perplexity::Perplexity;

use crate::lines::Lines;
use crate::{Error, Result};

/// The longest n-grams, in words.
pub const MAX_ORDER: usize = 6;

/// One in 10¹²: the least log10 probability (and back-off) that the compact form keeps apart from lesser ones, and that of
/// unknown words in ARPA files without `<unk>`. Such files often have -99 for what can never be.
pub const LEAST_LOG10: f32 = -12.0;

/// What has been said so far, as far as a model remembers: small, `Copy`, comparable, so that hypotheses can be merged.
/// Two states of one model that are equal give every continuation the same probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LmState {
    ids: [u32; MAX_ORDER - 1],
    len: u8,
}

impl LmState {
    /// A state of at most `MAX_ORDER - 1` ids; of more, the last ones. What an id stands for is the model's affair.
    pub fn new(ids: &[u32]) -> Self {
        let ids = &ids[ids.len().saturating_sub(MAX_ORDER - 1)..];
        let mut state = Self { len: ids.len() as u8, ..Self::default() };
        state.ids[..ids.len()].copy_from_slice(ids);
        state
    }

    /// The ids it was made of.
    pub fn ids(&self) -> &[u32] {
        &self.ids[..usize::from(self.len)]
    }
}

/// Gives words probabilities, one after the other.
pub trait LanguageModel: Send + Sync {
    /// The state at the start of a sentence, after `<s>`.
    fn start(&self) -> LmState;
    /// ln P(word | state) and the state after it. Unknown words score as `<unk>`.
    fn score(&self, state: &LmState, word: &str) -> (f32, LmState);
    /// ln P(`</s>` | state).
    fn finish(&self, state: &LmState) -> f32;
    /// Whether the model has the word.
    fn knows(&self, word: &str) -> bool;
    /// What may be expected of a word that begins with `start`: the greatest ln P, whatever was said before, of those that
    /// do, and nothing if there is none. A model that cannot tell says 0.
    fn look_ahead(&self, _start: &str) -> Option<f32> {
        Some(0.0)
    }
}

/// Loads a language model: compact, or an ARPA file, which may be gzipped.
///
/// # Errors
/// When the file cannot be read or is neither.
pub fn load(path: &Path) -> Result<Box<dyn LanguageModel>> {
    let mut file = File::open(path).map_err(Error::read(path))?;
    let mut start = Vec::new();
    (&mut file).take(compact::MAGIC.len() as u64).read_to_end(&mut start).map_err(Error::read(path))?;
    if start == compact::MAGIC {
        return Ok(Box::new(compact::Compact::load(path)?));
    }
    file.rewind().map_err(Error::read(path))?;
    Ok(Box::new(arpa::read_lines(Lines::new(path, file)?)?))
}
