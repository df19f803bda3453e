//! Pooling over padded rows `[frequency, channels]`.

use super::pipeline::Tools;
use super::window::{RowWindow, RowWindowSettings, Rows, Value};
use crate::network::{FrameShape, Layer};

/// What is kept of the values under a window.
#[derive(Clone, Copy)]
pub enum Kind {
    Max,
    Average,
}

pub struct Pooling<T = f32> {
    pub window: RowWindowSettings<T>,
    kind: Kind,
    pub output: FrameShape,
    kernel: [usize; 2],
    stride: [usize; 2],
}

impl Pooling {
    pub fn new(layer: &Layer, kind: Kind, input: FrameShape, output: FrameShape) -> Self {
        let padding = match kind {
            Kind::Max => f32::NEG_INFINITY,
            Kind::Average => 0.0,
        };
        Self::padded(layer, kind, input, output, padding)
    }

    pub fn step(&self, window: &mut RowWindow, rows: &[f32], end: bool, tools: &mut Tools, made: &mut Rows) {
        let kernels = tools.kernels;
        let merge = |values: &mut [f32], others: &[f32]| match self.kind {
            Kind::Max => kernels.maximum(values, others),
            Kind::Average => kernels.add(values, others, false),
        };
        self.slide(window, rows, end, tools, made, merge, |made| {
            if let Kind::Average = self.kind {
                let scale = 1.0 / (self.kernel[0] * self.kernel[1]) as f32;
                made.iter_mut().for_each(|value| *value *= scale);
            }
        });
    }
}

impl Pooling<u8> {
    /// The greatest of bytes. Every window holds one that is no padding, and no byte is less than the padding's 0.
    pub fn of_bytes(layer: &Layer, input: FrameShape, output: FrameShape) -> Self {
        Self::padded(layer, Kind::Max, input, output, 0)
    }

    pub fn step(&self, window: &mut RowWindow<u8>, rows: &[u8], end: bool, tools: &mut Tools, made: &mut Rows<u8>) {
        let kernels = tools.kernels;
        let merge = |values: &mut [u8], others: &[u8]| kernels.maximum_bytes(values, others);
        self.slide(window, rows, end, tools, made, merge, |_| {});
    }
}

impl<T: Value> Pooling<T> {
    fn padded(layer: &Layer, kind: Kind, input: FrameShape, output: FrameShape, padding: T) -> Self {
        let [time, frequency] = layer.windows();
        let [low, high] = frequency.padding;
        let window = RowWindowSettings {
            span: time.kernel,
            stride: time.stride,
            past: time.padding[0],
            future: time.padding[1],
            input: input.len(),
            low: low * input.channels,
            row: (low + input.frequency + high) * input.channels,
            padding,
        };
        Self { window, kind, output, kernel: [time.kernel, frequency.kernel], stride: [time.stride, frequency.stride] }
    }

    /// `merge` takes further values under a window into the first, `finish` makes the output of what comes of that.
    #[allow(clippy::too_many_arguments)] // a stage's step, and what its kind does
    fn slide(
        &self,
        window: &mut RowWindow<T>,
        rows: &[T],
        end: bool,
        tools: &mut Tools,
        made: &mut Rows<T>,
        merge: impl Fn(&mut [T], &[T]),
        finish: impl Fn(&mut [T]),
    ) {
        let row = self.window.row;
        let channels = self.output.channels;
        window.step(rows, end, self.output.len(), tools, made, |input, made, _| {
            let mut column = vec![T::default(); row];
            for (index, made) in made.chunks_exact_mut(self.output.len()).enumerate() {
                // Along time first, all bins at once; then along frequency.
                let mut rows = input[index * self.stride[0] * row..].chunks_exact(row).take(self.kernel[0]);
                column.copy_from_slice(rows.next().expect("a window has rows"));
                rows.for_each(|row| merge(&mut column, row));
                for (bin, made) in made.chunks_exact_mut(channels).enumerate() {
                    let mut bins = column[bin * self.stride[1] * channels..].chunks_exact(channels);
                    made.copy_from_slice(bins.next().expect("a window has bins"));
                    bins.take(self.kernel[1] - 1).for_each(|bin| merge(made, bin));
                }
                finish(made);
            }
        });
    }
}
