//! Our own engine. A network is compiled once into *stages*, whose weights every stream shares; a stream keeps, per
//! stage, the few past rows that future outputs still need.

mod convolution;
mod elementwise;
mod int8;
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

use stage::{Source, Stage, State};
use window::{Flow, Waiting};

/// Frames that walk through the first stages together, for each thread: their images are large, and what one stage
/// writes should still be in the cache when the next one reads it.
const BLOCK_FRAMES: usize = 32;

/// Blocks after which the later stages run: their images are small and their weights large, so the more rows a reading
/// of the weights serves, the better.
const BLOCKS: usize = 8;

/// A network ready to run, shared by its streams.
pub struct NativeNetwork {
    kernels: Kernels,
    input: FrameShape,
    /// Convolutions that compute with bytes.
    int8: usize,
    stages: Vec<Stage>,
    /// The first of the later stages: from here on a row stands for as many frames as it ever will.
    later: usize,
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
        let (architecture, weights) = fold_batch_norm(architecture, weights)?;
        let source = Source::new(&architecture, &weights);
        let stages = source.network(&architecture)?;
        let later = stages.iter().rposition(|stage| stage.time_stride() > 1).map_or(0, |last| last + 1);
        Ok(Self { kernels, input: architecture.input(), int8: architecture.int8_convolutions(), stages, later })
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
    states: Vec<State>,
    crew: Crew,
    /// The rows on their way, and the rows the current stage makes of them.
    rows: Flow,
    made: Flow,
    /// Rows that wait for the later stages.
    waiting: Waiting,
}

/// Who does the work: the caller alone or a pool of threads.
pub(crate) struct Crew {
    kernels: Kernels,
    pool: Option<rayon::ThreadPool>,
}

impl Crew {
    fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Lets `work(first, rows)` make the rows of `made`, `row` values each, in one part or in one a thread.
    fn share<T: Send>(&self, made: &mut [T], row: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        let rows = made.len() / row;
        if rows == 0 {
            return;
        }
        let threads = self.threads();
        if threads == 1 || rows < threads {
            return work(0, made);
        }
        let part = rows.div_ceil(threads);
        let work = &work;
        rayon::scope(|scope| {
            for (index, made) in made.chunks_mut(part * row).enumerate() {
                scope.spawn(move |_| work(index * part, made));
            }
        });
    }
}

impl NativeSession {
    /// Starts a stream that computes with `threads` threads; with one, on the caller's.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(network: Arc<NativeNetwork>, threads: usize) -> Result<Self> {
        let pool = match threads {
            0 => return Err(Error::setting("threads", "at least one thread is needed")),
            1 => None,
            _ => Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|index| format!("dfcnn-{index}"))
                    .build()
                    .map_err(|error| Error::setting("threads", format!("cannot start {threads} threads: {error}")))?,
            ),
        };
        let states = network.stages.iter().map(Stage::state).collect();
        let crew = Crew { kernels: network.kernels, pool };
        Ok(Self { network, states, crew, rows: Flow::default(), made: Flow::default(), waiting: Waiting::default() })
    }

    /// Takes `frames`, and at the `end` the padding that stands for the future, through all stages.
    fn run(&mut self, frames: &[f32], end: bool, outputs: &mut Vec<f32>) {
        let Self { network, states, crew, rows, made, waiting } = self;
        let (first, later) = network.stages.split_at(network.later);
        let (first_states, later_states) = states.split_at_mut(network.later);
        let block = BLOCK_FRAMES * crew.threads() * network.input.len();
        let mut work = || {
            waiting.clear();
            for block in frames.chunks(block) {
                rows.copy_floats(block);
                stage::run(first, first_states, false, crew, rows, made);
                waiting.extend(rows);
            }
            if end {
                rows.clear();
                stage::run(first, first_states, true, crew, rows, made);
                waiting.extend(rows);
            }
            rows.copy_from(&waiting.floats, &waiting.bytes);
            stage::run(later, later_states, end, crew, rows, made);
        };
        match &crew.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
        outputs.extend_from_slice(&rows.floats);
    }
}

impl Session for NativeSession {
    fn push(&mut self, frames: &[f32], outputs: &mut Vec<f32>) -> Result<()> {
        let width = self.network.input.len();
        if !frames.len().is_multiple_of(width) {
            return Err(Error::setting("frames", format!("{} values are no whole frames of {width}", frames.len())));
        }
        for frames in frames.chunks(BLOCKS * BLOCK_FRAMES * width) {
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
        for (state, stage) in self.states.iter_mut().zip(&self.network.stages) {
            stage.reset(state);
        }
    }
}
