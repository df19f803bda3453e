//! Convolutions over padded rows `[frequency, channels]`: dense ones as tap products, depthwise ones channel by channel.

use super::Crew;
use super::stage::Source;
use super::window::{RowWindow, RowWindowSettings, Rows};
use crate::Result;
use crate::kernels::{self, Aligned, PANEL, TapProduct, pack_taps, panels};
use crate::network::{Convolution, FrameShape};

/// A convolution with its shapes and raw weights.
pub struct Compiled<'a> {
    pub settings: &'a Convolution,
    pub input: FrameShape,
    pub output: FrameShape,
    pub relu: bool,
    weights: &'a [f32],
    /// `[out_channels]`.
    pub bias: Vec<f32>,
}

impl<'a> Compiled<'a> {
    pub fn new(
        settings: &'a Convolution,
        input: FrameShape,
        output: FrameShape,
        relu: bool,
        path: &str,
        source: &Source<'a>,
    ) -> Result<Self> {
        let weights = source.values(&format!("{path}.weight"))?;
        let bias = match settings.bias {
            true => source.values(&format!("{path}.bias"))?.to_vec(),
            false => vec![0.0; settings.out_channels],
        };
        Ok(Self { settings, input, output, relu, weights, bias })
    }

    /// Input channels that one filter sees.
    pub fn group_depth(&self) -> usize {
        self.input.channels / self.settings.groups
    }

    /// The weight of filter `out` for channel `channel` of its group at tap `[time, frequency]`.
    pub fn weight(&self, out: usize, channel: usize, time: usize, frequency: usize) -> f32 {
        let [times, frequencies] = self.settings.kernel;
        self.weights[((out * self.group_depth() + channel) * times + time) * frequencies + frequency]
    }

    /// The window over rows of `row` values, `input` of them given and the rest padding, `low` of it before them.
    pub fn window(&self, input: usize, low: usize, row: usize) -> RowWindowSettings {
        let Convolution { kernel, stride, dilation, time_padding, .. } = *self.settings;
        RowWindowSettings {
            span: dilation[0] * (kernel[0] - 1) + 1,
            stride: stride[0],
            past: time_padding.past,
            future: time_padding.future,
            input,
            low,
            row,
            padding: 0.0,
        }
    }

    fn padded_window(&self) -> RowWindowSettings {
        let padding = self.settings.frequency_padding;
        let channels = self.input.channels;
        let row = (padding.low + self.input.frequency + padding.high) * channels;
        self.window(self.input.len(), padding.low * channels, row)
    }

    /// Where the taps of output row 0, bin 0 start in rows of `row` values.
    fn offsets(&self, row: usize, times: usize, frequencies: usize) -> Vec<usize> {
        let [time, frequency] = self.settings.dilation;
        let tap = |t: usize, f: usize| t * time * row + f * frequency * self.input.channels;
        (0..times).flat_map(|t| (0..frequencies).map(move |f| tap(t, f))).collect()
    }
}

/// A convolution as a tap product per output row, or per run of rows where these lie evenly.
pub struct Direct {
    pub window: RowWindowSettings,
    output: FrameShape,
    /// Where each tap of output 0 starts.
    offsets: Vec<usize>,
    /// Values under a tap.
    depth: usize,
    /// Distance between the inputs of neighbouring outputs, within a row and from row to row.
    step: usize,
    row_step: usize,
    groups: Vec<Group>,
    relu: bool,
}

struct Group {
    weights: Aligned,
    bias: Vec<f32>,
}

impl Direct {
    pub fn new(convolution: Compiled<'_>) -> Self {
        let Compiled { settings, input, output, relu, .. } = convolution;
        let window = convolution.padded_window();
        let [times, frequencies] = settings.kernel;
        let group_depth = convolution.group_depth();
        // The taps of neighbouring bins lie side by side: one deeper tap takes their place, and where a row holds
        // nothing else, the taps of neighbouring rows too.
        let dense = settings.groups == 1 && settings.dilation[1] == 1;
        let flat = dense && settings.dilation[0] == 1 && frequencies * input.channels == window.row;
        let (taps, depth) = match (flat, dense) {
            (true, _) => (1, times * frequencies * group_depth),
            (false, true) => (times, frequencies * group_depth),
            (false, false) => (times * frequencies, group_depth),
        };
        let offsets = match (flat, dense) {
            (true, _) => vec![0],
            (false, true) => convolution.offsets(window.row, times, 1),
            (false, false) => convolution.offsets(window.row, times, frequencies),
        };
        let filters = settings.out_channels / settings.groups;
        let groups = (0..settings.groups)
            .map(|group| {
                let packed = pack_taps(filters, depth, taps, |out, k, tap| {
                    let (tap, channel) = ((tap * depth + k) / group_depth, k % group_depth);
                    convolution.weight(group * filters + out, channel, tap / frequencies, tap % frequencies)
                });
                let mut bias = convolution.bias[group * filters..][..filters].to_vec();
                bias.resize(panels(filters) * PANEL, 0.0);
                Group { weights: Aligned::new(&packed), bias }
            })
            .collect();
        Self {
            window,
            output,
            offsets,
            depth,
            step: if output.frequency == 1 {
                settings.stride[0] * window.row
            } else {
                settings.stride[1] * input.channels
            },
            row_step: settings.stride[0] * window.row,
            groups,
            relu,
        }
    }

