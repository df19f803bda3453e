//! The walk over the layers that checks them and derives shapes, extents, parameters and costs.

use std::collections::HashSet;

use super::architecture::{LayerSummary, Parameter, Role};
use super::arithmetic::Window;
use super::layer::{Activation, Convolution, FrameShape, Layer, NamedLayer};
use crate::{Error, Result};

/// Layers in all, those inside residuals included.
pub const MAX_LAYERS: usize = 4_096;
/// Residuals around a layer.
pub const MAX_DEPTH: usize = 8;
/// Channels of any image.
pub const MAX_CHANNELS: usize = 65_536;
/// Frequency bins of any image.
pub const MAX_FREQUENCY: usize = 65_536;
/// Values in one column of any image.
pub const MAX_COLUMN: usize = 1 << 22;
/// Taps, strides and dilations along either axis.
pub const MAX_KERNEL: usize = 4_096;
/// Input frames that one output may see.
pub const MAX_RECEPTIVE_FIELD: usize = 1 << 20;
/// Trained and untrained parameter values in all.
pub const MAX_PARAMETERS: usize = 1 << 31;
/// Values that a stream keeps between calls, all layers together.
pub const MAX_STATE: usize = 1 << 28;
/// Products of bytes in one sum: more could overflow 32 bits.
pub const MAX_INT8_PRODUCTS: usize = 1 << 16;
/// Multiply-adds for one output frame, all layers together.
pub const MAX_MULTIPLY_ADDS: usize = 1 << 31;

/// What one step of a byte may stand for: neither it nor its square leaves the range of f32.
pub(super) const SCALES: std::ops::RangeInclusive<f32> = 1e-12..=1e12;

/// What an output frame depends on, in input frames. A whole network is, along time, one sliding window: output `t` sees
/// the inputs `[t · stride − history, t · stride + lookahead]`, of which `padding` may lie outside the utterance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeExtent {
    /// Input frames from one output to the next.
    pub stride: usize,
    /// Input frames before the anchor frame `t · stride`.
    pub history: usize,
    /// Input frames after the anchor frame.
    pub lookahead: usize,
    /// Frames of padding, before the utterance and after it together.
    pub padding: usize,
}

impl TimeExtent {
    /// The input itself.
    pub const INPUT: Self = Self { stride: 1, history: 0, lookahead: 0, padding: 0 };

    /// Input frames that an output sees, padding included.
    pub fn receptive_field(&self) -> usize {
        self.history + 1 + self.lookahead
    }

    /// Output frames over a whole utterance of `input_frames`; zero when not one window fits.
    pub fn output_frames(&self, input_frames: usize) -> usize {
        let padded = input_frames.saturating_add(self.padding);
        padded.checked_sub(self.receptive_field()).map_or(0, |rest| rest / self.stride + 1)
    }

    /// What an output of `window` over this depends on; `None` on overflow.
    fn then(self, window: Window) -> Option<Self> {
        let [past, future] = window.padding;
        let grow = |extent: usize, frames: usize| extent.checked_add(frames.checked_mul(self.stride)?);
        Some(Self {
            stride: self.stride.checked_mul(window.stride)?,
            history: grow(self.history, past)?,
            lookahead: grow(self.lookahead, window.reach()?.checked_sub(past)?)?,
            padding: grow(self.padding, past.checked_add(future)?)?,
        })
    }

    /// Frames that the whole utterance loses to windows that do not fit.
    fn shortage(&self) -> usize {
        self.history + self.lookahead - self.padding
    }

    /// What a sum of two paths depends on; they must have equal stride and shortage.
    fn union(self, other: Self) -> Self {
        let history = self.history.max(other.history);
        let lookahead = self.lookahead.max(other.lookahead);
        Self { stride: self.stride, history, lookahead, padding: history + lookahead - self.shortage() }
    }
}

/// All that follows from a list of layers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Survey {
    pub(super) output: FrameShape,
    pub(super) time: TimeExtent,
    pub(super) parameters: Vec<Parameter>,
    pub(super) summary: Vec<LayerSummary>,
    parameter_values: usize,
    state_values: usize,
    multiply_adds: usize,
}

/// An image between two layers.
#[derive(Clone, Copy)]
struct Image {
    shape: FrameShape,
    time: TimeExtent,
    /// Whether its values are bytes times a scale.
    bytes: bool,
}

