//! Best-path decoding: the most probable class of every step (Graves et al. 2006, §3.2).

use super::Emission;

/// A stream of log-probabilities on its way to the tokens of the best path.
///
/// Of equally probable classes the lowest is taken. A row that holds NaN says nothing, so it counts as blank.
#[derive(Debug, Clone)]
pub struct GreedyDecoder {
    blank: u32,
    classes: usize,
    /// Steps seen.
    steps: u64,
    /// The run of one token that the next step may still lengthen.
    open: Option<Emission>,
}

impl GreedyDecoder {
    /// A decoder at the start of a stream of rows of `classes` log-probabilities.
    ///
    /// # Panics
    /// When `blank` is not one of the classes.
    pub fn new(blank: u32, classes: usize) -> Self {
        assert!((blank as usize) < classes, "blank {blank} of {classes} classes");
        Self { blank, classes, steps: 0, open: None }
    }

    /// Appends to `out` the tokens whose runs end in `log_probs`, `[steps, classes]`.
    ///
    /// # Panics
    /// When `log_probs` does not hold whole rows.
    pub fn push(&mut self, log_probs: &[f32], out: &mut Vec<Emission>) {
        assert_eq!(log_probs.len() % self.classes, 0, "rows of {} classes", self.classes);
        for row in log_probs.chunks_exact(self.classes) {
            let step = self.steps;
            self.steps += 1;
            let (token, log_prob) = best(row).unwrap_or((self.blank, 0.0));
            match &mut self.open {
                Some(open) if open.token == token => {
                    open.end_step = self.steps;
                    open.log_prob = open.log_prob.max(log_prob);
                }
                open => {
                    out.extend(open.take());
                    *open = (token != self.blank).then_some(Emission {
                        token,
                        start_step: step,
                        end_step: self.steps,
                        log_prob,
                    });
                }
            }
        }
    }

    /// The token whose run the next step may still lengthen. Partial results show it; `push` or `finish` emits it later.
    pub fn open(&self) -> Option<Emission> {
        self.open
    }

    /// Ends a segment: appends the token whose run was still open. The next `push` goes on in the same stream.
    pub fn end_segment(&mut self, out: &mut Vec<Emission>) {
        out.extend(self.open.take());
    }

    /// Ends the stream: as [`end_segment`](Self::end_segment), and the next `push` starts a new stream.
    pub fn finish(&mut self, out: &mut Vec<Emission>) {
        self.end_segment(out);
        self.reset();
    }

    /// Forgets the stream; the next `push` starts a new one, at step 0.
    pub fn reset(&mut self) {
        self.steps = 0;
        self.open = None;
    }
}

