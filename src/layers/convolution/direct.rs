//! Convolutions as tap products over padded rows.

use super::Geometry;
use super::blocks::{Block, Cut, Padded, Phase, phases, shifts};
use crate::kernels::{Aligned, Kernels, PANEL, TapGradient, TapProduct, TapWeights, panels};
use crate::layers::crew::{Crew, Scratch};

/// Values of a block's padded inputs or outputs: half a megabyte.
const BLOCK_VALUES: usize = 1 << 17;

/// Filters packed for both directions.
pub struct Direct {
    padded: Padded,
    /// Where each tap of output 0 starts, the values under it, and the taps of a filter that one of them stands for.
    offsets: Vec<usize>,
    depth: usize,
    /// Where the packed panel of a filter holds each of its weights, in the order of the weights file.
    places: Vec<usize>,
    /// One a group.
    weights: Vec<Aligned>,
    /// The outputs' gradient in scratch, and the phases along time and frequency.
    gradients: Padded,
    phases: [Vec<Phase>; 2],
    /// For each phase of time, phase of frequency and group.
    backward: Vec<Aligned>,
}

impl Direct {
    pub fn new(geometry: &Geometry) -> Self {
        let (settings, input, output) = (&geometry.settings, geometry.input, geometry.output);
        let [low, high] = geometry.windows[1].padding;
        let padded = Padded { bins: input.frequency, channels: input.channels, low, high, step: input.channels };
        let [times, frequencies] = settings.kernel;
        // The taps of neighbouring bins lie side by side: one deeper tap takes their place.
        let merged = settings.groups == 1 && settings.dilation[1] == 1;
        let (across, depth) =
            if merged { (1, frequencies * input.channels) } else { (frequencies, geometry.group_depth()) };
        let tap =
            |t: usize, f: usize| (t * settings.dilation[0] * padded.row()) + f * settings.dilation[1] * padded.step;
        let offsets: Vec<usize> = (0..times).flat_map(|t| (0..across).map(move |f| tap(t, f))).collect();
        let place = |channel: usize, time: usize, frequency: usize| {
            let (tap, k) = match merged {
                true => (time, frequency * input.channels + channel),
                false => (time * frequencies + frequency, channel),
            };
            (tap * depth + k) * PANEL
        };
        let taps = (0..times).flat_map(|time| (0..frequencies).map(move |frequency| (time, frequency)));
        let places = (0..geometry.group_depth()).flat_map(|c| taps.clone().map(move |(t, f)| place(c, t, f))).collect();

        let phases = geometry.windows.each_ref().map(phases);
        let (least, most) = shifts(&phases[1]);
        // Bins that inputs beyond the last window reach for lie outside, too.
        let reached = (input.frequency - 1) / settings.stride[1] + 1;
        let high = (reached + most as usize).saturating_sub(output.frequency);
        let gradients = Padded {
            bins: output.frequency,
            channels: output.channels,
            low: least.unsigned_abs(),
            high,
            step: geometry.padded_channels(),
        };
        let filters = geometry.filters();
        let packed = |out: usize, depth: usize, taps: usize| Aligned::zeros(panels(out) * taps * depth * PANEL);
        let weights = (0..settings.groups).map(|_| packed(filters, depth, offsets.len())).collect();
        let pairs = phases[0].iter().flat_map(|time| phases[1].iter().map(move |frequency| (time, frequency)));
        let backward = pairs
            .flat_map(|(time, frequency)| {
                let taps = time.taps.len() * frequency.taps.len();
                (0..settings.groups).map(move |_| packed(geometry.group_depth(), filters, taps))
            })
            .collect();
        Self { padded, offsets, depth, places, weights, gradients, phases, backward }
    }

    pub fn block_rows(&self, geometry: &Geometry) -> usize {
        let row = (self.padded.row() * geometry.windows[0].stride).max(self.gradients.row());
        (BLOCK_VALUES / row).clamp(1, 256)
    }

    /// Values in a packed panel.
    fn panel_len(&self) -> usize {
        self.offsets.len() * self.depth * PANEL
    }

    pub fn pack(&mut self, geometry: &Geometry, weights: &[f32], crew: &Crew) {
        let (filters, row, panel_len) = (geometry.filters(), self.places.len(), self.panel_len());
        let places = &self.places;
        let panels = self.weights.iter_mut().enumerate().flat_map(|(group, packed)| {
            packed.chunks_exact_mut(panel_len).enumerate().map(move |(panel, packed)| (group, panel * PANEL, packed))
        });
        crew.each(panels.collect(), |(group, first, packed): (usize, usize, &mut [f32]), _| {
            let lanes = PANEL.min(filters - first);
            let weights = &weights[(group * filters + first) * row..][..lanes * row];
            for (index, &place) in places.iter().enumerate() {
                for (lane, packed) in packed[place..place + lanes].iter_mut().enumerate() {
                    *packed = weights[lane * row + index];
                }
            }
        });
    }