impl Survey {
    pub(super) fn new(input: FrameShape, layers: &[NamedLayer]) -> Result<Self> {
        check_shape("", input)?;
        if layers.is_empty() {
            return Err(Error::network("", "the network has no layers; list at least one under [[layers]]"));
        }
        let mut survey = Self {
            output: input,
            time: TimeExtent::INPUT,
            parameters: Vec::new(),
            summary: Vec::new(),
            parameter_values: 0,
            state_values: 0,
            multiply_adds: 0,
        };
        let output = survey.walk(layers, "", 0, Image { shape: input, time: TimeExtent::INPUT, bytes: false })?;
        survey.output = output.shape;
        survey.time = output.time;
        Ok(survey)
    }

    fn walk(&mut self, layers: &[NamedLayer], prefix: &str, depth: usize, mut image: Image) -> Result<Image> {
        check_names(layers, prefix)?;
        for NamedLayer { name, layer } in layers {
            let path = format!("{prefix}{name}");
            at_most(&path, "the number of layers", Some(self.summary.len() + 1), MAX_LAYERS)?;
            let row = self.summary.len();
            self.summary.push(LayerSummary {
                path: path.clone(),
                kind: layer.kind(),
                depth,
                output: image.shape,
                time: image.time,
                parameters: 0,
                multiply_adds: 0,
                int8: matches!(layer, Layer::Convolution(convolution) if convolution.int8),
            });
            image = self.visit(layer, &path, depth, image, row)?;
            self.summary[row].output = image.shape;
            self.summary[row].time = image.time;
        }
        Ok(image)
    }

    /// Checks one layer over `image`, notes its parameters and costs in line `row`, and returns its output.
    fn visit(&mut self, layer: &Layer, path: &str, depth: usize, image: Image, row: usize) -> Result<Image> {
        check_settings(layer, path)?;
        let FrameShape { frequency, channels } = image.shape;
        let (mut shape, time) = self.slide(layer, path, image)?;
        match layer {
            Layer::Convolution(c) => {
                if channels % c.groups != 0 || c.out_channels % c.groups != 0 {
                    let problem = format!(
                        "groups = {} must divide both the {channels} channels that come in and out_channels = {}",
                        c.groups, c.out_channels
                    );
                    return Err(Error::network(path, problem));
                }
                shape.channels = c.out_channels;
                check_shape(path, shape)?;
                let [time_taps, frequency_taps] = c.kernel;
                let weight = vec![c.out_channels, channels / c.groups, time_taps, frequency_taps];
                let cost = product(&weight).and_then(|weights| weights.checked_mul(shape.frequency));
                if c.int8 {
                    check_int8(c, path, &weight, image)?;
                }
                self.parameter(row, "weight", weight, Role::Weight)?;
                if c.int8 {
                    self.parameter(row, "weight_scale", vec![c.out_channels], Role::WeightScale)?;
                }
                if c.bias {
                    self.parameter(row, "bias", vec![c.out_channels], Role::Bias)?;
                }
                let total = cost.and_then(|cost| cost.checked_add(self.multiply_adds));
                self.multiply_adds = at_most(path, "multiply-adds for one frame so far", total, MAX_MULTIPLY_ADDS)?;
                self.summary[row].multiply_adds = cost.unwrap_or_default();
            }
            Layer::BatchNorm(_) => {
                for (name, role) in [
                    ("weight", Role::Scale),
                    ("bias", Role::Shift),
                    ("running_mean", Role::RunningMean),
                    ("running_var", Role::RunningVar),
                ] {
                    self.parameter(row, name, vec![channels], role)?;
                }
            }
            Layer::FrequencyCollapse => {
                shape = FrameShape { frequency: 1, channels: frequency * channels };
                check_shape(path, shape)?;
            }
            Layer::Residual(residual) => return self.residual(residual, path, depth, image),
            Layer::Activation(_)
            | Layer::MaxPool(_)
            | Layer::AveragePool(_)
            | Layer::LocalResponseNorm(_)
            | Layer::Dropout(_)
            | Layer::LogSoftmax
            | Layer::Quantize(_) => {}
        }
        let bytes = match layer {
            Layer::Quantize(_) => true,
            // These only choose among values.
            Layer::MaxPool(_) | Layer::FrequencyCollapse | Layer::Dropout(_) => image.bytes,
            _ => false,
        };
        Ok(Image { shape, time, bytes })
    }

