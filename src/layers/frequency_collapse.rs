//! `[frequency, channels]` to `[1, channels · frequency]`: a transposition of each frame.

use super::images::Images;
use super::sequence::{Flow, Pass};
use crate::network::FrameShape;

/// Index `channel · bins + bin` of the output is `[bin, channel]` of the input.
#[derive(Default)]
pub struct FrequencyCollapse {
    pub output: Images,
}

impl FrequencyCollapse {
    pub fn forward(&mut self, input: &Images, pass: &mut Pass<'_>) {
        let FrameShape { frequency, channels } = input.shape;
        let shape = FrameShape { frequency: 1, channels: frequency * channels };
        self.output.resize(shape, input.lengths.iter().copied());
        transpose(&input.values, [frequency, channels], &mut self.output.values, pass);
    }

    pub fn backward(&mut self, input: &Images, flow: &mut Flow, _: bool, pass: &mut Pass<'_>) {
        let FrameShape { frequency, channels } = input.shape;
        flow.spare.resize_like(input);
        transpose(&flow.gradient.values, [channels, frequency], &mut flow.spare.values, pass);
        flow.turn();
    }
}

/// Transposes every `[rows, columns]` of `from` into `to`.
fn transpose(from: &[f32], [rows, columns]: [usize; 2], to: &mut [f32], pass: &Pass<'_>) {
    pass.crew.rows(to, rows * columns, |first, to, _| {
        let from = from[first..][..to.len()].chunks_exact(rows * columns);
        for (from, to) in from.zip(to.chunks_exact_mut(rows * columns)) {
            for (column, to) in to.chunks_exact_mut(rows).enumerate() {
                to.iter_mut().enumerate().for_each(|(row, to)| *to = from[row * columns + column]);
            }
        }
    });
}
