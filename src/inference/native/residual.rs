//! Residuals: two paths over the same rows, added where both have arrived.

use super::pipeline::Tools;
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
    /// What a shortcut with stages of its own works on.
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

    /// Takes `rows`, which are scratch afterwards.
    pub fn step(&self, state: &mut ResidualState, rows: &mut Flow, end: bool, tools: &mut Tools, made: &mut Flow) {
        let ResidualState { paths: [branch, shortcut], scratch } = state;
        if self.paths[1].is_empty() {
            shortcut.waiting.extend(rows);
        } else {
            shortcut.rows.copy_from(rows);
            run(&self.paths[1], &mut shortcut.states, end, tools, &mut shortcut.rows, scratch);
            shortcut.waiting.extend(&shortcut.rows);
        }
        run(&self.paths[0], &mut branch.states, end, tools, rows, scratch);
        // The branch is seldom ahead: what it makes mostly need not wait.
        let ahead = !branch.waiting.is_empty();
        if ahead {
            branch.waiting.extend(rows);
        }
        let (floats, bytes) = match ahead {
            true => (&branch.waiting.floats[..], &branch.waiting.bytes[..]),
            false => (&rows.floats[..], &rows.bytes[..]),
        };
        let other = &mut shortcut.waiting;
        let counts = (floats.len().min(other.floats.len()), bytes.len().min(other.bytes.len()));
        match &self.sum {
            Sum::Floats { relu } => {
                made.floats.copy_from(&floats[..counts.0]);
                tools.kernels.add(&mut made.floats, &other.floats[..counts.0], *relu);
            }
            Sum::Bytes(sum) => {
                let made = made.bytes.resize(counts.1);
                tools.kernels.add_bytes(sum, &bytes[..counts.1], &other.bytes[..counts.1], made);
            }
        }
        other.forget(counts.0, counts.1);
        if ahead {
            branch.waiting.forget(counts.0, counts.1);
        } else {
            branch.waiting.floats.extend_from_slice(&rows.floats[counts.0..]);
            branch.waiting.bytes.extend_from_slice(&rows.bytes[counts.1..]);
        }
    }
}