    /// Slides the layer's windows over `image`: the new frequency axis (channels unchanged) and the new time extent.
    fn slide(&mut self, layer: &Layer, path: &str, image: Image) -> Result<(FrameShape, TimeExtent)> {
        let windows = layer.windows();
        for (window, axis) in windows.iter().zip(["time", "frequency"]) {
            check_window(path, axis, window)?;
        }
        let [along_time, along_frequency] = windows;
        let Some(frequency) = along_frequency.output_size(image.shape.frequency) else {
            let problem = format!(
                "a kernel that spans {} bins is larger than the frequency axis: {} bins and padding {:?}",
                along_frequency.reach().map_or(usize::MAX, |reach| reach + 1),
                image.shape.frequency,
                along_frequency.padding
            );
            return Err(Error::network(path, problem));
        };
        let shape = FrameShape { frequency, ..image.shape };
        check_shape(path, shape)?;
        let time = image.time.then(along_time);
        let field = time.and_then(|time| time.history.checked_add(time.lookahead)?.checked_add(1));
        at_most(path, "the receptive field in frames", field, MAX_RECEPTIVE_FIELD)?;
        let time = time.unwrap_or(image.time);
        at_most(path, "the time stride in frames", Some(time.stride), MAX_RECEPTIVE_FIELD)?;
        self.keep(path, along_time.reach(), image.shape)?;
        Ok((shape, time))
    }

    fn residual(&mut self, residual: &super::Residual, path: &str, depth: usize, image: Image) -> Result<Image> {
        at_most(path, "the nesting depth", Some(depth + 1), MAX_DEPTH)?;
        let prefix = format!("{path}.");
        if let Some(twice) = residual.branch.iter().find(|a| residual.shortcut.iter().any(|b| a.name == b.name)) {
            let problem = "is a name in both the branch and the shortcut; rename one";
            return Err(Error::network(format!("{prefix}{}", twice.name), problem));
        }
        let branch = self.walk(&residual.branch, &prefix, depth + 1, image)?;
        let shortcut = self.walk(&residual.shortcut, &prefix, depth + 1, image)?;
        if branch.shape != shortcut.shape {
            let problem = format!(
                "the branch gives {} but the shortcut {} (bins × channels); they must be equal to be added",
                branch.shape, shortcut.shape
            );
            return Err(Error::network(path, problem));
        }
        if branch.time.stride != shortcut.time.stride || branch.time.shortage() != shortcut.time.shortage() {
            let describe = |time: TimeExtent| format!("stride {}, {} frames lost", time.stride, time.shortage());
            let problem = format!(
                "the branch ({}) and the shortcut ({}) give different numbers of frames; make their time strides equal \
                 and pad their kernels alike",
                describe(branch.time),
                describe(shortcut.time)
            );
            return Err(Error::network(path, problem));
        }
        let waiting = branch.time.lookahead.abs_diff(shortcut.time.lookahead) / branch.time.stride;
        self.keep(path, Some(waiting), branch.shape)?;
        Ok(Image { shape: branch.shape, time: branch.time.union(shortcut.time), bytes: false })
    }

    /// Counts `columns` of `shape` that a stream has to keep.
    fn keep(&mut self, path: &str, columns: Option<usize>, shape: FrameShape) -> Result<()> {
        let values = columns.and_then(|columns| columns.checked_mul(shape.len())?.checked_add(self.state_values));
        self.state_values = at_most(path, "the values kept between calls so far", values, MAX_STATE)?;
        Ok(())
    }

    fn parameter(&mut self, row: usize, name: &str, shape: Vec<usize>, role: Role) -> Result<()> {
        let path = &self.summary[row].path;
        let total = product(&shape).and_then(|values| values.checked_add(self.parameter_values));
        let total = at_most(path, "the number of parameters so far", total, MAX_PARAMETERS)?;
        let parameter = Parameter { path: format!("{path}.{name}"), shape, role };
        if role.is_trained() {
            self.summary[row].parameters += total - self.parameter_values;
        }
        self.parameter_values = total;
        self.parameters.push(parameter);
        Ok(())
    }
}

fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent))
}

/// `value` if it is at most `most`; `None` stands for a number beyond what the machine can count.
fn at_most(path: &str, what: &str, value: Option<usize>, most: usize) -> Result<usize> {
    match value {
        Some(value) if value <= most => Ok(value),
        Some(value) => Err(Error::network(path, format!("{what} is {value}, beyond the limit of {most}"))),
        None => Err(Error::network(path, format!("{what} is beyond the limit of {most}"))),
    }
}

fn check_shape(path: &str, shape: FrameShape) -> Result<()> {
    if shape.frequency == 0 || shape.channels == 0 {
        let problem = format!("an image of {shape} (bins × channels) is empty; both must be at least 1");
        return Err(Error::network(path, problem));
    }
    at_most(path, "the number of frequency bins", Some(shape.frequency), MAX_FREQUENCY)?;
    at_most(path, "the number of channels", Some(shape.channels), MAX_CHANNELS)?;
    at_most(path, "the number of values in a column", shape.frequency.checked_mul(shape.channels), MAX_COLUMN)?;
    Ok(())
}

