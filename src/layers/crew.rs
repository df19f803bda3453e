//! Who does the work. Work is cut the same way for any number of threads, so results do not depend on it.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::kernels::{Aligned, Kernels};
use crate::{Error, Result};

/// Parts that elementwise work is cut into.
const PARTS: usize = 32;

/// A thread's memory for intermediate results, left dirty between uses.
#[derive(Default)]
pub struct Scratch {
    pub inputs: Aligned,
    pub gradients: Aligned,
    pub products: Aligned,
    pub offsets: Vec<usize>,
    pub sums: Vec<f32>,
}

/// The caller alone or a pool of threads.
pub struct Crew {
    pub kernels: Kernels,
    pool: Option<rayon::ThreadPool>,
    /// One for each thread.
    scratch: Vec<Mutex<Scratch>>,
    /// Sums that parts of a batch make on their own, before they are added up.
    pub partial_sums: Vec<Aligned>,
}

impl Crew {
    pub fn new(threads: usize, kernels: Kernels) -> Result<Self> {
        let pool = match threads {
            0 => return Err(Error::setting("threads", "at least one thread is needed")),
            1 => None,
            _ => Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|index| format!("dfcnn-train-{index}"))
                    .build()
                    .map_err(|error| Error::setting("threads", format!("cannot start {threads} threads: {error}")))?,
            ),
        };
        let scratch = (0..threads).map(|_| Mutex::default()).collect();
        Ok(Self { kernels, pool, scratch, partial_sums: Vec::new() })
    }

    /// Does `work` on each of `tasks`; it must not share out work itself.
    pub fn each<T: Send>(&self, tasks: Vec<T>, work: impl Fn(T, &mut Scratch) + Sync) {
        let run = |task: T, thread: usize| {
            work(task, &mut self.scratch[thread].lock().unwrap_or_else(PoisonError::into_inner));
        };
        match &self.pool {
            None => tasks.into_iter().for_each(|task| run(task, 0)),
            Some(pool) => pool.install(|| {
                let tasks = tasks.into_par_iter().with_max_len(1);
                tasks.for_each(|task| run(task, rayon::current_thread_index().unwrap_or(0)));
            }),
        }
    }

    /// Does `work(first, values)` on parts of `values` of whole rows, `first` being the index of their first value.
    pub fn rows(&self, values: &mut [f32], row: usize, work: impl Fn(usize, &mut [f32], &mut Scratch) + Sync) {
        let part = part_of(values.len(), row);
        let tasks = values.chunks_mut(part).enumerate().collect();
        self.each(tasks, |(index, values): (usize, &mut [f32]), scratch| work(index * part, values, scratch));
    }

    /// Adds up what `work(range, sums)` adds to `count` zeros for each part of `len` values in whole rows. Parts are
    /// summed in f64; `work` is called for a few rows at a time, so that f32 holds what they add up to.
    pub fn sum(
        &self,
        len: usize,
        row: usize,
        count: usize,
        work: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
    ) -> Vec<f64> {
        /// Values whose sums are taken in f32.
        const BLOCK: usize = 1 << 13;
        let part = part_of(len, row);
        let block = (BLOCK / row).max(1) * row;
        let starts: Vec<usize> = (0..len).step_by(part).collect();
        let mut parts = vec![vec![0.0f64; count]; starts.len()];
        let tasks = starts.iter().copied().zip(&mut parts).collect();
        self.each(tasks, |(start, totals): (usize, &mut Vec<f64>), scratch| {
            let end = (start + part).min(len);
            for first in (start..end).step_by(block) {
                scratch.sums.clear();
                scratch.sums.resize(count, 0.0);
                work(first..(first + block).min(end), &mut scratch.sums);
                totals.iter_mut().zip(&scratch.sums).for_each(|(total, &sum)| *total += f64::from(sum));
            }
        });
        let mut totals = vec![0.0; count];
        for part in parts {
            totals.iter_mut().zip(part).for_each(|(total, sum)| *total += sum);
        }
        totals
    }
}

/// Values in a part: whole rows.
fn part_of(len: usize, row: usize) -> usize {
    (len / row).div_ceil(PARTS).max(1) * row
}
