//! A text as word ids, and how often its n-grams occur.

use std::cmp::Ordering;

use rayon::slice::ParallelSliceMut;

use super::ngrams::{Level, NGrams};
use super::vocabulary::{END, RESERVED, START, UNKNOWN, Vocabulary};
use crate::Result;
use crate::lines::Lines;

/// A text to learn from, in memory: 4 bytes a word and as much again while it is counted.
#[derive(Debug)]
pub struct Corpus {
    vocabulary: Vocabulary,
    /// Every sentence with its `<s>` and `</s>`.
    tokens: Vec<u32>,
}

impl Default for Corpus {
    fn default() -> Self {
        Self::new()
    }
}

impl Corpus {
    /// No text.
    pub fn new() -> Self {
        Self { vocabulary: Vocabulary::new(), tokens: Vec::new() }
    }

    /// Adds a text, one sentence a line, words parted by white space; blank lines are none. `<unk>` is an unknown word.
    ///
    /// # Errors
    /// When the text cannot be read, has `<s>` or `</s>` as words or more than four billion words.
    pub fn read(&mut self, mut lines: Lines) -> Result<()> {
        while let Some(line) = lines.next()? {
            if line.trim().is_empty() {
                continue;
            }
            if let Err(problem) = self.push(line) {
                return Err(lines.error(problem));
            }
        }
        Ok(())
    }

    fn push(&mut self, sentence: &str) -> Result<(), String> {
        self.tokens.push(START);
        for word in sentence.split_whitespace() {
            let id = self.vocabulary.intern(word).ok_or("more different words than can be counted")?;
            if id == START || id == END {
                return Err(format!("{word} marks sentences and cannot be a word; leave it out"));
            }
            self.tokens.push(id);
        }
        self.tokens.push(END);
        if self.tokens.len() > u32::MAX as usize {
            return Err("more than four billion words".to_owned());
        }
        Ok(())
    }

    /// How many words the text has.
    pub fn words(&self) -> usize {
        self.tokens.iter().filter(|&&token| token != START && token != END).count()
    }

    /// Counts n-grams up to `order`. Words that occur `rare` times or less, or are not among the `most` frequent, are
    /// unknown. Ids then go by frequency.
    pub(super) fn count(self, order: usize, rare: u32, most: Option<usize>) -> Counts {
        let Self { vocabulary: all, mut tokens } = self;
        let mut frequencies = vec![0u32; all.len()];
        tokens.iter().for_each(|&token| frequencies[token as usize] += 1);
        let reserved = RESERVED.len() as u32;
        let mut kept: Vec<u32> = (reserved..all.len() as u32).filter(|&id| frequencies[id as usize] > rare).collect();
        kept.sort_by_key(|&id| (std::cmp::Reverse(frequencies[id as usize]), all.word(id)));
        kept.truncate(most.unwrap_or(usize::MAX));
        let mut vocabulary = Vocabulary::new();
        let mut renumbered = vec![UNKNOWN; all.len()];
        for id in 0..reserved {
            renumbered[id as usize] = id;
        }
        for id in kept {
            renumbered[id as usize] = vocabulary.intern(all.word(id)).unwrap_or(UNKNOWN);
        }
        drop(all);
        tokens.iter_mut().for_each(|token| *token = renumbered[*token as usize]);
        count(vocabulary, &tokens, order)
    }
}

/// All n-grams of a text.
pub(super) struct Counts {
    /// Without probabilities.
    pub ngrams: NGrams,
    /// How often each n-gram of each order occurs.
    pub raw: Vec<Vec<u32>>,
    /// The same at the highest order and after `<s>`; elsewhere in how many different words' wake each n-gram occurs, which
    /// is what Kneser-Ney smoothing counts of shorter n-grams.
    pub adjusted: Vec<Vec<u32>>,
}

/// Sorts the places of a text by the words up to there, from the last to the first: the n-grams of every order then stand
/// together, in the order of the trie (a suffix array of bounded depth, backwards).
fn count(vocabulary: Vocabulary, tokens: &[u32], order: usize) -> Counts {
    let mut places: Vec<u32> = (0..tokens.len() as u32).filter(|&place| tokens[place as usize] != START).collect();
    places.par_sort_unstable_by(|&a, &b| compare(tokens, a as usize, b as usize, order).0);
    let words: Vec<u32> = (0..vocabulary.len() as u32).collect();
    let mut raw = vec![Vec::new(); order];
    let mut adjusted = vec![Vec::new(); order];
    let mut parents = vec![Vec::new(); order];
    let mut levels = vec![Level::default(); order];
    raw[0] = vec![0; words.len()];
    adjusted[0] = vec![0; words.len()];
    levels[0].words = words;
    let mut path = vec![0u32; order];
    let mut previous = None;
    for place in places {
        let place = place as usize;
        let shared = previous.map_or(0, |previous| compare(tokens, previous, place, order).1);
        previous = Some(place);
        for depth in 0..order {
            let word = tokens[place - depth];
            if depth == 0 {
                path[0] = word;
            } else if depth >= shared {
                let parent = path[depth - 1];
                adjusted[depth - 1][parent as usize] += 1;
                path[depth] = raw[depth].len() as u32;
                levels[depth].words.push(word);
                parents[depth].push(parent);
                raw[depth].push(0);
                adjusted[depth].push(0);
            }
            raw[depth][path[depth] as usize] += 1;
            if word == START {
                break;
            }
        }
    }
    for depth in 0..order {
        let highest = depth + 1 == order;
        for (node, &word) in levels[depth].words.iter().enumerate() {
            if highest || word == START {
                adjusted[depth][node] = raw[depth][node];
            }
        }
        if !highest {
            levels[depth].children = offsets(levels[depth].words.len(), &parents[depth + 1]);
            parents[depth + 1] = Vec::new();
        }
    }
    Counts { ngrams: NGrams { vocabulary, levels }, raw, adjusted }
}

/// Compares the words up to two places, from the last to the first, `depth` of them at most and none before a sentence;
/// and how many are the same.
fn compare(tokens: &[u32], a: usize, b: usize, depth: usize) -> (Ordering, usize) {
    for same in 0..depth {
        let (left, right) = (tokens[a - same], tokens[b - same]);
        if left != right {
            return (left.cmp(&right), same);
        }
        if left == START {
            return (Ordering::Equal, same + 1);
        }
    }
    (Ordering::Equal, depth)
}

/// Where the children of each of `count` nodes begin, given the children's parents in order.
fn offsets(count: usize, parents: &[u32]) -> Vec<u32> {
    let mut offsets = vec![0; count + 1];
    for &parent in parents {
        offsets[parent as usize + 1] += 1;
    }
    for node in 0..count {
        offsets[node + 1] += offsets[node];
    }
    offsets
}
