//! The kinds of layer and their settings, exactly as `model.toml` writes them.
//!
//! Every layer maps an image to an image. An image is `[time, frequency, channels]`, channels last; time is open-ended,
//! so a *frame shape* `frequency × channels` says what one column of it holds. Kernels, strides and dilations are
//! `[time, frequency]`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// A layer and the name its parameters carry in the weights file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedLayer {
    /// Unique among its neighbours; parameters are called `name.weight`, and `residual.name.weight` inside a branch.
    pub name: String,
    /// What it does.
    #[serde(flatten)]
    pub layer: Layer,
}

/// By hand, because the derived form neither names the layer in its errors nor refuses unknown keys of kinds without
/// settings.
impl<'de> Deserialize<'de> for NamedLayer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let Some(toml::Value::String(name)) = table.remove("name") else {
            return Err(D::Error::custom("a layer lacks a name, such as name = \"c1\""));
        };
        let (kind, keys) = (table.get("kind").cloned(), table.keys().cloned().collect::<Vec<_>>());
        let layer = Layer::deserialize(table).map_err(|error| {
            let kind = kind.map(|kind| format!(" (kind = {kind})")).unwrap_or_default();
            D::Error::custom(format!("layer {name:?}{kind}: {}", error.message()))
        })?;
        if let Some(allowed) = layer.keys_without_settings()
            && let Some(key) = keys.iter().find(|key| !allowed.contains(&key.as_str()))
        {
            let kind = layer.kind();
            return Err(D::Error::custom(format!(
                "layer {name:?}: unknown key `{key}`; a {kind} of this sort has none"
            )));
        }
        Ok(Self { name, layer })
    }
}

/// What one column of an image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameShape {
    /// Bins along the frequency axis.
    pub frequency: usize,
    /// Channels of each bin.
    pub channels: usize,
}

impl std::fmt::Display for FrameShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} × {}", self.frequency, self.channels)
    }
}

impl FrameShape {
    /// Values in one column: `frequency × channels`.
    pub fn len(&self) -> usize {
        self.frequency * self.channels
    }

    /// Whether a column holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One layer kind with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Layer {
    /// A convolution over time × frequency; 1×1 and "fully connected" are convolutions too.
    Convolution(Convolution),
    /// Batch normalisation per channel (Ioffe & Szegedy 2015), with running statistics outside training.
    BatchNorm(BatchNorm),
    /// A function of each value on its own.
    Activation(Activation),
    /// The greatest value under a window; the padding counts as −∞.
    MaxPool(Pool),
    /// The mean under a window; the padding counts as zeros and is counted.
    AveragePool(Pool),
    /// Local response normalisation across channels (Krizhevsky et al. 2012, §3.3).
    LocalResponseNorm(LocalResponseNorm),
    /// Sets values to zero at random in training and scales the rest by 1 / (1 − rate); nothing at inference.
    Dropout(Dropout),
    /// `branch(x) + shortcut(x)`, where an empty branch or shortcut is the identity.
    Residual(Residual),
    /// `[time, frequency, channels]` to `[time, 1, channels · frequency]`, index `channel · frequency_bins + bin`.
    FrequencyCollapse,
    /// Log of the softmax over the channels.
    LogSoftmax,
    /// Rounds to 8 bits, so that layers behind it can compute with bytes.
    Quantize(Quantize),
}

impl Layer {
    /// The kind as `model.toml` writes it.
    pub fn kind(&self) -> &'static str {
        match self {
            Layer::Convolution(_) => "convolution",
            Layer::BatchNorm(_) => "batch-norm",
            Layer::Activation(_) => "activation",
            Layer::MaxPool(_) => "max-pool",
            Layer::AveragePool(_) => "average-pool",
            Layer::LocalResponseNorm(_) => "local-response-norm",
            Layer::Dropout(_) => "dropout",
            Layer::Residual(_) => "residual",
            Layer::FrequencyCollapse => "frequency-collapse",
            Layer::LogSoftmax => "log-softmax",
            Layer::Quantize(_) => "quantize",
        }
    }

    /// For kinds that serde reads without looking at the other keys: the only keys they may have.
    fn keys_without_settings(&self) -> Option<&'static [&'static str]> {
        match self {
            Layer::FrequencyCollapse | Layer::LogSoftmax => Some(&["kind"]),
            Layer::Activation(
                Activation::Relu | Activation::Sigmoid | Activation::Tanh | Activation::Silu | Activation::Gelu,
            ) => Some(&["kind", "function"]),
            _ => None,
        }
    }
}

