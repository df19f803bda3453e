//! Convolutions on bytes.

use super::convolution::{Compiled, Taps};
use super::pipeline::Tools;
use super::window::{Flow, RowWindow, RowWindowSettings};
use crate::kernels::bytes::{ByteProduct, WeightLine, pack_bytes};
use crate::kernels::{PANEL, panels};
use crate::network::{FrameShape, Quantize};

/// A convolution with int8 filters, as a byte product per output row, or per run of rows where these lie evenly.
pub struct Int8 {
    pub window: RowWindowSettings<u8>,
    pub output: FrameShape,
    taps: Taps,
    weights: Vec<WeightLine>,
    /// Per channel what takes the input's zero point out of the sum, and what makes outputs of sums.
    starts: Vec<i32>,
    scale: Vec<f32>,
    bias: Vec<f32>,
    relu: bool,
    /// The zero point of the outputs, if they are bytes.
    to_bytes: Option<u8>,
}

impl Int8 {
    /// `filters` are the convolution's, each times its scale; `input` says what its bytes mean, and `to_bytes` what those
    /// that it makes are to mean.
    pub fn new(
        convolution: Compiled<'_>,
        (filters, scales): (&[i8], &[f32]),
        input: Quantize,
        to_bytes: Option<Quantize>,
    ) -> Self {
        // Padding is zeros.
        let window = convolution.padded_window(input.zero_point);
        let taps = Taps::new(&convolution, window.row);
        let channels = convolution.output.channels;
        let weights = pack_bytes(channels, taps.depth, taps.offsets.len(), |out, k, tap| {
            filters[taps.weight(&convolution, out, k, tap)]
        });
        let padded = panels(channels) * PANEL;
        let step = to_bytes.map_or(1.0, |output| f64::from(output.scale));
        let mut starts: Vec<i32> = filters
            .chunks_exact(filters.len() / channels)
            .map(|filter| -i32::from(input.zero_point) * filter.iter().map(|&w| i32::from(w)).sum::<i32>())
            .collect();
        let mut scale: Vec<f32> =
            scales.iter().map(|&scale| (f64::from(scale) * f64::from(input.scale) / step) as f32).collect();
        let mut bias: Vec<f32> = convolution.bias.iter().map(|&bias| (f64::from(bias) / step) as f32).collect();
        starts.resize(padded, 0);
        scale.resize(padded, 0.0);
        bias.resize(padded, 0.0);
        let Compiled { output, relu, .. } = convolution;
        let to_bytes = to_bytes.map(|output| output.zero_point);
        Self { window, output, taps, weights, starts, scale, bias, relu, to_bytes }
    }

    pub fn step(&self, window: &mut RowWindow<u8>, rows: &[u8], end: bool, tools: &mut Tools, made: &mut Flow) {
        let width = self.output.len();
        match self.to_bytes {
            Some(zero) => window.step(rows, end, width, tools, &mut made.bytes, |input, made, tools| {
                self.rows(input, made, |product, made| tools.kernels.byte_product_to_bytes(product, zero, made));
            }),
            None => window.step(rows, end, width, tools, &mut made.floats, |input, made, tools| {
                self.rows(input, made, |product, made| tools.kernels.byte_product(product, made));
            }),
        }
    }

    /// The output rows from the first of the window on.
    fn rows<T>(&self, input: &[u8], made: &mut [T], work: impl Fn(&ByteProduct<'_>, &mut [T])) {
        let taps = &self.taps;
        let run = taps.run(made.len(), self.output.len());
        let mut offsets = vec![0; taps.offsets.len()];
        for (index, made) in made.chunks_mut(run).enumerate() {
            for (offset, tap) in offsets.iter_mut().zip(&taps.offsets) {
                *offset = index * taps.row_step + tap;
            }
            let product = ByteProduct {
                input,
                offsets: &offsets,
                step: taps.step,
                positions: made.len() / self.output.channels,
                depth: taps.depth,
                weights: &self.weights,
                channels: self.output.channels,
                starts: &self.starts,
                scale: &self.scale,
                bias: &self.bias,
                relu: self.relu,
                out_step: self.output.channels,
            };
            work(&product, made);
        }
    }
}
