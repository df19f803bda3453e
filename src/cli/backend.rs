//! Which engine runs the network, and on what: for the subcommands that recognise.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dfcnn::inference::{Backend, Compute, EngineKind};
use dfcnn::model::Model;
use dfcnn::recognizer::Engine;

use super::Verbosity;

/// The engine and its device.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub struct BackendChoice {
    /// What runs the network; auto takes ONNX Runtime where it has a GPU, else native
    #[arg(long, value_name = "ENGINE", value_enum, default_value_t, env = "DFCNN_ENGINE", hide_env_values = true)]
    engine: EngineName,
    /// What to compute on; auto takes a GPU if there is one that runs the network
    #[arg(long, value_name = "DEVICE", value_enum, default_value_t, env = "DFCNN_COMPUTE", hide_env_values = true)]
    compute: ComputeName,
    /// ONNX Runtime's library, or its folder [default: searched for, see docs/gpu.md]
    #[arg(long, value_name = "FILE", env = "DFCNN_ORT_LIB", hide_env_values = true)]
    ort_lib: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum EngineName {
    #[default]
    Auto,
    Native,
    #[value(name = "onnxruntime")]
    OnnxRuntime,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ComputeName {
    #[default]
    Auto,
    Cpu,
    Cuda,
}

impl BackendChoice {
    /// The model, ready to run on what was asked for; its weights as they came are not needed any more.
    pub fn engine(&self, model: Model, verbosity: Verbosity) -> dfcnn::Result<Engine> {
        let engine = Engine::with_backend(&model, &self.backend())?;
        if let Some(reason) = engine.reason() {
            verbosity.note(format_args!("no GPU: {reason}"));
        }
        Ok(engine)
    }

    /// What was asked for.
    pub fn backend(&self) -> Backend {
        let engine = match self.engine {
            EngineName::Auto => EngineKind::Auto,
            EngineName::Native => EngineKind::Native,
            EngineName::OnnxRuntime => EngineKind::OnnxRuntime,
        };
        let compute = match self.compute {
            ComputeName::Auto => Compute::Auto,
            ComputeName::Cpu => Compute::Cpu,
            ComputeName::Cuda => Compute::Cuda,
        };
        Backend { engine, compute, library: self.ort_lib.clone() }
    }
}
