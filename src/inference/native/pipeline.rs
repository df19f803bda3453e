//! Rows on their way through the stages, by one thread or by several.
//!
//! A thread takes a block of sound from stage to stage. Where it comes upon the thread before it, it waits until the way is
//! free, and it never gets past: so one thread walks block by block from the sound to the end, and several follow one another,
//! each with a block of its own. They meet once for a block and a stage, not within it, and what a thread makes stays in the
//! cache of its core. In front of some stages rows wait until there are enough of them for the next thread that comes along.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::stage::{self, Stage, State};
use super::window::{Flow, Rows};
use crate::kernels::Kernels;
use crate::kernels::winograd::TILE_IN;

/// What a thread works with.
pub struct Tools {
    pub kernels: Kernels,
    pub scratch: Scratch,
}

/// A thread's tools, and the rows that it takes from stage to stage.
pub struct Worker {
    tools: Tools,
    rows: Flow,
    made: Flow,
}

impl Worker {
    pub fn new(kernels: Kernels) -> Self {
        Self { tools: Tools { kernels, scratch: Scratch::default() }, rows: Flow::default(), made: Flow::default() }
    }
}

/// Room for what a thread makes on its way, kept: fresh memory would cost more than what is done with it.
#[derive(Default)]
pub struct Scratch {
    /// The rows that a stage looks at.
    pub rows: Rows,
    pub bytes: Rows<u8>,
    /// The same transformed, a part for each plane.
    pub planes: [Rows; TILE_IN],
    pub products: Vec<f32>,
    pub tiles: Vec<f32>,
}

/// What a stream keeps for each of its stages; no network is without.
pub struct Pipeline {
    stations: Vec<Mutex<Station>>,
}

/// What a stream keeps for a stage, held by the thread at work there.
struct Station {
    state: State,
    /// Rows that were not enough.
    waiting: Flow,
    /// Frames that the waiting rows were made of.
    frames: usize,
}

/// What goes through the stages at once.
pub struct Run<'a> {
    pub stages: &'a [Stage],
    /// For each stage how many frames' rows are worth the way; fewer go when no more come.
    pub enough: &'a (dyn Fn(usize) -> usize + Sync),
    pub frames: &'a [f32],
    /// Values of a frame.
    pub width: usize,
    /// Whether it is the end of the sound, and padding stands for the future.
    pub end: bool,
}

impl Pipeline {
    pub fn new(stages: &[Stage]) -> Self {
        let station = |stage: &Stage| Station { state: stage.state(), waiting: Flow::default(), frames: 0 };
        Self { stations: stages.iter().map(|stage| Mutex::new(station(stage))).collect() }
    }

    pub fn reset(&mut self, stages: &[Stage]) {
        for (station, stage) in self.stations.iter_mut().zip(stages) {
            let station = exclusive(station);
            stage.reset(&mut station.state);
            station.waiting.clear();
            station.frames = 0;
        }
    }

    /// Takes all of a run through the stages, with one thread for each worker, and appends what comes out to `outputs`.
    pub fn run(&mut self, run: &Run<'_>, workers: &mut [Worker], outputs: &mut Vec<f32>) {
        let shift = Shift {
            run,
            stations: &self.stations,
            to_come: Mutex::new(Some(run.frames)),
            outputs: Mutex::new(outputs),
        };
        let Some((own, others)) = workers.split_first_mut() else { return };
        thread::scope(|scope| {
            for worker in others {
                // A thread that cannot be had is not missed: the others do its work.
                let _ = thread::Builder::new().spawn_scoped(scope, || shift.work(worker));
            }
            shift.work(own);
        });
    }
}

/// A run while it is under way.
struct Shift<'a> {
    run: &'a Run<'a>,
    stations: &'a [Mutex<Station>],
    /// Frames that nobody has taken yet; none when the last block is on its way.
    to_come: Mutex<Option<&'a [f32]>>,
    outputs: Mutex<&'a mut Vec<f32>>,
}

impl Shift<'_> {
    /// Takes block after block through the stages until nobody has to.
    fn work(&self, worker: &mut Worker) {
        loop {
            let mut to_come = lock(&self.to_come);
            let Some(frames) = *to_come else { return };
            let width = self.run.width;
            let (block, rest) = frames.split_at(frames.len().min((self.run.enough)(0) * width));
            *to_come = (!rest.is_empty()).then_some(rest);
            worker.rows.copy_floats(block);
            let first = lock(&self.stations[0]);
            drop(to_come);
            self.walk(first, block.len() / width, rest.is_empty(), worker);
        }
    }

    /// Takes the worker's rows, made of so many `frames`, through the stages, and what waits on the way with them, as far as
    /// there is enough of it. Behind the `last` rows no more will come.
    fn walk<'a>(&'a self, mut station: MutexGuard<'a, Station>, mut frames: usize, last: bool, worker: &mut Worker) {
        let Worker { tools, rows, made } = worker;
        for (index, stage) in self.run.stages.iter().enumerate() {
            if index > 0 {
                // Held before the one behind is let go: nobody gets past.
                station = lock(&self.stations[index]);
                let Station { waiting, frames: before, .. } = &mut *station;
                frames += std::mem::take(before);
                if frames < (self.run.enough)(index) && !last {
                    waiting.extend(rows);
                    *before = frames;
                    return;
                }
                if !waiting.is_empty() {
                    waiting.extend(rows);
                    std::mem::swap(rows, waiting);
                    waiting.clear();
                }
            }
            stage::step(stage, &mut station.state, self.run.end && last, tools, rows, made);
        }
        lock(&self.outputs).extend_from_slice(&rows.floats);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn exclusive<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}
