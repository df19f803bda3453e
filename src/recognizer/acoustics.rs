//! The first half of the corridor: samples → spectrogram → network.

use std::sync::Arc;

use super::Engine;
use crate::Result;
use crate::inference::Session;
use crate::spectrogram::Spectrogram;

/// One stream of sound on its way to log-probabilities.
pub struct Acoustics {
    spectrogram: Spectrogram,
    session: Box<dyn Session>,
    /// `[n, bins]`: what one stage hands to the next.
    frames: Vec<f32>,
}

impl Acoustics {
    /// At the start of a stream, computing with `threads` threads.
    ///
    /// # Errors
    /// When the engine cannot be set up, or there cannot be so many threads.
    pub fn new(engine: &Engine, threads: usize) -> Result<Self> {
        Ok(Self {
            spectrogram: Spectrogram::new(&engine.recipe.spectrogram, Some(engine.normalization.clone()))?,
            session: Arc::clone(&engine.network).session(threads)?,
            frames: Vec::new(),
        })
    }

    /// Takes the next `samples`, mono in [−1, 1], and appends the rows that they complete, `[steps, classes]`, to
    /// `log_probs`.
    ///
    /// # Errors
    /// When the engine fails; the stream is then lost, [`reset`](Self::reset) starts a new one.
    pub fn push(&mut self, samples: &[f32], log_probs: &mut Vec<f32>) -> Result<()> {
        self.frames.clear();
        self.spectrogram.push(samples, &mut self.frames);
        self.session.push(&self.frames, log_probs)
    }

    /// `[n, bins]`: what the last push saw.
    pub fn frames(&self) -> &[f32] {
        &self.frames
    }

    /// Ends the stream: appends the rows that waited for more sound. The next [`push`](Self::push) starts a new stream.
    ///
    /// # Errors
    /// When the engine fails; [`reset`](Self::reset) starts a new stream.
    pub fn finish(&mut self, log_probs: &mut Vec<f32>) -> Result<()> {
        self.frames.clear();
        self.spectrogram.finish(&mut self.frames);
        self.session.push(&self.frames, log_probs)?;
        self.session.finish(log_probs)
    }

    /// Forgets the stream; the next [`push`](Self::push) starts a new one.
    pub fn reset(&mut self) {
        self.spectrogram.reset();
        self.session.reset();
    }
}
