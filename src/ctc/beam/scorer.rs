//! What a text is worth apart from its sound: language model, word bonus, hot words.

use std::sync::Arc;

use super::BeamOptions;
use crate::ctc::hotwords::HotWords;
use crate::ctc::lm::{LanguageModel, LmState};

/// The lowest ln P that is believed; it also stands for NaN.
const LEAST_LN_P: f32 = -1000.0;

/// What is known of a text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context {
    lm: LmState,
    hot: u32,
    /// Whether its last word may still grow.
    pub open: bool,
    /// Whether no known word begins like its open word, which has paid for that.
    strayed: bool,
    /// What the open word is expected to add at its end.
    pub ahead: f64,
    /// Ended words.
    words: u32,
    /// ln P of its ended words.
    pub ln_p: f64,
    /// All that it is worth, what is ahead included.
    pub worth: f64,
}

/// Bounds of what a token adds.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Whether it has no space, so that an open word remains open.
    lengthens: bool,
    hot: f64,
    words: f64,
}

impl Most {
    /// The most that it can add to `context`.
    pub fn after(&self, context: &Context) -> f64 {
        // What an open word is expected to add can only fall.
        if self.lengthens && context.open { self.hot } else { self.hot + self.words - context.ahead }
    }
}

/// What the end of a word adds.
#[derive(Debug, Clone, Copy)]
pub struct WordEnd {
    lm: LmState,
    ln_p: f64,
    worth: f64,
}

impl Context {
    fn add(&mut self, end: &WordEnd) {
        self.lm = end.lm;
        self.ln_p += end.ln_p;
        self.worth += end.worth - std::mem::take(&mut self.ahead);
        self.words = self.words.saturating_add(1);
        self.strayed = false;
    }
}

/// Gives texts their worth, token by token.
#[derive(Clone)]
pub struct Scorer {
    model: Option<Arc<dyn LanguageModel>>,
    weight: f64,
    bonus: f64,
    unknown_penalty: f64,
    hot: Option<Arc<HotWords>>,
    /// Whether spaces part words; where there are none, each token is a word.
    separated: bool,
}

impl Scorer {
    pub fn new(options: &BeamOptions, separated: bool) -> Self {
        Self {
            model: options.language_model.clone(),
            weight: options.lm_weight,
            bonus: options.word_bonus,
            unknown_penalty: options.unknown_penalty,
            hot: options.hot_words.clone(),
            separated,
        }
    }

    /// The empty text.
    pub fn start(&self) -> Context {
        Context {
            lm: self.model.as_ref().map_or_else(LmState::default, |model| model.start()),
            hot: self.hot.as_ref().map_or(0, |hot| hot.start()),
            ..Context::default()
        }
    }

    /// The most that a token can add, so that hopeless hypotheses need not be looked at closely: in an open word that it
    /// lengthens, or else apart from what was ahead.
    pub fn most(&self, piece: &str) -> Most {
        let hot = self.hot.as_ref().map_or(0.0, |hot| hot.greatest_gain()) * piece.chars().count() as f64;
        let spaces = if self.separated { piece.matches(' ').count() } else { 0 };
        Most { lengthens: self.separated && spaces == 0, hot, words: self.bonus.max(0.0) * (spaces + 1) as f64 }
    }

    /// Whether the token ends the open word, which it may lengthen first.
    pub fn ends_word(&self, context: &Context, piece: &str) -> bool {
        self.separated && piece.find(' ').is_some_and(|head| context.open || head > 0)
    }

    /// `context` after another token; `word_end` is the end of the open word if the token [ends](Scorer::ends_word) it.
    pub fn extend(&self, mut context: Context, piece: &str, word_end: Option<WordEnd>) -> Context {
        self.extend_hot(&mut context, piece);
        if !self.separated {
            let end = self.word_end(&context, piece);
            context.add(&end);
            return context;
        }
        if let Some(end) = word_end {
            context.add(&end);
        }
        let mut parts = piece.split(' ');
        let head = parts.next().unwrap_or_default();
        let Some(tail) = parts.next_back() else {
            context.open |= !head.is_empty();
            return context;
        };
        for word in parts.filter(|word| !word.is_empty()) {
            let end = self.word_end(&context, word);
            context.add(&end);
        }
        context.open = !tail.is_empty();
        context
    }

    /// The hot words' part of a token.
    fn extend_hot(&self, context: &mut Context, piece: &str) {
        let Some(hot) = &self.hot else { return };
        let mut open = context.open;
        for c in piece.chars() {
            if c != ' ' || open {
                let (state, gain) = hot.advance(context.hot, c);
                context.hot = state;
                context.worth += gain;
            }
            open = c != ' ';
        }
    }

    /// Whether [`Scorer::word_end`] looks at the word.
    pub fn reads_words(&self) -> bool {
        self.model.is_some()
    }

    /// Makes an open `word` pay for what it will cost at best, and as soon as it cannot become a known one, for that. If
    /// it paid only at its end, words that are not ended would crowd out those that are.
    pub fn look_ahead(&self, context: &mut Context, word: &str) {
        let Some(model) = &self.model else { return };
        if let Some(ln_p) = model.look_ahead(word) {
            let ahead = self.weight * believable(ln_p) + self.bonus;
            context.worth += ahead - context.ahead;
            context.ahead = ahead;
        } else if !context.strayed && !self.hot.as_ref().is_some_and(|hot| hot.begins(word)) {
            context.strayed = true;
            context.worth -= self.unknown_penalty;
        }
    }

    /// What `word` adds after `context`.
    pub fn word_end(&self, context: &Context, word: &str) -> WordEnd {
        let Some(model) = &self.model else { return WordEnd { lm: context.lm, ln_p: 0.0, worth: self.bonus } };
        let (ln_p, lm) = model.score(&context.lm, word);
        let ln_p = believable(ln_p);
        let known = || model.knows(word) || self.hot.as_ref().is_some_and(|hot| hot.contains(word));
        let penalty = if context.strayed || known() { 0.0 } else { self.unknown_penalty };
        WordEnd { lm, ln_p, worth: self.weight * ln_p + self.bonus - penalty }
    }

    /// `context` at the end of the text; `word_end` is the end of the open word if there is one. Where nothing was said, there is no sentence to end.
    pub fn finish(&self, mut context: Context, word_end: Option<WordEnd>) -> Context {
        context.worth += self.hot.as_ref().map_or(0.0, |hot| hot.finish(context.hot, context.open));
        if let Some(end) = word_end {
            context.add(&end);
            context.open = false;
        }
        if let Some(model) = &self.model
            && context.words > 0
        {
            let ln_p = believable(model.finish(&context.lm));
            context.ln_p += ln_p;
            context.worth += self.weight * ln_p;
        }
        context
    }
}

/// A language model may be broken; the search must go on.
fn believable(ln_p: f32) -> f64 {
    f64::from(if ln_p.is_nan() { LEAST_LN_P } else { ln_p.clamp(LEAST_LN_P, 0.0) })
}
