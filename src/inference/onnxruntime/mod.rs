//! ONNX Runtime as the engine: on the CPU for comparison, on NVIDIA GPUs for speed. Its library is loaded when asked for,
//! never linked.

mod library;
mod placement;
mod session;

use std::sync::Arc;

use ort::ep::{self, ExecutionProvider};
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session as OrtSession;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

pub use library::Runtime;
pub use placement::Placement;

use super::{Network, Session};
use crate::network::onnx::{self, Form, OnnxNetwork};
use crate::network::{Architecture, TimeExtent, Weights};
use crate::{Error, Result};
use session::OnnxRuntimeSession;

/// What the graph runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}

impl Device {
    /// The name of the execution provider that serves it.
    pub fn provider(self) -> &'static str {
        match self {
            Self::Cpu => ep::CPU::NAME,
            Self::Cuda => ep::CUDA::NAME,
        }
    }

    /// Where tensors on it are.
    fn memory(self) -> ort::Result<MemoryInfo<'static>> {
        let device = match self {
            Self::Cpu => AllocationDevice::CPU,
            Self::Cuda => AllocationDevice::CUDA,
        };
        MemoryInfo::new(device, 0, AllocatorType::Device, MemoryType::Default)
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Cuda => "CUDA",
        })
    }
}

/// A network that ONNX Runtime runs.
pub struct OnnxRuntimeNetwork {
    graph: Arc<Graph>,
    /// What ran where, if a device other than the CPU was asked for.
    placement: Option<Placement>,
}

/// What the streams of a network share.
struct Graph {
    runtime: Arc<Runtime>,
    device: Device,
    onnx: OnnxNetwork,
    /// Whether it holds 8-bit convolutions.
    int8: bool,
    /// Values of one frame.
    width: usize,
    time: TimeExtent,
}

impl OnnxRuntimeNetwork {
    /// Prepares a network. On a GPU a chunk goes through first, to see that it really runs there: ONNX Runtime takes the
    /// CPU silently for what a GPU cannot do.
    ///
    /// # Errors
    /// [`Error::Network`] when the weights do not fit the architecture, [`Error::Setting`] with the reason that ONNX
    /// Runtime gives when the device cannot run it.
    pub fn new(architecture: &Architecture, weights: &Weights, runtime: Arc<Runtime>, device: Device) -> Result<Self> {
        let onnx = onnx::export(architecture, weights, Form::Streaming, |_| Vec::new())?;
        let (width, time) = (architecture.input().len(), architecture.time());
        let int8 = architecture.int8_convolutions() > 0;
        let mut network = Self { graph: Arc::new(Graph { runtime, device, onnx, int8, width, time }), placement: None };
        if device == Device::Cuda {
            let placement = network.probe()?;
            if let Some(problem) = placement.problem(device.provider()) {
                return Err(network.graph.error(problem));
            }
            network.placement = Some(placement);
        }
        Ok(network)
    }

    /// Runs a chunk and reports which provider ran which operators.
    ///
    /// # Errors
    /// [`Error::Setting`] with ONNX Runtime's reason.
    pub fn probe(&self) -> Result<Placement> {
        Placement::probe(&self.graph)
    }
}

impl Graph {
    fn builder(&self, threads: usize) -> Result<SessionBuilder> {
        let built = || -> Result<SessionBuilder, String> {
            let builder = OrtSession::builder(self.runtime.environment()).map_err(text)?;
            let builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(text)?;
            let builder = builder.with_intra_threads(threads).map_err(text)?;
            // Spinning threads would keep cores from the other streams.
            let builder = builder.with_intra_op_spinning(false).map_err(text)?;
            if self.device == Device::Cpu {
                return Ok(builder);
            }
            // Exhaustive search would time every algorithm for every shape; TF32 would round to 10 bits.
            let cuda = ep::CUDA::default()
                .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
                .with_tf32(false)
                .build()
                .error_on_failure();
            builder.with_execution_providers([cuda]).map_err(text)
        };
        built().map_err(|problem| self.error(problem))
    }

    /// ONNX Runtime's own session for one stream: its runs must not overlap.
    fn commit(&self, mut builder: SessionBuilder) -> Result<OrtSession> {
        builder.commit_from_memory(&self.onnx.bytes).map_err(|error| self.error(text(error)))
    }

    fn engine(&self) -> String {
        // What its kernels make of it is not known here.
        let graph = if self.int8 { ", 8-bit graph" } else { "" };
        format!("ONNX Runtime {}{graph}", self.runtime.version())
    }

    fn error(&self, problem: impl std::fmt::Display) -> Error {
        let remedy = if self.device == Device::Cuda { "; docs/gpu.md tells what a GPU needs" } else { "" };
        Error::setting(format!("{} on {}", self.engine(), self.device), format!("{problem}{remedy}"))
    }
}

/// The message alone: the error may carry the builder.
fn text<T>(error: ort::Error<T>) -> String {
    error.message().trim().to_owned()
}

impl Network for OnnxRuntimeNetwork {
    fn session(self: Arc<Self>, threads: usize) -> Result<Box<dyn Session>> {
        if threads == 0 {
            return Err(Error::setting("threads", "at least one thread is needed"));
        }
        let session = self.graph.commit(self.graph.builder(threads)?)?;
        let mut stream = OnnxRuntimeSession::new(Arc::clone(&self.graph), session)?;
        if self.graph.device == Device::Cuda {
            stream.warm_up()?;
        }
        Ok(Box::new(stream))
    }

    fn engine(&self) -> String {
        self.graph.engine()
    }

    fn device(&self) -> String {
        match &self.placement {
            None => self.graph.device.to_string(),
            Some(placement) => format!("{}: {}", self.graph.device, placement.summary()),
        }
    }
}
