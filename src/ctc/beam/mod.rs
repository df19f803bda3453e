//! Prefix beam search (Graves 2012; Hannun et al. 2014): the most probable text rather than the text of the most probable
//! path, weighed with a language model.
//!
//! A hypothesis is a text with the probability of all paths that stand for it, those that end in a blank apart from those
//! that end in its last token. Each step lengthens every hypothesis by nothing or by one token and keeps the best.
//! What all hypotheses have in common is settled and forgotten, so that a stream may go on for ever.

mod options;
mod prefixes;
mod scorer;
mod tree;

pub use options::BeamOptions;

use prefixes::Prefixes;
use scorer::{Context, Most, Scorer};
use tree::Tree;

use super::Emission;
use crate::Result;
use crate::tokens::Tokens;

const NEVER: f64 = f64::NEG_INFINITY;
const NONE: u32 = u32::MAX;
/// Every so many steps, what is common to all hypotheses is settled.
const SETTLE_STEPS: u64 = 8;
/// A hypothesis with more unsettled tokens must settle, whatever the others say.
const MAX_OPEN_TOKENS: usize = 512;

/// One way to read what was heard since the last settled token.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The tokens that were not settled, and when they were heard.
    pub emissions: Vec<Emission>,
    /// ln P(text | sound), of the whole text.
    pub acoustic: f64,
    /// ln P(text) by the language model, of the whole text; 0 without one.
    pub language: f64,
    /// The score by which readings compete: see [`BeamOptions`].
    pub score: f64,
}

/// A stream of log-probabilities on its way to the tokens of the best text.
///
/// How rows are split over calls of [`push`](Self::push) changes nothing. A row without a finite maximum, or with NaN in it,
/// says nothing and counts as blank.
pub struct BeamDecoder {
    blank: u32,
    classes: usize,
    options: BeamOptions,
    /// The most that each token can add to the worth of a text.
    most: Vec<Most>,
    prefixes: Prefixes,
    /// Tokens as they were heard. Two hypotheses may have heard the same token at different times.
    trail: Tree<Emission>,
    /// Best first; never empty.
    beam: Vec<Hypothesis>,
    /// Steps seen.
    steps: u64,
    readings: Vec<Reading>,
    scratch: Scratch,
}

/// A text and how it was heard.
#[derive(Debug, Clone, Copy)]
struct Hypothesis {
    prefix: u32,
    /// Log-probability of the paths that end in a blank, …
    blank: f64,
    /// … of those that end in the last token, …
    non_blank: f64,
    /// … and of both.
    total: f64,
    /// What the text is worth apart from its sound.
    worth: f64,
    /// The last token as it was heard; its class is `NONE` in the empty text.
    last: Emission,
    /// The tokens before it, in the trail.
    before: u32,
    /// The last token, in the trail; `NONE` until another hypothesis goes on from it.
    recorded: u32,
}

impl Hypothesis {
    fn empty(context: &Context) -> Self {
        let last = Emission { token: NONE, start_step: 0, end_step: 0, log_prob: 0.0 };
        let root = Tree::<Emission>::ROOT;
        let worth = context.worth;
        Self {
            prefix: Prefixes::ROOT,
            blank: 0.0,
            non_blank: NEVER,
            total: 0.0,
            worth,
            last,
            before: root,
            recorded: root,
        }
    }

    fn score(&self) -> f64 {
        self.total + self.worth
    }

    /// The last token is heard anew in `step`.
    fn hear(&mut self, token: u32, log_prob: f64, step: u64, before: u32) {
        self.last = Emission { token, start_step: step, end_step: step + 1, log_prob: log_prob as f32 };
        self.before = before;
        self.recorded = NONE;
    }
}

/// A text that would be new in the beam.
#[derive(Debug, Clone, Copy)]
struct Newcomer {
    /// The hypothesis that it lengthens.
    parent: usize,
    token: u32,
    /// Of the token in this step.
    log_prob: f64,
    total: f64,
    context: Context,
    /// The parent's last token, in the trail.
    before: u32,
}

