//! Each layer kind as ONNX operators on `[batch, channels, time, frequency]`.

use std::collections::HashMap;

use super::graph::{Graph, Setting};
use super::streaming::Stream;
use crate::network::arithmetic::Window;
use crate::network::{Activation, Architecture, FrameShape, Layer, NamedLayer, Residual, TimeExtent, Weights};
use crate::{Error, Result};

/// √(2/π) of the tanh approximation of GELU.
const GELU: f32 = 0.797_884_6;

/// The shape and time extent of each layer's output, by path.
pub type Rows<'a> = HashMap<&'a str, (FrameShape, TimeExtent)>;

pub fn rows(architecture: &Architecture) -> Rows<'_> {
    architecture.summary().iter().map(|layer| (layer.path.as_str(), (layer.output, layer.time))).collect()
}

/// An image between two layers.
#[derive(Clone)]
pub struct Image {
    /// Its name in the graph.
    pub value: String,
    pub shape: FrameShape,
    pub time: TimeExtent,
    /// By how many of its rows it comes late.
    pub delay: usize,
}

/// A network on its way into a graph.
pub struct Export<'a> {
    pub graph: Graph,
    pub weights: &'a Weights,
    pub rows: Rows<'a>,
    /// Nothing when the graph takes whole utterances.
    pub stream: Option<Stream>,
}

