//! Convolutions with one filter per channel, channel by channel over padded rows.

use super::Geometry;
use super::blocks::{Block, Cut, Padded, Phase, phases, shifts};
use crate::kernels::{self, ChannelGradient, Kernels};
use crate::layers::crew::{Crew, Scratch};

/// Values of a block's padded inputs or outputs.
const BLOCK_VALUES: usize = 1 << 16;

/// Filters in the order of the taps.
pub struct Depthwise {
    padded: Padded,
    offsets: Vec<usize>,
    /// `[taps, channels]`.
    weights: Vec<f32>,
    gradients: Padded,
    phases: [Vec<Phase>; 2],
    /// For each phase of time and of frequency `[taps, channels]`.
    backward: Vec<Vec<f32>>,
    zeros: Vec<f32>,
}

impl Depthwise {
    pub fn suits(geometry: &Geometry) -> bool {
        let channels = geometry.input.channels;
        channels > 1 && geometry.settings.groups == channels && geometry.output.channels == channels
    }

    pub fn new(geometry: &Geometry) -> Self {
        let (settings, input, output) = (&geometry.settings, geometry.input, geometry.output);
        let (channels, [low, high]) = (input.channels, geometry.windows[1].padding);
        let padded = Padded { bins: input.frequency, channels, low, high, step: channels };
        let [times, frequencies] = settings.kernel;
        let tap = |t: usize, f: usize| (t * settings.dilation[0] * padded.row()) + f * settings.dilation[1] * channels;
        let offsets = (0..times).flat_map(|t| (0..frequencies).map(move |f| tap(t, f))).collect();
        let phases = geometry.windows.each_ref().map(phases);
        let (least, most) = shifts(&phases[1]);
        let reached = (input.frequency - 1) / settings.stride[1] + 1;
        let gradients = Padded {
            bins: output.frequency,
            channels,
            low: least.unsigned_abs(),
            high: (reached + most as usize).saturating_sub(output.frequency),
            step: channels,
        };
        let pairs = phases[0].iter().flat_map(|time| phases[1].iter().map(move |frequency| (time, frequency)));
        let backward = pairs.map(|(t, f)| vec![0.0; t.taps.len() * f.taps.len() * channels]).collect();
        let weights = vec![0.0; times * frequencies * channels];
        Self { padded, offsets, weights, gradients, phases, backward, zeros: vec![0.0; channels] }
    }

    pub fn block_rows(&self, geometry: &Geometry) -> usize {
        let row = (self.padded.row() * geometry.windows[0].stride).max(self.gradients.row());
        (BLOCK_VALUES / row).clamp(1, 256)
    }

    pub fn pack(&mut self, geometry: &Geometry, weights: &[f32], _: &Crew) {
        let taps = self.offsets.len();
        for (tap, packed) in self.weights.chunks_exact_mut(geometry.input.channels).enumerate() {
            packed.iter_mut().enumerate().for_each(|(channel, packed)| *packed = weights[channel * taps + tap]);
        }
    }

    pub fn pack_backward(&mut self, geometry: &Geometry, weights: &[f32], _: &Crew) {
        let pairs = self.phases[0].iter().flat_map(|time| self.phases[1].iter().map(move |f| (time, f)));
        for ((time, frequency), packed) in pairs.zip(&mut self.backward) {
            let taps = time.taps.iter().flat_map(|&(t, _)| frequency.taps.iter().map(move |&(f, _)| (t, f)));
            for ((t, f), packed) in taps.zip(packed.chunks_exact_mut(geometry.input.channels)) {
                packed
                    .iter_mut()
                    .enumerate()
                    .for_each(|(channel, packed)| *packed = weights[geometry.index(channel, 0, t, f)]);
            }
        }
    }

