//! The layers as people speak of them: a convolution and the activation behind it are one stage.

use serde::Serialize;

use super::blob::{Blob, Place, signed_level};
use crate::network::{Activation, Convolution, Layer, NamedLayer, Weights};

/// Input channels that are shown of a filter: those that it weighs most.
const SHOWN_INPUTS: usize = 8;

/// A layer with the activation behind it.
pub struct Stage<'a> {
    /// Of the layer.
    pub path: String,
    /// The line of the summary whose output is the stage's.
    pub line: usize,
    /// The line whose output is the stage's input; `None` is the network's.
    pub input: Option<usize>,
    /// Residuals around it.
    pub depth: usize,
    pub layer: &'a Layer,
    pub activation: Option<Activation>,
}

/// All stages that have something to show, those inside a residual before it.
pub fn stages(layers: &[NamedLayer]) -> Vec<Stage<'_>> {
    let mut stages = Vec::new();
    collect(layers, ("", None, 0), &mut 0, &mut stages);
    stages
}

/// Those of `layers`, of which the first has line `line`; outside them are a path, the line of their input, and residuals.
fn collect<'a>(
    layers: &'a [NamedLayer],
    (prefix, mut input, depth): (&str, Option<usize>, usize),
    line: &mut usize,
    stages: &mut Vec<Stage<'a>>,
) {
    let mut rest = layers.iter().peekable();
    while let Some(NamedLayer { name, layer }) = rest.next() {
        let (path, mut own) = (format!("{prefix}{name}"), *line);
        *line += 1;
        if let Layer::Residual(residual) = layer {
            let prefix = format!("{path}.");
            collect(&residual.branch, (&prefix, input, depth + 1), line, stages);
            collect(&residual.shortcut, (&prefix, input, depth + 1), line, stages);
        }
        let mut activation = None;
        if let Some(NamedLayer { layer: Layer::Activation(function), .. }) = rest.peek() {
            (activation, own) = (Some(*function), *line);
            *line += 1;
            rest.next();
        }
        // What only rearranges has nothing of its own to show, and log-probabilities have a picture to themselves.
        if !matches!(layer, Layer::Dropout(_) | Layer::FrequencyCollapse | Layer::LogSoftmax) {
            stages.push(Stage { path, line: own, input, depth, layer, activation });
        }
        input = Some(own);
    }
}

impl Stage<'_> {
    /// What it does, in a few words; extents are time × frequency.
    pub fn about(&self) -> String {
        let by = |[time, frequency]: [usize; 2]| format!("{time} × {frequency}");
        let strided =
            |stride: [usize; 2]| if stride == [1, 1] { String::new() } else { format!(", stride {}", by(stride)) };
        let layer = match self.layer {
            Layer::Convolution(Convolution { kernel, stride, dilation, groups, .. }) => {
                let dilated = if *dilation == [1, 1] { String::new() } else { format!(", dilation {}", by(*dilation)) };
                let grouped = if *groups == 1 { String::new() } else { format!(", {groups} groups") };
                format!("convolution {}{}{dilated}{grouped}", by(*kernel), strided(*stride))
            }
            Layer::MaxPool(pool) => format!("max-pool {}", by(pool.kernel)),
            Layer::AveragePool(pool) => format!("average-pool {}", by(pool.kernel)),
            Layer::Residual(_) => "branch added to its input".to_owned(),
            other => other.kind().replace('-', " "),
        };
        let activation = self.activation.map(|function| match function {
            Activation::Relu => "ReLU",
            Activation::LeakyRelu { .. } => "leaky ReLU",
            Activation::ClippedRelu { .. } => "clipped ReLU",
            Activation::Sigmoid => "sigmoid",
            Activation::Tanh => "tanh",
            Activation::Silu => "SiLU",
            Activation::Gelu => "GELU",
        });
        activation.map_or(layer.clone(), |activation| format!("{layer}, {activation}"))
    }
}

/// What the filters of a convolution look for.
#[derive(Serialize)]
pub struct Filters {
    /// Taps, `[time, frequency]`.
    kernel: [usize; 2],
    /// Input channels shown of each filter.
    shown: usize,
    /// Input channels in all.
    inputs: usize,
    /// Two-byte numbers of the channels shown, `[filters, shown]`, the most weighed first.
    channels: Place,
    /// Signed levels, `[filters, shown, time, frequency]`, each filter on a scale of its own.
    taps: Place,
}

impl Filters {
    /// `None` if the stage is no convolution.
    pub fn new(stage: &Stage<'_>, weights: &Weights, blob: &mut Blob) -> Option<Self> {
        let Layer::Convolution(Convolution { kernel, out_channels, .. }) = stage.layer else { return None };
        let tensor = weights.get(&format!("{}.weight", stage.path))?;
        let (taps, inputs) = (kernel[0] * kernel[1], *tensor.shape.get(1)?);
        let shown = inputs.min(SHOWN_INPUTS);
        let (mut channels, mut levels) = (Vec::with_capacity(out_channels * shown), Vec::new());
        for filter in tensor.values.chunks_exact(taps * inputs) {
            let energy = |channel: &usize| -> f32 { filter[channel * taps..][..taps].iter().map(|w| w * w).sum() };
            let mut order: Vec<usize> = (0..inputs).collect();
            order.sort_by(|a, b| energy(b).total_cmp(&energy(a)));
            let most = filter.iter().fold(0.0f32, |most, weight| most.max(weight.abs()));
            for &channel in &order[..shown] {
                channels.push(channel as u16);
                levels.extend(filter[channel * taps..][..taps].iter().map(|&weight| signed_level(weight, most)));
            }
        }
        Some(Self { kernel: *kernel, shown, inputs, channels: blob.add_words(channels), taps: blob.add(levels) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::network::fold_batch_norm;

    #[test]
    fn a_stage_is_a_layer_with_its_activation() {
        let model = Model::embedded().unwrap();
        let architecture = fold_batch_norm(&model.architecture, &model.weights).unwrap().architecture;
        let stages = stages(architecture.layers());
        let outputs: Vec<(&str, &str)> = stages
            .iter()
            .map(|stage| (stage.path.as_str(), architecture.summary()[stage.line].path.as_str()))
            .filter(|(path, _)| ["c1", "c3-pool", "t0.a", "t0.b", "t0", "out"].contains(path))
            .collect();
        let expected = [
            ("c1", "c1-relu"),
            ("c3-pool", "c3-pool"),
            ("t0.a", "t0.a-relu"),
            ("t0.b", "t0.b"),
            ("t0", "t0-relu"),
            ("out", "out"),
        ];
        assert_eq!(outputs, expected);
        let input = |path: &str| {
            let line = stages.iter().find(|stage| stage.path == path).unwrap().input;
            line.map(|line| architecture.summary()[line].path.as_str())
        };
        assert_eq!(
            ["c1", "c2", "c4", "col", "t0.a", "t0.b", "t0"].map(input),
            [
                None,
                Some("c1-relu"),
                Some("c3-pool"),
                Some("collapse"),
                Some("col-relu"),
                Some("t0.a-relu"),
                Some("col-relu"),
            ]
        );
        assert_eq!(stages[0].about(), "convolution 3 × 3, stride 2 × 2, ReLU");
    }
}