impl Export<'_> {
    /// The input, `[batch, n, frequency · channels]`, as an image.
    pub fn image(&mut self, frames: &str, shape: FrameShape) -> Image {
        let extents = self.graph.ints(&[0, 0, shape.frequency as i64, shape.channels as i64]);
        let image = self.graph.node("in", "Reshape", &[frames, &extents], Vec::new());
        let value = self.graph.node("in", "Transpose", &[&image], vec![("perm", [0, 3, 1, 2].into())]);
        Image { value, shape, time: TimeExtent::INPUT, delay: 0 }
    }

    /// Layers whose paths begin with `prefix`, one after another.
    pub fn layers(&mut self, layers: &[NamedLayer], prefix: &str, mut image: Image) -> Result<Image> {
        for NamedLayer { name, layer } in layers {
            image = self.layer(layer, &format!("{prefix}{name}"), image)?;
        }
        Ok(image)
    }

    fn layer(&mut self, layer: &Layer, path: &str, image: Image) -> Result<Image> {
        let Some(&(shape, time)) = self.rows.get(path) else {
            return Err(Error::network(path, "the architecture lacks this layer"));
        };
        let x = image.value.as_str();
        let node =
            |graph: &mut Graph, operator: &str, inputs: &[&str], settings| graph.node(path, operator, inputs, settings);
        let value = match layer {
            Layer::Convolution(convolution) => {
                let weight = self.parameter(path, "weight")?;
                let mut inputs = vec![weight];
                if convolution.bias {
                    inputs.push(self.parameter(path, "bias")?);
                }
                let settings = vec![
                    ("kernel_shape", convolution.kernel.into()),
                    ("dilations", convolution.dilation.into()),
                    ("group", convolution.groups.into()),
                ];
                return Ok(self.window(layer, path, &image, "Conv", &inputs, settings, 0.0, (shape, time)));
            }
            Layer::MaxPool(pool) => {
                let settings = vec![("kernel_shape", pool.kernel.into())];
                let padding = f32::NEG_INFINITY;
                return Ok(self.window(layer, path, &image, "MaxPool", &[], settings, padding, (shape, time)));
            }
            Layer::AveragePool(pool) => {
                let settings = vec![("kernel_shape", pool.kernel.into()), ("count_include_pad", Setting::Int(1))];
                return Ok(self.window(layer, path, &image, "AveragePool", &[], settings, 0.0, (shape, time)));
            }
            Layer::Residual(residual) => return self.residual(residual, path, &image),
            Layer::BatchNorm(norm) => {
                let mut inputs = vec![x.to_owned()];
                for name in ["weight", "bias", "running_mean", "running_var"] {
                    inputs.push(self.parameter(path, name)?);
                }
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                node(&mut self.graph, "BatchNormalization", &inputs, vec![("epsilon", norm.epsilon.into())])
            }
            Layer::Activation(activation) => self.activation(*activation, path, x),
            Layer::LocalResponseNorm(norm) => {
                // ONNX divides alpha by the size.
                let settings = vec![
                    ("size", norm.size.into()),
                    ("alpha", (norm.alpha * norm.size as f32).into()),
                    ("beta", norm.beta.into()),
                    ("bias", norm.k.into()),
                ];
                node(&mut self.graph, "LRN", &[x], settings)
            }
            Layer::Dropout(_) => return Ok(image),
            Layer::FrequencyCollapse => {
                let turned = node(&mut self.graph, "Transpose", &[x], vec![("perm", [0, 1, 3, 2].into())]);
                let extents = self.graph.ints(&[0, shape.channels as i64, -1, 1]);
                node(&mut self.graph, "Reshape", &[&turned, &extents], Vec::new())
            }
            Layer::LogSoftmax => node(&mut self.graph, "LogSoftmax", &[x], vec![("axis", 1.into())]),
        };
        Ok(Image { value, shape, time, delay: image.delay })
    }

    /// A layer that slides a window over the image.
    #[allow(clippy::too_many_arguments)] // what a window is, what it does, and what comes of it
    fn window(
        &mut self,
        layer: &Layer,
        path: &str,
        image: &Image,
        operator: &str,
        parameters: &[String],
        mut settings: Vec<(&str, Setting)>,
        padding: f32,
        (shape, time): (FrameShape, TimeExtent),
    ) -> Image {
        let [along_time, along_frequency] = layer.windows();
        let [low, high] = along_frequency.padding;
        let (value, [past, future], delay) = match &mut self.stream {
            Some(_) if along_time == Window::POINT => (image.value.clone(), [0, 0], image.delay),
            Some(stream) => {
                let (value, delay) = stream.windowed(&mut self.graph, path, image, &along_time, padding);
                (value, [0, 0], delay)
            }
            None => (image.value.clone(), along_time.padding, 0),
        };
        settings.push(("strides", [along_time.stride, along_frequency.stride].into()));
        settings.push(("pads", [past, low, future, high].into()));
        let inputs: Vec<&str> = [&value].into_iter().chain(parameters).map(String::as_str).collect();
        Image { value: self.graph.node(path, operator, &inputs, settings), shape, time, delay }
    }

    /// Both paths over the same rows; the one that comes earlier waits for the other.
    fn residual(&mut self, residual: &Residual, path: &str, image: &Image) -> Result<Image> {
        let prefix = format!("{path}.");
        let mut paths = [
            self.layers(&residual.branch, &prefix, image.clone())?,
            self.layers(&residual.shortcut, &prefix, image.clone())?,
        ];
        let delay = paths.iter().map(|image| image.delay).max().unwrap_or(0);
        for image in paths.iter_mut().filter(|image| image.delay < delay) {
            if let Some(stream) = &mut self.stream {
                image.value = stream.delayed(&mut self.graph, path, image, delay - image.delay);
            }
        }
        let [branch, shortcut] = &paths;
        let value = self.graph.node(path, "Add", &[&branch.value, &shortcut.value], Vec::new());
        let time = self.rows.get(path).map_or(branch.time, |&(_, time)| time);
        Ok(Image { value, shape: branch.shape, time, delay })
    }

    fn activation(&mut self, activation: Activation, path: &str, x: &str) -> String {
        let graph = &mut self.graph;
        let mut node = |operator: &str, inputs: &[&str]| graph.node(path, operator, inputs, Vec::new());
        match activation {
            Activation::Relu => node("Relu", &[x]),
            Activation::LeakyRelu { slope } => graph.node(path, "LeakyRelu", &[x], vec![("alpha", slope.into())]),
            Activation::ClippedRelu { ceiling } => {
                let (zero, ceiling) = (graph.float(0.0), graph.float(ceiling));
                graph.node(path, "Clip", &[x, &zero, &ceiling], Vec::new())
            }
            Activation::Sigmoid => node("Sigmoid", &[x]),
            Activation::Tanh => node("Tanh", &[x]),
            Activation::Silu => {
                let gate = node("Sigmoid", &[x]);
                node("Mul", &[x, &gate])
            }
            // The operator Gelu came with opset 20.
            Activation::Gelu => {
                let [cubic, scale, one, half] = [0.044_715, GELU, 1.0, 0.5].map(|value| graph.float(value));
                let mut node = |operator: &str, a: &str, b: &str| graph.node(path, operator, &[a, b], Vec::new());
                let square = node("Mul", x, x);
                let cube = node("Mul", &square, x);
                let cube = node("Mul", &cube, &cubic);
                let sum = node("Add", x, &cube);
                let scaled = node("Mul", &sum, &scale);
                let tanh = graph.node(path, "Tanh", &[&scaled], Vec::new());
                let mut node = |operator: &str, a: &str, b: &str| graph.node(path, operator, &[a, b], Vec::new());
                let gate = node("Add", &tanh, &one);
                let half = node("Mul", x, &half);
                node("Mul", &half, &gate)
            }
        }
    }

    fn parameter(&mut self, path: &str, name: &str) -> Result<String> {
        let path = format!("{path}.{name}");
        match self.weights.get(&path) {
            Some(tensor) => Ok(self.graph.tensor(&path, tensor)),
            None => Err(Error::network(path, "the weights lack this parameter")),
        }
    }
}
