//! The CTC loss and its gradient in log space.
//!
//! Symbols and equation numbers are those of Graves, Fernández, Gomez and Schmidhuber, "Connectionist temporal
//! classification" (ICML 2006): `y_k^t` is the probability of class `k` at step `t`, `l` the labels, `l'` the labels with
//! blanks between and around them, `α` and `β` the forward and backward variables. Indices here start at 0.

/// The smallest number of steps that can carry `labels`: one each, and a blank between equal neighbours.
pub fn steps_needed(labels: &[u32]) -> usize {
    labels.len() + labels.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

/// Why an utterance has no loss; skip it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoLoss {
    /// Fewer steps than the labels take.
    #[error("the labels take {needed} steps and the network gave {steps}")]
    TooFewSteps {
        /// Steps there are.
        steps: usize,
        /// Steps the labels take, see [`steps_needed`].
        needed: usize,
    },
    /// The probabilities hold NaN, or exclude every path.
    #[error("the network's output is not finite")]
    NotFinite,
}

/// The loss of one utterance at a time, with memory that is used again.
#[derive(Debug, Clone)]
pub struct CtcLoss {
    blank: u32,
    /// `l'`, `[states]`.
    extended: Vec<u32>,
    /// 0 where a path may jump over the blank before state `s`, −∞ where not.
    skip: Vec<f64>,
    /// `ln α`, `[steps, 2 + states]`: two states that are never reached come before the first.
    log_alpha: Vec<f64>,
    /// `ln β` of this step and the next, `[states + 2]`: two states that are never reached come after the last.
    log_beta: [Vec<f64>; 2],
}

impl CtcLoss {
    /// For networks whose class `blank` means "no symbol".
    pub fn new(blank: u32) -> Self {
        Self { blank, extended: vec![], skip: vec![], log_alpha: vec![], log_beta: [vec![], vec![]] }
    }

    /// `−ln p(l|x)` in nats. `log_probs` is `[steps, classes]` after log-softmax.
    ///
    /// # Panics
    /// If `log_probs` is not a whole number of steps, or a label is the blank or not a class.
    pub fn loss(&mut self, log_probs: &[f32], classes: usize, labels: &[u32]) -> Result<f64, NoLoss> {
        assert!(classes > 0 && log_probs.len().is_multiple_of(classes), "{} / {classes} classes", log_probs.len());
        assert!((self.blank as usize) < classes, "blank {} of {classes} classes", self.blank);
        assert!(labels.iter().all(|&k| k != self.blank && (k as usize) < classes), "labels {labels:?}");
        let (steps, needed) = (log_probs.len() / classes, steps_needed(labels));
        if steps < needed {
            return Err(NoLoss::TooFewSteps { steps, needed });
        }
        if steps == 0 {
            return Ok(0.0); // The empty text is all that no steps can say.
        }
        self.extend(labels);
        let log_likelihood = self.forward(log_probs, classes);
        if log_likelihood.is_finite() { Ok(-log_likelihood) } else { Err(NoLoss::NotFinite) }
    }

    /// The loss, and into `gradient` `[steps, classes]` its derivative with respect to the *logits before log-softmax*
    /// (eq. 16): softmax − posterior. The derivative with respect to `log_probs` alone would be −posterior.
    /// `gradient` is left alone when there is no loss.
    ///
    /// # Panics
    /// As [`CtcLoss::loss`], and if the gradient's length is not that of `log_probs`.
    pub fn loss_and_gradient(
        &mut self,
        log_probs: &[f32],
        classes: usize,
        labels: &[u32],
        gradient: &mut [f32],
    ) -> Result<f64, NoLoss> {
        assert_eq!(log_probs.len(), gradient.len(), "the gradient's shape");
        let loss = self.loss(log_probs, classes, labels)?;
        self.backward(log_probs, classes, -loss, gradient);
        Ok(loss)
    }

