//! A network as an ONNX file: the same function, for the programs and devices that run such files.
//!
//! [`Form::Offline`] takes whole utterances, `frames [batch, n, values]` → `log_probs [batch, m, classes]`.
//!
//! [`Form::Streaming`] takes a stream chunk by chunk, and `batch` streams at once:
//!
//! | input | | |
//! |---|---|---|
//! | `frames` | f32 `[batch, n, values]` | the next frames; `n` is a multiple of the time stride |
//! | `position` | i64 `[batch]` | frames before this chunk: 0 starts a stream, then it grows by `n` |
//! | `length` | i64 `[batch]` | frames of the whole stream; [`UNKNOWN_LENGTH`] until its end is known |
//! | `history.…` | f32 or u8 `[batch, channels, rows, bins]` | what the last chunk gave; anything finite at first, such as zeros |
//!
//! | output | | |
//! |---|---|---|
//! | `log_probs` | f32 `[batch, n / stride, classes]` | row `k` is step `position / stride + k − delay_steps` of the stream |
//! | `new_history.…` | | to be given back with the next chunk |
//!
//! Here no layer can wait for future frames, so each gives its rows late; `delay_steps` is what that adds up to. Rows of
//! steps before 0 belong to no sound and are to be dropped. The end: frames that fill the last chunk up, and further
//! chunks until the last step is out, may hold anything finite; from then on `length` is the true one.
//!
//! **Why the result is that of the whole utterance.** A layer pads the rows that *it* sees, after the activations of those
//! before it. The graph knows for each row which frame it stands for, and so whether it lies before the first or after
//! the last that its layer has; such rows, and whatever the histories held at the start, are replaced by padding right
//! before they are looked at.

//!
//! **8 bits.** A [`Quantize`](crate::network::Quantize) layer becomes QuantizeLinear, and what follows works on its bytes as far
//! as it only moves or chooses among them. Whatever computes has a DequantizeLinear before each of its inputs, int8
//! filters and 32-bit biases included: the form ("QDQ") that ONNX Runtime makes 8-bit operators of.

mod graph;
mod layers;
mod proto;
mod streaming;

use super::architecture::Architecture;
use super::fold::{Folded, fold_batch_norm};
use super::weights::Weights;
use crate::Result;
use graph::{Extent, Graph};
use layers::Export;
use proto::DataType;
use streaming::Stream;

/// What stands for the length of a stream whose end is not known yet.
pub const UNKNOWN_LENGTH: i64 = i64::MAX;

/// What the graph takes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The next frames of a stream.
    Streaming,
    /// A whole utterance.
    Offline,
}

/// A network as an ONNX file.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxNetwork {
    /// The file.
    pub bytes: Vec<u8>,
    /// How many steps later than asked for an output comes; 0 offline.
    pub delay_steps: usize,
    /// What is handed from chunk to chunk, in the order of the inputs; none offline.
    pub histories: Vec<History>,
}

/// The last rows that a layer saw. As an input it is called `name`, as an output [`History::new_name`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The input's name.
    pub name: String,
    /// Its extents after the batch: channels, rows, bins.
    pub shape: [usize; 3],
    /// Whether it holds u8 instead of f32.
    pub bytes: bool,
}

impl History {
    /// The output's name.
    pub fn new_name(&self) -> String {
        format!("new_{}", self.name)
    }

    fn data_type(&self) -> DataType {
        if self.bytes { DataType::Uint8 } else { DataType::Float }
    }

    /// Values of one stream.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds nothing; never so.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes a network as an ONNX file, batch normalisation folded. `metadata(delay_steps)` are the pairs that stand in it
/// for others to read.
///
/// # Errors
/// [`crate::Error::Network`] when the weights are not those of the architecture, or too many for such a file.
pub fn export(
    architecture: &Architecture,
    weights: &Weights,
    form: Form,
    metadata: impl FnOnce(usize) -> Vec<(String, String)>,
) -> Result<OnnxNetwork> {
    let Folded { architecture, weights, .. } = fold_batch_norm(architecture, weights)?;
    let mut graph = Graph::default();
    let (input, output) = (architecture.input(), architecture.output());
    let (batch, n) = (Extent::Open("batch"), Extent::Open("n"));
    let frames = graph.input("frames", DataType::Float, &[batch, n, Extent::Known(input.len())]);
    let stream = (form == Form::Streaming).then(|| Stream::new(&mut graph, &frames));
    let mut export = Export { graph, weights: &weights, rows: layers::rows(&architecture), stream };
    let image = export.image(&frames, input);
    let image = export.layers(architecture.layers(), "", image)?;
    let (value, delay) = (export.floats("out", &image), image.delay);
    let Export { mut graph, stream, .. } = export;

    let rows_last = graph.node("out", "Transpose", &[&value], vec![("perm", [0, 2, 3, 1].into())]);
    let shape = graph.ints(&[0, 0, output.len() as i64]);
    graph.node_as("log_probs", "Reshape", &[&rows_last, &shape], Vec::new());
    let extents = [Extent::Open("batch"), Extent::Open("m"), Extent::Known(output.len())];
    graph.output("log_probs", DataType::Float, &extents);
    let histories = stream.map(|stream| stream.outputs(&mut graph)).unwrap_or_default();
    Ok(OnnxNetwork { bytes: graph.encode("dfcnn", &metadata(delay))?, delay_steps: delay, histories })
}