/// What a step needs, kept so that steps do not allocate.
#[derive(Default)]
struct Scratch {
    /// The tokens of a step that are tried, and their log-probabilities.
    tokens: Vec<(u32, f64)>,
    /// The beam after the step, before the newcomers.
    stayed: Vec<Hypothesis>,
    newcomers: Vec<Newcomer>,
    /// Scores, and numbers in `stayed` followed by `newcomers`.
    ranking: Vec<(f64, usize)>,
    next: Vec<Hypothesis>,
}

impl BeamDecoder {
    /// A decoder at the start of a stream of rows of log-probabilities over `tokens`.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn new(tokens: &Tokens, options: BeamOptions) -> Result<Self> {
        options.validate()?;
        let prefixes = Prefixes::new(tokens, |separated| Scorer::new(&options, separated));
        let empty = Hypothesis::empty(prefixes.context(Prefixes::ROOT));
        Ok(Self {
            blank: tokens.blank(),
            classes: tokens.len(),
            options,
            most: (0..tokens.len() as u32).map(|token| prefixes.most(token)).collect(),
            prefixes,
            trail: Tree::new(empty.last),
            beam: vec![empty],
            steps: 0,
            readings: Vec::new(),
            scratch: Scratch::default(),
        })
    }

    /// Takes `log_probs`, `[steps, classes]`, and appends to `out` the tokens that all hypotheses now have in common, as
    /// far as they also agree when these were heard.
    ///
    /// # Panics
    /// When `log_probs` does not hold whole rows.
    pub fn push(&mut self, log_probs: &[f32], out: &mut Vec<Emission>) {
        assert_eq!(log_probs.len() % self.classes, 0, "rows of {} classes", self.classes);
        for row in log_probs.chunks_exact(self.classes) {
            self.step(row);
            if self.steps.is_multiple_of(SETTLE_STEPS) {
                self.settle(out);
            }
        }
    }

    /// The tokens that the best hypothesis adds to the settled ones. Some may still change.
    pub fn open(&self) -> Vec<Emission> {
        self.tail(&self.beam[0])
    }

    /// How many of [`open`](Self::open) all hypotheses have in common: these tokens no longer change.
    pub fn agreed(&self) -> usize {
        let prefixes = self.beam.iter().map(|hypothesis| hypothesis.prefix);
        prefixes.reduce(|a, b| self.prefixes.common(a, b)).map_or(0, |common| self.prefixes.tokens(common))
    }

    /// Ends a segment: appends the rest of the best reading to `out`. The next `push` goes on with an empty text.
    pub fn end_segment(&mut self, out: &mut Vec<Emission>) {
        self.readings = self.best_readings();
        out.extend_from_slice(self.readings.first().map_or(&[], |best| &best.emissions));
        self.restart();
    }

    /// Ends the stream: as [`end_segment`](Self::end_segment), and the next `push` starts a new stream.
    pub fn finish(&mut self, out: &mut Vec<Emission>) {
        self.end_segment(out);
        self.steps = 0;
    }

    /// The `nbest` best readings of the last segment that was ended, the best first, without two of equal text.
    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// Forgets the stream; the next `push` starts a new one, at step 0.
    pub fn reset(&mut self) {
        self.restart();
        self.readings.clear();
        self.steps = 0;
    }

    fn restart(&mut self) {
        self.prefixes.restart();
        let empty = Hypothesis::empty(self.prefixes.context(Prefixes::ROOT));
        self.trail.restart(empty.last);
        self.beam.clear();
        self.beam.push(empty);
    }

    // ---- one step

    fn step(&mut self, row: &[f32]) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let highest =
            row.iter().try_fold(
                f32::NEG_INFINITY,
                |highest, &log_prob| {
                    if log_prob.is_nan() { None } else { Some(highest.max(log_prob)) }
                },
            );
        let row = highest.filter(|highest| highest.is_finite()).map(|highest| (row, f64::from(highest)));
        self.choose_tokens(row, &mut scratch.tokens);
        self.stay(row.map(|(row, _)| row), &mut scratch.stayed);
        self.grow(&mut scratch);
        self.select(&mut scratch);
        self.steps += 1;
        self.scratch = scratch;
    }

    /// The tokens that are tried.
    fn choose_tokens(&self, row: Option<(&[f32], f64)>, tokens: &mut Vec<(u32, f64)>) {
        tokens.clear();
        let Some((row, highest)) = row else { return };
        let log_probs = row.iter().enumerate().map(|(class, &log_prob)| (class as u32, f64::from(log_prob)));
        let least = highest - self.options.token_range;
        tokens.extend(
            log_probs.filter(|&(class, log_prob)| class != self.blank && log_prob >= least && log_prob > NEVER),
        );
        if tokens.len() > self.options.most_tokens {
            tokens.select_nth_unstable_by(self.options.most_tokens - 1, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            tokens.truncate(self.options.most_tokens);
        }
    }

    /// Every hypothesis with its text as it is: a blank more, or the last token once more.
    fn stay(&self, row: Option<&[f32]>, stayed: &mut Vec<Hypothesis>) {
        let blank_log_prob = row.map_or(0.0, |row| f64::from(row[self.blank as usize]));
        stayed.clear();
        stayed.extend(self.beam.iter().map(|&old| {
            let log_prob = match (row, old.last.token) {
                (None, _) | (_, NONE) => f32::NEG_INFINITY,
                (Some(row), token) => row[token as usize],
            };
            let blank = old.total + blank_log_prob;
            let non_blank = old.non_blank + f64::from(log_prob);
            let mut new = Hypothesis { blank, non_blank, total: log_add(blank, non_blank), ..old };
            if old.last.end_step == self.steps && non_blank > NEVER && non_blank >= blank {
                new.last.end_step = self.steps + 1;
                new.last.log_prob = new.last.log_prob.max(log_prob);
                new.recorded = NONE;
            }
            new
        }));
    }

    /// Every hypothesis with one token more: what is in the beam already is added to, the others are newcomers.
    fn grow(&mut self, scratch: &mut Scratch) {
        let Scratch { tokens, stayed, newcomers, .. } = scratch;
        newcomers.clear();
        let scores = || stayed.iter().map(Hypothesis::score);
        // The best text will not be worse than now, nor the last: what is below them need not be looked at.
        let mut least = scores().fold(NEVER, f64::max) - self.options.score_range;
        if stayed.len() >= self.options.width {
            least = least.max(scores().fold(f64::INFINITY, f64::min));
        }
        for parent in 0..self.beam.len() {
            let Hypothesis { prefix, blank, total, worth, last, .. } = self.beam[parent];
            let context = *self.prefixes.context(prefix);
            for &(token, log_prob) in tokens.iter() {
                // Without a blank between, an equal token is the same token.
                let total = log_prob + if token == last.token { blank } else { total };
                if total == NEVER {
                    continue;
                }
                let child = self.prefixes.child(prefix, token);
                if let Some(present) = child.and_then(|child| self.prefixes.hypothesis(child)) {
                    if total > stayed[present].total {
                        let before = self.record(parent, stayed);
                        stayed[present].hear(token, log_prob, self.steps, before);
                    }
                    let present = &mut stayed[present];
                    present.non_blank = log_add(present.non_blank, total);
                } else if total + worth + self.most[token as usize].after(&context) >= least {
                    let context = match child {
                        Some(child) => *self.prefixes.context(child),
                        None => self.prefixes.extended(prefix, token),
                    };
                    if total + context.worth >= least {
                        newcomers.push(Newcomer { parent, token, log_prob, total, context, before: NONE });
                    }
                }
            }
        }
    }

    /// The last token of hypothesis `parent` as it was before this step, in the trail.
    fn record(&mut self, parent: usize, stayed: &mut [Hypothesis]) -> u32 {
        let old = &mut self.beam[parent];
        if old.recorded == NONE {
            old.recorded = self.trail.push(old.before, old.last);
        }
        let new = &mut stayed[parent];
        if new.last == old.last && new.before == old.before {
            new.recorded = old.recorded;
        }
        old.recorded
    }

    /// The best of those who stayed and the newcomers become the beam.
    fn select(&mut self, scratch: &mut Scratch) {
        let Scratch { stayed, newcomers, ranking, next, .. } = scratch;
        ranking.clear();
        for (number, hypothesis) in stayed.iter_mut().enumerate() {
            hypothesis.total = log_add(hypothesis.blank, hypothesis.non_blank);
            ranking.push((hypothesis.score(), number));
        }
        let scores = newcomers.iter().map(|newcomer| newcomer.total + newcomer.context.worth);
        ranking.extend(scores.enumerate().map(|(number, score)| (score, stayed.len() + number)));
        ranking.retain(|&(score, _)| score > NEVER);
        let order = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if ranking.len() > self.options.width {
            ranking.select_nth_unstable_by(self.options.width - 1, order);
            ranking.truncate(self.options.width);
        }
        ranking.sort_unstable_by(order);
        let least = ranking.first().map_or(NEVER, |best| best.0 - self.options.score_range);
        ranking.retain(|&(score, _)| score >= least);

        for &(_, number) in ranking.iter() {
            if let Some(newcomer) = number.checked_sub(stayed.len()).map(|number| &mut newcomers[number]) {
                newcomer.before = self.record(newcomer.parent, stayed);
            }
        }
        next.clear();
        for &(_, number) in ranking.iter() {
            next.push(match number.checked_sub(stayed.len()) {
                None => stayed[number],
                Some(number) => self.welcome(&newcomers[number]),
            });
        }
        self.beam.iter().for_each(|old| self.prefixes.set_hypothesis(old.prefix, None));
        std::mem::swap(&mut self.beam, next);
        self.number();
    }

    fn welcome(&mut self, newcomer: &Newcomer) -> Hypothesis {
        let Newcomer { parent, token, log_prob, total, context, before } = *newcomer;
        let parent = self.beam[parent].prefix;
        let child = self.prefixes.child(parent, token);
        let prefix = child.unwrap_or_else(|| self.prefixes.add(parent, token, context));
        let mut hypothesis = Hypothesis { prefix, total, non_blank: total, ..Hypothesis::empty(&context) };
        hypothesis.blank = NEVER;
        hypothesis.hear(token, log_prob, self.steps, before);
        hypothesis
    }

    /// Tells the prefixes which hypothesis has them.
    fn number(&mut self) {
        for (number, hypothesis) in self.beam.iter().enumerate() {
            self.prefixes.set_hypothesis(hypothesis.prefix, Some(number));
        }
    }

    // ---- what is settled

    /// Appends the tokens that all hypotheses share to `out` and forgets what no hypothesis needs.
    fn settle(&mut self, out: &mut Vec<Emission>) {
        self.force_agreement();
        let common = self.beam.iter().map(|hypothesis| hypothesis.before).reduce(|a, b| self.trail.common(a, b));
        let root = common.unwrap_or_default();
        let first = out.len();
        out.extend(self.trail.path_up(root).map(|node| self.trail[node]));
        out[first..].reverse();
        let settled = out.len() - first;
        let best = self.beam[0].prefix;
        let prefix = if settled == 0 {
            Prefixes::ROOT
        } else {
            self.prefixes.ancestor(best, self.prefixes.tokens(best) - settled)
        };

        let recorded = |hypothesis: &Hypothesis| (hypothesis.recorded != NONE).then_some(hypothesis.recorded);
        let ends = self.beam.iter().flat_map(|hypothesis| recorded(hypothesis).into_iter().chain([hypothesis.before]));
        self.trail.retain(root, ends);
        self.prefixes.settle(prefix, self.beam.iter().map(|hypothesis| hypothesis.prefix));
        for hypothesis in &mut self.beam {
            hypothesis.prefix = self.prefixes.moved(hypothesis.prefix);
            hypothesis.before = self.trail.moved(hypothesis.before);
            if hypothesis.recorded != NONE {
                hypothesis.recorded = self.trail.moved(hypothesis.recorded);
            }
        }
        self.number();
    }

    /// Drops hypotheses until none has too many open tokens.
    fn force_agreement(&mut self) {
        let Self { beam, prefixes, trail, .. } = self;
        let best = beam[0];
        if prefixes.tokens(best.prefix) > MAX_OPEN_TOKENS {
            let kept = trail.path_up(best.before).nth(MAX_OPEN_TOKENS / 2).unwrap_or_default();
            beam.retain(|hypothesis| trail.common(kept, hypothesis.before) == kept);
        }
        beam.retain(|hypothesis| {
            hypothesis.prefix == best.prefix || prefixes.tokens(hypothesis.prefix) <= MAX_OPEN_TOKENS
        });
    }

    /// The open tokens of a hypothesis.
    fn tail(&self, hypothesis: &Hypothesis) -> Vec<Emission> {
        if hypothesis.last.token == NONE {
            return Vec::new();
        }
        let before = self.trail.path_up(hypothesis.before).map(|node| self.trail[node]);
        let mut tail: Vec<Emission> = std::iter::once(hypothesis.last).chain(before).collect();
        tail.reverse();
        tail
    }

    /// The `nbest` best readings if the text ends here.
    fn best_readings(&mut self) -> Vec<Reading> {
        let mut ranking: Vec<(f64, Hypothesis, f64)> = Vec::with_capacity(self.beam.len());
        for hypothesis in &self.beam {
            let context = self.prefixes.finished(hypothesis.prefix);
            ranking.push((hypothesis.total + context.worth, *hypothesis, context.ln_p));
        }
        ranking.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut texts = Vec::new();
        let mut readings = Vec::new();
        for (score, hypothesis, language) in ranking {
            let text = self.prefixes.text(hypothesis.prefix);
            if readings.len() < self.options.nbest && !texts.contains(&text) {
                texts.push(text);
                let emissions = self.tail(&hypothesis);
                readings.push(Reading { emissions, acoustic: hypothesis.total, language, score });
            }
        }
        readings
    }
}

