//! Convolutions over padded rows `[frequency, channels]`: dense ones as tap products, depthwise ones channel by channel.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::along_time::{AlongTime, TimeTiles};
use super::pipeline::Tools;
use super::stage::Source;
use super::window::{RowWindow, RowWindowSettings, Rows};
use crate::Result;
use crate::kernels::{self, Aligned, Kernels, PANEL, TapProduct, TapWeights, pack_taps, panels};
use crate::network::{Convolution, FrameShape};

/// Rows of one reading of the weights, where there are many: their transforms should stay in the cache.
const BLOCK_ROWS: usize = 256;

/// A convolution with its shapes and raw weights.
pub struct Compiled<'a> {
    pub settings: &'a Convolution,
    pub input: FrameShape,
    pub output: FrameShape,
    pub relu: bool,
    /// The image whose frequencies were collapsed into the input channels, but which comes as it was: `[frequency, channels]`
    /// where the filters know `[channels, frequency]`.
    collapsed: Option<FrameShape>,
    weights: &'a [f32],
    /// `[out_channels]`.
    pub bias: Vec<f32>,
    /// The filters as they came and what folding multiplied them by; nothing where it found none to fold.
    unfolded: (&'a [f32], Option<&'a [f32]>),
}

impl<'a> Compiled<'a> {
    pub fn new(
        settings: &'a Convolution,
        input: FrameShape,
        output: FrameShape,
        relu: bool,
        collapsed: Option<FrameShape>,
        path: &str,
        source: &Source<'a>,
    ) -> Result<Self> {
        let weights = source.values(&format!("{path}.weight"))?;
        let bias = match settings.bias {
            true => source.values(&format!("{path}.bias"))?.to_vec(),
            false => vec![0.0; settings.out_channels],
        };
        Ok(Self { settings, input, output, relu, collapsed, weights, bias, unfolded: source.unfolded(path, weights) })
    }

    /// Input channels that one filter sees.
    pub fn group_depth(&self) -> usize {
        self.input.channels / self.settings.groups
    }

    /// The weight of filter `out` for channel `channel` of its group at tap `[time, frequency]`.
    pub fn weight(&self, out: usize, channel: usize, time: usize, frequency: usize) -> f32 {
        self.weights[self.index(out, channel, time, frequency)]
    }

    /// The filters in half precision and what to multiply each by, if that is what they are and not only near it.
    fn halves(&self) -> Option<(Vec<f16>, Vec<f32>)> {
        let (filters, scale) = self.unfolded;
        let mut halves = vec![f16::ZERO; filters.len()];
        let mut floats = vec![0.0; filters.len()];
        halves.convert_from_f32_slice(filters);
        halves.convert_to_f32_slice(&mut floats);
        let scale = scale.map_or_else(|| vec![1.0; self.settings.out_channels], <[f32]>::to_vec);
        (floats == filters).then_some((halves, scale))
    }

    fn index(&self, out: usize, channel: usize, time: usize, frequency: usize) -> usize {
        let [times, frequencies] = self.settings.kernel;
        let channel = match self.collapsed {
            Some(image) => channel % image.channels * image.frequency + channel / image.channels,
            None => channel,
        };
        ((out * self.group_depth() + channel) * times + time) * frequencies + frequency
    }

    /// The window over rows of `row` values, `input` of them given and the rest padding, `low` of it before them.
    pub fn window<T>(&self, input: usize, low: usize, row: usize, padding: T) -> RowWindowSettings<T> {
        let Convolution { kernel, stride, dilation, time_padding, .. } = *self.settings;
        RowWindowSettings {
            span: dilation[0] * (kernel[0] - 1) + 1,
            stride: stride[0],
            past: time_padding.past,
            future: time_padding.future,
            input,
            low,
            row,
            padding,
        }
    }

    /// The window over rows with the `value` in their padding.
    pub fn padded_window<T>(&self, value: T) -> RowWindowSettings<T> {
        let padding = self.settings.frequency_padding;
        let channels = self.input.channels;
        let row = (padding.low + self.input.frequency + padding.high) * channels;
        self.window(self.input.len(), padding.low * channels, row, value)
    }

