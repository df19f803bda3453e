//! How a batch is cut into blocks of rows, and what a plan copies for one of them.

use std::ops::Range;

use crate::kernels::Kernels;
use crate::layers::images::Images;

/// Rows of one utterance: outputs to be made, or inputs whose gradients are to be made.
#[derive(Debug, Clone)]
pub struct Block {
    utterance: usize,
    pub outputs: Range<usize>,
    /// From `outputs.start · stride`; an utterance's last block takes the inputs beyond its last window, too.
    pub inputs: Range<usize>,
}

/// What the backward pass of a block works on.
pub struct Cut<'a> {
    pub block: &'a Block,
    /// The utterance's inputs and gradient of the outputs.
    pub x: &'a [f32],
    pub dy: &'a [f32],
    /// Its outputs, where a ReLU follows: only what is positive has passed.
    pub mask: Option<&'a [f32]>,
    /// The gradient of the block's inputs, if it is wanted.
    pub dx: Option<&'a mut [f32]>,
}

/// All blocks of a batch, in order. The cut depends on the lengths alone.
#[derive(Default)]
pub struct Blocks {
    blocks: Vec<Block>,
}

impl Blocks {
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Cuts utterances into about equal blocks of at most `rows` outputs.
    pub fn cut(&mut self, inputs: &[usize], outputs: &[usize], stride: usize, rows: usize) {
        self.blocks.clear();
        for (utterance, (&inputs, &outputs)) in inputs.iter().zip(outputs).enumerate() {
            let count = outputs.div_ceil(rows).max(1);
            let at = |index: usize| outputs * index / count;
            self.blocks.extend((0..count).map(|index| Block {
                utterance,
                outputs: at(index)..at(index + 1),
                inputs: at(index) * stride..if index + 1 == count { inputs } else { at(index + 1) * stride },
            }));
        }
    }

    /// For each block its utterance's inputs and its own outputs.
    pub fn outputs<'a>(
        &'a self,
        input: &'a Images,
        output: &'a mut Images,
    ) -> Vec<(&'a Block, &'a [f32], &'a mut [f32])> {
        let utterances: Vec<&[f32]> = input.utterances().collect();
        let width = output.shape.len();
        let mut rest = &mut output.values[..];
        let mut cuts = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (rows, later) = rest.split_at_mut(block.outputs.len() * width);
            rest = later;
            cuts.push((block, utterances[block.utterance], rows));
        }
        cuts
    }

    /// What the backward pass works on, in `parts` parts of neighbouring blocks.
    pub fn inputs<'a>(
        &'a self,
        input: &'a Images,
        output: &'a Images,
        relu: bool,
        dy: &'a Images,
        dx: Option<&'a mut Images>,
        parts: usize,
    ) -> Vec<Vec<Cut<'a>>> {
        debug_assert_eq!((&output.lengths, output.shape), (&dy.lengths, dy.shape));
        let (xs, dys): (Vec<&[f32]>, Vec<&[f32]>) = (input.utterances().collect(), dy.utterances().collect());
        let ys: Vec<&[f32]> = output.utterances().collect();
        let width = input.shape.len();
        let mut rest = dx.map(|dx| &mut dx.values[..]);
        let mut cuts: Vec<Vec<Cut<'a>>> = (0..parts).map(|_| Vec::new()).collect();
        for (index, block) in self.blocks.iter().enumerate() {
            let dx = rest.take().map(|values| {
                let (rows, later) = values.split_at_mut(block.inputs.len() * width);
                rest = Some(later);
                rows
            });
            let (x, dy) = (xs[block.utterance], dys[block.utterance]);
            let mask = relu.then_some(ys[block.utterance]);
            cuts[index * parts / self.blocks.len()].push(Cut { block, x, dy, mask, dx });
        }
        cuts
    }
}

/// The row at `index` of an utterance, if it has one.
pub fn row_at(utterance: &[f32], width: usize, index: isize) -> Option<&[f32]> {
    let start = usize::try_from(index).ok()?.checked_mul(width)?;
    utterance.get(start..start + width)
}

