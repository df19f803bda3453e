//! N-grams as a trie over their words from the last to the first, and how it is walked.
//!
//! The nodes of order 1 are the words, by id; the children of the node of `b c` are the nodes of `a b c` for all `a`, in
//! the order of `a`. A word is scored by walking down from it through the words before it until no longer n-gram is there:
//! the nodes on that way are those of the word alone, of the last two words, … and thus the next context (the reverse trie
//! of Heafield 2011, "KenLM: Faster and Smaller Language Model Queries").

use std::f32::consts::LN_10;
use std::ops::Range;

use super::vocabulary::{END, START, UNKNOWN, Vocabulary};
use super::{LanguageModel, LmState, MAX_ORDER};

/// N-grams with back-off in whatever form they are stored. Orders count from 1; a node is numbered within its order.
/// Probabilities are log10, as in ARPA files.
pub trait Trie {
    /// The longest n-grams.
    fn order(&self) -> usize;
    /// The words.
    fn vocabulary(&self) -> &Vocabulary;
    /// The first word of a node's n-gram.
    fn word(&self, order: usize, node: u32) -> u32;
    /// The nodes of the next order whose n-grams end in this one; none at the highest order.
    fn children(&self, order: usize, node: u32) -> Range<u32>;
    /// log10 P(last word | the others).
    fn log_prob(&self, order: usize, node: u32) -> f32;
    /// What backing off from this n-gram as a context costs. Nothing where that is free and no longer n-gram begins so:
    /// as a context it is then as good as a shorter one.
    fn back_off(&self, order: usize, node: u32) -> Option<f32>;

    /// The n-gram that puts `word` in front of this one.
    fn child(&self, order: usize, node: u32, word: u32) -> Option<u32> {
        let Range { start: mut low, end: mut high } = self.children(order, node);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.word(order + 1, middle);
            if found == word {
                return Some(middle);
            }
            if found < word { low = middle + 1 } else { high = middle }
        }
        None
    }

    /// The node of an n-gram.
    fn find(&self, words: &[u32]) -> Option<u32> {
        let (&last, before) = words.split_last()?;
        before.iter().rev().enumerate().try_fold(last, |node, (depth, &word)| self.child(depth + 1, node, word))
    }

    /// The state whose context is the n-gram at the end of `path`, the nodes of its last word, its last two, ….
    fn state(&self, path: &[u32]) -> LmState {
        let mut len = path.len().min(self.order() - 1);
        while len > 0 && self.back_off(len, path[len - 1]).is_none() {
            len -= 1;
        }
        LmState::new(&path[..len])
    }

    /// ln P(word | state) and the state after it.
    fn step(&self, state: &LmState, word: u32) -> (f32, LmState) {
        let context = state.ids();
        let mut path = [word; MAX_ORDER];
        let mut matched = 1;
        for (before, &node) in context.iter().enumerate() {
            match self.child(matched, path[matched - 1], self.word(before + 1, node)) {
                Some(child) => path[matched] = child,
                None => break,
            }
            matched += 1;
        }
        let mut log_prob = self.log_prob(matched, path[matched - 1]);
        for (len, &node) in (matched..).zip(&context[matched - 1..]) {
            log_prob += self.back_off(len, node).unwrap_or(0.0);
        }
        (log_prob * LN_10, self.state(&path[..matched]))
    }
}

impl<T: Trie + Send + Sync> LanguageModel for T {
    fn start(&self) -> LmState {
        self.state(&[START])
    }

    fn score(&self, state: &LmState, word: &str) -> (f32, LmState) {
        self.step(state, self.vocabulary().id(word).filter(|&id| id > END).unwrap_or(UNKNOWN))
    }

    fn finish(&self, state: &LmState) -> f32 {
        self.step(state, END).0
    }

    fn knows(&self, word: &str) -> bool {
        self.vocabulary().id(word).is_some_and(|id| id > END)
    }

    fn look_ahead(&self, start: &str) -> Option<f32> {
        let look_ahead = self.vocabulary().look_ahead(|id| self.log_prob(1, id));
        look_ahead.greatest(self.vocabulary(), start).map(|log_prob| log_prob * LN_10)
    }
}
