//! N-grams in memory, with their probabilities as they are.

use std::cmp::Ordering;
use std::iter;
use std::ops::Range;

use super::MAX_ORDER;
use super::trie::Trie;
use super::vocabulary::Vocabulary;

/// An n-gram model with back-off in memory, exact: what is estimated, and what ARPA files hold. 12 to 16 bytes an n-gram.
#[derive(Debug, Clone)]
pub struct NGrams {
    pub(super) vocabulary: Vocabulary,
    /// By order; at least the words.
    pub(super) levels: Vec<Level>,
}

/// The n-grams of one order, in the order of their words from the last to the first.
#[derive(Debug, Clone, Default)]
pub(super) struct Level {
    /// Each one's first word.
    pub words: Vec<u32>,
    /// Where each one's children begin in the next order, and at the end their number; empty at the highest order.
    pub children: Vec<u32>,
    /// log10 P(last word | the others).
    pub log_probs: Vec<f32>,
    /// As [`Trie::back_off`]; NaN is nothing.
    pub back_offs: Vec<f32>,
}

impl Trie for NGrams {
    fn order(&self) -> usize {
        self.levels.len()
    }

    fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn word(&self, order: usize, node: u32) -> u32 {
        self.levels[order - 1].words[node as usize]
    }

    fn children(&self, order: usize, node: u32) -> Range<u32> {
        match &self.levels[order - 1].children[..] {
            [] => 0..0,
            children => children[node as usize]..children[node as usize + 1],
        }
    }

    fn log_prob(&self, order: usize, node: u32) -> f32 {
        self.levels[order - 1].log_probs[node as usize]
    }

    fn back_off(&self, order: usize, node: u32) -> Option<f32> {
        Some(self.levels[order - 1].back_offs[node as usize]).filter(|back_off| !back_off.is_nan())
    }
}

impl NGrams {
    /// How many n-grams there are of each order; those of order 1 are the words with `<unk>`, `<s>` and `</s>`.
    pub fn counts(&self) -> Vec<usize> {
        self.levels.iter().map(|level| level.words.len()).collect()
    }

    /// Every n-gram of an order: its words, oldest first, and the nodes of its last word, its last two, …, itself.
    pub(super) fn each(&self, order: usize) -> impl Iterator<Item = ([u32; MAX_ORDER], [u32; MAX_ORDER])> {
        let mut path = [0; MAX_ORDER]; // the nodes only move on
        (0..self.levels[order - 1].words.len() as u32).map(move |node| {
            let mut words = [0; MAX_ORDER];
            path[order - 1] = node;
            words[0] = self.word(order, node);
            for shorter in (1..order).rev() {
                while self.children(shorter, path[shorter - 1]).end <= path[shorter] {
                    path[shorter - 1] += 1;
                }
                words[order - shorter] = self.word(shorter, path[shorter - 1]);
            }
            (words, path)
        })
    }

    /// A model of n-grams by order, in any order within it. Where an n-gram is there without its last words as an n-gram of
    /// their own, as some tools prune, that one is put in with the probability it has anyway.
    ///
    /// # Errors
    /// The line of an n-gram that is there twice or has no context, and what is wrong.
    pub(super) fn assemble(vocabulary: Vocabulary, listed: Vec<Listed>) -> Result<Self, (usize, String)> {
        let mut listed: Vec<Listed> = listed.into_iter().map(Listed::sorted).collect();
        for ngrams in &listed {
            if let Some(twice) = (1..ngrams.len()).find(|&i| ngrams.ngram(i) == ngrams.ngram(i - 1)) {
                let text = vocabulary.spell(ngrams.ngram(twice));
                let lines = [ngrams.lines[twice - 1], ngrams.lines[twice]];
                return Err((lines[0].max(lines[1]) as usize, format!("{text:?} is there twice")));
            }
        }
        for order in (2..=listed.len()).rev() {
            let missing = missing_suffixes(&listed[order - 1], &listed[order - 2]);
            if missing.len() > 0 {
                let mut complete = std::mem::take(&mut listed[order - 2]);
                complete.append(missing);
                listed[order - 2] = complete.sorted();
            }
        }
        let levels = (0..listed.len()).map(|i| Level {
            words: (0..listed[i].len()).map(|ngram| listed[i].ngram(ngram)[0]).collect(),
            children: listed.get(i + 1).map_or_else(Vec::new, |longer| child_offsets(&listed[i], longer)),
            log_probs: listed[i].log_probs.clone(),
            back_offs: listed[i].back_offs.clone(),
        });
        let mut model = Self { levels: levels.collect(), vocabulary };
        model.score_put_in(&listed);
        model.check_contexts(&listed)?;
        Ok(model)
    }

    /// Gives the n-grams that were put in (`log_probs` is NaN) the probability that backing off gives them.
    fn score_put_in(&mut self, listed: &[Listed]) {
        for (order, ngrams) in (1..).zip(listed) {
            for node in (0..ngrams.len()).filter(|&node| ngrams.log_probs[node].is_nan()) {
                let words = ngrams.ngram(node);
                let shorter = self.find(&words[1..]).map_or(0.0, |suffix| self.log_prob(order - 1, suffix));
                let context = self.find(&words[..order - 1]);
                let back_off = context.and_then(|context| self.back_off(order - 1, context)).unwrap_or(0.0);
                self.levels[order - 1].log_probs[node] = shorter + back_off;
            }
        }
    }

