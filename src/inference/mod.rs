//! **Fast and streaming**: spectrogram frames in, log-probabilities out, no frame computed twice.

mod engine;
pub mod native;
#[cfg(feature = "onnxruntime")]
pub mod onnxruntime;

use std::sync::Arc;

pub use engine::{Backend, Compute, EngineKind, Prepared, prepare};

use crate::Result;

/// A network made ready to run. Its streams share it.
pub trait Network: Send + Sync {
    /// A stream that computes with at most `threads` threads.
    ///
    /// # Errors
    /// When the stream cannot be set up.
    fn session(self: Arc<Self>, threads: usize) -> Result<Box<dyn Session>>;

    /// What runs, e.g. `native engine`.
    fn engine(&self) -> String;

    /// On what it runs, e.g. `avx2`.
    fn device(&self) -> String;
}

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
