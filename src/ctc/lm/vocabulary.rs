//! The words of a model and their ids.

use std::hash::BuildHasher;
use std::sync::OnceLock;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::look_ahead::LookAhead;

/// The id of `<unk>`, which stands for every word the model does not have.
pub const UNKNOWN: u32 = 0;
/// The id of `<s>`, the start of a sentence.
pub const START: u32 = 1;
/// The id of `</s>`, the end of a sentence.
pub const END: u32 = 2;
/// What is not a word; their ids are their places here.
pub const RESERVED: [&str; 3] = ["<unk>", "<s>", "</s>"];

/// Words, numbered from 0 in the order in which they came, the reserved ones first.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// All words, one after the other.
    text: String,
    /// Where each word ends in `text`.
    ends: Vec<u32>,
    /// The ids by the words' hashes.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    look_ahead: OnceLock<LookAhead>,
}

impl Vocabulary {
    /// Only the reserved words.
    pub fn new() -> Self {
        let (text, ends, index) = (String::new(), Vec::new(), HashTable::new());
        let (hasher, look_ahead) = (DefaultHashBuilder::default(), OnceLock::new());
        let mut vocabulary = Self { text, ends, index, hasher, look_ahead };
        for word in RESERVED {
            vocabulary.intern(word);
        }
        vocabulary
    }

    /// Makes room for `count` more words.
    pub fn reserve(&mut self, count: usize) {
        self.ends.reserve(count);
        let (text, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        self.index.reserve(count, |&id| hasher.hash_one(spelling(text, ends, id)));
    }

    /// The id of `word`, which is added if it is new. Nothing when the words together exceed what 32 bits can count.
    pub fn intern(&mut self, word: &str) -> Option<u32> {
        if let Some(id) = self.id(word) {
            return Some(id);
        }
        let id = u32::try_from(self.ends.len()).ok()?;
        let end = u32::try_from(self.text.len() + word.len()).ok()?;
        self.text.push_str(word);
        self.ends.push(end);
        self.look_ahead.take();
        let (text, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        self.index.insert_unique(hasher.hash_one(word), id, |&id| hasher.hash_one(spelling(text, ends, id)));
        Some(id)
    }

    /// The id of `word`, if it is there.
    pub fn id(&self, word: &str) -> Option<u32> {
        self.index.find(self.hasher.hash_one(word), |&id| self.word(id) == word).copied()
    }

    /// What words may be expected of a beginning, by the `log_prob` of each; made when it is first asked for.
    pub fn look_ahead(&self, log_prob: impl Fn(u32) -> f32) -> &LookAhead {
        self.look_ahead.get_or_init(|| LookAhead::new(self, log_prob))
    }

    /// How the word `id` is spelled.
    pub fn word(&self, id: u32) -> &str {
        spelling(&self.text, &self.ends, id)
    }

    /// How many words there are, the reserved ones among them.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// All words by their ids.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len() as u32).map(|id| self.word(id))
    }

    /// The words with these ids, joined by spaces.
    pub fn spell(&self, ids: &[u32]) -> String {
        ids.iter().map(|&id| self.word(id)).collect::<Vec<_>>().join(" ")
    }
}

fn spelling<'a>(text: &'a str, ends: &[u32], id: u32) -> &'a str {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    &text[start..ends[id] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_ids() {
        let mut vocabulary = Vocabulary::new();
        let words = ["a", "", "ab", "中", "a"];
        let ids: Vec<u32> = words.iter().filter_map(|word| vocabulary.intern(word)).collect();
        assert_eq!(ids, [3, 4, 5, 6, 3]);
        vocabulary.reserve(1000);
        assert!(
            ids.iter().zip(words).all(|(&id, word)| vocabulary.word(id) == word && vocabulary.id(word) == Some(id))
        );
        assert_eq!((vocabulary.id("b"), vocabulary.id("</s>"), vocabulary.len()), (None, Some(END), 7));
        assert_eq!(vocabulary.spell(&[START, 6, 5]), "<s> 中 ab");
        let begins = |vocabulary: &Vocabulary| vocabulary.look_ahead(|_| 0.0).greatest(vocabulary, "国").is_some();
        assert!(!begins(&vocabulary));
        vocabulary.intern("国").unwrap();
        assert!(begins(&vocabulary));
    }
}
