//! The least number of substitutions, insertions and deletions between two sequences (Levenshtein 1966), and where they are.

/// One step along an alignment; the items are positions in the two sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Equal items.
    Match {
        /// Position in the reference.
        reference: usize,
        /// Position in the hypothesis.
        hypothesis: usize,
    },
    /// One item in place of another.
    Substitution {
        /// Position in the reference.
        reference: usize,
        /// Position in the hypothesis.
        hypothesis: usize,
    },
    /// An item that only the hypothesis has.
    Insertion {
        /// Position in the hypothesis.
        hypothesis: usize,
    },
    /// An item that only the reference has.
    Deletion {
        /// Position in the reference.
        reference: usize,
    },
}

/// Cells of the table that is kept for tracing back; longer sequences are split first (Hirschberg 1975), so memory is
/// bounded by this and by the sequences' lengths.
const CELLS_KEPT: usize = 1 << 24;

/// A shortest way from `reference` to `hypothesis`, in order. Among equals it prefers, looking from the end, a match or
/// substitution to a deletion and that to an insertion. Time is the product of the lengths.
pub fn align<T: Eq>(reference: &[T], hypothesis: &[T]) -> Vec<Step> {
    align_within(reference, hypothesis, CELLS_KEPT)
}

fn align_within<T: Eq>(reference: &[T], hypothesis: &[T], cells_kept: usize) -> Vec<Step> {
    let mut steps = Vec::with_capacity(reference.len().max(hypothesis.len()));
    Aligner { reference, hypothesis, cells_kept, steps: &mut steps }.run(0..reference.len(), 0..hypothesis.len());
    steps
}

struct Aligner<'a, T> {
    reference: &'a [T],
    hypothesis: &'a [T],
    cells_kept: usize,
    steps: &'a mut Vec<Step>,
}

type Span = std::ops::Range<usize>;

impl<T: Eq> Aligner<'_, T> {
    /// Appends the steps between the two spans.
    fn run(&mut self, mut r: Span, mut h: Span) {
        while !r.is_empty() && !h.is_empty() && self.reference[r.start] == self.hypothesis[h.start] {
            self.steps.push(Step::Match { reference: r.start, hypothesis: h.start });
            (r.start, h.start) = (r.start + 1, h.start + 1);
        }
        if r.len() < 2 || (r.len() + 1).saturating_mul(h.len() + 1) <= self.cells_kept {
            return self.trace(r, h);
        }
        let middle = r.start + r.len() / 2;
        let before = last_row(self.reference[r.start..middle].iter(), || self.hypothesis[h.clone()].iter());
        let after = last_row(self.reference[middle..r.end].iter().rev(), || self.hypothesis[h.clone()].iter().rev());
        let cost = |split: &usize| before[*split] + after[h.len() - split];
        let split = h.start + (0..=h.len()).min_by_key(cost).unwrap_or(0);
        self.run(r.start..middle, h.start..split);
        self.run(middle..r.end, split..h.end);
    }

    /// The whole table of the two spans, one byte a cell.
    fn trace(&mut self, r: Span, h: Span) {
        const DIAGONAL: u8 = 0;
        const DELETION: u8 = 1;
        const INSERTION: u8 = 2;
        let columns = h.len() + 1;
        let mut moves = vec![INSERTION; (r.len() + 1) * columns];
        let mut costs: Vec<usize> = (0..columns).collect();
        for i in 1..=r.len() {
            let mut diagonal = costs[0];
            costs[0] = i;
            moves[i * columns] = DELETION;
            for j in 1..columns {
                let differ = usize::from(self.reference[r.start + i - 1] != self.hypothesis[h.start + j - 1]);
                let choices = [(diagonal + differ, DIAGONAL), (costs[j] + 1, DELETION), (costs[j - 1] + 1, INSERTION)];
                diagonal = costs[j];
                let (cost, step) = choices.into_iter().min().unwrap_or_default();
                (costs[j], moves[i * columns + j]) = (cost, step);
            }
        }
        let first = self.steps.len();
        let (mut i, mut j) = (r.len(), h.len());
        while i > 0 || j > 0 {
            let step = moves[i * columns + j];
            (i, j) = (i - usize::from(step != INSERTION), j - usize::from(step != DELETION));
            let (reference, hypothesis) = (r.start + i, h.start + j);
            self.steps.push(match step {
                DELETION => Step::Deletion { reference },
                INSERTION => Step::Insertion { hypothesis },
                _ if self.reference[reference] == self.hypothesis[hypothesis] => Step::Match { reference, hypothesis },
                _ => Step::Substitution { reference, hypothesis },
            });
        }
        self.steps[first..].reverse();
    }
}

