//! Which engine runs a network, and on what.

use std::path::PathBuf;
use std::sync::Arc;

use super::Network;
use super::native::NativeNetwork;
use crate::network::{Architecture, Weights};
use crate::{Error, Result};

/// Which engine to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// ONNX Runtime where it runs the network on a GPU, else our own.
    #[default]
    Auto,
    /// Our own.
    Native,
    /// ONNX Runtime.
    OnnxRuntime,
}

/// What to compute on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compute {
    /// A GPU if the engine can and one is there, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// What is to run a network. A choice other than `Auto` is carried out or fails; nothing takes its place silently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backend {
    /// The engine.
    pub engine: EngineKind,
    /// The device.
    pub compute: Compute,
    /// ONNX Runtime's library, or the folder it is in; where nothing is said, it is searched for.
    pub library: Option<PathBuf>,
}

impl Backend {
    /// Our own engine on the CPU.
    pub fn native() -> Self {
        Self { engine: EngineKind::Native, ..Self::default() }
    }
}

/// A network made ready to run.
pub struct Prepared {
    /// The network.
    pub network: Arc<dyn Network>,
    /// Why `Auto` did not take a GPU, where it looked for one.
    pub reason: Option<String>,
}

/// Makes a network ready to run on what `backend` says.
///
/// # Errors
/// [`Error::Setting`] when a choice cannot be carried out, with the reason; [`Error::Network`] when the weights do not
/// fit the architecture.
pub fn prepare(architecture: &Architecture, weights: &Weights, backend: &Backend) -> Result<Prepared> {
    let native = |reason| -> Result<Prepared> {
        Ok(Prepared { network: Arc::new(NativeNetwork::new(architecture, weights)?), reason })
    };
    match (backend.engine, backend.compute) {
        (EngineKind::Native, Compute::Cuda) => Err(Error::setting(
            "compute = cuda",
            "the native engine runs on the CPU only; take the engine onnxruntime for a GPU",
        )),
        (EngineKind::Native, _) | (EngineKind::Auto, Compute::Cpu) => native(None),
        _ => with_onnx_runtime(architecture, weights, backend, native),
    }
}

#[cfg(not(feature = "onnxruntime"))]
fn with_onnx_runtime(
    _: &Architecture,
    _: &Weights,
    backend: &Backend,
    native: impl Fn(Option<String>) -> Result<Prepared>,
) -> Result<Prepared> {
    let asked = match backend {
        Backend { compute: Compute::Cuda, .. } => "compute = cuda",
        Backend { engine: EngineKind::OnnxRuntime, .. } => "engine = onnxruntime",
        Backend { library: Some(_), .. } => "ONNX Runtime's library",
        _ => return native(None),
    };
    let remedy = "build it with `cargo install --path . --locked --features onnxruntime`";
    Err(Error::setting(asked, format!("this program was built without ONNX Runtime; {remedy}")))
}

#[cfg(feature = "onnxruntime")]
fn with_onnx_runtime(
    architecture: &Architecture,
    weights: &Weights,
    backend: &Backend,
    native: impl Fn(Option<String>) -> Result<Prepared>,
) -> Result<Prepared> {
    use super::onnxruntime::{Device, OnnxRuntimeNetwork, Runtime};

    let network = |device| -> Result<Arc<dyn Network>> {
        let runtime = Runtime::load(backend.library.as_deref(), device)?;
        Ok(Arc::new(OnnxRuntimeNetwork::new(architecture, weights, runtime, device)?))
    };
    match (backend.engine, backend.compute) {
        (_, Compute::Cuda) => Ok(Prepared { network: network(Device::Cuda)?, reason: None }),
        (EngineKind::OnnxRuntime, Compute::Cpu) => Ok(Prepared { network: network(Device::Cpu)?, reason: None }),
        (engine, _) => match network(Device::Cuda) {
            Ok(network) => Ok(Prepared { network, reason: None }),
            Err(error) if engine == EngineKind::OnnxRuntime => {
                Ok(Prepared { network: network(Device::Cpu)?, reason: Some(error.to_string()) })
            }
            // Who names a library wants to hear what is wrong with it.
            Err(error) => {
                if let Some(library) = &backend.library {
                    Runtime::load(Some(library), Device::Cpu)?;
                }
                native(Some(error.to_string()))
            }
        },
    }
}
