//! A stream through ONNX Runtime.

use std::sync::Arc;

use ort::memory::MemoryInfo;
use ort::session::{IoBinding, Session as OrtSession};
use ort::value::{DynValue, Tensor};

use super::{Device, Graph, text};
use crate::inference::Session;
use crate::network::onnx::UNKNOWN_LENGTH;
use crate::{Error, Result};

/// The longest chunk in frames: longer ones would only take more memory.
const MOST_FRAMES: usize = 256;

/// A stream. Its histories stay on the device between chunks.
///
/// Chunks have 1, 2, 4, … steps: a GPU prepares itself anew for each shape it sees, so there are few, and any number of
/// frames is a few of them.
pub(super) struct OnnxRuntimeSession {
    graph: Arc<Graph>,
    session: OrtSession,
    binding: IoBinding,
    /// Where log-probabilities go, and where histories stay.
    here: MemoryInfo<'static>,
    there: MemoryInfo<'static>,
    /// Frames too few for a step.
    waiting: Vec<f32>,
    /// Frames that went into the graph.
    position: usize,
}

impl OnnxRuntimeSession {
    pub fn new(graph: Arc<Graph>, session: OrtSession) -> Result<Self> {
        let parts = || -> ort::Result<_> {
            let mut binding = session.create_binding()?;
            for history in &graph.onnx.histories {
                let [channels, rows, bins] = history.shape;
                let shape = [1, channels, rows, bins];
                if history.bytes {
                    binding.bind_input(&history.name, &Tensor::from_array((shape, vec![0_u8; history.len()]))?)?;
                } else {
                    binding.bind_input(&history.name, &Tensor::from_array((shape, vec![0.0_f32; history.len()]))?)?;
                }
            }
            Ok((binding, Device::Cpu.memory()?, graph.device.memory()?))
        };
        let (binding, here, there) = parts().map_err(|error| graph.error(text(error)))?;
        Ok(Self { graph, session, binding, here, there, waiting: Vec::new(), position: 0 })
    }

    /// Runs the profiler's one step, and gives the file of its profile.
    pub fn profile(mut self) -> Result<String> {
        let step = vec![0.0; self.graph.time.stride * self.graph.width];
        self.chunk(step, UNKNOWN_LENGTH, &mut Vec::new())?;
        self.session.end_profiling().map_err(|error| self.graph.error(text(error)))
    }

    /// Lets the device see every shape before sound comes in.
    pub fn warm_up(&mut self) -> Result<()> {
        let mut steps = self.most_steps();
        while steps > 0 {
            let frames = vec![0.0; steps * self.graph.time.stride * self.graph.width];
            self.chunk(frames, UNKNOWN_LENGTH, &mut Vec::new())?;
            steps /= 2;
        }
        self.reset();
        Ok(())
    }

    /// Steps of the longest chunk, a power of two.
    fn most_steps(&self) -> usize {
        1 << (MOST_FRAMES / self.graph.time.stride).max(1).ilog2()
    }

    /// Takes `frames`, whole steps of them, through the graph in chunks.
    fn chunks(&mut self, mut frames: &[f32], length: i64, outputs: &mut Vec<f32>) -> Result<()> {
        let step = self.graph.time.stride * self.graph.width;
        while frames.len() >= step {
            let steps = 1 << (frames.len() / step).min(self.most_steps()).ilog2();
            let (chunk, rest) = frames.split_at(steps * step);
            self.chunk(chunk.to_vec(), length, outputs)?;
            frames = rest;
        }
        Ok(())
    }

    /// One run of the graph; appends what is a step of the stream.
    fn chunk(&mut self, frames: Vec<f32>, length: i64, outputs: &mut Vec<f32>) -> Result<()> {
        let count = frames.len() / self.graph.width;
        let rows = self.run(count, frames, length).map_err(|error| self.graph.error(text(error)))?;
        let (_, values) = rows.try_extract_tensor::<f32>().map_err(|error| self.graph.error(text(error)))?;
        let steps = count / self.graph.time.stride;
        if values.len() % steps != 0 {
            return Err(self.graph.error(format!("{} values for {steps} steps", values.len())));
        }
        let classes = values.len() / steps;
        // The first row is step `position / stride − delay`.
        let first = self.position / self.graph.time.stride;
        let early = self.graph.onnx.delay_steps.saturating_sub(first).min(steps);
        outputs.extend_from_slice(&values[early * classes..]);
        self.position += count;
        Ok(())
    }

    /// Returns the log-probabilities and leaves the histories bound for the next run.
    fn run(&mut self, count: usize, frames: Vec<f32>, length: i64) -> ort::Result<DynValue> {
        let Self { graph, session, binding, here, there, position, .. } = self;
        binding.bind_input("frames", &Tensor::from_array(([1, count, graph.width], frames))?)?;
        binding.bind_input("position", &Tensor::from_array(([1_usize], vec![*position as i64]))?)?;
        binding.bind_input("length", &Tensor::from_array(([1_usize], vec![length]))?)?;
        // Binding an output anew gives it new memory: the old one is an input of this run.
        binding.bind_output_to_device("log_probs", here)?;
        for history in &graph.onnx.histories {
            binding.bind_output_to_device(history.new_name(), there)?;
        }
        let mut outputs = session.run_binding(binding)?.into_iter().map(|(_, value)| value).collect::<Vec<_>>();
        for (history, value) in graph.onnx.histories.iter().zip(outputs.drain(1..)) {
            binding.bind_input(&history.name, &value)?;
        }
        outputs.pop().ok_or_else(|| ort::Error::new("the graph gave no log-probabilities"))
    }
}

impl Session for OnnxRuntimeSession {
    fn push(&mut self, frames: &[f32], outputs: &mut Vec<f32>) -> Result<()> {
        let width = self.graph.width;
        if !frames.len().is_multiple_of(width) {
            return Err(Error::setting("frames", format!("{} values are no whole frames of {width}", frames.len())));
        }
        let step = self.graph.time.stride * width;
        let mut frames = frames;
        if !self.waiting.is_empty() {
            let (now, later) = frames.split_at(frames.len().min(step - self.waiting.len()));
            self.waiting.extend_from_slice(now);
            frames = later;
            if self.waiting.len() == step {
                let waiting = std::mem::take(&mut self.waiting);
                self.chunk(waiting, UNKNOWN_LENGTH, outputs)?;
            }
        }
        let (now, later) = frames.split_at(frames.len() / step * step);
        self.waiting.extend_from_slice(later);
        self.chunks(now, UNKNOWN_LENGTH, outputs)
    }

    fn finish(&mut self, outputs: &mut Vec<f32>) -> Result<()> {
        let (time, width) = (self.graph.time, self.graph.width);
        let length = self.position + self.waiting.len() / width;
        let steps = time.output_frames(length) + self.graph.onnx.delay_steps;
        // None at all where no window fits into the utterance.
        if time.output_frames(length) > 0 {
            let missing = steps.saturating_sub(self.position / time.stride);
            let mut frames = std::mem::take(&mut self.waiting);
            frames.resize(missing * time.stride * width, 0.0);
            self.chunks(&frames, length as i64, outputs)?;
        }
        self.reset();
        Ok(())
    }

    /// The histories may stay: at position 0 the graph does not look at them.
    fn reset(&mut self) {
        self.waiting.clear();
        self.position = 0;
    }
}
