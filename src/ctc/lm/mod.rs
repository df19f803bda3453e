//! Language models: how probable a word is after others.

/// What a language model remembers of the words before: up to five word ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LmState {
    words: [u32; 5],
    len: u8,
}

impl LmState {
    /// After these words, of which the last five count.
    pub fn new(words: &[u32]) -> Self {
        let words = &words[words.len().saturating_sub(5)..];
        let mut state = Self { len: words.len() as u8, ..Self::default() };
        state.words[..words.len()].copy_from_slice(words);
        state
    }

    /// The words, oldest first.
    pub fn words(&self) -> &[u32] {
        &self.words[..self.len.into()]
    }
}

/// Gives words probabilities, one after the other.
pub trait LanguageModel: Send + Sync {
    /// The state before the first word.
    fn start(&self) -> LmState;
    /// ln P(word | state) and the state after it. Unknown words score as `<unk>`.
    fn score(&self, state: &LmState, word: &str) -> (f32, LmState);
    /// ln P(`</s>` | state).
    fn finish(&self, state: &LmState) -> f32;
    /// Whether the word is in the vocabulary.
    fn knows(&self, word: &str) -> bool;
}

/// Reads a language model; until there is a reader, an error.
///
/// # Errors
/// Always.
pub fn load(path: &std::path::Path) -> crate::Result<std::sync::Arc<dyn LanguageModel>> {
    Err(crate::Error::data(path, "language models cannot be read yet"))
}