    /// Every n-gram's context is there and has a back-off; that of n-grams that are no context is forgotten where it is 0.
    fn check_contexts(&mut self, listed: &[Listed]) -> Result<(), (usize, String)> {
        for order in 1..=listed.len() {
            let mut continued = vec![false; listed[order - 1].len()];
            let longer = listed.get(order).into_iter().flat_map(|longer| (0..longer.len()).map(move |i| (longer, i)));
            for (longer, i) in longer {
                let context = self.find(&longer.ngram(i)[..order]).map(|node| node as usize);
                let problem = match context {
                    Some(node) if longer.lines[i] == 0 => {
                        let back_off = &mut self.levels[order - 1].back_offs[node];
                        *back_off = if back_off.is_nan() { 0.0 } else { *back_off };
                        continued[node] = true;
                        continue;
                    }
                    // What was put in lacks a context only because of an n-gram that lacks one too.
                    None if longer.lines[i] == 0 => continue,
                    Some(node) if listed[order - 1].lines[node] > 0 => {
                        if !self.levels[order - 1].back_offs[node].is_nan() {
                            continued[node] = true;
                            continue;
                        }
                        "continues an n-gram that has no back-off"
                    }
                    _ => "has no context: the n-gram without its last word is missing",
                };
                return Err((
                    longer.lines[i] as usize,
                    format!("{:?} {problem}", self.vocabulary.spell(longer.ngram(i))),
                ));
            }
            for (back_off, continued) in iter::zip(&mut self.levels[order - 1].back_offs, continued) {
                if !continued && *back_off == 0.0 {
                    *back_off = f32::NAN;
                }
            }
        }
        Ok(())
    }
}

/// The n-grams of one order as a file lists them.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub order: usize,
    /// Those of one n-gram after those of the other, oldest first.
    pub words: Vec<u32>,
    /// log10; NaN for those that were put in.
    pub log_probs: Vec<f32>,
    /// log10; NaN where there is none.
    pub back_offs: Vec<f32>,
    /// Counted from 1; 0 for those that were put in.
    pub lines: Vec<u32>,
}

impl Listed {
    pub fn new(order: usize) -> Self {
        Self { order, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn ngram(&self, i: usize) -> &[u32] {
        &self.words[i * self.order..][..self.order]
    }

    /// Adds the rest of an n-gram whose words were added.
    pub fn push(&mut self, log_prob: f32, back_off: f32, line: u32) {
        self.log_probs.push(log_prob);
        self.back_offs.push(back_off);
        self.lines.push(line);
    }

    fn append(&mut self, mut other: Self) {
        self.words.append(&mut other.words);
        self.log_probs.append(&mut other.log_probs);
        self.back_offs.append(&mut other.back_offs);
        self.lines.append(&mut other.lines);
    }

    /// In the order of the words from the last to the first.
    fn sorted(self) -> Self {
        let mut places: Vec<usize> = (0..self.len()).collect();
        places.sort_unstable_by(|&a, &b| from_last(self.ngram(a), self.ngram(b)));
        Self {
            order: self.order,
            words: places.iter().flat_map(|&i| self.ngram(i)).copied().collect(),
            log_probs: places.iter().map(|&i| self.log_probs[i]).collect(),
            back_offs: places.iter().map(|&i| self.back_offs[i]).collect(),
            lines: places.iter().map(|&i| self.lines[i]).collect(),
        }
    }
}

fn from_last(a: &[u32], b: &[u32]) -> Ordering {
    a.iter().rev().cmp(b.iter().rev())
}

/// The n-grams at the end of `longer` that `shorter` does not have; both are sorted.
fn missing_suffixes(longer: &Listed, shorter: &Listed) -> Listed {
    let mut missing = Listed::new(shorter.order);
    let mut at = 0;
    for i in 0..longer.len() {
        let suffix = &longer.ngram(i)[1..];
        if i > 0 && longer.ngram(i - 1)[1..] == *suffix {
            continue;
        }
        while at < shorter.len() && from_last(shorter.ngram(at), suffix).is_lt() {
            at += 1;
        }
        if at == shorter.len() || shorter.ngram(at) != suffix {
            missing.words.extend_from_slice(suffix);
            missing.push(f32::NAN, f32::NAN, 0);
        }
    }
    missing
}

/// Where the n-grams of `longer` that end in each of `shorter` begin; both are sorted and `shorter` lacks none.
fn child_offsets(shorter: &Listed, longer: &Listed) -> Vec<u32> {
    let mut offsets = Vec::with_capacity(shorter.len() + 1);
    let mut at = 0;
    for i in 0..shorter.len() {
        offsets.push(at as u32);
        while at < longer.len() && longer.ngram(at)[1..] == *shorter.ngram(i) {
            at += 1;
        }
    }
    offsets.push(at as u32);
    offsets
}
