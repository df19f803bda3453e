//! Forced alignment: when each token of a known text was said (the Viterbi path of CTC's trellis, Graves et al. 2006 §4).

use super::Emission;
use crate::error::{Error, Result};

const NEVER: f64 = f64::NEG_INFINITY;
/// Steps times states; about an hour of speech with its text, a gigabyte, and some ten seconds of work.
const MOST_CELLS: usize = 1 << 33;

/// The most probable path that stands for a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Alignment {
    /// One for each label, in their order.
    pub emissions: Vec<Emission>,
    /// Natural logarithm of the path's probability.
    pub log_prob: f64,
}

/// Aligns `labels`, none of them the blank, with `log_probs`, `[steps, classes]`. A row that holds NaN says nothing, so it
/// allows everything.
///
/// Memory is that of √steps rows of the trellis: rows in between are computed again on the way back.
///
/// # Errors
/// When the text does not fit into the steps, is impossible, or both are too long.
///
/// # Panics
/// When `log_probs` does not hold whole rows, or `labels` has the blank or classes that do not exist.
pub fn align(log_probs: &[f32], classes: usize, blank: u32, labels: &[u32]) -> Result<Alignment> {
    assert_eq!(log_probs.len() % classes, 0, "rows of {classes} classes");
    assert!(labels.iter().all(|&label| label != blank && (label as usize) < classes), "labels of {classes} classes");
    let steps = log_probs.len() / classes;
    let repeats = labels.windows(2).filter(|pair| pair[0] == pair[1]).count();
    if labels.len() + repeats > steps {
        let problem = format!("needs {} steps of the network, the sound has {steps}", labels.len() + repeats);
        return Err(Error::setting("text", format!("{problem}; is it the text of this recording?")));
    }
    let trellis = Trellis { log_probs, classes, blank, labels };
    if steps.saturating_mul(trellis.states()) > MOST_CELLS {
        return Err(Error::setting("text", "this much sound and text cannot be aligned at once; cut both into pieces"));
    }
    trellis.best_path()
}

/// The states are a blank, the first label, a blank, … the last label, a blank.
struct Trellis<'a> {
    log_probs: &'a [f32],
    classes: usize,
    blank: u32,
    labels: &'a [u32],
}