    /// Where the taps of output row 0, bin 0 start in rows of `row` values.
    fn offsets(&self, row: usize, times: usize, frequencies: usize) -> Vec<usize> {
        let [time, frequency] = self.settings.dilation;
        let tap = |t: usize, f: usize| t * time * row + f * frequency * self.input.channels;
        (0..times).flat_map(|t| (0..frequencies).map(move |f| tap(t, f))).collect()
    }
}

/// Where a convolution finds its inputs in the rows of a window.
pub struct Taps {
    /// Where each tap of output 0 starts.
    pub offsets: Vec<usize>,
    /// Values under a tap.
    pub depth: usize,
    /// Distance between the inputs of neighbouring outputs, within a row and from row to row.
    pub step: usize,
    pub row_step: usize,
    /// Outputs of one product: those of a row, or of many rows where they lie evenly.
    even: bool,
    /// Whether one tap is all that lies under an output, neighbouring rows side by side in it.
    flat: bool,
}

impl Taps {
    /// Over rows of `row` values.
    pub fn new(convolution: &Compiled<'_>, row: usize) -> Self {
        let Compiled { settings, input, output, .. } = *convolution;
        let [times, frequencies] = settings.kernel;
        let group_depth = convolution.group_depth();
        // The taps of neighbouring bins lie side by side: one deeper tap takes their place, and where a row holds
        // nothing else, the taps of neighbouring rows too.
        let dense = settings.groups == 1 && settings.dilation[1] == 1;
        let flat = dense && settings.dilation[0] == 1 && frequencies * input.channels == row;
        let (offsets, depth) = match (flat, dense) {
            (true, _) => (vec![0], times * frequencies * group_depth),
            (false, true) => (convolution.offsets(row, times, 1), frequencies * group_depth),
            (false, false) => (convolution.offsets(row, times, frequencies), group_depth),
        };
        let row_step = settings.stride[0] * row;
        let step = if output.frequency == 1 { row_step } else { settings.stride[1] * input.channels };
        Self { offsets, depth, step, row_step, even: row_step == output.frequency * step, flat }
    }

    /// Values of one product's outputs among `made` ones of rows of `width`.
    pub fn run(&self, made: usize, width: usize) -> usize {
        if self.even { made } else { width }
    }

    /// Which weight of filter `out` meets value `k` of tap `tap`: its index in the weights.
    pub fn weight(&self, convolution: &Compiled<'_>, out: usize, k: usize, tap: usize) -> usize {
        let (depth, frequencies) = (convolution.group_depth(), convolution.settings.kernel[1]);
        let (tap, channel) = ((tap * self.depth + k) / depth, k % depth);
        convolution.index(out, channel, tap / frequencies, tap % frequencies)
    }
}

/// A convolution as a tap product per output row, or per run of rows where these lie evenly.
pub struct Direct {
    pub window: RowWindowSettings,
    pub output: FrameShape,
    taps: Taps,
    groups: Vec<Group>,
    relu: bool,
    /// Where a row is one position: what makes many rows at once.
    along_time: Option<AlongTime>,
}

struct Group {
    filters: Filters,
    bias: Vec<f32>,
}

/// Packed filters.
enum Filters {
    Floats(Aligned),
    /// With what each output channel's sums are multiplied by.
    Halves(Vec<f16>, Vec<f32>),
}

impl Filters {
    fn weights(&self) -> TapWeights<'_> {
        match self {
            Self::Floats(values) => TapWeights::Floats(values),
            Self::Halves(values, scale) => TapWeights::Halves { values, scale },
        }
    }
}

impl Direct {
    /// With `along_time`, many rows at once are made by Winograd's algorithm where a row is one position. What is then left
    /// to this one are few rows, made as fast as filters can be read: they stay in half precision if they came so.
    pub fn new(convolution: Compiled<'_>, along_time: bool, kernels: Kernels) -> Self {
        let Compiled { settings, output, relu, .. } = convolution;
        let window = convolution.padded_window(0.0);
        let taps = Taps::new(&convolution, window.row);
        let filters = settings.out_channels / settings.groups;
        let along_time = along_time && taps.flat && AlongTime::suits(settings);
        let halves = if along_time && kernels.reads_halves() { convolution.halves() } else { None };
        let groups = (0..settings.groups)
            .map(|group| {
                let first = group * filters;
                let index = |out, k, tap| taps.weight(&convolution, first + out, k, tap);
                let lanes = |values: &[f32]| {
                    let mut lanes = values[first..][..filters].to_vec();
                    lanes.resize(panels(filters) * PANEL, 0.0);
                    lanes
                };
                let (depth, count) = (taps.depth, taps.offsets.len());
                let filters = match &halves {
                    Some((values, scale)) => {
                        let packed = pack_taps(filters, depth, count, |out, k, tap| values[index(out, k, tap)]);
                        Filters::Halves(packed, lanes(scale))
                    }
                    None => {
                        let value = |out, k, tap| convolution.weights[index(out, k, tap)];
                        Filters::Floats(Aligned::new(&pack_taps(filters, depth, count, value)))
                    }
                };
                Group { filters, bias: lanes(&convolution.bias) }
            })
            .collect();
        let along_time = along_time.then(|| AlongTime::new(1, settings.kernel[0], window.row, &kernels));
        Self { window, output, taps, groups, relu, along_time }
    }