    pub fn step(&self, window: &mut RowWindow, rows: &[f32], end: bool, crew: &Crew, made: &mut Rows) {
        window.step(rows, end, self.output.len(), crew, made, |input, first, made| self.rows(input, first, made, crew));
    }

    /// The output rows from row `first` of the window on.
    fn rows(&self, input: &[f32], first: usize, made: &mut [f32], crew: &Crew) {
        let width = self.output.len();
        let even = self.row_step == self.output.frequency * self.step;
        let run = if even { made.len() } else { width };
        let filters = self.output.channels / self.groups.len();
        let mut offsets = vec![0; self.offsets.len()];
        for (index, made) in made.chunks_mut(run).enumerate() {
            for (group, parameters) in self.groups.iter().enumerate() {
                let start = (first + index) * self.row_step + group * self.depth;
                for (offset, tap) in offsets.iter_mut().zip(&self.offsets) {
                    *offset = start + tap;
                }
                let product = TapProduct {
                    input,
                    offsets: &offsets,
                    step: self.step,
                    positions: made.len() / self.output.channels,
                    depth: self.depth,
                    weights: &parameters.weights,
                    channels: filters,
                    bias: Some(&parameters.bias),
                    relu: self.relu,
                    out_step: self.output.channels,
                };
                crew.kernels.tap_product(&product, &mut made[group * filters..]);
            }
        }
    }
}

/// A convolution with one filter per channel.
pub struct Depthwise {
    pub window: RowWindowSettings,
    output: FrameShape,
    offsets: Vec<usize>,
    /// Distance between the inputs of neighbouring bins, and from output row to row.
    step: usize,
    row_step: usize,
    /// `[taps, channels]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    relu: bool,
}

impl Depthwise {
    pub fn suits(convolution: &Compiled<'_>) -> bool {
        let channels = convolution.input.channels;
        channels > 1 && convolution.settings.groups == channels && convolution.output.channels == channels
    }

    pub fn new(convolution: Compiled<'_>) -> Self {
        let Compiled { settings, input, output, relu, .. } = convolution;
        let window = convolution.padded_window();
        let [times, frequencies] = settings.kernel;
        let tap_weights = |tap: usize| {
            (0..input.channels).map(move |c| (c, tap / frequencies, tap % frequencies)).collect::<Vec<_>>()
        };
        let weights = (0..times * frequencies)
            .flat_map(tap_weights)
            .map(|(channel, time, frequency)| convolution.weight(channel, 0, time, frequency))
            .collect();
        Self {
            window,
            output,
            offsets: convolution.offsets(window.row, times, frequencies),
            step: settings.stride[1] * input.channels,
            row_step: settings.stride[0] * window.row,
            weights,
            bias: convolution.bias,
            relu,
        }
    }

    pub fn step(&self, window: &mut RowWindow, rows: &[f32], end: bool, crew: &Crew, made: &mut Rows) {
        window.step(rows, end, self.output.len(), crew, made, |input, first, made| {
            let mut offsets = vec![0; self.offsets.len()];
            for (index, made) in made.chunks_exact_mut(self.output.channels).enumerate() {
                let (row, bin) = (first + index / self.output.frequency, index % self.output.frequency);
                for (offset, tap) in offsets.iter_mut().zip(&self.offsets) {
                    *offset = row * self.row_step + bin * self.step + tap;
                }
                let Self { weights, bias, relu, .. } = self;
                let convolution = kernels::Depthwise { input, offsets: &offsets, weights, bias, relu: *relu };
                crew.kernels.depthwise(&convolution, made);
            }
        });
    }
}
