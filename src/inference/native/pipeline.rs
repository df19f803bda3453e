//! Rows on their way through the stages, by one thread or by several.
//!
//! In front of each stage rows wait until there are enough of them; whoever is free takes what waits at the furthest stage
//! and goes on with it as far as the way is free. So one thread walks block by block from the sound to the end, and several
//! follow one another, each with a block of its own: they meet once for a block and a stage, not within it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use super::stage::{self, Stage, State};
use super::window::{Flow, Rows};
use crate::kernels::Kernels;
use crate::kernels::winograd::TILE_IN;

/// How often a thread without work looks around before it naps.
const PATIENCE: usize = 10;
/// A thread that looked around all the time would not be done sooner, but cost its core's time.
const NAP: Duration = Duration::from_micros(50);

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
    stations: Vec<Station>,
}

/// What a stream keeps for a stage.
struct Station {
    /// Held by the thread at work here: rows take their turns.
    state: Mutex<State>,
    waiting: Mutex<Flow>,
    /// Frames that the waiting rows were made of.
    frames: AtomicUsize,
    /// Frames that have been through in this run.
    served: AtomicUsize,
    /// Whether all that comes in this run has been through.
    done: AtomicBool,
}

impl Station {
    /// The stage's state, unless another thread is at work there.
    fn enter(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// What goes through the stages at once.
pub struct Run<'a> {
    pub stages: &'a [Stage],
    /// For each stage how many frames' rows are worth the way while there are so many to come; fewer go when no more come.
    pub enough: &'a (dyn Fn(usize, usize) -> usize + Sync),
    pub frames: &'a [f32],
    /// Values of a frame.
    pub width: usize,
    /// Whether it is the end of the sound, and padding stands for the future.
    pub end: bool,
}

impl Pipeline {
    pub fn new(stages: &[Stage]) -> Self {
        let station = |stage: &Stage| Station {
            state: Mutex::new(stage.state()),
            waiting: Mutex::default(),
            frames: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            done: AtomicBool::new(false),
        };
        Self { stations: stages.iter().map(station).collect() }
    }

    pub fn reset(&mut self, stages: &[Stage]) {
        for (station, stage) in self.stations.iter_mut().zip(stages) {
            stage.reset(exclusive(&mut station.state));
            exclusive(&mut station.waiting).clear();
            *station.frames.get_mut() = 0;
        }
    }

    /// Takes all of a run through the stages, with one thread for each worker, and appends what comes out to `outputs`.
    pub fn run(&mut self, run: &Run<'_>, workers: &mut [Worker], outputs: &mut Vec<f32>) {
        for station in &mut self.stations {
            *station.done.get_mut() = false;
            *station.served.get_mut() = 0;
        }
        let shift =
            Shift { run, stations: &self.stations, outputs: Mutex::new(outputs), abandoned: AtomicBool::new(false) };
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
    stations: &'a [Station],
    outputs: Mutex<&'a mut Vec<f32>>,
    /// Whether a thread was lost to a panic, which the others must not wait for.
    abandoned: AtomicBool,
}

impl Shift<'_> {
    /// Does what there is to do until everything is done.
    fn work(&self, worker: &mut Worker) {
        struct Leaving<'a>(&'a AtomicBool);
        impl Drop for Leaving<'_> {
            fn drop(&mut self) {
                self.0.fetch_or(thread::panicking(), Ordering::Relaxed);
            }
        }
        let _leaving = Leaving(&self.abandoned);
        let last = self.stations.len() - 1;
        let mut idle = 0;
        while !self.stations[last].done.load(Ordering::Acquire) && !self.abandoned.load(Ordering::Relaxed) {
            if (0..=last).rev().any(|index| self.walk(index, worker)) {
                idle = 0;
            } else if idle < PATIENCE {
                idle += 1;
                thread::yield_now();
            } else {
                thread::sleep(NAP);
            }
        }
    }

    /// Whether no more rows come to a stage than wait there.
    fn is_last_call(&self, index: usize) -> bool {
        match index.checked_sub(1) {
            Some(before) => self.stations[before].done.load(Ordering::Acquire),
            None => self.to_come(0) <= self.enough(0),
        }
    }

    /// Frames that have not been through a stage.
    fn to_come(&self, index: usize) -> usize {
        (self.run.frames.len() / self.run.width).saturating_sub(self.stations[index].served.load(Ordering::Relaxed))
    }

    /// Frames that are worth a stage's while.
    fn enough(&self, index: usize) -> usize {
        (self.run.enough)(index, self.to_come(index))
    }

    /// Whether what waits at a stage is enough to take it through.
    fn is_due(&self, index: usize) -> bool {
        let station = &self.stations[index];
        let enough = || index == 0 || station.frames.load(Ordering::Relaxed) >= self.enough(index);
        !station.done.load(Ordering::Relaxed) && (self.is_last_call(index) || enough())
    }

    /// Takes what waits at a stage through it and as far as the way is free, if it is enough and nobody else is there.
    fn walk(&self, mut index: usize, worker: &mut Worker) -> bool {
        if !self.is_due(index) {
            return false;
        }
        let Some(mut state) = self.stations[index].enter() else { return false };
        // Somebody else may have been here in between.
        if !self.is_due(index) {
            return false;
        }
        let Worker { tools, rows, made } = worker;
        loop {
            // Asked before what waits is taken: what comes later is not the last.
            let last = self.is_last_call(index);
            let frames = self.take(index, rows);
            stage::step(&self.run.stages[index], &mut state, self.run.end && last, tools, rows, made);
            // Whoever made rows goes on with them, for they lie in the cache of its core: before others see them the next
            // stage is taken.
            let next = self.stations.get(index + 1).and_then(Station::enter);
            match self.stations.get(index + 1) {
                Some(next) => {
                    let mut waiting = lock(&next.waiting);
                    waiting.take(rows);
                    next.frames.fetch_add(frames, Ordering::Relaxed);
                }
                None => lock(&self.outputs).extend_from_slice(&rows.floats),
            }
            let station = &self.stations[index];
            station.served.fetch_add(frames, Ordering::Relaxed);
            if last {
                station.done.store(true, Ordering::Release);
            }
            match next {
                Some(next) if self.is_due(index + 1) => (state, index) = (next, index + 1),
                _ => return true,
            }
        }
    }

    /// Makes `rows` what waits at a stage and says of how many frames it was made.
    fn take(&self, index: usize, rows: &mut Flow) -> usize {
        if index > 0 {
            let station = &self.stations[index];
            let mut waiting = lock(&station.waiting);
            std::mem::swap(rows, &mut waiting);
            waiting.clear();
            return station.frames.swap(0, Ordering::Relaxed);
        }
        let Run { frames, width, .. } = *self.run;
        let (to_come, enough) = (self.to_come(0), self.enough(0));
        let block = &frames[frames.len() - to_come * width..][..enough.min(to_come) * width];
        rows.copy_floats(block);
        block.len() / width
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn exclusive<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}
