//! Word and character error rates with their confidence intervals, and aligned errors to read.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::evaluate::edit_distance::{Step, align};
use crate::random::Random;

/// Edits between what was said and what was heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Errors {
    /// Items heard as others.
    pub substitutions: u64,
    /// Items heard that nobody said.
    pub insertions: u64,
    /// Items said that nobody heard.
    pub deletions: u64,
    /// Items said.
    pub reference: u64,
}

impl Errors {
    /// Of an alignment.
    pub fn count(steps: &[Step]) -> Self {
        let mut errors = Self::default();
        for step in steps {
            match step {
                Step::Match { .. } => {}
                Step::Substitution { .. } => errors.substitutions += 1,
                Step::Insertion { .. } => errors.insertions += 1,
                Step::Deletion { .. } => errors.deletions += 1,
            }
            errors.reference += u64::from(!matches!(step, Step::Insertion { .. }));
        }
        errors
    }

    /// Substitutions, insertions and deletions together.
    pub fn total(&self) -> u64 {
        self.substitutions + self.insertions + self.deletions
    }

    /// Errors per item said; above 1 where much was inserted, `None` where nothing was said.
    pub fn rate(&self) -> Option<f64> {
        (self.reference > 0).then(|| self.total() as f64 / self.reference as f64)
    }
}

impl AddAssign for Errors {
    fn add_assign(&mut self, other: Self) {
        self.substitutions += other.substitutions;
        self.insertions += other.insertions;
        self.deletions += other.deletions;
        self.reference += other.reference;
    }
}

/// The errors of one utterance or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// In words, which is what white space separates: the WER.
    pub words: Errors,
    /// In characters, one space between words counted as one: the CER.
    pub characters: Errors,
}

impl Score {
    /// Of one utterance. Case and punctuation count; normalise both texts first if they should not.
    pub fn of(reference: &str, hypothesis: &str) -> Self {
        let words = |text: &'_ str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (reference, hypothesis) = (words(reference), words(hypothesis));
        let characters = |words: &[String]| words.join(" ").chars().collect::<Vec<_>>();
        Self {
            words: Errors::count(&align(&reference, &hypothesis)),
            characters: Errors::count(&align(&characters(&reference), &characters(&hypothesis))),
        }
    }
}

impl AddAssign for Score {
    fn add_assign(&mut self, other: Self) {
        self.words += other.words;
        self.characters += other.characters;
    }
}

/// The scores of one test set.
#[derive(Debug, Clone, Default)]
pub struct ErrorRate {
    utterances: Vec<Score>,
    speakers: BTreeMap<String, Score>,
    total: Score,
}

impl ErrorRate {
    /// Adds one utterance.
    pub fn push(&mut self, speaker: Option<&str>, score: Score) {
        self.utterances.push(score);
        self.total += score;
        if let Some(speaker) = speaker {
            *self.speakers.entry(speaker.to_owned()).or_default() += score;
        }
    }

    /// All utterances together: errors are summed before the rate is taken.
    pub fn total(&self) -> Score {
        self.total
    }

    /// The number of utterances.
    pub fn utterances(&self) -> usize {
        self.utterances.len()
    }

    /// Per speaker, in the order of their names; utterances without a speaker are only in the total.
    pub fn speakers(&self) -> &BTreeMap<String, Score> {
        &self.speakers
    }

    /// The 95 % confidence interval `[low, high]` of a rate, e.g. `interval(|s| s.words, seed)`, from 1,000 bootstrap
    /// samples of utterances (Bisani & Ney 2004). `None` where nothing was said.
    pub fn interval(&self, errors: impl Fn(&Score) -> Errors, seed: u64) -> Option<[f64; 2]> {
        const SAMPLES: usize = 1000;
        errors(&self.total).rate()?;
        let mut random = Random::new(seed);
        let mut rates = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let mut sum = Errors::default();
            for _ in 0..self.utterances.len() {
                sum += errors(&self.utterances[random.below(self.utterances.len())]);
            }
            rates.extend(sum.rate()); // A sample of silent utterances alone has no rate.
        }
        rates.sort_by(f64::total_cmp);
        let quantile = |q: f64| rates.get(((rates.len() as f64 - 1.0) * q).round() as usize).copied();
        Some([quantile(0.025)?, quantile(0.975)?])
    }
}

