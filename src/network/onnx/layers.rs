//! Each layer kind as ONNX operators on `[batch, channels, time, frequency]`.

use std::collections::HashMap;

use super::graph::{Graph, Setting};
use super::streaming::{Padding, Stream};
use crate::network::arithmetic::Window;
use crate::network::{
    Activation, Architecture, Convolution, FrameShape, Layer, NamedLayer, Quantize, Residual, TimeExtent, Weights,
};
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
    /// What its bytes mean, if it is of u8.
    pub bytes: Option<Quantize>,
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
        Image { value, shape, time: TimeExtent::INPUT, delay: 0, bytes: None }
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
        let node =
            |graph: &mut Graph, operator: &str, inputs: &[&str], settings| graph.node(path, operator, inputs, settings);
        let value = match layer {
            Layer::Convolution(convolution) => {
                let inputs = self.filters(convolution, path, image.bytes)?;
                let settings = vec![
                    ("kernel_shape", convolution.kernel.into()),
                    ("dilations", convolution.dilation.into()),
                    ("group", convolution.groups.into()),
                ];
                return Ok(self.window(layer, path, &image, "Conv", &inputs, settings, (shape, time)));
            }
            Layer::MaxPool(pool) => {
                let settings = vec![("kernel_shape", pool.kernel.into())];
                return Ok(self.window(layer, path, &image, "MaxPool", &[], settings, (shape, time)));
            }
            Layer::AveragePool(pool) => {
                let settings = vec![("kernel_shape", pool.kernel.into()), ("count_include_pad", Setting::Int(1))];
                return Ok(self.window(layer, path, &image, "AveragePool", &[], settings, (shape, time)));
            }
            Layer::Residual(residual) => return self.residual(residual, path, &image),
            Layer::BatchNorm(norm) => {
                let mut inputs = vec![self.floats(path, &image)];
                for name in ["weight", "bias", "running_mean", "running_var"] {
                    inputs.push(self.parameter(path, name)?);
                }
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                node(&mut self.graph, "BatchNormalization", &inputs, vec![("epsilon", norm.epsilon.into())])
            }
            Layer::Activation(activation) => {
                let x = self.floats(path, &image);
                self.activation(*activation, path, &x)
            }
            Layer::LocalResponseNorm(norm) => {
                // ONNX divides alpha by the size.
                let settings = vec![
                    ("size", norm.size.into()),
                    ("alpha", (norm.alpha * norm.size as f32).into()),
                    ("beta", norm.beta.into()),
                    ("bias", norm.k.into()),
                ];
                let x = self.floats(path, &image);
                node(&mut self.graph, "LRN", &[&x], settings)
            }
            Layer::Dropout(_) => return Ok(image),
            Layer::FrequencyCollapse => {
                let turned = node(&mut self.graph, "Transpose", &[&image.value], vec![("perm", [0, 1, 3, 2].into())]);
                let extents = self.graph.ints(&[0, shape.channels as i64, -1, 1]);
                let value = node(&mut self.graph, "Reshape", &[&turned, &extents], Vec::new());
                return Ok(Image { value, shape, ..image });
            }
            Layer::LogSoftmax => {
                let x = self.floats(path, &image);
                node(&mut self.graph, "LogSoftmax", &[&x], vec![("axis", 1.into())])
            }
            Layer::Quantize(settings) => {
                let x = self.floats(path, &image);
                let (scale, zero) = (self.graph.float(settings.scale), self.graph.byte(settings.zero_point));
                let value = node(&mut self.graph, "QuantizeLinear", &[&x, &scale, &zero], Vec::new());
                return Ok(Image { value, bytes: Some(*settings), ..image });
            }
        };
        Ok(Image { value, shape, time, delay: image.delay, bytes: None })
    }

    /// The image's values as f32.
    pub fn floats(&mut self, path: &str, image: &Image) -> String {
        match image.bytes {
            None => image.value.clone(),
            Some(settings) => self.dequantize(path, &image.value, settings),
        }
    }

    fn dequantize(&mut self, path: &str, bytes: &str, settings: Quantize) -> String {
        let (scale, zero) = (self.graph.float(settings.scale), self.graph.byte(settings.zero_point));
        self.graph.node(path, "DequantizeLinear", &[bytes, &scale, &zero], Vec::new())
    }

    /// A convolution's filters and bias; `input` says what the bytes of its image mean.
    fn filters(&mut self, convolution: &Convolution, path: &str, input: Option<Quantize>) -> Result<Vec<String>> {
        let lacks = || Error::network(path, "the weights lack the scales of int8 filters, or it the image of bytes");
        let mut inputs = Vec::new();
        if !convolution.int8 {
            inputs.push(self.parameter(path, "weight")?);
            if convolution.bias {
                inputs.push(self.parameter(path, "bias")?);
            }
            return Ok(inputs);
        }
        let name = format!("{path}.weight");
        let (filters, scales) = self.weights.int8(&name).ok_or_else(lacks)?;
        let shape = &self.weights.get(&name).ok_or_else(lacks)?.shape;
        let per_channel = || vec![("axis", Setting::Int(0))];
        let zeros = self.graph.int8(&format!("{name}_zero"), &[scales.len()], &vec![0; scales.len()]);
        let scale = self.graph.floats(&format!("{name}_scale"), scales);
        let filters = self.graph.int8(&name, shape, &filters);
        inputs.push(self.graph.node(path, "DequantizeLinear", &[&filters, &scale, &zeros], per_channel()));
        if convolution.bias {
            let name = format!("{path}.bias");
            let bias = &self.weights.get(&name).ok_or_else(lacks)?.values;
            let input = input.ok_or_else(lacks)?.scale;
            // The unit of the sums, which ONNX Runtime starts from the bias.
            let scales: Vec<f32> = scales.iter().map(|scale| scale * input).collect();
            let steps = bias.iter().zip(&scales).map(|(&bias, &scale)| (f64::from(bias) / f64::from(scale)).round());
            let steps: Option<Vec<i32>> =
                steps.map(|steps| (steps.abs() < 2.0_f64.powi(30)).then_some(steps as i32)).collect();
            let steps = steps.ok_or_else(|| {
                Error::network(&name, "is too large for 32 bits at the scales of this layer; quantize the model again")
            })?;
            let zeros = self.graph.int32(&format!("{name}_zero"), &vec![0; scales.len()]);
            let scale = self.graph.floats(&format!("{name}_scale"), &scales);
            let steps = self.graph.int32(&name, &steps);
            inputs.push(self.graph.node(path, "DequantizeLinear", &[&steps, &scale, &zeros], per_channel()));
        }
        Ok(inputs)
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
        (shape, time): (FrameShape, TimeExtent),
    ) -> Image {
        let [along_time, along_frequency] = layer.windows();
        let [low, high] = along_frequency.padding;
        let chooses = matches!(layer, Layer::MaxPool(_));
        let padding = match image.bytes {
            // No byte is less.
            Some(_) if chooses => Padding::Byte(0),
            Some(bytes) => Padding::Byte(bytes.zero_point),
            None => Padding::Float(if chooses { f32::NEG_INFINITY } else { 0.0 }),
        };
        let (mut value, [past, future], delay) = match &mut self.stream {
            Some(_) if along_time == Window::POINT => (image.value.clone(), [0, 0], image.delay),
            Some(stream) => {
                let (value, delay) = stream.windowed(&mut self.graph, path, image, &along_time, padding);
                (value, [0, 0], delay)
            }
            None => (image.value.clone(), along_time.padding, 0),
        };
        settings.push(("strides", [along_time.stride, along_frequency.stride].into()));
        settings.push(("pads", [past, low, future, high].into()));
        if let Some(bytes) = image.bytes
            && !chooses
        {
            value = self.dequantize(path, &value, bytes);
        }
        let bytes = image.bytes.filter(|_| chooses);
        let inputs: Vec<&str> = [&value].into_iter().chain(parameters).map(String::as_str).collect();
        Image { value: self.graph.node(path, operator, &inputs, settings), shape, time, delay, bytes }
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
        let [a, b] = [self.floats(path, branch), self.floats(path, shortcut)];
        let value = self.graph.node(path, "Add", &[&a, &b], Vec::new());
        let time = self.rows.get(path).map_or(branch.time, |&(_, time)| time);
        Ok(Image { value, shape: branch.shape, time, delay, bytes: None })
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