    fn extend(&mut self, labels: &[u32]) {
        self.extended.clear();
        self.extended.push(self.blank);
        for &label in labels {
            self.extended.extend([label, self.blank]);
        }
        self.skip.clear();
        self.skip.resize(self.extended.len(), f64::NEG_INFINITY);
        for s in (3..self.extended.len()).step_by(2) {
            if self.extended[s] != self.extended[s - 2] {
                self.skip[s] = 0.0;
            }
        }
    }

    /// Eq. 5–8: fills `log_alpha` and gives `ln p(l|x)`.
    fn forward(&mut self, log_probs: &[f32], classes: usize) -> f64 {
        let (states, stride) = (self.extended.len(), self.extended.len() + 2);
        let steps = log_probs.len() / classes;
        self.log_alpha.clear();
        self.log_alpha.resize(steps * stride, f64::NEG_INFINITY);
        for s in 0..states.min(2) {
            self.log_alpha[2 + s] = f64::from(log_probs[self.extended[s] as usize]);
        }
        for t in 1..steps {
            let y = &log_probs[t * classes..][..classes];
            let (past, now) = self.log_alpha.split_at_mut(t * stride);
            let (past, now) = (&past[(t - 1) * stride..], &mut now[..stride]);
            for s in reachable(t, steps, states) {
                let stay_or_step = log_add(past[2 + s], past[1 + s]);
                let sum = if self.skip[s] == 0.0 { log_add(stay_or_step, past[s]) } else { stay_or_step };
                now[2 + s] = sum + f64::from(y[self.extended[s] as usize]);
            }
        }
        let last = &self.log_alpha[(steps - 1) * stride..];
        log_add(last[stride - 1], last[stride - 2])
    }

    /// Eq. 9–11 and 16, from the last step to the first.
    fn backward(&mut self, log_probs: &[f32], classes: usize, log_likelihood: f64, gradient: &mut [f32]) {
        let states = self.extended.len();
        let steps = log_probs.len() / classes;
        for row in &mut self.log_beta {
            row.clear();
            row.resize(states + 2, f64::NEG_INFINITY);
        }
        for t in (0..steps).rev() {
            let y = &log_probs[t * classes..][..classes];
            let gradient = &mut gradient[t * classes..][..classes];
            let log_alpha = &self.log_alpha[t * (states + 2) + 2..][..states];
            let [now, next] = &mut self.log_beta;
            gradient.iter_mut().zip(y).for_each(|(g, y)| *g = y.exp());
            now.fill(f64::NEG_INFINITY);
            for s in reachable(t, steps, states) {
                // `sum` is β without this step's own probability, so that αβ / y of eq. 14 needs no division.
                let sum = if t + 1 == steps {
                    0.0
                } else {
                    let stay_or_step = log_add(next[s], next[s + 1]);
                    let may_skip = s + 2 < states && self.skip[s + 2] == 0.0;
                    if may_skip { log_add(stay_or_step, next[s + 2]) } else { stay_or_step }
                };
                let k = self.extended[s] as usize;
                now[s] = sum + f64::from(y[k]);
                gradient[k] -= ((log_alpha[s] + sum - log_likelihood) as f32).exp();
            }
            self.log_beta.swap(0, 1);
        }
    }
}

/// The states that a path can be in at step `t` if it is to start and end where it must.
fn reachable(t: usize, steps: usize, states: usize) -> std::ops::Range<usize> {
    states.saturating_sub(2 * (steps - t))..states.min(2 * (t + 1))
}

