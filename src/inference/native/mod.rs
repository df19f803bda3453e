//! Our own engine. A network is compiled once into *stages*, whose weights every stream shares; a stream keeps, per
//! stage, the few past rows that future outputs still need.

mod convolution;
mod elementwise;
mod pool;
mod residual;
mod stage;
mod window;
mod winograd;

use std::sync::Arc;

use super::Session;
use crate::kernels::Kernels;
use crate::network::{Architecture, FrameShape, Weights, fold_batch_norm};
use crate::{Error, Result};

use stage::{Source, Stage, State};
use window::Rows;

/// Frames that walk through all stages together: few enough that what one stage writes is still in the cache when the
/// next one reads it, and that memory does not grow with the length of a push.
const BLOCK_FRAMES: usize = 32;

/// A network ready to run, shared by its streams.
pub struct NativeNetwork {
    kernels: Kernels,
    input: FrameShape,
    stages: Vec<Stage>,
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
        let stages = source.compile(architecture.layers(), architecture.input(), "")?;
        Ok(Self { kernels, input: architecture.input(), stages })
    }

    /// The instruction set that runs.
    pub fn instruction_set(&self) -> &'static str {
        self.kernels.name()
    }
}

/// One stream through a [`NativeNetwork`].
pub struct NativeSession {
    network: Arc<NativeNetwork>,
    states: Vec<State>,
    crew: Crew,
    /// The rows on their way, and the rows the current stage makes of them.
    rows: Rows,
    made: Rows,
}

/// Who does the work: the caller alone or a pool of threads.
pub(crate) struct Crew {
    kernels: Kernels,
    pool: Option<rayon::ThreadPool>,
}

impl Crew {
    /// Lets `work(first, rows)` make the rows of `made`, `row` values each, in one part or in one a thread.
    fn share(&self, made: &mut [f32], row: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        let rows = made.len() / row;
        if rows == 0 {
            return;
        }
        let threads = self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads);
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
        Ok(Self { network, states, crew, rows: Rows::default(), made: Rows::default() })
    }

    fn run(&mut self, end: bool, outputs: &mut Vec<f32>) {
        let Self { network, states, crew, rows, made } = self;
        let mut work = || stage::run(&network.stages, states, end, crew, rows, made);
        match &crew.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
        outputs.extend_from_slice(rows);
    }
}

impl Session for NativeSession {
    fn push(&mut self, frames: &[f32], outputs: &mut Vec<f32>) -> Result<()> {
        let width = self.network.input.len();
        if !frames.len().is_multiple_of(width) {
            return Err(Error::setting("frames", format!("{} values are no whole frames of {width}", frames.len())));
        }
        for block in frames.chunks(BLOCK_FRAMES * width) {
            self.rows.copy_from(block);
            self.run(false, outputs);
        }
        Ok(())
    }

    fn finish(&mut self, outputs: &mut Vec<f32>) -> Result<()> {
        self.rows.resize(0);
        self.run(true, outputs);
        self.reset();
        Ok(())
    }

    fn reset(&mut self) {
        for (state, stage) in self.states.iter_mut().zip(&self.network.stages) {
            stage.reset(state);
        }
    }
}