/// ln(eᵃ + eᵇ).
fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == NEVER { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hours of sound in which little is sure: babble, silence, and tokens that no word ends.
    #[test]
    fn memory_stays_flat() {
        let tokens = Tokens::parse("tokens.txt", "<b>\n<space>\na\nb\n").unwrap();
        let (blank, babble, letter, doubt) =
            ([0.0, -20.0, -20.0, -20.0], [-1.4, -1.3, -1.5, -1.4], [-9.0, -9.0, -0.1, -3.0], [-0.7, -9.0, -0.8, -9.0]);
        for rows in
            [&[blank][..], &[babble], &[letter, blank], &[doubt], &[letter, babble, blank, blank], &[[f32::NAN; 4]]]
        {
            for score_range in [20.0, f64::INFINITY] {
                let options = BeamOptions { width: 8, score_range, word_bonus: 0.5, ..BeamOptions::default() };
                let mut decoder = BeamDecoder::new(&tokens, options).unwrap();
                let mut out = Vec::new();
                for row in rows.iter().cycle().take(20_000) {
                    decoder.push(row, &mut out);
                    let most = 8 * (MAX_OPEN_TOKENS + 16 * SETTLE_STEPS as usize);
                    assert!(decoder.prefixes.len() <= most && decoder.trail.len() <= most && decoder.beam.len() <= 8);
                    assert!(decoder.open().len() <= MAX_OPEN_TOKENS + SETTLE_STEPS as usize);
                }
                decoder.finish(&mut out);
                assert!(out.windows(2).all(|pair| pair[0].end_step <= pair[1].start_step));
            }
        }
    }
}