/// `ln(e^a + e^b)`.
fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    // Beyond 40 nats the smaller one vanishes in an f64; this also keeps −∞ − −∞ out. NaN must go through.
    if high - low > 40.0 || low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use safetensors::SafeTensors;

    const CLASSES: usize = 4;

    fn log_softmax(logits: &[f32], classes: usize) -> Vec<f32> {
        let rows = logits.chunks(classes).flat_map(|row| {
            let log_sum = row.iter().map(|&v| f64::from(v).exp()).sum::<f64>().ln();
            row.iter().map(move |&v| (f64::from(v) - log_sum) as f32)
        });
        rows.collect()
    }

    fn collapse(path: &[u32], blank: u32) -> Vec<u32> {
        let mut symbols = path.to_vec();
        symbols.dedup();
        symbols.retain(|&k| k != blank);
        symbols
    }

    /// Loss and softmax − posterior by walking every path, eq. 2 and 3.
    fn enumerate(log_probs: &[f32], classes: usize, labels: &[u32], blank: u32) -> (f64, Vec<f64>) {
        let steps = log_probs.len() / classes;
        let (mut total, mut posterior) = (0.0, vec![0.0; log_probs.len()]);
        for code in 0..classes.pow(steps as u32) {
            let path: Vec<u32> = (0..steps as u32).map(|t| (code / classes.pow(t) % classes) as u32).collect();
            if collapse(&path, blank) != labels {
                continue;
            }
            let cell = |t: usize| t * classes + path[t] as usize;
            let probability = (0..steps).map(|t| f64::from(log_probs[cell(t)])).sum::<f64>().exp();
            total += probability;
            (0..steps).for_each(|t| posterior[cell(t)] += probability);
        }
        let gradient = log_probs.iter().zip(&posterior).map(|(&y, p)| f64::from(y).exp() - p / total).collect();
        (-total.ln(), gradient)
    }

    fn logits_and_labels() -> impl Strategy<Value = (Vec<f32>, Vec<u32>, u32)> {
        let logits = (1..6usize).prop_flat_map(|t| prop::collection::vec(-4f32..4.0, t * CLASSES));
        (logits, prop::collection::vec(0..CLASSES as u32 - 1, 0..4), 0..CLASSES as u32).prop_map(
            |(logits, labels, blank)| {
                (logits, labels.into_iter().map(|k| if k >= blank { k + 1 } else { k }).collect(), blank)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_sum_over_all_paths((logits, labels, blank) in logits_and_labels()) {
            let log_probs = log_softmax(&logits, CLASSES);
            let mut ctc = CtcLoss::new(blank);
            ctc.log_alpha = vec![f64::NAN; 100]; // Memory of the last utterance must not show.
            let mut gradient = vec![f32::NAN; logits.len()];
            let loss = ctc.loss_and_gradient(&log_probs, CLASSES, &labels, &mut gradient);
            let (steps, needed) = (logits.len() / CLASSES, steps_needed(&labels));
            if steps < needed {
                prop_assert_eq!(loss, Err(NoLoss::TooFewSteps { steps, needed }));
                return Ok(());
            }
            let (expected, posterior) = enumerate(&log_probs, CLASSES, &labels, blank);
            prop_assert!((loss.unwrap() - expected).abs() < 1e-9 * (1.0 + expected));
            for (ours, theirs) in gradient.iter().zip(posterior) {
                prop_assert!((f64::from(*ours) - theirs).abs() < 1e-6, "{} {}", ours, theirs);
            }
        }

        #[test]
        fn finite_differences((logits, labels, blank) in logits_and_labels(), at in 0..1000usize) {
            let mut ctc = CtcLoss::new(blank);
            let mut gradient = vec![0.0; logits.len()];
            let log_probs = log_softmax(&logits, CLASSES);
            prop_assume!(ctc.loss_and_gradient(&log_probs, CLASSES, &labels, &mut gradient).is_ok());
            let at = at % logits.len();
            let mut loss_at = |shift: f32| {
                let mut logits = logits.clone();
                logits[at] += shift;
                ctc.loss(&log_softmax(&logits, CLASSES), CLASSES, &labels).unwrap()
            };
            let slope = (loss_at(0.01) - loss_at(-0.01)) / 0.02;
            prop_assert!((slope - f64::from(gradient[at])).abs() < 1e-3, "{} {}", slope, gradient[at]);
        }

        /// Reading time backwards, or giving the classes other numbers, changes nothing.
        #[test]
        fn symmetries((logits, labels, blank) in logits_and_labels()) {
            let log_probs = log_softmax(&logits, CLASSES);
            let loss = CtcLoss::new(blank).loss(&log_probs, CLASSES, &labels);
            prop_assume!(loss.is_ok());
            let backwards: Vec<f32> = log_probs.chunks(CLASSES).rev().flatten().copied().collect();
            let labels_backwards: Vec<u32> = labels.iter().rev().copied().collect();
            let reversed = CtcLoss::new(blank).loss(&backwards, CLASSES, &labels_backwards).unwrap();
            let renamed = |k: u32| (k + 1) % CLASSES as u32;
            let shifted: Vec<f32> =
                log_probs.chunks(CLASSES).flat_map(|y| (0..CLASSES).map(|k| y[(k + CLASSES - 1) % CLASSES])).collect();
            let labels_shifted: Vec<u32> = labels.iter().copied().map(renamed).collect();
            let shifted = CtcLoss::new(renamed(blank)).loss(&shifted, CLASSES, &labels_shifted).unwrap();
            prop_assert!((reversed - loss.unwrap()).abs() < 1e-9);
            prop_assert!((shifted - loss.unwrap()).abs() < 1e-9);
        }
    }

    /// PyTorch in f64, see tests/data/golden/ctc.py.
    #[test]
    fn golden_losses_and_gradients() {
        let file = SafeTensors::deserialize(include_bytes!("../../tests/data/golden/ctc.safetensors")).unwrap();
        let bytes = |case: &str, name: &str| file.tensor(&format!("{case}.{name}")).unwrap().data().to_vec();
        let f32s = |bytes: Vec<u8>| -> Vec<f32> {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let mut ctc = CtcLoss::new(0);
        for case in ["long", "peaked", "tight"] {
            let classes = file.tensor(&format!("{case}.log_probs")).unwrap().shape()[1];
            let log_probs = f32s(bytes(case, "log_probs"));
            let labels = bytes(case, "labels");
            let labels: Vec<u32> = labels.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
            let expected = f64::from_le_bytes(bytes(case, "loss").try_into().unwrap());
            let mut gradient = vec![0.0; log_probs.len()];
            let loss = ctc.loss_and_gradient(&log_probs, classes, &labels, &mut gradient).unwrap();
            assert!((loss - expected).abs() < 1e-6 * expected, "{case}: {loss}, PyTorch {expected}");
            let theirs = f32s(bytes(case, "gradient"));
            let worst = gradient.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 5e-6, "{case}: gradient off by {worst}");
        }
    }

    #[test]
    fn the_empty_text_and_what_is_not_finite() {
        let mut ctc = CtcLoss::new(0);
        let mut gradient = [7.0; 4];
        let log_probs = log_softmax(&[1.0, 0.0, 2.0, 0.0], 2);
        let all_blank = -f64::from(log_probs[0]) - f64::from(log_probs[2]);
        assert!((ctc.loss(&log_probs, 2, &[]).unwrap() - all_blank).abs() < 1e-12);
        assert_eq!(ctc.loss(&[], 2, &[]), Ok(0.0));
        assert_eq!(ctc.loss(&[], 2, &[1]), Err(NoLoss::TooFewSteps { steps: 0, needed: 1 }));
        for poison in [f32::NAN, f32::NEG_INFINITY] {
            let broken = [-0.7, poison, -0.7, poison];
            assert_eq!(ctc.loss_and_gradient(&broken, 2, &[1], &mut gradient), Err(NoLoss::NotFinite));
        }
        assert_eq!(gradient, [7.0; 4]);
    }

    /// A sure network whose sure answer is wrong: probabilities far below the smallest f64 still give a loss.
    #[test]
    fn tiny_probabilities_do_not_vanish() {
        let log_probs: Vec<f32> = [-1e-30, -100.0].repeat(400);
        let labels = [1; 200];
        let mut gradient = vec![0.0; log_probs.len()];
        let loss = CtcLoss::new(0).loss_and_gradient(&log_probs, 2, &labels, &mut gradient).unwrap();
        assert!((19_000.0..20_000.0).contains(&loss), "{loss}");
        assert!(gradient.iter().all(|g| g.is_finite()));
    }
}
