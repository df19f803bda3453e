//! **Fast and streaming**: spectrogram frames in, log-probabilities out, no frame computed twice.

pub mod native;

use crate::Result;

/// One stream through a network.
pub trait Session: Send {
    /// Takes `frames`, `[n, frequency, channels]`, and appends the outputs that they complete, `[m, classes]`, to
    /// `outputs`. How the frames are split over calls changes nothing.
    fn push(&mut self, frames: &[f32], outputs: &mut Vec<f32>) -> Result<()>;

    /// Ends the stream: appends the outputs that were waiting for future frames, zeros taking their place. The session
    /// is then as new.
    fn finish(&mut self, outputs: &mut Vec<f32>) -> Result<()>;

    /// Forgets the stream.
    fn reset(&mut self);
}