/// Settings of a convolution. Weights are `[out_channels, in_channels / groups, time, frequency]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convolution {
    /// Channels (filters) it makes.
    pub out_channels: usize,
    /// Extent of a filter, `[time, frequency]`.
    pub kernel: [usize; 2],
    /// Step between outputs, `[time, frequency]`.
    #[serde(default = "one_by_one", skip_serializing_if = "is_one_by_one")]
    pub stride: [usize; 2],
    /// Step between the taps of a filter, `[time, frequency]`.
    #[serde(default = "one_by_one", skip_serializing_if = "is_one_by_one")]
    pub dilation: [usize; 2],
    /// Independent groups of channels; `groups = in_channels` is a depthwise convolution.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// Zero frames before the first and after the last.
    #[serde(default, skip_serializing_if = "TimePadding::is_none")]
    pub time_padding: TimePadding,
    /// Zero bins below the lowest and above the highest.
    #[serde(default, skip_serializing_if = "FrequencyPadding::is_none")]
    pub frequency_padding: FrequencyPadding,
    /// Whether a bias `[out_channels]` is added.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
    /// Whether each filter is int8 times a factor of its own, and sees an image that a [`Quantize`] made: products are then
    /// of bytes.
    #[serde(default, skip_serializing_if = "is_no")]
    pub int8: bool,
}

/// Zero frames around the sound. `past` is what the first outputs lack, `future` what the last ones lack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimePadding {
    /// Frames before the first.
    #[serde(default)]
    pub past: usize,
    /// Frames after the last; only the end of the stream brings them.
    #[serde(default)]
    pub future: usize,
}