    pub fn pack_backward(&mut self, geometry: &Geometry, weights: &[f32], crew: &Crew) {
        let (filters, depth) = (geometry.filters(), geometry.group_depth());
        let [times, frequencies] = geometry.settings.kernel;
        let mut tasks = Vec::new();
        let mut backward = self.backward.iter_mut();
        for time in &self.phases[0] {
            for frequency in &self.phases[1] {
                for (group, packed) in backward.by_ref().take(geometry.settings.groups).enumerate() {
                    let taps = time.taps.iter().flat_map(|&(t, _)| frequency.taps.iter().map(move |&(f, _)| (t, f)));
                    let taps: Vec<_> = taps.collect();
                    // A phase without taps has no weights.
                    let panel_len = (taps.len() * filters * PANEL).max(1);
                    let panels = packed.chunks_exact_mut(panel_len).enumerate();
                    tasks.extend(panels.map(|(panel, packed)| (group, taps.clone(), panel * PANEL, packed)));
                }
            }
        }
        type Task<'a> = (usize, Vec<(usize, usize)>, usize, &'a mut [f32]);
        crew.each(tasks, |(group, taps, first, packed): Task<'_>, _| {
            let lanes = PANEL.min(depth - first);
            let taps: Vec<usize> = taps.iter().map(|(t, f)| t * frequencies + f).collect();
            for out in 0..filters {
                let filter =
                    &weights[geometry.index(group * filters + out, first, 0, 0)..][..lanes * times * frequencies];
                for (tap, &at) in taps.iter().enumerate() {
                    let packed = &mut packed[(tap * filters + out) * PANEL..][..lanes];
                    let weights = filter[at..].iter().step_by(times * frequencies);
                    packed.iter_mut().zip(weights).for_each(|(packed, &weight)| *packed = weight);
                }
            }
        });
    }

    /// Copies the inputs under the block's outputs to scratch.
    fn load<'a>(&self, geometry: &Geometry, block: &Block, x: &[f32], inputs: &'a mut Aligned) -> &'a [f32] {
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

    /// Runs of evenly spaced outputs in a block: how many, how far apart in scratch, their positions and steps in
    /// `[inputs, gradients]`.
    fn runs(&self, geometry: &Geometry, outputs: usize) -> Runs {
        let stride = geometry.settings.stride;
        let rows = [stride[0] * self.padded.row(), self.gradients.row()];
        if geometry.output.frequency == 1 {
            Runs { count: usize::from(outputs > 0), rows, positions: outputs, steps: rows }
        } else {
            let steps = [stride[1] * self.padded.step, self.gradients.step];
            Runs { count: outputs, rows, positions: geometry.output.frequency, steps }
        }
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
        let runs = self.runs(geometry, block.outputs.len());
        let (filters, channels) = (geometry.filters(), geometry.output.channels);
        let group_bias = &mut scratch.sums;
        for run in 0..runs.count {
            let y = &mut y[run * runs.positions * channels..][..runs.positions * channels];
            for (group, weights) in self.weights.iter().enumerate() {
                let bias = match self.weights.len() {
                    1 => bias,
                    _ => {
                        group_bias.clear();
                        group_bias.extend_from_slice(&bias[group * filters..][..filters]);
                        group_bias.resize(panels(filters) * PANEL, 0.0);
                        &*group_bias
                    }
                };
                let product = TapProduct {
                    input: &input[run * runs.rows[0] + group * geometry.group_depth()..],
                    offsets: &self.offsets,
                    step: runs.steps[0],
                    positions: runs.positions,
                    depth: self.depth,
                    weights: TapWeights::Floats(weights),
                    channels: filters,
                    bias: Some(bias),
                    relu: geometry.relu,
                    out_step: channels,
                };
                kernels.tap_product(&product, &mut y[group * filters..]);
            }
        }
    }

    /// Values of a part's sums of weight gradients.
    pub fn sums(&self, _: &Geometry) -> usize {
        self.weights.iter().map(|weights| weights.len()).sum()
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
        let stride = geometry.settings.stride[0];
        let (least, most) = shifts(&self.phases[0]);
        // The gradients that the block's inputs and weights need, in scratch from row 0 on.
        let last_input = (inputs.end.max(inputs.start + 1) - 1) / stride;
        let first = outputs.start as isize + least;
        let end = (last_input as isize + 1 + most).max(outputs.end as isize);
        let row = self.gradients.row();
        // The last group's last panel may reach beyond.
        let len = (end - first) as usize * row + PANEL;
        let gradients = &mut scratch.gradients.at_least(len)[..len];
        self.gradients.copy_masked(kernels, cut.dy, cut.mask, first..end, gradients);
        let inside = least.unsigned_abs() * row..(least.unsigned_abs() + outputs.len()) * row;
        kernels.add_columns(&gradients[inside], bias);

        let input = self.load(geometry, cut.block, cut.x, &mut scratch.inputs);
        let runs = self.runs(geometry, outputs.len());
        let origin = least.unsigned_abs() * row + self.gradients.low * self.gradients.step;
        let filters = geometry.filters();
        let group_sums = (sums.len() / self.weights.len()).max(1);
        for run in 0..runs.count {
            for (group, sums) in sums.chunks_exact_mut(group_sums).enumerate() {
                // Lanes beyond a group's filters gather sums that nobody reads.
                let dy = &gradients[origin + run * runs.rows[1] + group * filters..];
                let gradient = TapGradient {
                    input: &input[run * runs.rows[0] + group * geometry.group_depth()..],
                    offsets: &self.offsets,
                    step: runs.steps[0],
                    positions: runs.positions,
                    depth: self.depth,
                    dy,
                    dy_step: runs.steps[1],
                    panels: panels(filters),
                };
                kernels.tap_gradient(&gradient, sums);
            }
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
        let (row, step) = (self.gradients.row(), self.gradients.step);
        let (groups, filters) = (geometry.settings.groups, geometry.filters());
        let (least, _) = shifts(&self.phases[0]);
        let rows = dx.len() / input.len();
        if self.phases.iter().flatten().any(|phase| phase.taps.is_empty()) {
            dx.fill(0.0); // No output looks at these inputs.
        }
        let phases = self.phases[0].iter().flat_map(|time| self.phases[1].iter().map(move |f| (time, f)));
        for ((time, frequency), weights) in phases.zip(self.backward.chunks_exact(groups)) {
            offsets.clear();
            if time.taps.is_empty() || frequency.taps.is_empty() {
                continue;
            }
            for &(_, t) in &time.taps {
                let at = |shift: isize| (self.gradients.low as isize + shift) as usize * step;
                offsets.extend(frequency.taps.iter().map(|&(_, f)| (t - least) as usize * row + at(f)));
            }
            let bins = input.frequency.saturating_sub(frequency.phase).div_ceil(stride);
            // Inputs of the phase, evenly spaced: bins of a row, or rows of one bin.
            let times = rows.saturating_sub(time.phase).div_ceil(time_stride);
            if bins == 0 || times == 0 {
                continue;
            }
            let (runs, positions, step, out_step) = match input.frequency {
                1 => (1, times, row, time_stride * input.len()),
                _ => (times, bins, step, stride * input.channels),
            };
            for run in 0..runs {
                let at = (time.phase + run * time_stride) * input.len() + frequency.phase * input.channels;
                for (group, weights) in weights.iter().enumerate() {
                    let product = TapProduct {
                        input: &gradients[run * row + group * filters..],
                        offsets,
                        step,
                        positions,
                        depth: filters,
                        weights: TapWeights::Floats(weights),
                        channels: geometry.group_depth(),
                        bias: None,
                        relu: false,
                        out_step,
                    };
                    kernels.tap_product(&product, &mut dx[at + group * geometry.group_depth()..]);
                }
            }
        }
    }

    /// Brings sums into the order of the weights file.
    pub fn unpack(&self, geometry: &Geometry, sums: &[f32], gradients: &mut [f32], crew: &Crew) {
        let (filters, row, group_sums) = (geometry.filters(), self.places.len(), sums.len() / self.weights.len());
        let panels = gradients.chunks_exact_mut(filters * row).enumerate().flat_map(|(group, gradients)| {
            let sums = sums[group * group_sums..].chunks_exact(self.panel_len());
            gradients.chunks_mut(PANEL * row).zip(sums)
        });
        crew.each(panels.collect(), |(gradients, sums): (&mut [f32], &[f32]), _| {
            let lanes = gradients.len() / row;
            for (index, &place) in self.places.iter().enumerate() {
                for (lane, &sum) in sums[place..place + lanes].iter().enumerate() {
                    gradients[lane * row + index] = sum;
                }
            }
        });
    }
}

/// See [`Direct::runs`].
struct Runs {
    count: usize,
    rows: [usize; 2],
    positions: usize,
    steps: [usize; 2],
}
