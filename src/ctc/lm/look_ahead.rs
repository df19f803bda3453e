//! What an unfinished word may become (language model look-ahead, Ortmanns, Ney & Eiden 1996).

use std::ops::Range;

use super::vocabulary::{RESERVED, Vocabulary};

/// The words of a model by their spelling, and for any beginning the most probable of those that begin so.
#[derive(Debug, Clone)]
pub struct LookAhead {
    /// The ids of all but the reserved words.
    sorted: Vec<u32>,
    /// A binary tree over `sorted`, root at 1: the greatest log-probability below each node; the leaves are the words.
    greatest: Vec<f32>,
}

impl LookAhead {
    pub fn new(vocabulary: &Vocabulary, log_prob: impl Fn(u32) -> f32) -> Self {
        let mut sorted: Vec<u32> = (RESERVED.len() as u32..vocabulary.len() as u32).collect();
        sorted.sort_unstable_by_key(|&id| vocabulary.word(id));
        let words = sorted.len();
        let mut greatest = vec![f32::NEG_INFINITY; words];
        greatest.extend(sorted.iter().map(|&id| log_prob(id)));
        for node in (1..words).rev() {
            greatest[node] = greatest[2 * node].max(greatest[2 * node + 1]);
        }
        Self { sorted, greatest }
    }

    /// The greatest log-probability of the words that begin with `start`; nothing if there is none.
    pub fn greatest(&self, vocabulary: &Vocabulary, start: &str) -> Option<f32> {
        let first = self.sorted.partition_point(|&id| vocabulary.word(id) < start);
        let count = self.sorted[first..].partition_point(|&id| vocabulary.word(id).starts_with(start));
        (count > 0).then(|| self.greatest_of(first..first + count))
    }

    fn greatest_of(&self, words: Range<usize>) -> f32 {
        let mut greatest = f32::NEG_INFINITY;
        let Range { mut start, mut end } = words;
        (start, end) = (start + self.sorted.len(), end + self.sorted.len());
        while start < end {
            if start % 2 == 1 {
                greatest = greatest.max(self.greatest[start]);
                start += 1;
            }
            if end % 2 == 1 {
                end -= 1;
                greatest = greatest.max(self.greatest[end]);
            }
            (start, end) = (start / 2, end / 2);
        }
        greatest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_word_is_found_for_every_beginning() {
        let words = ["a", "", "ab", "中", "aba", "b", "abc", "ba", "国", "bab", "caab"];
        for count in 0..=words.len() {
            let mut vocabulary = Vocabulary::new();
            let ids: Vec<u32> = words[..count].iter().map(|word| vocabulary.intern(word).unwrap()).collect();
            let log_prob = |id: u32| -((id * 7 % 11) as f32);
            let look_ahead = LookAhead::new(&vocabulary, log_prob);
            for start in ["", "a", "ab", "aba", "abb", "b", "ba", "c", "cab", "中", "国", "<", "<unk>"] {
                let of_those = ids.iter().filter(|&&id| vocabulary.word(id).starts_with(start));
                let expected = of_those.map(|&id| log_prob(id)).reduce(f32::max);
                assert_eq!(look_ahead.greatest(&vocabulary, start), expected, "“{start}” of {count}");
            }
        }
    }
}