impl TimePadding {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Padding bins around the frequency axis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrequencyPadding {
    /// Bins below the lowest.
    #[serde(default)]
    pub low: usize,
    /// Bins above the highest.
    #[serde(default)]
    pub high: usize,
}

impl FrequencyPadding {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Settings of a batch normalisation. Parameters `weight`, `bias`, `running_mean`, `running_var`, each `[channels]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Added to the variance before the root.
    #[serde(default = "batch_norm_epsilon")]
    pub epsilon: f32,
}

/// A function of each value on its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "function", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, else `slope · x`.
    LeakyRelu {
        /// Slope below zero.
        slope: f32,
    },
    /// `min(max(x, 0), ceiling)`.
    ClippedRelu {
        /// The greatest value that passes.
        ceiling: f32,
    },
    /// `1 / (1 + e^−x)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x · sigmoid(x)`, also called swish.
    Silu,
    /// `x · Φ(x)` with the Gaussian distribution function Φ (Hendrycks & Gimpel 2016), in its tanh approximation.
    Gelu,
}

/// Settings of a pooling window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Extent of the window, `[time, frequency]`.
    pub kernel: [usize; 2],
    /// Step between windows, `[time, frequency]`; the kernel's extent when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<[usize; 2]>,
    /// Frames of padding before the first and after the last.
    #[serde(default, skip_serializing_if = "TimePadding::is_none")]
    pub time_padding: TimePadding,
    /// Bins of padding below the lowest and above the highest.
    #[serde(default, skip_serializing_if = "FrequencyPadding::is_none")]
    pub frequency_padding: FrequencyPadding,
}

impl Pool {
    /// Step between windows, `[time, frequency]`.
    pub fn stride(&self) -> [usize; 2] {
        self.stride.unwrap_or(self.kernel)
    }
}

/// `b = a / (k + alpha · Σ a²)^beta`, the sum over `size` neighbouring channels (Krizhevsky et al. 2012, §3.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalResponseNorm {
    /// Channels under the sum, centred on the one normalised.
    pub size: usize,
    /// Weight of the sum, as in the paper: not divided by `size`.
    pub alpha: f32,
    /// The exponent.
    pub beta: f32,
    /// The constant term.
    pub k: f32,
}

/// Settings of dropout (Srivastava et al. 2014).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Probability that a value is dropped, in `[0, 1)`.
    pub rate: f32,
}

/// Settings of rounding to bytes: `scale · (q − zero_point)`, where `q` is the byte nearest to `zero_point + x / scale`, of two
/// that are equally near the one that is even without the zero point.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantize {
    /// From one value to the next.
    pub scale: f32,
    /// The byte that stands for 0; itself 0 where nothing is negative.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub zero_point: u8,
}

impl Quantize {
    /// What is left of `x`.
    pub fn round(&self, x: f32) -> f32 {
        let zero = f32::from(self.zero_point);
        self.scale * (x / self.scale).round_ties_even().clamp(-zero, 255.0 - zero)
    }
}

/// Settings of a residual (He et al. 2015): both paths must give the same shape and the same time step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// The layers of the branch.
    pub branch: Vec<NamedLayer>,
    /// The layers of the shortcut, usually none or a 1×1 convolution.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortcut: Vec<NamedLayer>,
}

fn one() -> usize {
    1
}

fn is_one(value: &usize) -> bool {
    *value == 1
}

fn one_by_one() -> [usize; 2] {
    [1, 1]
}

fn is_one_by_one(value: &[usize; 2]) -> bool {
    *value == [1, 1]
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

fn is_no(value: &bool) -> bool {
    !*value
}

fn is_zero(value: &u8) -> bool {
    *value == 0
}

fn batch_norm_epsilon() -> f32 {
    1e-5
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NamedLayer, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn every_kind_is_read_back_as_written() {
        for (text, kind) in [
            ("out_channels = 8\nkernel = [3, 5]", "convolution"),
            (
                "out_channels = 8\nkernel = [3, 5]\nstride = [2, 1]\ndilation = [1, 2]\ngroups = 2\nbias = false\n\
                 time_padding = { past = 1 }\nfrequency_padding = { low = 1, high = 2 }",
                "convolution",
            ),
            ("", "batch-norm"),
            ("function = \"relu\"", "activation"),
            ("function = \"leaky-relu\"\nslope = 0.1", "activation"),
            ("function = \"clipped-relu\"\nceiling = 20.0", "activation"),
            ("kernel = [1, 2]", "max-pool"),
            ("kernel = [3, 3]\nstride = [2, 2]", "average-pool"),
            ("size = 5\nalpha = 1e-4\nbeta = 0.75\nk = 2.0", "local-response-norm"),
            ("rate = 0.5", "dropout"),
            ("out_channels = 8\nkernel = [1, 1]\nint8 = true", "convolution"),
            ("scale = 0.02", "quantize"),
            ("scale = 0.02\nzero_point = 128", "quantize"),
            ("branch = [{ name = \"a\", kind = \"log-softmax\" }]", "residual"),
            ("", "frequency-collapse"),
            ("", "log-softmax"),
        ] {
            let layer = read(&format!("name = \"x\"\nkind = \"{kind}\"\n{text}")).unwrap();
            assert_eq!(layer.layer.kind(), kind);
            assert_eq!(read(&toml::to_string(&layer).unwrap()).unwrap(), layer);
        }
    }

    #[test]
    fn errors_name_the_layer_and_the_key() {
        for (text, expected) in [
            ("name = \"x\"\nkind = \"convolutoin\"", "unknown variant `convolutoin`, expected one of `convolution`"),
            ("name = \"x\"\nkind = \"dropout\"\nrat = 0.5", "unknown field `rat`, expected `rate`"),
            ("name = \"x\"\nkind = \"dropout\"", "missing field `rate`"),
            ("name = \"x\"", "missing field `kind`"),
            ("name = \"x\"\nkind = \"log-softmax\"\naxis = 1", "unknown key `axis`"),
            ("name = \"x\"\nkind = \"activation\"\nfunction = \"relu\"\nslope = 0.1", "unknown key `slope`"),
            ("name = \"x\"\nkind = \"activation\"\nfunction = \"leaky-relu\"\nslop = 0.1", "`slop`"),
            ("name = \"x\"\nkind = \"activation\"\nfunction = \"mish\"", "unknown variant `mish`"),
            ("name = \"x\"\nkind = \"quantize\"\nzero_point = 3", "missing field `scale`"),
            ("name = \"x\"\nkind = \"quantize\"\nscale = 0.1\nzero_point = 256", "256"),
            ("name = \"x\"\nkind = \"max-pool\"\nkernel = [-1, 2]", "-1"),
            ("name = \"x\"\nkind = \"max-pool\"\nkernel = [1, 2, 3]", "3"),
            (
                "name = \"x\"\nkind = \"residual\"\nbranch = [{ name = \"y\", kind = \"dropout\", rat = 1 }]",
                "layer \"y\" (kind = \"dropout\"): unknown field `rat`",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("layer \"x\"") && error.contains(expected), "{text}\n{error}");
        }
        assert!(read("kind = \"dropout\"\nrate = 0.5").unwrap_err().to_string().contains("lacks a name"));
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_stack_overflow() {
        let depth = 100_000;
        let (open, close) = ("{name='r',kind='residual',branch=[", "]}");
        let text = format!("name='r'\nkind='residual'\nbranch=[{}{}]", open.repeat(depth), close.repeat(depth));
        assert!(read(&text).is_err());
        let dotted = format!("name='r'\nkind='residual'\nbranch{}=1", ".branch".repeat(depth));
        assert!(read(&dotted).is_err());
    }
}
