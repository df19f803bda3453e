//! `dfcnn doctor`: what there is to compute with here, and whether it works.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Instant;

use clap::Args;
use dfcnn::Error;
use dfcnn::audio::capture::devices;
use dfcnn::inference::{Backend, Compute, EngineKind};
use dfcnn::kernels::Kernels;
use dfcnn::model::Model;
use dfcnn::recognizer::{Acoustics, Engine};

use super::backend::BackendChoice;
use super::{ModelChoice, Verbosity, threads};

/// Turns that an engine takes at the second of sound; the fastest counts.
const TURNS: usize = 5;
/// Log-probabilities of two engines that differ by less are the same.
const TOLERANCE: f32 = 1e-4;
/// In 8 bits engines may round a value between two bytes to either, which changes what follows by a step: probabilities that
/// differ by less are the same.
const STEPS: f32 = 0.1;

/// Show what there is to compute with, and test it.
///
/// Prints the processor's instruction sets, ONNX Runtime's library with its devices and what of the network ran where,
/// and for each engine how long it takes for a second of sound and whether it hears the same as the native one. With
/// --engine or --compute the exit code tells whether that choice works.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelChoice,
    #[command(flatten)]
    backend: BackendChoice,
}

/// Looks, tests, prints.
pub fn run(arguments: &Arguments, verbosity: Verbosity) -> anyhow::Result<()> {
    let model = arguments.model.load()?;
    let backend = arguments.backend.backend();
    let mut text = String::new();
    let sets: Vec<&str> = Kernels::available().iter().map(Kernels::name).collect();
    let cores = threads(None);
    line(&mut text, "program", format_args!("dfcnn {}", env!("CARGO_PKG_VERSION")));
    line(
        &mut text,
        "processor",
        format_args!(
            "{} cores, instruction sets {}; in 8 bits {}",
            cores,
            sets.join(", "),
            Kernels::detect().bytes_name()
        ),
    );
    let parameters = model.architecture.parameter_count();
    let int8 = model.architecture.int8_convolutions();
    let tolerance = if int8 > 0 { STEPS } else { TOLERANCE };
    let bits = match int8 {
        0 => String::new(),
        int8 => format!(", {int8} convolutions in 8 bits"),
    };
    line(&mut text, "model", format_args!("{}, {parameters} parameters{bits}", model.name));
    line(&mut text, "microphone", microphone());
    // Of the libraries here one that knows CUDA is to be loaded, and what is loaded stays.
    let (cuda, cpu) = ((EngineKind::OnnxRuntime, Compute::Cuda), (EngineKind::OnnxRuntime, Compute::Cpu));
    let [cuda, cpu] = [cuda, cpu].map(|(engine, compute)| Backend { engine, compute, ..backend.clone() });
    let engines = [("CUDA", cuda), ("CPU", cpu)]
        .map(|(device, backend)| (format!("ONNX Runtime, {device}"), Engine::with_backend(&model, &backend)));
    library(&mut text, &model, &backend);

    let native = Engine::with_backend(&model, &Backend::native())?;
    let wanted = hear(&native)?;
    line(&mut text, "native engine", wanted.costs());
    for (name, engine) in engines.iter().rev() {
        match engine.as_ref().map_err(Error::to_string).and_then(|engine| hear(engine).map_err(|e| e.to_string())) {
            Ok(heard) => {
                let apart = heard.apart(&wanted, int8 > 0);
                let verdict = if apart < tolerance { "hears the same" } else { "DOES NOT hear the same" };
                line(&mut text, name, format_args!("{}, {verdict} ({apart:.0e} apart)", heard.costs()));
            }
            Err(problem) => line(&mut text, name, format_args!("does not run: {problem}")),
        }
    }
    io::stdout().lock().write_all(text.as_bytes()).map_err(Error::write("-"))?;

    let chosen = arguments.backend.engine(model, verbosity)?;
    let apart = hear(&chosen)?.apart(&wanted, int8 > 0);
    anyhow::ensure!(apart < tolerance, "the engine that was chosen is {apart} apart from the native one");
    Ok(())
}

