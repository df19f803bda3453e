//! Greatest and mean values under a window.

use super::images::Images;
use super::sequence::{Flow, Pass};
use crate::kernels::Kernels;
use crate::network::arithmetic::Window;
use crate::network::{FrameShape, Layer};

/// What is kept of the values under a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// The greatest; padding never is. Of several equal ones the first gets the gradient.
    Max,
    /// The mean; padding counts as zeros.
    Average,
}

/// A pooling layer.
pub struct Pool {
    sizes: Sizes,
    pub output: Images,
}

#[derive(Clone, Copy)]
struct Sizes {
    kind: Kind,
    input: FrameShape,
    output: FrameShape,
    windows: [Window; 2],
}

impl Pool {
    pub fn new(layer: &Layer, kind: Kind, input: FrameShape, output: FrameShape) -> Self {
        Self { sizes: Sizes { kind, input, output, windows: layer.windows() }, output: Images::default() }
    }

    pub fn forward(&mut self, input: &Images, pass: &mut Pass<'_>) {
        let (sizes, kernels) = (self.sizes, pass.crew.kernels);
        let lengths = input.lengths.iter().map(|&frames| sizes.windows[0].output_size(frames).unwrap_or(0));
        self.output.resize(sizes.output, lengths);
        let tasks = input.utterances().zip(self.output.utterances_mut()).collect();
        pass.crew.each(tasks, |(x, y): (&[f32], &mut [f32]), scratch| {
            let column = &mut scratch.inputs.at_least(sizes.input.len())[..sizes.input.len()];
            for (row, y) in y.chunks_exact_mut(sizes.output.len()).enumerate() {
                sizes.forward(&kernels, x, row, column, y);
            }
        });
    }

    pub fn backward(&mut self, input: &Images, flow: &mut Flow, _: bool, pass: &mut Pass<'_>) {
        let (sizes, kernels) = (self.sizes, pass.crew.kernels);
        let Flow { gradient, spare } = flow;
        spare.resize_like(input);
        let outputs = self.output.utterances().zip(gradient.utterances_mut());
        let tasks = input.utterances().zip(outputs).zip(spare.utterances_mut()).collect();
        type Task<'a> = ((&'a [f32], (&'a [f32], &'a mut [f32])), &'a mut [f32]);
        pass.crew.each(tasks, |((x, (y, dy)), dx): Task<'_>, _| {
            let width = sizes.output.len();
            // Where windows neither overlap nor leave gaps, each input is written once.
            let fresh = sizes.kind == Kind::Max && sizes.tiled();
            let written = if fresh { y.len() / width * sizes.windows[0].stride * sizes.input.len() } else { 0 };
            dx[written..].fill(0.0);
            for (row, (y, dy)) in y.chunks_exact(width).zip(dy.chunks_exact_mut(width)).enumerate() {
                sizes.backward(&kernels, x, row, y, dy, fresh, dx);
            }
        });
        flow.turn();
    }
}

/// Indices under the window at `output` that are not padding, of `size`.
fn under(window: &Window, output: usize, size: usize) -> std::ops::Range<usize> {
    let first = output * window.stride;
    first.saturating_sub(window.padding[0])..(first + window.kernel).saturating_sub(window.padding[0]).min(size)
}

impl Sizes {
    fn scale(&self) -> f32 {
        1.0 / (self.windows[0].kernel * self.windows[1].kernel) as f32
    }

    /// Output row `row`; `column` is scratch for one input row.
    fn forward(&self, kernels: &Kernels, x: &[f32], row: usize, column: &mut [f32], y: &mut [f32]) {
        let (width, channels) = (self.input.len(), self.input.channels);
        let merge = |values: &mut [f32], others: &[f32]| match self.kind {
            Kind::Max => kernels.maximum(values, others),
            Kind::Average => kernels.add(values, others, false),
        };
        let nothing = if self.kind == Kind::Max { f32::NEG_INFINITY } else { 0.0 };
        // Along time first, all bins at once; then along frequency.
        let mut rows = under(&self.windows[0], row, x.len() / width).map(|index| &x[index * width..][..width]);
        match rows.next() {
            Some(first) => column.copy_from_slice(first),
            None => column.fill(nothing),
        }
        rows.for_each(|row| merge(column, row));
        for (bin, y) in y.chunks_exact_mut(channels).enumerate() {
            let bins = under(&self.windows[1], bin, self.input.frequency);
            let mut bins = bins.map(|index| &column[index * channels..][..channels]);
            match bins.next() {
                Some(first) => y.copy_from_slice(first),
                None => y.fill(nothing),
            }
            bins.for_each(|bin| merge(y, bin));
        }
        if self.kind == Kind::Average {
            let scale = self.scale();
            y.iter_mut().for_each(|value| *value *= scale);
        }
    }

    /// Whether every input lies under exactly one window, those after the last window of time aside.
    fn tiled(&self) -> bool {
        let even = |window: &Window| window.kernel == window.stride && window.padding == [0, 0];
        self.windows.iter().all(even) && self.output.frequency * self.windows[1].kernel == self.input.frequency
    }

    /// Adds to `dx`, zero if `fresh`, what output row `row` sends back; `dy` is used up.
    #[allow(clippy::too_many_arguments, reason = "a layer's worth of images")]
    fn backward(
        &self,
        kernels: &Kernels,
        x: &[f32],
        row: usize,
        y: &[f32],
        dy: &mut [f32],
        fresh: bool,
        dx: &mut [f32],
    ) {
        let (width, channels) = (self.input.len(), self.input.channels);
        for (bin, (y, dy)) in y.chunks_exact(channels).zip(dy.chunks_exact_mut(channels)).enumerate() {
            for time in under(&self.windows[0], row, x.len() / width) {
                for frequency in under(&self.windows[1], bin, self.input.frequency) {
                    let at = time * width + frequency * channels;
                    let (x, dx) = (&x[at..at + channels], &mut dx[at..at + channels]);
                    match self.kind {
                        Kind::Max => kernels.deliver_maximum(x, y, dy, fresh, dx),
                        Kind::Average => kernels.add_scaled(dx, self.scale(), dy),
                    }
                }
            }
        }
    }
}
