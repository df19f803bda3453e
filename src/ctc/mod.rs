//! Connectionist temporal classification (Graves et al. 2006): from the network's log-probabilities to tokens and words.
//!
//! The network gives a row of log-probabilities over the tokens and the blank every *step* (a few frames). A path picks one
//! class per step; merging its repeats and then removing its blanks gives the tokens it stands for.

mod align;
pub mod beam;
mod decoder;
mod greedy;
pub mod hotwords;
pub mod lm;
pub mod loss;
mod words;

pub use align::{Alignment, align};
pub use decoder::{Decoder, Decoding};
pub use greedy::{GreedyDecoder, best};
pub use words::words;

/// A token that was heard, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Emission {
    /// Its class; never the blank.
    pub token: u32,
    /// The first step of its run.
    pub start_step: u64,
    /// One past the last step of its run.
    pub end_step: u64,
    /// Its log-probability at the surest step of the run: a run's flanks say more about timing than about doubt.
    pub log_prob: f32,
}
