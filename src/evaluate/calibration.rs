//! Whether confidence means what it says: of the words with confidence p, a part p should be right.

use std::ops::Range;

use super::edit_distance::{Step, align};

/// Bins of equal width.
const BINS: usize = 10;

/// A reliability table (DeGroot & Fienberg 1983).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calibration {
    bins: [Bin; BINS],
}

/// The words whose confidence lies in one range.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// How many there are.
    pub words: u64,
    /// How many of them were right.
    pub right: u64,
    /// The sum of their confidences.
    confidence: f64,
}

impl Bin {
    /// The mean confidence; `None` without words.
    pub fn confidence(&self) -> Option<f64> {
        (self.words > 0).then(|| self.confidence / self.words as f64)
    }

    /// The part that was right; `None` without words.
    pub fn accuracy(&self) -> Option<f64> {
        (self.words > 0).then(|| self.right as f64 / self.words as f64)
    }
}

impl Calibration {
    /// Adds a word with its `confidence`, 0 … 1.
    pub fn push(&mut self, confidence: f64, right: bool) {
        let bin = &mut self.bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.words += 1;
        bin.right += u64::from(right);
        bin.confidence += confidence;
    }

    /// Adds the words that were heard, each with its confidence, where `reference` was said. A word is right where an
    /// [alignment](align) of both matches it with an equal one.
    pub fn compare<'a>(&mut self, reference: &str, heard: impl Iterator<Item = (&'a str, f32)>) {
        let reference: Vec<&str> = reference.split_whitespace().collect();
        let (hypothesis, confidences): (Vec<&str>, Vec<f32>) = heard.unzip();
        for step in align(&reference, &hypothesis) {
            match step {
                Step::Match { hypothesis, .. } => self.push(confidences[hypothesis].into(), true),
                Step::Substitution { hypothesis, .. } | Step::Insertion { hypothesis } => {
                    self.push(confidences[hypothesis].into(), false);
                }
                Step::Deletion { .. } => {}
            }
        }
    }

    /// Each range of confidence, up to its end but for the last, and what is in it.
    pub fn bins(&self) -> impl Iterator<Item = (Range<f64>, Bin)> {
        let edge = |index: usize| index as f64 / BINS as f64;
        self.bins.iter().enumerate().map(move |(index, &bin)| (edge(index)..edge(index + 1), bin))
    }

    /// All words together.
    pub fn total(&self) -> Bin {
        self.bins.iter().fold(Bin::default(), |sum, bin| Bin {
            words: sum.words + bin.words,
            right: sum.right + bin.right,
            confidence: sum.confidence + bin.confidence,
        })
    }

    /// The expected calibration error (Naeini et al. 2015): how far confidence and accuracy are apart on average over the
    /// words, bin by bin. `None` without words.
    pub fn expected_error(&self) -> Option<f64> {
        let total = self.total().words;
        let apart = self.bins.iter().map(|bin| (bin.confidence - bin.right as f64).abs()).sum::<f64>();
        (total > 0).then(|| apart / total as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_fall_into_bins() {
        let mut calibration = Calibration::default();
        assert_eq!((calibration.expected_error(), calibration.total().accuracy()), (None, None));
        for (confidence, right) in [(0.0, false), (0.05, false), (0.55, true), (0.55, false), (1.0, true), (0.9, false)]
        {
            calibration.push(confidence, right);
        }
        let bins: Vec<_> = calibration.bins().filter(|(_, bin)| bin.words > 0).collect();
        let counts: Vec<_> = bins.iter().map(|(range, bin)| (range.start, bin.words, bin.right)).collect();
        assert_eq!(counts, [(0.0, 2, 0), (0.5, 2, 1), (0.9, 2, 1)]);
        assert_eq!(bins[2].1.confidence(), Some(0.95));
        // 2 × |0.025 − 0| + 2 × |0.55 − 0.5| + 2 × |0.95 − 0.5| over 6 words.
        assert!((calibration.expected_error().unwrap() - 1.05 / 6.0).abs() < 1e-12);
        assert_eq!((calibration.total().words, calibration.total().right), (6, 2));
    }

    #[test]
    fn what_was_heard_right_is_right() {
        let mut calibration = Calibration::default();
        calibration.compare("the cat sat", [("the", 0.95), ("a", 0.15), ("bat", 0.35), ("sat", 0.95)].into_iter());
        let counts: Vec<_> = calibration.bins().map(|(_, bin)| (bin.words, bin.right)).collect();
        assert_eq!((counts[9], counts[1], counts[3]), ((2, 2), (1, 0), (1, 0)));
        assert_eq!(calibration.total().words, 4);
    }
}