    fn load<'a>(&self, geometry: &Geometry, block: &Block, x: &[f32], inputs: &'a mut kernels::Aligned) -> &'a [f32] {
        let time = geometry.windows[0];
        let rows = match block.outputs.len() {
            0 => 0,
            outputs => (outputs - 1) * time.stride + geometry.reach() + 1,
        };
        let first = (block.outputs.start * time.stride) as isize - time.padding[0] as isize;
        let made = &mut inputs.at_least(rows * self.padded.row())[..rows * self.padded.row()];
        self.padded.copy(x, first..first + rows as isize, made);
        made
    }

    #[allow(clippy::too_many_arguments, reason = "one call from one place, the same for every plan")]
    pub fn forward(
        &self,
        geometry: &Geometry,
        kernels: &Kernels,
        block: &Block,
        x: &[f32],
        bias: &[f32],
        y: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let input = self.load(geometry, block, x, &mut scratch.inputs);
        let (channels, bins) = (geometry.output.channels, geometry.output.frequency);
        let [time_stride, stride] = geometry.settings.stride;
        for (index, y) in y.chunks_exact_mut(channels).enumerate() {
            let at = index / bins * time_stride * self.padded.row() + index % bins * stride * channels;
            let convolution = kernels::Depthwise {
                input: &input[at..],
                offsets: &self.offsets,
                weights: &self.weights,
                bias: &bias[..channels],
                relu: geometry.relu,
            };
            kernels.depthwise(&convolution, y);
        }
    }

    pub fn sums(&self, _: &Geometry) -> usize {
        self.weights.len()
    }

    pub fn backward(
        &self,
        geometry: &Geometry,
        kernels: &Kernels,
        cut: &mut Cut<'_>,
        [sums, bias]: [&mut [f32]; 2],
        scratch: &mut Scratch,
    ) {
        let Block { outputs, inputs, .. } = cut.block;
        let [time_stride, stride] = geometry.settings.stride;
        let channels = geometry.input.channels;
        let (least, most) = shifts(&self.phases[0]);
        let last_input = (inputs.end.max(inputs.start + 1) - 1) / time_stride;
        let first = outputs.start as isize + least;
        let end = (last_input as isize + 1 + most).max(outputs.end as isize);
        let row = self.gradients.row();
        let len = (end - first) as usize * row;
        let gradients = &mut scratch.gradients.at_least(len)[..len];
        self.gradients.copy_masked(kernels, cut.dy, cut.mask, first..end, gradients);
        let inside = least.unsigned_abs() * row..(least.unsigned_abs() + outputs.len()) * row;
        kernels.add_columns(&gradients[inside], &mut bias[..channels]);

        let input = self.load(geometry, cut.block, cut.x, &mut scratch.inputs);
        let origin = least.unsigned_abs() * row + self.gradients.low * channels;
        let (runs, positions, step, dy_step) = match geometry.output.frequency {
            1 => (usize::from(!outputs.is_empty()), outputs.len(), time_stride * self.padded.row(), row),
            bins => (outputs.len(), bins, stride * channels, channels),
        };
        let runs = if sums.is_empty() { 0 } else { runs };
        for run in 0..runs {
            let gradient = ChannelGradient {
                input: &input[run * time_stride * self.padded.row()..],
                offsets: &self.offsets,
                step,
                dy: &gradients[origin + run * row..],
                dy_step,
                positions,
                channels,
            };
            kernels.channel_gradient(&gradient, sums);
        }
        if let Some(dx) = cut.dx.as_deref_mut() {
            self.inputs(geometry, kernels, gradients, dx, &mut scratch.offsets);
        }
    }

    /// The gradient of the block's inputs.
    fn inputs(
        &self,
        geometry: &Geometry,
        kernels: &Kernels,
        gradients: &[f32],
        dx: &mut [f32],
        offsets: &mut Vec<usize>,
    ) {
        let (input, [time_stride, stride]) = (geometry.input, geometry.settings.stride);
        let (least, _) = shifts(&self.phases[0]);
        let row = self.gradients.row();
        let phases = self.phases[0].iter().flat_map(|time| self.phases[1].iter().map(move |f| (time, f)));
        for ((time, frequency), weights) in phases.zip(&self.backward) {
            offsets.clear();
            for &(_, t) in &time.taps {
                let at = |shift: isize| (self.gradients.low as isize + shift) as usize * input.channels;
                offsets.extend(frequency.taps.iter().map(|&(_, f)| (t - least) as usize * row + at(f)));
            }
            let rows = dx.chunks_exact_mut(input.len()).skip(time.phase).step_by(time_stride);
            for (time, dx) in rows.enumerate() {
                let bins = dx.chunks_exact_mut(input.channels).skip(frequency.phase).step_by(stride);
                for (bin, dx) in bins.enumerate() {
                    let convolution = kernels::Depthwise {
                        input: &gradients[time * row + bin * input.channels..],
                        offsets,
                        weights,
                        bias: &self.zeros,
                        relu: false,
                    };
                    kernels.depthwise(&convolution, dx);
                }
            }
        }
    }

    pub fn unpack(&self, geometry: &Geometry, sums: &[f32], gradients: &mut [f32], _: &Crew) {
        let taps = self.offsets.len();
        for (tap, sums) in sums.chunks_exact(geometry.input.channels).enumerate() {
            sums.iter().enumerate().for_each(|(channel, &sum)| gradients[channel * taps + tap] = sum);
        }
    }
}