/// Reference and hypothesis one under the other, and below them where they differ: `S`, `I`, `D`.
/// Three lines, wrong words in capitals, each column as wide as its wider word.
pub fn aligned_errors(reference: &str, hypothesis: &str) -> String {
    let reference: Vec<&str> = reference.split_whitespace().collect();
    let hypothesis: Vec<&str> = hypothesis.split_whitespace().collect();
    let mut lines = ["REF:".to_owned(), "HYP:".to_owned(), "    ".to_owned()];
    for step in align(&reference, &hypothesis) {
        let absent = |other: &str| "*".repeat(other.chars().count());
        let cells = match step {
            Step::Match { reference: r, hypothesis: h } => [reference[r].into(), hypothesis[h].into(), String::new()],
            Step::Substitution { reference: r, hypothesis: h } => {
                [reference[r].to_uppercase(), hypothesis[h].to_uppercase(), "S".into()]
            }
            Step::Insertion { hypothesis: h } => [absent(hypothesis[h]), hypothesis[h].to_uppercase(), "I".into()],
            Step::Deletion { reference: r } => [reference[r].to_uppercase(), absent(reference[r]), "D".into()],
        };
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        for (line, cell) in lines.iter_mut().zip(cells) {
            line.push_str(&format!(" {cell:width$}"));
        }
    }
    lines.map(|line| line.trim_end().to_owned() + "\n").concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_characters() {
        let score = Score::of("the cat  sat on mats", " the bat sat on the mats ");
        assert_eq!(score.words, Errors { substitutions: 1, insertions: 1, deletions: 0, reference: 5 });
        assert_eq!(score.characters, Errors { substitutions: 1, insertions: 4, deletions: 0, reference: 19 });
        assert_eq!(score.words.rate(), Some(0.4));
        assert_eq!(Score::of("", "a b").words, Errors { insertions: 2, ..Errors::default() });
        assert_eq!(Score::of("", "a b").words.rate(), None);
        assert_eq!(Score::of("éa", "ea").characters.substitutions, 1);
    }

    #[test]
    fn sums_per_speaker() {
        let mut set = ErrorRate::default();
        set.push(Some("b"), Score::of("one two", "one"));
        set.push(Some("a"), Score::of("one", "one"));
        set.push(Some("b"), Score::of("three", "three"));
        set.push(None, Score::of("four", "for"));
        assert_eq!(set.total().words.rate(), Some(0.4));
        let speakers: Vec<_> = set.speakers().iter().map(|(name, score)| (name.as_str(), score.words.rate())).collect();
        assert_eq!(speakers, [("a", Some(0.0)), ("b", Some(1.0 / 3.0))]);
    }

    /// One word per utterance, wrong with probability p: the interval must be near p ± 1.96 √(p(1−p)/n).
    #[test]
    fn the_interval_of_a_binomial() {
        let mut set = ErrorRate::default();
        assert_eq!(set.interval(|s| s.words, 1), None);
        (0..400).for_each(|i| set.push(None, Score::of("a", if i % 4 == 0 { "b" } else { "a" })));
        let [low, high] = set.interval(|s| s.words, 1).unwrap();
        let half = 1.96 * (0.25f64 * 0.75 / 400.0).sqrt();
        assert!((low - (0.25 - half)).abs() < 0.01 && (high - (0.25 + half)).abs() < 0.01, "{low} {high}");
        assert_eq!(set.interval(|s| s.words, 1), Some([low, high]));
    }

    #[test]
    fn errors_to_read() {
        let expected = "REF: the CAT sat **\nHYP: the BAT sat ON\n         S       I\n";
        assert_eq!(aligned_errors("the cat sat", "the bat sat on"), expected);
        assert_eq!(aligned_errors("", ""), "REF:\nHYP:\n\n");
    }
}
