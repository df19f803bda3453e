//! Our own engine. A network is compiled once into *stages*, whose weights every stream shares; a stream keeps, per
//! stage, the few past rows that future outputs still need.

mod along_time;
mod convolution;
mod elementwise;
mod int8;
mod pipeline;
mod pool;
mod residual;
mod stage;
mod window;
mod winograd;

use std::sync::Arc;

use super::{Network, Session};
use crate::kernels::Kernels;
use crate::network::{Architecture, FrameShape, Weights, fold_batch_norm};
use crate::{Error, Result};

use pipeline::{Pipeline, Run, Worker};
use stage::{Source, Stage};

/// Frames that walk together through the stages of each [span](NativeNetwork::spans). Where images are large, what one stage
/// writes should still be in the cache when the next one reads it; where they are small and the weights large, the more rows
/// a reading of the weights serves, the better.
const SPAN_FRAMES: [usize; 3] = [32, 256, 1024];
/// Frames from which on a push is worth a further thread.
const THREAD_FRAMES: usize = 64;

/// A network ready to run, shared by its streams.
pub struct NativeNetwork {
    kernels: Kernels,
    input: FrameShape,
    /// Convolutions that compute with bytes.
    int8: usize,
    stages: Vec<Stage>,
    /// Where spans begin: the stages up to the last stride in time, those up to the last that sees frequencies apart, the rest.
    spans: [usize; 3],
}

impl NativeNetwork {
    /// Prepares a network for this processor.
    ///
    /// # Errors
    /// When the weights do not fit the architecture.
    pub fn new(architecture: &Architecture, weights: &Weights) -> Result<Self> {
        Self::with_kernels(architecture, weights, Kernels::detect())
    }

    /// Prepares a network for one instruction set.
    ///
    /// # Errors
    /// When the weights do not fit the architecture.
    pub fn with_kernels(architecture: &Architecture, weights: &Weights, kernels: Kernels) -> Result<Self> {
        weights.check(architecture)?;
        let folded = fold_batch_norm(architecture, weights)?;
        let stages = Source::new(&folded, weights, kernels).network()?;
        let strided = stages.iter().rposition(|stage| stage.time_stride() > 1).map_or(0, |last| last + 1);
        let flat = stages.iter().rposition(Stage::sees_frequencies).map_or(0, |last| last + 1).max(strided);
        let spans = [0, strided, flat];
        Ok(Self { kernels, input: architecture.input(), int8: architecture.int8_convolutions(), stages, spans })
    }

    /// The instruction set that runs.
    pub fn instruction_set(&self) -> &'static str {
        self.kernels.name()
    }
}

impl Network for NativeNetwork {
    fn session(self: Arc<Self>, threads: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(NativeSession::new(self, threads)?))
    }

    fn engine(&self) -> String {
        "native engine".into()
    }

    fn device(&self) -> String {
        let set = self.instruction_set();
        match self.int8 {
            0 => set.into(),
            int8 => format!("{set}; {int8} convolutions in 8 bits by {}", self.kernels.bytes_name()),
        }
    }
}

/// One stream through a [`NativeNetwork`].
pub struct NativeSession {
    network: Arc<NativeNetwork>,
    pipeline: Pipeline,
    workers: Vec<Worker>,
}

impl NativeSession {
    /// Starts a stream whose longer pushes are computed by up to `threads` threads. A push of a few frames, as a live stream
    /// makes them, takes less time than waking a thread and stays on the caller's.
    ///
    /// # Errors
    /// When `threads` is zero.
    pub fn new(network: Arc<NativeNetwork>, threads: usize) -> Result<Self> {
        if threads == 0 {
            return Err(Error::setting("threads", "at least one thread is needed"));
        }
        let pipeline = Pipeline::new(&network.stages);
        let workers = (0..threads).map(|_| Worker::new(network.kernels)).collect();
        Ok(Self { network, pipeline, workers })
    }

    /// Takes `frames`, and at the `end` the padding that stands for the future, through all stages.
    fn run(&mut self, frames: &[f32], end: bool, outputs: &mut Vec<f32>) {
        let NativeNetwork { stages, spans, input, .. } = &*self.network;
        let width = input.len();
        let count = frames.len() / width;
        let threads = (count / THREAD_FRAMES).clamp(1, self.workers.len());
        // Each of several threads has a block of its own under way, even where more rows would be better.
        let most = if threads == 1 { usize::MAX } else { count.div_ceil(threads) };
        let span = |index: usize| spans.iter().rposition(|&first| first == index);
        let enough = |index| span(index).map_or(1, |span| SPAN_FRAMES[span].min(most));
        let run = Run { stages, enough: &enough, frames, width, end };
        self.pipeline.run(&run, &mut self.workers[..threads], outputs);
    }
}

impl Session for NativeSession {
    fn push(&mut self, frames: &[f32], outputs: &mut Vec<f32>) -> Result<()> {
        let width = self.network.input.len();
        if !frames.len().is_multiple_of(width) {
            return Err(Error::setting("frames", format!("{} values are no whole frames of {width}", frames.len())));
        }
        for frames in frames.chunks(SPAN_FRAMES[2] * width) {
            self.run(frames, false, outputs);
        }
        Ok(())
    }

    fn finish(&mut self, outputs: &mut Vec<f32>) -> Result<()> {
        self.run(&[], true, outputs);
        self.reset();
        Ok(())
    }

    fn reset(&mut self) {
        self.pipeline.reset(&self.network.stages);
    }
}
