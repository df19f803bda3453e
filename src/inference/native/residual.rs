//! Residuals: two paths over the same rows, added where both have arrived.

use super::Crew;
use super::stage::{Source, Stage, State, run};
use super::window::Rows;
use crate::Result;
use crate::network::{FrameShape, Residual};

pub struct ResidualStage {
    paths: [Vec<Stage>; 2],
    relu: bool,
}

/// What a stream keeps: each path's state, and the rows that one path has made and the other has not yet.
pub struct ResidualState {
    paths: [PathState; 2],
    scratch: Rows,
}

struct PathState {
    states: Vec<State>,
    waiting: Vec<f32>,
    rows: Rows,
}

impl ResidualStage {
    pub fn new(settings: &Residual, input: FrameShape, relu: bool, path: &str, source: &Source<'_>) -> Result<Self> {
        let prefix = format!("{path}.");
        let compile = |layers| source.compile(layers, input, &prefix);
        Ok(Self { paths: [compile(&settings.branch)?, compile(&settings.shortcut)?], relu })
    }

    pub fn state(&self) -> ResidualState {
        let path = |stages: &Vec<Stage>| PathState {
            states: stages.iter().map(Stage::state).collect(),
            waiting: Vec::new(),
            rows: Rows::default(),
        };
        ResidualState { paths: self.paths.each_ref().map(path), scratch: Rows::default() }
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

    pub fn step(&self, state: &mut ResidualState, rows: &[f32], end: bool, crew: &Crew, made: &mut Rows) {
        let ResidualState { paths, scratch } = state;
        for (path, stages) in paths.iter_mut().zip(&self.paths) {
            path.rows.copy_from(rows);
            run(stages, &mut path.states, end, crew, &mut path.rows, scratch);
            path.waiting.extend_from_slice(&path.rows);
        }
        let [branch, shortcut] = paths;
        let both = branch.waiting.len().min(shortcut.waiting.len());
        made.copy_from(&branch.waiting[..both]);
        crew.kernels.add(made, &shortcut.waiting[..both], self.relu);
        branch.waiting.drain(..both);
        shortcut.waiting.drain(..both);
    }
}
