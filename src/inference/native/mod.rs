//! Our own engine. A network is compiled once into *stages*, whose weights every stream shares; a stream keeps, per
//! stage, the few past rows that future outputs still need.

mod along_time;
mod convolution;
mod elementwise;
mod int8;
mod pool;
mod residual;
mod stage;
mod window;
mod winograd;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Network, Session};
use crate::kernels::Kernels;
use crate::network::{Architecture, FrameShape, Weights, fold_batch_norm};
use crate::{Error, Result};

use stage::{Source, Stage, State};
use window::Flow;

/// Frames that walk together through the stages of each [span](NativeNetwork::spans), of the first for each thread.
/// Where images are large, what one stage writes should still be in the cache when the next one reads it; where they are
/// small and the weights large, the more rows a reading of the weights serves, the better.
const SPAN_FRAMES: [usize; 3] = [32, 256, 1024];

/// A network ready to run, shared by its streams.
pub struct NativeNetwork {
    kernels: Kernels,
    input: FrameShape,
    /// Convolutions that compute with bytes.
    int8: usize,
    /// All stages in order: those up to the last stride in time, those up to the last that sees frequencies apart, the rest.
    spans: [Vec<Stage>; 3],
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
        let mut stages = Source::new(&folded, weights, kernels).network()?;
        let collapse = stages.iter().position(|stage| matches!(stage, Stage::Collapse(_)));
        let strided = stages.iter().rposition(|stage| stage.time_stride() > 1).map_or(0, |last| last + 1);
        let flat = stages.split_off(collapse.map_or(stages.len(), |last| last + 1).max(strided));
        let even = stages.split_off(strided);
        let spans = [stages, even, flat];
        Ok(Self { kernels, input: architecture.input(), int8: architecture.int8_convolutions(), spans })
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
    spans: [Span; 3],
    crew: Crew,
    rows: Flow,
    made: Flow,
}

/// What a stream keeps for a span of stages.
struct Span {
    states: Vec<State>,
    /// Rows that wait for it.
    waiting: Flow,
}

/// Who does the work: the caller alone or a pool of threads.
pub(crate) struct Crew {
    kernels: Kernels,
    pool: Option<rayon::ThreadPool>,
    /// Of each thread.
    scratch: Vec<Mutex<Scratch>>,
}

/// Room for what a thread makes on its way, kept: fresh memory would cost more than what is done with it.
#[derive(Default)]
pub(crate) struct Scratch {
    products: Vec<f32>,
    tiles: Vec<f32>,
}

impl Crew {
    /// The room of the thread that asks.
    fn scratch(&self) -> MutexGuard<'_, Scratch> {
        // Without a pool of its own it may be asked on any thread, also of another's pool.
        let thread = self.pool.as_ref().and_then(rayon::ThreadPool::current_thread_index).unwrap_or(0);
        self.scratch[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Lets `work(first, rows)` make the rows of each of `made`, `row` values each, in one part or in one a thread.
    fn share<T: Send, const N: usize>(
        &self,
        made: [&mut [T]; N],
        row: usize,
        work: impl Fn(usize, [&mut [T]; N]) + Sync,
    ) {
        let rows = made[0].len() / row;
        if rows == 0 {
            return;
        }
        let threads = self.threads();
        if threads == 1 || rows < threads {
            return work(0, made);
        }
        let part = rows.div_ceil(threads);
        let mut parts = made.map(|made| made.chunks_mut(part * row));
        let work = &work;
        rayon::scope(|scope| {
            for first in (0..rows).step_by(part) {
                let made = parts.each_mut().map(|parts| parts.next().expect("as many parts of each"));
                scope.spawn(move |_| work(first, made));
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
        let span =
            |stages: &Vec<Stage>| Span { states: stages.iter().map(Stage::state).collect(), waiting: Flow::default() };
        let spans = network.spans.each_ref().map(span);
        let scratch = (0..threads).map(|_| Mutex::default()).collect();
        let crew = Crew { kernels: network.kernels, pool, scratch };
        Ok(Self { network, spans, crew, rows: Flow::default(), made: Flow::default() })
    }

    /// Takes `frames`, and at the `end` the padding that stands for the future, through all stages.
    fn run(&mut self, frames: &[f32], end: bool, outputs: &mut Vec<f32>) {
        let Self { network, spans, crew, rows, made } = self;
        let walk = Walk { crew, width: network.input.len() };
        let mut work = || walk.through(&network.spans, spans, frames, end, rows, made);
        match &crew.pool {
            Some(pool) => pool.install(|| awake(work)),
            None => work(),
        }
        outputs.extend_from_slice(&rows.floats);
    }
}

/// Runs `work` on this thread of a pool while the others look for what it shares without ever falling asleep: what a stage
/// shares takes less time than waking a thread.
fn awake(work: impl FnOnce() + Send) {
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    let worker = rayon::current_thread_index();
    rayon::scope(|scope| {
        scope.spawn_broadcast(|_, here| {
            while Some(here.index()) != worker && !done.load(Ordering::Relaxed) {
                if rayon::yield_now() != Some(rayon::Yield::Executed) {
                    thread::yield_now();
                }
            }
        });
        let _done = Done(&done);
        work();
    });
}

/// How frames of `width` values walk through the spans: each waits until the one before has made a block of its own of them.
struct Walk<'a> {
    crew: &'a Crew,
    width: usize,
}

impl Walk<'_> {
    /// Values of the frames that walk through span `index` together.
    fn block(&self, index: usize) -> usize {
        let threads = if index == 0 { self.crew.threads() } else { 1 };
        SPAN_FRAMES[index] * threads * self.width
    }

    /// Takes `frames` through all `stages`; `rows` then holds the outputs. `made` is scratch.
    fn through(
        &self,
        stages: &[Vec<Stage>],
        spans: &mut [Span],
        frames: &[f32],
        end: bool,
        rows: &mut Flow,
        made: &mut Flow,
    ) {
        let (Some((stages, before)), Some((span, spans_before))) = (stages.split_last(), spans.split_last_mut()) else {
            return;
        };
        if before.is_empty() {
            rows.copy_floats(frames);
        } else {
            span.waiting.clear();
            for block in frames.chunks(self.block(before.len() - 1)) {
                self.through(before, spans_before, block, false, rows, made);
                span.waiting.extend(rows);
            }
            if end {
                self.through(before, spans_before, &[], true, rows, made);
                span.waiting.extend(rows);
            }
            std::mem::swap(rows, &mut span.waiting);
        }
        stage::run(stages, &mut span.states, end, self.crew, rows, made);
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
        for (span, stages) in self.spans.iter_mut().zip(&self.network.spans) {
            span.states.iter_mut().zip(stages).for_each(|(state, stage)| stage.reset(state));
        }
    }
}