/// The distance of all `rows` to every beginning of the columns.
fn last_row<'a, T: Eq + 'a, C: Iterator<Item = &'a T>>(
    rows: impl Iterator<Item = &'a T>,
    columns: impl Fn() -> C,
) -> Vec<usize> {
    let mut costs: Vec<usize> = (0..=columns().count()).collect();
    for row in rows {
        let mut diagonal = costs[0];
        costs[0] += 1;
        for (j, column) in columns().enumerate() {
            let cost = (diagonal + usize::from(row != column)).min(costs[j] + 1).min(costs[j + 1] + 1);
            diagonal = std::mem::replace(&mut costs[j + 1], cost);
        }
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(reference: &[u8], hypothesis: &[u8]) -> usize {
        match (reference, hypothesis) {
            ([], rest) | (rest, []) => rest.len(),
            ([a, reference_rest @ ..], [b, hypothesis_rest @ ..]) => (naive(reference_rest, hypothesis_rest)
                + usize::from(a != b))
            .min(naive(reference_rest, hypothesis) + 1)
            .min(naive(reference, hypothesis_rest) + 1),
        }
    }

    /// The number of edits, after checking that the steps visit every item once and in order.
    fn check(reference: &[u8], hypothesis: &[u8], steps: &[Step]) -> usize {
        let (mut i, mut j, mut edits) = (0, 0, 0);
        for &step in steps {
            let (r, h, differ) = match step {
                Step::Match { reference, hypothesis } => (Some(reference), Some(hypothesis), false),
                Step::Substitution { reference, hypothesis } => (Some(reference), Some(hypothesis), true),
                Step::Insertion { hypothesis } => (None, Some(hypothesis), true),
                Step::Deletion { reference } => (Some(reference), None, true),
            };
            assert!(r.is_none_or(|r| r == i) && h.is_none_or(|h| h == j), "{steps:?}");
            if let (Some(r), Some(h)) = (r, h) {
                assert_eq!(reference[r] != hypothesis[h], differ, "{steps:?}");
            }
            (i, j, edits) = (i + r.iter().len(), j + h.iter().len(), edits + usize::from(differ));
        }
        assert_eq!((i, j), (reference.len(), hypothesis.len()));
        edits
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn the_naive_recursion(a in prop::collection::vec(0u8..3, 0..7), b in prop::collection::vec(0u8..3, 0..7)) {
            let distance = naive(&a, &b);
            prop_assert_eq!(check(&a, &b, &align(&a, &b)), distance);
            prop_assert_eq!(check(&a, &b, &align_within(&a, &b, 4)), distance);
        }

        #[test]
        fn splitting_long_sequences(a in prop::collection::vec(0u8..4, 0..80), b in prop::collection::vec(0u8..4, 0..80)) {
            prop_assert_eq!(check(&a, &b, &align_within(&a, &b, 50)), check(&a, &b, &align(&a, &b)));
        }
    }

    #[test]
    fn small_cases() {
        let edits = |a: &str, b: &str| check(a.as_bytes(), b.as_bytes(), &align(a.as_bytes(), b.as_bytes()));
        for (a, b, distance) in [("", "", 0), ("kitten", "sitting", 3), ("intention", "execution", 5), ("abc", "", 3)] {
            assert_eq!((edits(a, b), edits(b, a)), (distance, distance), "{a} {b}");
        }
        let steps = align(&["a", "b", "c", "e"], &["a", "c", "e", "d"]);
        let expected = [
            Step::Match { reference: 0, hypothesis: 0 },
            Step::Deletion { reference: 1 },
            Step::Match { reference: 2, hypothesis: 1 },
            Step::Match { reference: 3, hypothesis: 2 },
            Step::Insertion { hypothesis: 3 },
        ];
        assert_eq!(steps, expected);
    }
}
