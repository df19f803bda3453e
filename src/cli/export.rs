//! `dfcnn export`: a model as a file for other programs.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use dfcnn::atomic_file;
use dfcnn::model::Model;
use dfcnn::network::onnx::Form;

use super::Verbosity;

/// Write a model as an ONNX file, for ONNX Runtime and other programs.
///
/// The file's metadata hold the tokens, the front-end's settings and the rule by which chunks follow each other;
/// examples/onnx_stream.py streams a recording through it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A model's folder [default: the model inside the program]
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    onnx: PathBuf,
    /// A graph that takes whole utterances, instead of streams chunk by chunk
    #[arg(long)]
    offline: bool,
}

/// Exports.
pub fn run(arguments: &Arguments, verbosity: Verbosity) -> anyhow::Result<()> {
    let model = match &arguments.model {
        Some(folder) => Model::load(folder)?,
        None => Model::embedded()?,
    };
    let form = if arguments.offline { Form::Offline } else { Form::Streaming };
    let network = model.to_onnx(form)?;
    atomic_file::write(&arguments.onnx, |file| file.write_all(&network.bytes))?;
    verbosity.note(format_args!(
        "{}: model {}, {} bytes, {} histories, {} steps late",
        arguments.onnx.display(),
        model.name,
        network.bytes.len(),
        network.histories.len(),
        network.delay_steps
    ));
    Ok(())
}
