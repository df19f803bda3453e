//! Exported networks, and ONNX Runtime as the engine. Most of it needs ONNX Runtime's library and is built with
//! `--features onnxruntime`; the Python tests need the packages onnx and onnxruntime beside it.

use std::path::Path;
use std::process::{Command, Output};

use dfcnn::model::Model;
use dfcnn::network::onnx::Form;

fn dfcnn(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfcnn"));
    for name in ["DFCNN_MODEL", "DFCNN_ENGINE", "DFCNN_COMPUTE"] {
        command.env_remove(name);
    }
    command.args(arguments).output().unwrap()
}

fn package(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

/// The one complaint of a run that failed.
#[track_caller]
fn complaint(arguments: &[&str]) -> String {
    let output = dfcnn(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(output.stdout.is_empty() && text.lines().count() == 1 && text.starts_with("dfcnn: "), "{text}");
    text
}

#[test]
fn the_native_engine_has_no_gpu() {
    let text = complaint(&["transcribe", "--engine", "native", "--compute", "cuda", &package("audio/harbour.wav")]);
    assert!(text.contains("native engine runs on the CPU only"), "{text}");
}

#[test]
fn a_file_is_written_whole_with_everything_others_need() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    let output = dfcnn(&["export", "--onnx", file.to_str().unwrap()]);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let bytes = std::fs::read(&file).unwrap();
    let model = Model::embedded().unwrap();
    let network = model.to_onnx(Form::Streaming).unwrap();
    assert_eq!(bytes, network.bytes);
    for text in ["\"stride_frames\":4", "\"hop_samples\":160", "delay_steps", "new_history.c1"] {
        assert!(bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
    // Late enough for what the network looks ahead, and not a step more.
    let time = model.architecture.time();
    assert_eq!(network.delay_steps, (time.lookahead + 1).div_ceil(time.stride) - 1);
    assert!(model.to_onnx(Form::Offline).unwrap().histories.is_empty());
    let text = complaint(&["export", "--onnx", folder.path().join("no/such.onnx").to_str().unwrap()]);
    assert!(text.contains("such.onnx: cannot write"), "{text}");
    let text = complaint(&["export", package("audio").as_str(), "--onnx", file.to_str().unwrap()]);
    assert!(text.contains("has no model.toml"), "{text}");
}

#[cfg(not(feature = "onnxruntime"))]
mod without {
    use super::*;

    #[test]
    fn what_cannot_run_here_is_told_with_the_remedy() {
        for choice in [["--engine", "onnxruntime"], ["--compute", "cuda"], ["--ort-lib", "libonnxruntime.so"]] {
            let clip = package("audio/harbour.wav");
            let text = complaint(&["transcribe", choice[0], choice[1], &clip]);
            assert!(text.contains("built without ONNX Runtime") && text.contains("--features onnxruntime"), "{text}");
        }
    }
}

#[cfg(feature = "onnxruntime")]
mod golden;
#[cfg(feature = "onnxruntime")]
mod random_network;

#[cfg(feature = "onnxruntime")]
mod with {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;

    use dfcnn::audio::AudioStream;
    use dfcnn::inference::native::NativeNetwork;
    use dfcnn::inference::onnxruntime::{Device, OnnxRuntimeNetwork, Runtime};
    use dfcnn::inference::{Backend, Compute, EngineKind, Network};
    use dfcnn::network::onnx;
    use dfcnn::quantize::Quantizer;
    use dfcnn::recognizer::{Acoustics, Engine};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::golden;
    use super::random_network::{Noise, int8_network, network, streamed};
    use super::*;

    /// Difference allowed for log-probabilities down to −1; of larger ones, which are those of what nobody said, the same
    /// part.
    const TOLERANCE: f32 = 1e-4;

    fn runtime() -> Option<Arc<Runtime>> {
        let library = std::env::var_os("DFCNN_ORT_LIB").map(PathBuf::from);
        match Runtime::load(library.as_deref(), Device::Cpu) {
            Ok(runtime) => Some(runtime),
            Err(error) if library.is_none() => {
                println!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The Python that the library belongs to, if it has the package onnx.
    fn python() -> Option<PathBuf> {
        let runtime = runtime()?;
        let python = runtime.path().ancestors().nth(6)?.join("bin/python");
        match Command::new(&python).args(["-c", "import onnx, onnxruntime"]).output() {
            Ok(output) if output.status.success() => Some(python),
            _ => {
                println!("skipped: {} has no package onnx", python.display());
                None
            }
        }
    }

    #[track_caller]
    fn assert_near(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
        // A NaN is near nothing.
        assert!(apart < TOLERANCE && a.iter().all(|value| value.is_finite()), "apart by {apart}");
    }

    #[test]
    fn random_networks_are_the_same_in_any_split() {
        let Some(runtime) = runtime() else { return };
        let config = ProptestConfig { cases: 24, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() };
        let pieces = prop::collection::vec(1usize..40, 1..6);
        proptest!(config, |(seed: u64, frames in 0usize..150, pieces in pieces)| {
            let (architecture, weights) = network(seed);
            let width = architecture.input().len();
            let input = Noise(seed ^ 1).values(frames * width);
            let native = Arc::new(NativeNetwork::new(&architecture, &weights).unwrap()) as Arc<dyn Network>;
            let wanted = streamed(&mut *native.session(1).unwrap(), &input, width, &[frames.max(1)]);
            let theirs = OnnxRuntimeNetwork::new(&architecture, &weights, Arc::clone(&runtime), Device::Cpu).unwrap();
            let mut session = Arc::new(theirs).session(1).unwrap();
            assert_near(&streamed(&mut *session, &input, width, &pieces), &wanted);
            // Poison before a reset must not show after it.
            session.push(&vec![f32::NAN; 30 * width], &mut Vec::new()).unwrap();
            session.reset();
            assert_near(&streamed(&mut *session, &input, width, &[frames.max(1)]), &wanted);
            prop_assert!(session.push(&vec![0.0; width + 1], &mut Vec::new()).is_err());
        });
    }

    /// In 8 bits a value between two bytes may be rounded to either, which changes what follows by a step.
    const STEPS: f32 = 0.15;
    const MEAN_STEPS: f32 = 5e-3;

    #[track_caller]
    fn assert_near_in_steps(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        let apart: Vec<f32> = a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).collect();
        let (most, sum) = (apart.iter().copied().fold(0.0, f32::max), apart.iter().sum::<f32>());
        assert!(most < STEPS && sum <= MEAN_STEPS * apart.len() as f32, "{most}, {sum} in {}", apart.len());
        assert!(a.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn random_networks_in_8_bits_are_the_same_in_any_split() {
        let Some(runtime) = runtime() else { return };
        let config = ProptestConfig { cases: 12, rng_seed: RngSeed::Fixed(8), ..ProptestConfig::default() };
        let pieces = prop::collection::vec(1usize..40, 1..6);
        proptest!(config, |(seed: u64, frames in 20usize..150, pieces in pieces)| {
            let (architecture, weights) = int8_network(seed);
            let width = architecture.input().len();
            let input = Noise(seed ^ 1).values(frames * width);
            let native = Arc::new(NativeNetwork::new(&architecture, &weights).unwrap()) as Arc<dyn Network>;
            let wanted = streamed(&mut *native.session(1).unwrap(), &input, width, &[frames]);
            let theirs = OnnxRuntimeNetwork::new(&architecture, &weights, Arc::clone(&runtime), Device::Cpu).unwrap();
            let mut session = Arc::new(theirs).session(1).unwrap();
            assert_near_in_steps(&streamed(&mut *session, &input, width, &pieces), &wanted);
        });
    }

    #[test]
    fn onnxs_own_tools_agree_streamed_in_batches_and_offline() {
        let Some(python) = python() else { return };
        let folder = tempfile::tempdir().unwrap();
        let mut arguments = vec![PathBuf::from(package("tests/peers/onnx_forms.py"))];
        for seed in 0..16 {
            let int8 = seed >= 12;
            let (architecture, weights) = if int8 { int8_network(seed) } else { network(seed) };
            let (width, frames, half) = (architecture.input().len(), 140, 83);
            let input = Noise(seed ^ 1).values(frames * width);
            let native = Arc::new(NativeNetwork::new(&architecture, &weights).unwrap()) as Arc<dyn Network>;
            let outputs = |frames: usize| {
                streamed(&mut *Arc::clone(&native).session(1).unwrap(), &input[..frames * width], width, &[frames])
            };
            let place = folder.path().join(seed.to_string());
            fs::create_dir(&place).unwrap();
            let mut delay_steps = 0;
            for (form, name) in [(Form::Offline, "offline.onnx"), (Form::Streaming, "streaming.onnx")] {
                let network = onnx::export(&architecture, &weights, form, |_| Vec::new()).unwrap();
                fs::write(place.join(name), network.bytes).unwrap();
                delay_steps = network.delay_steps;
            }
            for (name, values) in [("frames", input.clone()), ("outputs", outputs(frames)), ("half", outputs(half))] {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                fs::write(place.join(name), bytes).unwrap();
            }
            let shapes = serde_json::json!({
                "width": width, "tolerance": if int8 { STEPS } else { TOLERANCE }, "stride": architecture.time_stride(), "delay_steps": delay_steps, "half": half,
                "steps": [architecture.output_frames(frames), architecture.output_frames(half)],
            });
            fs::write(place.join("shapes.json"), shapes.to_string()).unwrap();
            arguments.push(place);
        }
        let output = Command::new(python).args(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 16);
    }

    /// Our recordings, and twenty of the real speech beside the project, where there is some.
    fn clips() -> Vec<String> {
        let ours = ["audio/harbour.wav", "audio/garden.flac", "audio/market.mp3", "audio/train.opus"];
        let mut clips: Vec<String> = ours.into_iter().map(package).collect();
        if let Some(manifest) = golden::shared("corpus/dev.jsonl") {
            let lines = fs::read_to_string(&manifest).unwrap();
            let rows: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            clips.extend(
                rows.iter()
                    .step_by(rows.len().div_ceil(20))
                    .map(|row| manifest.with_file_name(row["audio_filepath"].as_str().unwrap()).display().to_string()),
            );
        }
        clips
    }

    #[test]
    fn the_shipped_model_hears_the_same() {
        let Some(runtime) = runtime() else { return };
        let model = Model::embedded().unwrap();
        let native = Engine::new(&model).unwrap();
        let library = runtime.path();
        let theirs =
            Backend { engine: EngineKind::OnnxRuntime, compute: Compute::Cpu, library: Some(library.to_path_buf()) };
        let theirs = Engine::with_backend(&model, &theirs).unwrap();
        let clips = clips();
        for clip in &clips {
            let mut samples = Vec::new();
            let mut sound = AudioStream::open(clip.as_ref(), 16_000).unwrap();
            while sound.read(&mut samples).unwrap() > 0 {}
            let log_probs = |engine: &Engine, threads, piece| {
                let mut acoustics = Acoustics::new(engine, threads).unwrap();
                let mut log_probs = Vec::new();
                samples.chunks(piece).for_each(|samples| acoustics.push(samples, &mut log_probs).unwrap());
                acoustics.finish(&mut log_probs).unwrap();
                log_probs
            };
            let wanted = log_probs(&native, 1, samples.len());
            assert_near(&log_probs(&theirs, 1, 2_560), &wanted);
            assert_near(&log_probs(&theirs, 2, samples.len()), &wanted);
        }
        let library = library.display().to_string();
        let text = |options: &[&str]| {
            let arguments: Vec<&str> =
                ["transcribe"].iter().chain(options).copied().chain(clips.iter().map(String::as_str)).collect();
            dfcnn(&arguments)
        };
        let native = text(&["--engine", "native"]);
        let theirs = text(&["-v", "--engine", "onnxruntime", "--compute", "cpu", "--ort-lib", &library]);
        assert_eq!(String::from_utf8_lossy(&theirs.stdout), String::from_utf8_lossy(&native.stdout));
        let said = String::from_utf8_lossy(&theirs.stderr).into_owned();
        assert!(said.contains("ONNX Runtime 1.") && said.contains("(CPU, 1 thread)"), "{said}");
        assert!(!native.stdout.is_empty());
    }

    #[test]
    fn the_shipped_model_in_8_bits_hears_the_same_but_for_a_step() {
        let Some(runtime) = runtime() else { return };
        let model = Model::embedded().unwrap();
        let sound = |engine: &Engine, clip: &str| {
            let mut acoustics = Acoustics::new(engine, 1).unwrap();
            let mut stream = AudioStream::open(package(clip).as_ref(), 16_000).unwrap();
            let (mut samples, mut frames, mut log_probs) = (Vec::new(), Vec::new(), Vec::new());
            while stream.read(&mut samples).unwrap() > 0 {}
            samples.chunks(2_560).for_each(|samples| {
                acoustics.push(samples, &mut log_probs).unwrap();
                frames.extend_from_slice(acoustics.frames());
            });
            acoustics.finish(&mut log_probs).unwrap();
            (frames, log_probs)
        };
        let clips = ["audio/harbour.wav", "audio/garden.flac"];
        let float = Engine::new(&model).unwrap();
        let mut quantizer = Quantizer::new(&model.architecture, &model.weights, 1).unwrap();
        clips.iter().for_each(|clip| quantizer.observe(&sound(&float, clip).0));
        let (architecture, weights) = quantizer.quantized(&quantizer.eligible()).unwrap();
        let model = Model { architecture, weights, ..model };
        let native = Engine::new(&model).unwrap();
        let library = Some(runtime.path().to_path_buf());
        let theirs = Backend { engine: EngineKind::OnnxRuntime, compute: Compute::Cpu, library };
        let theirs = Engine::with_backend(&model, &theirs).unwrap();
        for clip in clips {
            let [wanted, ours, theirs] = [&float, &native, &theirs].map(|engine| sound(engine, clip).1);
            let apart = |a: &[f32], b: &[f32]| {
                assert_eq!(a.len(), b.len());
                a.iter().zip(b).map(|(a, b)| (a.exp() - b.exp()).abs()).sum::<f32>() / a.len() as f32
            };
            let (engines, bits) = (apart(&ours, &theirs), apart(&ours, &wanted));
            println!("{clip}: probabilities {engines} apart between engines, {bits} from 32 bits");
            assert!(engines < 1e-3 && bits < 2e-3 && bits > 1e-6, "{engines}, {bits}");
        }
    }

    #[test]
    fn the_example_hears_the_same() {
        let Some(python) = python() else { return };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.onnx");
        assert!(dfcnn(&["export", "--onnx", file.to_str().unwrap()]).status.success());
        let clip = package("audio/harbour.wav");
        let example =
            Command::new(python).arg(package("examples/onnx_stream.py")).arg(&file).arg(&clip).output().unwrap();
        assert!(example.status.success(), "{}", String::from_utf8_lossy(&example.stderr));
        let ours = dfcnn(&["transcribe", "--engine", "native", "--greedy", &clip]).stdout;
        assert_eq!(String::from_utf8_lossy(&example.stdout).trim(), String::from_utf8_lossy(&ours).trim());
    }

    #[test]
    fn where_no_gpu_runs_a_forced_one_fails_and_auto_is_native() {
        let Some(runtime) = runtime() else { return };
        let library = runtime.path().display().to_string();
        if runtime.devices().contains(&Device::Cuda) {
            println!("skipped: this library knows CUDA");
            return;
        }
        let clip = package("audio/harbour.wav");
        let cuda = complaint(&["transcribe", "--compute", "cuda", "--ort-lib", &library, &clip]);
        assert!(cuda.contains("on CUDA: ") && cuda.contains("not enabled in this build"), "{cuda}");
        for options in [&["--engine", "auto"][..], &["--engine", "auto", "--ort-lib", &library]] {
            let output = dfcnn(&[&["transcribe", "-v"], options, &[clip.as_str()]].concat());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.contains("no GPU: ") && said.contains("native engine"), "{said}");
        }
        let output = dfcnn(&["transcribe", "-v", "--engine", "onnxruntime", "--ort-lib", &library, &clip]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("no GPU: ") && said.contains("(CPU, 1 thread)"), "{said}");
    }

    #[test]
    fn a_library_that_is_none_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let clip = package("audio/harbour.wav");
        let refused = |file: &Path, problem: &str| {
            for engine in ["onnxruntime", "auto"] {
                let library = file.to_str().unwrap();
                let text = complaint(&["transcribe", "--engine", engine, "--ort-lib", library, &clip]);
                assert!(text.contains(file.file_name().unwrap().to_str().unwrap()), "{text}");
                assert!(text.contains(problem) && text.contains("pip install"), "{text}");
            }
        };
        refused(&folder.path().join("libonnxruntime.so"), "no library could be loaded");
        let text = folder.path().join("libonnxruntime.so.1.99.0");
        fs::write(&text, "this is no library\n").unwrap();
        refused(&text, "failed to load");
        let Some(runtime) = runtime() else { return };
        let library = fs::read(runtime.path()).unwrap();
        for part in [1, 3, 5, 7] {
            let damaged = folder.path().join(format!("libonnxruntime.so.1.0.{part}"));
            fs::write(&damaged, &library[..library.len() * part / 8]).unwrap();
            refused(&damaged, "");
        }
        let other = runtime.path().with_file_name("libonnxruntime_providers_shared.so");
        if other.exists() {
            refused(&other, "does not export");
        }
    }
}