/// How rows lie in scratch: `[rows, low + bins + high, channels in a wider step]`, all beyond the utterance zero.
#[derive(Debug, Clone, Copy)]
pub struct Padded {
    pub bins: usize,
    pub channels: usize,
    pub low: usize,
    pub high: usize,
    /// Values from one bin to the next, at least `channels`.
    pub step: usize,
}

impl Padded {
    /// Values of one row in scratch.
    pub fn row(&self) -> usize {
        (self.low + self.bins + self.high) * self.step
    }

    /// Copies `rows` of gradients `dy`, zero where the outputs of a ReLU, `mask`, are not positive.
    pub fn copy_masked(
        &self,
        kernels: &Kernels,
        dy: &[f32],
        mask: Option<&[f32]>,
        rows: Range<isize>,
        made: &mut [f32],
    ) {
        self.copy(dy, rows.clone(), made);
        let Some(mask) = mask else { return };
        let width = self.bins * self.channels;
        for (index, made) in rows.zip(made.chunks_exact_mut(self.row())) {
            let Some(mask) = row_at(mask, width, index) else { continue };
            let made = &mut made[self.low * self.step..];
            if self.step == self.channels {
                kernels.mask_gradient(mask, &mut made[..width]);
                continue;
            }
            for (mask, made) in mask.chunks_exact(self.channels).zip(made.chunks_exact_mut(self.step)) {
                kernels.mask_gradient(mask, &mut made[..self.channels]);
            }
        }
    }

    /// Copies `rows` of `utterance`, which may lie before or after it, to `made`.
    pub fn copy(&self, utterance: &[f32], rows: Range<isize>, made: &mut [f32]) {
        let width = self.bins * self.channels;
        for (index, made) in rows.zip(made.chunks_exact_mut(self.row())) {
            let Some(row) = row_at(utterance, width, index) else {
                made.fill(0.0);
                continue;
            };
            let (low, made) = made.split_at_mut(self.low * self.step);
            let (inside, high) = made.split_at_mut(self.bins * self.step);
            low.fill(0.0);
            high.fill(0.0);
            if self.step == self.channels {
                inside.copy_from_slice(row);
                continue;
            }
            for (bin, made) in row.chunks_exact(self.channels).zip(inside.chunks_exact_mut(self.step)) {
                made[..self.channels].copy_from_slice(bin);
                made[self.channels..].fill(0.0);
            }
        }
    }
}

/// Which taps reach inputs `phase + j · stride` along one axis, and from where: output `j + shift`.
///
/// Input `i` meets tap `k` of output `o` where `i = o · stride − before + k · dilation`; so inputs of one phase get their
/// gradients from the same taps, and the gradient of a strided convolution is one plain convolution per phase.
#[derive(Debug, Clone)]
pub struct Phase {
    pub phase: usize,
    /// `(tap, shift)` by increasing shift.
    pub taps: Vec<(usize, isize)>,
}

/// Every phase of an axis.
pub fn phases(window: &crate::network::arithmetic::Window) -> Vec<Phase> {
    let stride = window.stride as isize;
    (0..window.stride)
        .map(|phase| {
            let from = |tap: usize| (phase + window.padding[0]) as isize - (tap * window.dilation) as isize;
            let meets = (0..window.kernel).rev().filter(|&tap| from(tap).rem_euclid(stride) == 0);
            Phase { phase, taps: meets.map(|tap| (tap, from(tap) / stride)).collect() }
        })
        .collect()
}

/// The smallest and greatest shift of all phases, and 0.
pub fn shifts(phases: &[Phase]) -> (isize, isize) {
    let all = || phases.iter().flat_map(|phase| phase.taps.iter().map(|&(_, shift)| shift));
    (all().min().unwrap_or(0).min(0), all().max().unwrap_or(0).max(0))
}
