//! A list of layers, checked, with everything that follows from it.

use super::layer::{FrameShape, Layer, NamedLayer};
use super::survey::{Survey, TimeExtent};
use crate::Result;

/// A network that is known to fit together: every shape, kernel and setting has been checked, and what a hostile
/// description could make large is bounded by the limits in this room.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    input: FrameShape,
    layers: Vec<NamedLayer>,
    survey: Survey,
}

/// What a parameter does in its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A convolution's filters, `[out_channels, in_channels / groups, time, frequency]`.
    Weight,
    /// A convolution's bias, `[out_channels]`.
    Bias,
    /// What each int8 filter is multiplied by, `[out_channels]`; not trained by gradients.
    WeightScale,
    /// A batch normalisation's factor γ, `[channels]`.
    Scale,
    /// A batch normalisation's summand β, `[channels]`.
    Shift,
    /// A batch normalisation's mean over the training data, `[channels]`; not trained by gradients.
    RunningMean,
    /// A batch normalisation's variance over the training data, `[channels]`; not trained by gradients.
    RunningVar,
}

impl Role {
    /// Whether gradients train it. Only such parameters are counted.
    pub fn is_trained(self) -> bool {
        !matches!(self, Role::RunningMean | Role::RunningVar | Role::WeightScale)
    }
}

/// A tensor that the network needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in the weights file, e.g. `t0.depthwise.weight`.
    pub path: String,
    /// Its extents.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: Role,
}

impl Parameter {
    /// Values in the tensor.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor holds nothing; never true in a checked architecture.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One line of the table that describes a network. Costs are the layer's own: a residual's are in its branch's lines,
/// so that the lines add up to the whole.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSummary {
    /// Names from the outermost residual inwards, joined by dots, e.g. `t0.depthwise`.
    pub path: String,
    /// As `model.toml` writes it, e.g. `max-pool`.
    pub kind: &'static str,
    /// Residuals around it.
    pub depth: usize,
    /// What one column of its output holds.
    pub output: FrameShape,
    /// What an output depends on, counted in the network's input frames.
    pub time: TimeExtent,
    /// Trained parameters.
    pub parameters: usize,
    /// Multiply-adds of convolutions for one of its output frames; everything else is a few percent and not counted.
    /// A floating-point operation count is twice this.
    pub multiply_adds: usize,
    /// Whether these are of bytes.
    pub int8: bool,
}

impl LayerSummary {
    /// Multiply-adds for a second of input at `frame_rate_hz` input frames per second.
    pub fn multiply_adds_per_second(&self, frame_rate_hz: f64) -> f64 {
        self.multiply_adds as f64 * frame_rate_hz / self.time.stride as f64
    }
}

impl Architecture {
    /// Checks `layers` on columns of shape `input`.
    ///
    /// # Errors
    /// [`crate::Error::Network`] names the first layer that does not fit and says why.
    pub fn new(input: FrameShape, layers: Vec<NamedLayer>) -> Result<Self> {
        let survey = Survey::new(input, &layers)?;
        Ok(Self { input, layers, survey })
    }

    /// What one input column holds.
    pub fn input(&self) -> FrameShape {
        self.input
    }

    /// The layers in order.
    pub fn layers(&self) -> &[NamedLayer] {
        &self.layers
    }

    /// What one output column holds.
    pub fn output(&self) -> FrameShape {
        self.survey.output
    }

    /// What one output frame depends on.
    pub fn time(&self) -> TimeExtent {
        self.survey.time
    }

    /// Input frames from one output frame to the next.
    pub fn time_stride(&self) -> usize {
        self.time().stride
    }

    /// Input frames that one output frame sees, padding included.
    pub fn receptive_field(&self) -> usize {
        self.time().receptive_field()
    }

    /// Input frames after frame `t · time_stride()` that output frame `t` needs: the network's delay.
    pub fn lookahead(&self) -> usize {
        self.time().lookahead
    }

    /// Input frames before frame `t · time_stride()` that output frame `t` sees.
    pub fn history(&self) -> usize {
        self.time().history
    }

    /// Output frames of a whole utterance of `input_frames`.
    pub fn output_frames(&self, input_frames: usize) -> usize {
        self.time().output_frames(input_frames)
    }

    /// Every tensor the layers need, in the order of the layers.
    pub fn parameters(&self) -> &[Parameter] {
        &self.survey.parameters
    }

    /// Trained parameters in all.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().filter(|parameter| parameter.role.is_trained()).map(Parameter::len).sum()
    }

    /// One line per layer, outer before inner, in the order of the layers.
    pub fn summary(&self) -> &[LayerSummary] {
        &self.survey.summary
    }

    /// Multiply-adds for a second of input at `frame_rate_hz` input frames per second.
    pub fn multiply_adds_per_second(&self, frame_rate_hz: f64) -> f64 {
        self.summary().iter().map(|layer| layer.multiply_adds_per_second(frame_rate_hz)).sum()
    }

    /// Convolutions that compute with bytes.
    pub fn int8_convolutions(&self) -> usize {
        self.parameters().iter().filter(|parameter| parameter.role == Role::WeightScale).count()
    }

    /// Whether the last layer is the log-softmax that CTC expects.
    pub fn ends_with_log_softmax(&self) -> bool {
        matches!(self.layers.last(), Some(NamedLayer { layer: Layer::LogSoftmax, .. }))
    }
}
