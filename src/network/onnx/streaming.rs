//! Histories, delays and masks: what makes a graph of whole layers one of chunks.

use std::collections::HashMap;

use super::History;
use super::graph::{Extent, Graph};
use super::layers::Image;
use super::proto::DataType;
use crate::network::arithmetic::Window;

/// Slices to the very end.
const END: i64 = i64::MAX;

/// What stands where an image has nothing, in the image's own type.
#[derive(Clone, Copy)]
pub enum Padding {
    Float(f32),
    Byte(u8),
}

/// The streaming side of a graph under construction.
pub struct Stream {
    frames: String,
    position: String,
    length: String,
    histories: Vec<History>,
    /// The values that become the new histories.
    kept: Vec<String>,
    /// For a stride and rows of history: the frame that each row of the chunk began with, and how far from the length.
    clocks: HashMap<(usize, i64), [String; 2]>,
    masks: HashMap<(usize, i64, [i64; 2]), String>,
}

impl Stream {
    pub fn new(graph: &mut Graph, frames: &str) -> Self {
        let shape = graph.ints(&[-1, 1, 1, 1]);
        let [position, length] = ["position", "length"].map(|name| {
            let value = graph.input(name, DataType::Int64, &[Extent::Open("batch")]);
            graph.node(name, "Reshape", &[&value, &shape], Vec::new())
        });
        Self {
            frames: frames.to_owned(),
            position,
            length,
            histories: Vec::new(),
            kept: Vec::new(),
            clocks: HashMap::new(),
            masks: HashMap::new(),
        }
    }

    /// Declares the new histories as outputs.
    pub fn outputs(self, graph: &mut Graph) -> Vec<History> {
        for (history, kept) in self.histories.iter().zip(&self.kept) {
            let [channels, rows, bins] = history.shape.map(Extent::Known);
            graph.node_as(&history.new_name(), "Identity", &[kept], Vec::new());
            graph.output(&history.new_name(), history.data_type(), &[Extent::Open("batch"), channels, rows, bins]);
        }
        self.histories
    }

    /// What a window without padding of its own is to slide over, so that its output `j` is output `j − delay` of the
    /// padded window over the undelayed image: the rows of the chunk behind rows of history, in both of which everything
    /// outside the utterance is `padding`. Returns it with that delay.
    pub fn windowed(
        &mut self,
        graph: &mut Graph,
        path: &str,
        image: &Image,
        window: &Window,
        padding: Padding,
    ) -> (String, usize) {
        let (span, stride) = (1 + window.dilation * (window.kernel - 1), window.stride);
        let [past, future] = window.padding;
        // Output j begins at row j · stride − rows; it should begin at row (j − delay) · stride − past of an image that
        // comes image.delay rows late.
        let least = span as i64 - stride as i64;
        let rows = least + (past as i64 - image.delay as i64 - least).rem_euclid(stride as i64);
        let delay = (rows + image.delay as i64 - past as i64) / stride as i64;

        let mut value = self.behind_history(graph, path, image, rows);
        if past + future > 0 {
            let inside = self.inside(graph, image, rows);
            let padding = match padding {
                Padding::Float(value) => graph.float(value),
                Padding::Byte(value) => graph.byte(value),
            };
            value = graph.node(path, "Where", &[&inside, &value, &padding], Vec::new());
        }
        (value, delay as usize)
    }

    /// The image `rows` rows later.
    pub fn delayed(&mut self, graph: &mut Graph, path: &str, image: &Image, rows: usize) -> String {
        let value = self.behind_history(graph, path, image, rows as i64);
        slice(graph, path, &value, 0, -(rows as i64))
    }

    /// The rows of the chunk behind the last `rows` of the chunks before; without the first few if `rows` is negative.
    fn behind_history(&mut self, graph: &mut Graph, path: &str, image: &Image, rows: i64) -> String {
        if rows <= 0 {
            return if rows == 0 { image.value.clone() } else { slice(graph, path, &image.value, -rows, END) };
        }
        let history = History {
            name: format!("history.{path}"),
            shape: [image.shape.channels, rows as usize, image.shape.frequency],
            bytes: image.bytes.is_some(),
        };
        let [channels, extent, bins] = history.shape.map(Extent::Known);
        let before = graph.input(&history.name, history.data_type(), &[Extent::Open("batch"), channels, extent, bins]);
        let value = graph.node(path, "Concat", &[&before, &image.value], vec![("axis", 2.into())]);
        self.kept.push(slice(graph, path, &value, -rows, END));
        self.histories.push(history);
        value
    }

    /// Which of the image's rows, `rows` before the chunk and those of the chunk, lie in the utterance:
    /// `[batch, 1, rows + chunk, 1]`.
    ///
    /// Row `i` counted from the start of the stream is row `i − delay` of the undelayed image, which has
    /// `(length + padding − receptive field) / stride + 1` of them. Both bounds times the stride are bounds on the frame
    /// `i · stride`.
    fn inside(&mut self, graph: &mut Graph, image: &Image, rows: i64) -> String {
        let time = image.time;
        let first = (image.delay * time.stride) as i64;
        let last = first + time.padding as i64 - time.receptive_field() as i64;
        if let Some(mask) = self.masks.get(&(time.stride, rows, [first, last])) {
            return mask.clone();
        }
        let [frame, behind_length] = self.clock(graph, time.stride, rows);
        let (least, most) = (graph.int(first), graph.int(last));
        let begun = graph.node("mask", "GreaterOrEqual", &[&frame, &least], Vec::new());
        let not_over = graph.node("mask", "LessOrEqual", &[&behind_length, &most], Vec::new());
        let mask = graph.node("mask", "And", &[&begun, &not_over], Vec::new());
        self.masks.insert((time.stride, rows, [first, last]), mask.clone());
        mask
    }

    /// For each row at this stride, `rows` before the chunk and those of the chunk: its frame counted from the start of
    /// the stream, and that minus the length. Both `[batch, 1, rows + chunk, 1]`.
    fn clock(&mut self, graph: &mut Graph, stride: usize, rows: i64) -> [String; 2] {
        if let Some(clock) = self.clocks.get(&(stride, rows)) {
            return clock.clone();
        }
        let mut node = |operator: &str, inputs: &[&str]| graph.node("clock", operator, inputs, Vec::new());
        let shape = node("Shape", &[&self.frames]);
        let (one, stride_value, before) = (graph.int(1), graph.int(stride as i64), graph.int(-rows));
        let column = graph.ints(&[1, 1, -1, 1]);
        let mut node = |operator: &str, inputs: &[&str]| graph.node("clock", operator, inputs, Vec::new());
        let frames = node("Gather", &[&shape, &one]);
        let chunk = node("Div", &[&frames, &stride_value]);
        let index = node("Range", &[&before, &chunk, &one]);
        let offset = node("Mul", &[&index, &stride_value]);
        let offset = node("Reshape", &[&offset, &column]);
        let frame = node("Add", &[&self.position, &offset]);
        let behind_length = node("Sub", &[&frame, &self.length]);
        let clock = [frame, behind_length];
        self.clocks.insert((stride, rows), clock.clone());
        clock
    }
}

/// Rows `start..end` of an image; negative numbers count from its end.
fn slice(graph: &mut Graph, path: &str, value: &str, start: i64, end: i64) -> String {
    let [start, end, axis] = [start, end, 2].map(|number| graph.ints(&[number]));
    graph.node(path, "Slice", &[value, &start, &end, &axis], Vec::new())
}