fn check_names(layers: &[NamedLayer], prefix: &str) -> Result<()> {
    let mut seen = HashSet::new();
    for NamedLayer { name, .. } in layers {
        let path = format!("{prefix}{name}");
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            let problem = "a layer's name must be made of ASCII letters, digits, `_` and `-`, and not be empty";
            return Err(Error::network(path, problem));
        }
        if !seen.insert(name) {
            return Err(Error::network(path, "the name is taken by a layer before it; rename one"));
        }
    }
    Ok(())
}

fn check_window(path: &str, axis: &str, window: &Window) -> Result<()> {
    for (what, value) in [("kernel", window.kernel), ("stride", window.stride), ("dilation", window.dilation)] {
        if value == 0 {
            return Err(Error::network(path, format!("the {what} along {axis} is 0; it must be at least 1")));
        }
        at_most(path, &format!("the {what} along {axis}"), Some(value), MAX_KERNEL)?;
    }
    let reach = window.reach().unwrap_or(usize::MAX);
    let [before, after] = window.padding;
    // Along time the sum counts: padding then never makes an utterance longer, so no output lies wholly outside it.
    let fits = match axis {
        "time" => before.checked_add(after).is_some_and(|sum| sum <= reach),
        _ => before <= reach && after <= reach,
    };
    if !fits {
        let problem = format!(
            "padding {before} before and {after} after along {axis} is more than dilation · (kernel − 1) = {reach}; \
             some windows would see nothing but padding"
        );
        return Err(Error::network(path, problem));
    }
    Ok(())
}

/// Checks what a convolution with int8 filters of shape `weight` needs.
fn check_int8(convolution: &Convolution, path: &str, weight: &[usize], input: Image) -> Result<()> {
    if !input.bytes {
        let problem = "int8 filters need an image of bytes; put a quantize layer before it, with nothing but max-pool and \
                       frequency-collapse between them";
        return Err(Error::network(path, problem));
    }
    if convolution.groups != 1 {
        let problem = format!("groups = {}, but int8 filters see all channels; leave it in f32", convolution.groups);
        return Err(Error::network(path, problem));
    }
    at_most(path, "the number of products in a sum of int8", product(&weight[1..]), MAX_INT8_PRODUCTS)?;
    Ok(())
}

/// Checks settings that are no shapes.
fn check_settings(layer: &Layer, path: &str) -> Result<()> {
    let fail = |problem: String| Err(Error::network(path, problem));
    match layer {
        Layer::Convolution(c) if c.groups == 0 || c.out_channels == 0 => {
            fail(format!("out_channels = {} and groups = {} must be at least 1", c.out_channels, c.groups))
        }
        Layer::BatchNorm(norm) if !(norm.epsilon.is_finite() && norm.epsilon > 0.0) => {
            fail(format!("epsilon = {} must be a positive number", norm.epsilon))
        }
        Layer::Activation(Activation::LeakyRelu { slope }) if !slope.is_finite() => {
            fail(format!("slope = {slope} must be a finite number"))
        }
        Layer::Activation(Activation::ClippedRelu { ceiling }) if !(ceiling.is_finite() && *ceiling > 0.0) => {
            fail(format!("ceiling = {ceiling} must be a positive number"))
        }
        Layer::LocalResponseNorm(norm) => {
            if norm.size % 2 == 0 || norm.size > MAX_CHANNELS {
                return fail(format!("size = {} must be an odd number of channels up to {MAX_CHANNELS}", norm.size));
            }
            if !(norm.k.is_finite() && norm.k > 0.0 && norm.alpha.is_finite() && norm.alpha >= 0.0) {
                return fail(format!("k = {} must be positive and alpha = {} not negative", norm.k, norm.alpha));
            }
            if !norm.beta.is_finite() {
                return fail(format!("beta = {} must be a finite number", norm.beta));
            }
            Ok(())
        }
        Layer::Dropout(dropout) if !(0.0..1.0).contains(&dropout.rate) => {
            fail(format!("rate = {} must be in [0, 1)", dropout.rate))
        }
        Layer::Quantize(quantize) if !SCALES.contains(&quantize.scale) => {
            fail(format!("scale = {} must be a number from {:e} to {:e}", quantize.scale, SCALES.start(), SCALES.end()))
        }
        _ => Ok(()),
    }
}
