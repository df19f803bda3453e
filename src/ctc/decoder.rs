//! Either decoder behind the same verbs.

use std::fmt;

use super::beam::{BeamDecoder, BeamOptions, Reading};
use super::{Emission, GreedyDecoder};
use crate::Result;
use crate::tokens::Tokens;

/// How log-probabilities become text.
#[derive(Debug, Clone, Default)]
pub enum Decoding {
    /// By the most probable class of every step.
    #[default]
    Greedy,
    /// By a search for the most probable text.
    Beam(BeamOptions),
}

/// A short description for people.
impl fmt::Display for Decoding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self::Beam(options) = self else { return write!(f, "greedy") };
        write!(f, "beam {}", options.width)?;
        if options.language_model.is_some() {
            write!(f, " with a language model (weight {}, word bonus {})", options.lm_weight, options.word_bonus)?;
        }
        if options.hot_words.is_some() { write!(f, " and hot words") } else { Ok(()) }
    }
}

/// A stream of log-probabilities on its way to tokens.
pub enum Decoder {
    /// See [`GreedyDecoder`].
    Greedy(GreedyDecoder),
    /// See [`BeamDecoder`].
    Beam(Box<BeamDecoder>),
}

impl Decoder {
    /// A decoder at the start of a stream of rows of log-probabilities over `tokens`.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn new(tokens: &Tokens, decoding: &Decoding) -> Result<Self> {
        Ok(match decoding {
            Decoding::Greedy => Self::Greedy(GreedyDecoder::new(tokens.blank(), tokens.len())),
            Decoding::Beam(options) => Self::Beam(Box::new(BeamDecoder::new(tokens, options.clone())?)),
        })
    }

    /// Takes `log_probs`, `[steps, classes]`, and appends to `out` the tokens that will not change any more.
    ///
    /// # Panics
    /// When `log_probs` does not hold whole rows.
    pub fn push(&mut self, log_probs: &[f32], out: &mut Vec<Emission>) {
        match self {
            Self::Greedy(decoder) => decoder.push(log_probs, out),
            Self::Beam(decoder) => decoder.push(log_probs, out),
        }
    }

    /// The tokens that follow those as things stand.
    pub fn open(&self) -> Vec<Emission> {
        match self {
            Self::Greedy(decoder) => decoder.open().into_iter().collect(),
            Self::Beam(decoder) => decoder.open(),
        }
    }

    /// How many of [`open`](Self::open) will stay, though they may still be lengthened.
    pub fn agreed(&self) -> usize {
        match self {
            Self::Greedy(decoder) => decoder.open().into_iter().count(),
            Self::Beam(decoder) => decoder.agreed(),
        }
    }

    /// Ends a segment: appends the rest of its tokens. The next `push` goes on in the same stream with an empty text.
    pub fn end_segment(&mut self, out: &mut Vec<Emission>) {
        match self {
            Self::Greedy(decoder) => decoder.end_segment(out),
            Self::Beam(decoder) => decoder.end_segment(out),
        }
    }

    /// Ends the stream: appends the rest of the tokens. The next `push` starts a new stream.
    pub fn finish(&mut self, out: &mut Vec<Emission>) {
        match self {
            Self::Greedy(decoder) => decoder.finish(out),
            Self::Beam(decoder) => decoder.finish(out),
        }
    }

    /// The best readings of the last segment that was ended; none from the greedy decoder.
    pub fn readings(&self) -> &[Reading] {
        match self {
            Self::Greedy(_) => &[],
            Self::Beam(decoder) => decoder.readings(),
        }
    }

    /// Forgets the stream; the next `push` starts a new one.
    pub fn reset(&mut self) {
        match self {
            Self::Greedy(decoder) => decoder.reset(),
            Self::Beam(decoder) => decoder.reset(),
        }
    }
}
