//! Pooling over padded rows `[frequency, channels]`.

use super::pipeline::Tools;
use super::window::{RowWindow, RowWindowSettings, Rows, Value};
use crate::kernels::{Kernels, MaxPool};
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
        match self.kind {
            Kind::Max => self.slide(window, rows, end, tools, made, |kernels, pool, made| kernels.max_pool(pool, made)),
            Kind::Average => self.slide(window, rows, end, tools, made, |kernels, pool, made| {
                let scale = 1.0 / (pool.rows * pool.taps) as f32;
                made.fill(0.0);
                for (bin, made) in made.chunks_exact_mut(pool.channels).enumerate() {
                    for row in pool.input.chunks(pool.row).take(pool.rows) {
                        let bins = row[bin * pool.step * pool.channels..].chunks_exact(pool.channels);
                        bins.take(pool.taps).for_each(|bin| kernels.add(made, bin, false));
                    }
                    made.iter_mut().for_each(|value| *value *= scale);
                }
            }),
        }
    }
}

impl Pooling<u8> {
    /// The greatest of bytes. Every window holds one that is no padding, and no byte is less than the padding's 0.
    pub fn of_bytes(layer: &Layer, input: FrameShape, output: FrameShape) -> Self {
        Self::padded(layer, Kind::Max, input, output, 0)
    }

    pub fn step(&self, window: &mut RowWindow<u8>, rows: &[u8], end: bool, tools: &mut Tools, made: &mut Rows<u8>) {
        self.slide(window, rows, end, tools, made, |kernels, pool, made| kernels.max_pool_bytes(pool, made));
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

    /// Has `work` make each output row.
    fn slide(
        &self,
        window: &mut RowWindow<T>,
        rows: &[T],
        end: bool,
        tools: &mut Tools,
        made: &mut Rows<T>,
        work: impl Fn(&Kernels, &MaxPool<'_, T>, &mut [T]),
    ) {
        let row = self.window.row;
        window.step(rows, end, self.output.len(), tools, made, |input, made, tools| {
            for (index, made) in made.chunks_exact_mut(self.output.len()).enumerate() {
                let pool = MaxPool {
                    input: &input[index * self.stride[0] * row..],
                    row,
                    rows: self.kernel[0],
                    channels: self.output.channels,
                    step: self.stride[1],
                    taps: self.kernel[1],
                };
                work(&tools.kernels, &pool, made);
            }
        });
    }
}
