//! Language models: how probable a word is after the words before it.

/// The longest n-grams, in words.
pub const MAX_ORDER: usize = 6;

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
    /// Whether some word of the model begins with `start`; a model that cannot tell says yes.
    fn begins(&self, _start: &str) -> bool {
        true
    }
}

/// Reads a language model; until there is a reader, an error.
///
/// # Errors
/// Always.
pub fn load(path: &std::path::Path) -> crate::Result<Box<dyn LanguageModel>> {
    Err(crate::Error::data(path, "language models cannot be read yet"))
}
