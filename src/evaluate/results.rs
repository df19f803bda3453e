//! What an evaluation found: utterance by utterance, set by set.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::error_rate::{ErrorRate, Score};

/// What was said in an utterance and what was heard.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Unique within its set.
    pub id: String,
    /// The test set.
    pub set: String,
    /// The part of the set.
    pub source: Option<String>,
    /// Who said it.
    pub speaker: Option<String>,
    /// What was said.
    pub reference: String,
    /// What was heard.
    pub hypothesis: String,
    /// How the two differ, as [`Score::of`] counts.
    pub score: Score,
}

/// All utterances of an evaluation.
#[derive(Debug, Clone, Default)]
pub struct Results {
    utterances: Vec<Heard>,
}

impl Results {
    /// Adds an utterance.
    pub fn push(&mut self, heard: Heard) {
        self.utterances.push(heard);
    }

    /// Everything together.
    pub fn total(&self) -> ErrorRate {
        rate(&self.utterances)
    }

    /// Each set, and after it, if it has several sources, each of these as `set/source`; in the order of their names.
    pub fn sets(&self) -> Vec<(String, ErrorRate)> {
        let names: BTreeSet<&str> = self.utterances.iter().map(|heard| heard.set.as_str()).collect();
        let mut sets = Vec::new();
        for name in names {
            let within = || self.utterances.iter().filter(|heard| heard.set == name);
            sets.push((name.to_owned(), rate(within())));
            let mut sources: BTreeMap<Option<&str>, Vec<&Heard>> = BTreeMap::new();
            within().for_each(|heard| sources.entry(heard.source.as_deref()).or_default().push(heard));
            if sources.len() > 1 {
                let named = sources.into_iter().filter_map(|(source, part)| Some((source?, part)));
                sets.extend(named.map(|(source, part)| (format!("{name}/{source}"), rate(part))));
            }
        }
        sets
    }

    /// The utterances in which something was misheard, the highest word error rates first, then the most errors.
    /// Words heard where nothing was said come before all.
    pub fn worst(&self) -> Vec<&Heard> {
        let badness = |heard: &Heard| {
            let Score { words, characters } = heard.score;
            (words.rate().unwrap_or(f64::INFINITY), words.total(), characters.total())
        };
        let mut worst: Vec<&Heard> = self.utterances.iter().filter(|heard| heard.score.words.total() > 0).collect();
        worst.sort_by(|a, b| badness(b).partial_cmp(&badness(a)).unwrap_or(Ordering::Equal));
        worst
    }
}

fn rate<'a>(utterances: impl IntoIterator<Item = &'a Heard>) -> ErrorRate {
    let mut rate = ErrorRate::default();
    utterances.into_iter().for_each(|heard| rate.push(heard.speaker.as_deref(), heard.score));
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(rows: &[(&str, Option<&str>, &str, &str)]) -> Results {
        let mut results = Results::default();
        for (index, &(set, source, reference, hypothesis)) in rows.iter().enumerate() {
            results.push(Heard {
                id: index.to_string(),
                set: set.into(),
                source: source.map(Into::into),
                speaker: None,
                reference: reference.into(),
                hypothesis: hypothesis.into(),
                score: Score::of(reference, hypothesis),
            });
        }
        results
    }

    #[test]
    fn sets_and_their_sources() {
        let results = results(&[
            ("test", Some("read"), "a b", "a b"),
            ("dev", Some("read"), "a b", "a"),
            ("test", Some("free"), "a b", "c d"),
            ("test", None, "a", "a"),
        ]);
        let sets: Vec<_> = results
            .sets()
            .into_iter()
            .map(|(name, rate)| (name, rate.utterances(), rate.total().words.total()))
            .collect();
        let expected = [("dev", 1, 1), ("test", 3, 2), ("test/free", 1, 2), ("test/read", 1, 0)];
        assert_eq!(sets, expected.map(|(name, utterances, errors)| (name.to_owned(), utterances, errors)));
        assert_eq!(results.total().total().words.rate(), Some(3.0 / 7.0));
    }

    #[test]
    fn worst_first() {
        let results = results(&[
            ("s", None, "right", "right"),
            ("s", None, "a b", "a c"),
            ("s", None, "a b", "x y"),
            ("s", None, "a b c", "x y z"),
            ("s", None, "", "noise"),
        ]);
        let ids: Vec<&str> = results.worst().iter().map(|heard| heard.id.as_str()).collect();
        assert_eq!(ids, ["4", "3", "2", "1"]);
    }
}