impl Trellis<'_> {
    fn states(&self) -> usize {
        2 * self.labels.len() + 1
    }

    fn best_path(&self) -> Result<Alignment> {
        let steps = self.log_probs.len() / self.classes;
        let block = steps.isqrt().max(1);
        // Before the first step, as if after a blank.
        let mut scores = vec![NEVER; self.states()];
        scores[0] = 0.0;
        let mut next = scores.clone();
        let mut checkpoints = Vec::with_capacity(steps.div_ceil(block));
        for step in 0..steps {
            if step % block == 0 {
                checkpoints.push(scores.clone());
            }
            self.step(step, &scores, &mut next, None);
            std::mem::swap(&mut scores, &mut next);
        }
        let last = self.states() - 1;
        let mut state = if last > 0 && scores[last - 1] >= scores[last] { last - 1 } else { last };
        let log_prob = scores[state];
        if log_prob == NEVER {
            return Err(Error::setting("text", "is impossible in this sound by the network's output"));
        }
        let mut emissions: Vec<Emission> = Vec::with_capacity(self.labels.len());
        let mut moves = vec![0; block * self.states()];
        for (index, mut scores) in checkpoints.into_iter().enumerate().rev() {
            let begin = index * block;
            let end = steps.min(begin + block);
            for (step, moves) in (begin..end).zip(moves.chunks_exact_mut(self.states())) {
                self.step(step, &scores, &mut next, Some(moves));
                std::mem::swap(&mut scores, &mut next);
            }
            for step in (begin..end).rev() {
                let moved = moves[(step - begin) * self.states() + state];
                if state % 2 == 1 {
                    self.hear(step, state / 2, &mut emissions);
                }
                state -= usize::from(moved);
            }
        }
        emissions.reverse();
        Ok(Alignment { emissions, log_prob })
    }

    /// The scores `after` a step from those before it; `moves` are how many states each one came from below.
    fn step(&self, step: usize, before: &[f64], after: &mut [f64], mut moves: Option<&mut [u8]>) {
        let row = &self.log_probs[step * self.classes..][..self.classes];
        let says_nothing = row.iter().any(|log_prob| log_prob.is_nan());
        for (state, after) in after.iter_mut().enumerate() {
            let label = (state % 2 == 1).then(|| self.labels[state / 2]);
            let mut best = (before[state], 0);
            if state >= 1 && before[state - 1] > best.0 {
                best = (before[state - 1], 1);
            }
            // A blank may be left out, but not between equal labels.
            let skips = state >= 3 && label.is_some_and(|label| label != self.labels[state / 2 - 1]);
            if skips && before[state - 2] > best.0 {
                best = (before[state - 2], 2);
            }
            let log_prob = if says_nothing { 0.0 } else { row[label.unwrap_or(self.blank) as usize] };
            *after = best.0 + f64::from(log_prob);
            if let Some(moves) = &mut moves {
                moves[state] = best.1;
            }
        }
    }

    /// Going back in time: `label` was heard in `step` too. The last emission is the earliest.
    fn hear(&self, step: usize, label: usize, emissions: &mut Vec<Emission>) {
        let token = self.labels[label];
        let log_prob = self.log_probs[step * self.classes + token as usize];
        let log_prob = if log_prob.is_nan() { NEVER as f32 } else { log_prob };
        let step = step as u64;
        if emissions.len() == self.labels.len() - label {
            let known = emissions.last_mut().expect("a label is heard before it is heard again");
            known.start_step = step;
            known.log_prob = known.log_prob.max(log_prob);
        } else {
            emissions.push(Emission { token, start_step: step, end_step: step + 1, log_prob });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    const CLASSES: usize = 3;

    /// The tokens of a path, each with its first step and one past its last.
    fn runs(path: &[u32]) -> Vec<(u32, u64, u64)> {
        let mut step = 0;
        let runs = path.chunk_by(|a, b| a == b).map(|run| {
            let start = step;
            step += run.len() as u64;
            (run[0], start, step)
        });
        runs.filter(|run| run.0 != 0).collect()
    }

    /// The best of all paths that stand for `labels`, and its log-probability.
    fn brute_force(log_probs: &[f32], labels: &[u32]) -> Option<(Vec<u32>, f64)> {
        let rows: Vec<&[f32]> = log_probs.chunks(CLASSES).collect();
        let paths = (0..CLASSES.pow(rows.len() as u32)).map(|number| {
            (0..rows.len()).map(|step| (number / CLASSES.pow(step as u32) % CLASSES) as u32).collect::<Vec<u32>>()
        });
        let said = paths.filter(|path| runs(path).iter().map(|run| run.0).eq(labels.iter().copied()));
        let scored = said.map(|path| {
            let score = path.iter().zip(&rows).map(|(&class, row)| f64::from(row[class as usize])).sum();
            (path, score)
        });
        scored.max_by(|a: &(_, f64), b| a.1.total_cmp(&b.1))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Default::default() })]

        #[test]
        fn the_best_of_all_paths(
            log_probs in prop::collection::vec(-5.0f32..0.0, 0..8 * CLASSES).prop_map(|mut row| {
                row.truncate(row.len() / CLASSES * CLASSES);
                row
            }),
            labels in prop::collection::vec(1u32..CLASSES as u32, 0..5),
        ) {
            match (align(&log_probs, CLASSES, 0, &labels), brute_force(&log_probs, &labels)) {
                (Ok(found), Some((path, log_prob))) => {
                    prop_assert!((found.log_prob - log_prob).abs() < 1e-5);
                    let spans: Vec<_> = found.emissions.iter().map(|e| (e.token, e.start_step, e.end_step)).collect();
                    prop_assert_eq!(spans, runs(&path));
                    for emission in found.emissions {
                        let heard = (emission.start_step..emission.end_step)
                            .map(|step| log_probs[step as usize * CLASSES + emission.token as usize]);
                        prop_assert_eq!(emission.log_prob, heard.fold(f32::NEG_INFINITY, f32::max));
                    }
                }
                (Err(_), None) => {}
                (found, wanted) => prop_assert!(false, "{:?} {:?}", found, wanted),
            }
        }
    }

    #[test]
    fn what_cannot_be_aligned_is_refused() {
        let row = [-1.0, -1.0, -1.0];
        let problem =
            |steps: usize, labels: &[u32]| align(&row.repeat(steps), CLASSES, 0, labels).unwrap_err().to_string();
        assert!(problem(2, &[1, 2, 1]).contains("needs 3 steps of the network, the sound has 2"));
        assert!(problem(2, &[1, 1]).contains("needs 3 steps"), "a blank must part them");
        assert!(problem(0, &[1]).contains("the sound has 0"));
        let silent = [0.0, f32::NEG_INFINITY, f32::NEG_INFINITY].repeat(5);
        assert!(align(&silent, CLASSES, 0, &[1]).unwrap_err().to_string().contains("impossible"));
        assert_eq!(align(&silent, CLASSES, 0, &[]).unwrap(), Alignment { emissions: vec![], log_prob: 0.0 });
        let nan = [f32::NAN; 6];
        assert_eq!(align(&nan, CLASSES, 0, &[2]).unwrap().emissions.len(), 1);
    }
}