/// The lowest of the most probable classes of a row, and its log-probability; `None` if the row holds NaN.
pub fn best(row: &[f32]) -> Option<(u32, f32)> {
    let mut best = (0, row[0]);
    for (class, &log_prob) in row.iter().enumerate() {
        if log_prob.is_nan() {
            return None;
        }
        if log_prob > best.1 {
            best = (class as u32, log_prob);
        }
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    const CLASSES: usize = 4;

    fn decode(blank: u32, log_probs: &[f32]) -> Vec<Emission> {
        let mut decoder = GreedyDecoder::new(blank, CLASSES);
        let mut out = Vec::new();
        decoder.push(log_probs, &mut out);
        decoder.finish(&mut out);
        out
    }

    /// Rows whose most probable classes are `path`.
    fn rows(path: &[u32]) -> Vec<f32> {
        path.iter()
            .flat_map(|&best| (0..CLASSES as u32).map(move |class| if class == best { -0.1 } else { -3.0 }))
            .collect()
    }

    fn spans(emissions: &[Emission]) -> Vec<(u32, u64, u64)> {
        emissions.iter().map(|emission| (emission.token, emission.start_step, emission.end_step)).collect()
    }

    /// The definition: collapse the whole best path at once.
    fn naive(blank: u32, log_probs: &[f32]) -> Vec<(u32, u64, u64)> {
        let path: Vec<u32> = log_probs
            .chunks(CLASSES)
            .map(|row| {
                let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let says_nothing = row.iter().any(|value| value.is_nan());
                if says_nothing { blank } else { row.iter().position(|&value| value == top).unwrap() as u32 }
            })
            .collect();
        let mut step = 0;
        let runs = path.chunk_by(|a, b| a == b).map(|run| {
            let start = step;
            step += run.len() as u64;
            (run[0], start, step)
        });
        runs.filter(|run| run.0 != blank).collect()
    }

    #[test]
    fn a_blank_between_equal_tokens_keeps_both() {
        assert_eq!(
            spans(&decode(0, &rows(&[0, 1, 1, 0, 1, 2, 2, 0, 0, 3]))),
            [(1, 1, 3), (1, 4, 5), (2, 5, 7), (3, 9, 10)]
        );
        assert_eq!(spans(&decode(3, &rows(&[3, 1, 3, 0, 0]))), [(1, 1, 2), (0, 3, 5)]);
        assert_eq!(decode(0, &[]), []);
    }

    #[test]
    fn ties_and_rows_without_meaning() {
        assert_eq!(spans(&decode(0, &[-2.0, -1.0, -1.0, -2.0])), [(1, 0, 1)]);
        assert_eq!(spans(&decode(3, &[f32::NEG_INFINITY; CLASSES])), [(0, 0, 1)]);
        let mut log_probs = rows(&[1, 1, 1]);
        log_probs[CLASSES + 2] = f32::NAN;
        assert_eq!(spans(&decode(0, &log_probs)), [(1, 0, 1), (1, 2, 3)]);
    }

    #[test]
    fn the_surest_step_gives_the_log_probability() {
        let emissions = decode(0, &[-9.0, -1.0, -9.0, -9.0, -9.0, -0.5, -9.0, -9.0, -9.0, -0.75, -9.0, -9.0]);
        assert_eq!(emissions, [Emission { token: 1, start_step: 0, end_step: 3, log_prob: -0.5 }]);
    }

    #[test]
    fn the_open_run_shows_before_it_ends() {
        let mut decoder = GreedyDecoder::new(0, CLASSES);
        let mut out = Vec::new();
        decoder.push(&rows(&[0, 2, 2]), &mut out);
        assert_eq!((out.len(), decoder.open().unwrap().token), (0, 2));
        decoder.push(&rows(&[0]), &mut out);
        assert_eq!((out.len(), decoder.open()), (1, None));
        decoder.push(&rows(&[1]), &mut out);
        decoder.reset();
        decoder.finish(&mut out);
        assert_eq!(out.len(), 1);
        decoder.push(&rows(&[1]), &mut out);
        decoder.finish(&mut out);
        assert_eq!(spans(&out[1..]), [(1, 0, 1)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_split_gives_the_collapsed_best_path(
            rows in prop::collection::vec(prop::array::uniform4(prop::sample::select(vec![-1.0, -2.0, -4.0, f32::NEG_INFINITY, f32::NAN, -0.5])), 0..40),
            cuts in prop::collection::vec(0usize..40, 0..8),
            blank in 0..CLASSES as u32,
        ) {
            let log_probs = rows.concat();
            let whole = decode(blank, &log_probs);
            prop_assert_eq!(spans(&whole), naive(blank, &log_probs));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(rows.len()) * CLASSES).chain([0, log_probs.len()]).collect();
            cuts.sort_unstable();
            let mut decoder = GreedyDecoder::new(blank, CLASSES);
            let mut out = Vec::new();
            for cut in cuts.windows(2) {
                decoder.push(&log_probs[cut[0]..cut[1]], &mut out);
            }
            decoder.finish(&mut out);
            prop_assert_eq!(out, whole);
        }
    }
}