    pub fn step(&self, window: &mut RowWindow, rows: &[f32], end: bool, tools: &mut Tools, made: &mut Rows) {
        window.step(rows, end, self.output.len(), tools, made, |input, made, tools| self.rows(input, made, tools));
    }

    /// The output rows from the first of the window on.
    fn rows(&self, input: &[f32], made: &mut [f32], tools: &mut Tools) {
        let many = self.many_rows(input, made, tools);
        let made = &mut made[many * self.output.len()..];
        if made.is_empty() {
            return;
        }
        let taps = &self.taps;
        let run = taps.run(made.len(), self.output.len());
        let filters = self.output.channels / self.groups.len();
        let mut offsets = vec![0; taps.offsets.len()];
        for (index, made) in made.chunks_mut(run).enumerate() {
            for (group, parameters) in self.groups.iter().enumerate() {
                let start = (many + index) * taps.row_step + group * taps.depth;
                for (offset, tap) in offsets.iter_mut().zip(&taps.offsets) {
                    *offset = start + tap;
                }
                let product = TapProduct {
                    input,
                    offsets: &offsets,
                    step: taps.step,
                    positions: made.len() / self.output.channels,
                    depth: taps.depth,
                    weights: parameters.filters.weights(),
                    channels: filters,
                    bias: Some(&parameters.bias),
                    relu: self.relu,
                    out_step: self.output.channels,
                };
                tools.kernels.tap_product(&product, &mut made[group * filters..]);
            }
        }
    }

    /// Makes rows as [`Self::rows`] does, but only of a great many and only what fills tiles; says how many.
    fn many_rows(&self, input: &[f32], made: &mut [f32], tools: &mut Tools) -> usize {
        let Some(along_time) = &self.along_time else { return 0 };
        let (row, channels) = (self.window.row, self.output.channels);
        let many = along_time.share(made.len() / channels, 1);
        if many == 0 {
            return 0;
        }
        for (index, made) in made[..many * channels].chunks_mut(BLOCK_ROWS * channels).enumerate() {
            let tiles = TimeTiles {
                set: 0,
                rows: &input[index * BLOCK_ROWS * row..],
                positions: 1,
                weights: self.groups[0].filters.weights(),
                channels,
                bias: &self.groups[0].bias,
                relu: self.relu,
            };
            along_time.run(&tools.kernels, &tiles, made, &mut tools.scratch.tiles);
        }
        many
    }
}

/// A convolution with one filter per channel.
pub struct Depthwise {
    pub window: RowWindowSettings,
    pub output: FrameShape,
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
        let window = convolution.padded_window(0.0);
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

    pub fn step(&self, window: &mut RowWindow, rows: &[f32], end: bool, tools: &mut Tools, made: &mut Rows) {
        window.step(rows, end, self.output.len(), tools, made, |input, made, tools| {
            let mut offsets = vec![0; self.offsets.len()];
            for (index, made) in made.chunks_exact_mut(self.output.channels).enumerate() {
                let (row, bin) = (index / self.output.frequency, index % self.output.frequency);
                for (offset, tap) in offsets.iter_mut().zip(&self.offsets) {
                    *offset = row * self.row_step + bin * self.step + tap;
                }
                let Self { weights, bias, relu, .. } = self;
                let convolution = kernels::Depthwise { input, offsets: &offsets, weights, bias, relu: *relu };
                tools.kernels.depthwise(&convolution, made);
            }
        });
    }
}
