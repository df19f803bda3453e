//! Residuals: two paths over the same rows, added where both have arrived.

use super::Crew;
use super::stage::{Stage, State, run};
use super::window::{Flow, Waiting};
use crate::kernels::bytes::ByteSum;

pub struct ResidualStage {
    pub paths: [Vec<Stage>; 2],
    pub sum: Sum,
}

/// How two paths are added.
pub enum Sum {
    Floats { relu: bool },
    Bytes(ByteSum),
}

/// What a stream keeps: each path's state, and the rows that one path has made and the other has not yet.
pub struct ResidualState {
    paths: [PathState; 2],
    scratch: Flow,
}

struct PathState {
    states: Vec<State>,
    waiting: Waiting,
    rows: Flow,
}

impl ResidualStage {
    pub fn state(&self) -> ResidualState {
        let path = |stages: &Vec<Stage>| PathState {
            states: stages.iter().map(Stage::state).collect(),
            waiting: Waiting::default(),
            rows: Flow::default(),
        };
        ResidualState { paths: self.paths.each_ref().map(path), scratch: Flow::default() }
    }

    pub fn time_stride(&self) -> usize {
        self.paths[0].iter().map(Stage::time_stride).product()
    }

    pub fn reset(&self, state: &mut ResidualState) {
        for (path, stages) in state.paths.iter_mut().zip(&self.paths) {
            path.waiting.clear();
            path.states.iter_mut().zip(stages).for_each(|(state, stage)| stage.reset(state));
        }
    }

    pub fn step(&self, state: &mut ResidualState, rows: &Flow, end: bool, crew: &Crew, made: &mut Flow) {
        let ResidualState { paths, scratch } = state;
        for (path, stages) in paths.iter_mut().zip(&self.paths) {
            if stages.is_empty() {
                path.waiting.extend(rows);
                continue;
            }
            path.rows.copy_from(rows);
            run(stages, &mut path.states, end, crew, &mut path.rows, scratch);
            path.waiting.extend(&path.rows);
        }
        let [branch, shortcut] = paths;
        let (a, b) = (&mut branch.waiting, &mut shortcut.waiting);
        let floats = a.floats.len().min(b.floats.len());
        let bytes = a.bytes.len().min(b.bytes.len());
        match &self.sum {
            Sum::Floats { relu } => {
                made.floats.copy_from(&a.floats[..floats]);
                crew.kernels.add(&mut made.floats, &b.floats[..floats], *relu);
            }
            Sum::Bytes(sum) => {
                crew.kernels.add_bytes(sum, &a.bytes[..bytes], &b.bytes[..bytes], made.bytes.resize(bytes));
            }
        }
        a.forget(floats, bytes);
        b.forget(floats, bytes);
    }
}