/// The one that `dfcnn listen` would take.
fn microphone() -> String {
    match devices() {
        Err(error) => error.to_string(),
        Ok(devices) => match devices.iter().find(|device| device.is_default) {
            Some(device) => format!("{} ({} in all)", device.name, devices.len()),
            None => "none".to_owned(),
        },
    }
}

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{name:<18} {value}");
}

/// What an engine made of a second of sound.
struct Heard {
    log_probs: Vec<f32>,
    seconds: f64,
}

impl Heard {
    fn costs(&self) -> String {
        format!("{:.1} ms for 1 s of sound, real-time factor {:.4}", 1e3 * self.seconds, self.seconds)
    }

    /// The largest difference of log-probabilities, relative where they are beyond −1; in `int8`, of probabilities.
    fn apart(&self, other: &Self, int8: bool) -> f32 {
        if self.log_probs.len() != other.log_probs.len() {
            return f32::INFINITY;
        }
        let pairs = self.log_probs.iter().zip(&other.log_probs);
        // A difference that is no number is as large as can be.
        pairs
            .map(|(a, b)| if int8 { (a.exp() - b.exp()).abs() } else { (a - b).abs() / b.abs().max(1.0) })
            .fold(0.0, |most, apart| if apart <= most { most } else { apart })
    }
}

/// Lets an engine hear a rising tone, in chunks of 160 ms.
fn hear(engine: &Engine) -> dfcnn::Result<Heard> {
    let rate_hz = engine.clock().sample_rate_hz;
    let sample = |i: u32| {
        let t = f64::from(i) / f64::from(rate_hz);
        (0.3 * (std::f64::consts::TAU * (200.0 + 1_000.0 * t) * t).sin()) as f32
    };
    let sound: Vec<f32> = (0..rate_hz).map(sample).collect();
    let mut acoustics = Acoustics::new(engine, 1)?;
    let mut heard = Heard { log_probs: Vec::new(), seconds: f64::INFINITY };
    for _ in 0..TURNS {
        heard.log_probs.clear();
        let began = Instant::now();
        for chunk in sound.chunks(rate_hz as usize * 16 / 100) {
            acoustics.push(chunk, &mut heard.log_probs)?;
        }
        acoustics.finish(&mut heard.log_probs)?;
        heard.seconds = heard.seconds.min(began.elapsed().as_secs_f64());
    }
    Ok(heard)
}

#[cfg(not(feature = "onnxruntime"))]
fn library(_: &mut String, _: &Model, _: &Backend) {}

/// The library that is loaded, its devices, and which provider runs what of the network.
#[cfg(feature = "onnxruntime")]
fn library(text: &mut String, model: &Model, backend: &Backend) {
    use dfcnn::inference::onnxruntime::{Device, OnnxRuntimeNetwork, Runtime};

    let wanted = backend.library.as_deref();
    // Why there is none stands in the lines of the engines.
    let Ok(runtime) = Runtime::load(wanted, Device::Cuda).or_else(|_| Runtime::load(wanted, Device::Cpu)) else {
        return;
    };
    line(text, "library", format_args!("{}, version {}", runtime.path().display(), runtime.version()));
    let devices: Vec<String> = runtime.devices().iter().map(Device::to_string).collect();
    line(text, "built for", devices.join(", "));
    for device in runtime.devices() {
        let network = OnnxRuntimeNetwork::new(&model.architecture, &model.weights, runtime.clone(), device);
        let Ok(placement) = network.and_then(|network| network.probe()) else { continue };
        for (provider, operators) in placement.providers() {
            let operators: Vec<String> = operators.iter().map(|(name, count)| format!("{name} {count}")).collect();
            line(text, &format!("a chunk on {device}"), format_args!("{provider}: {}", operators.join(", ")));
        }
    }
}
