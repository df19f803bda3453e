//! Forward through the reference network (8.16 GFLOP for ten seconds of sound).
//!
//! First all engines take turns in one interleaved run, which gives the ratios that `benches/record/` keeps; then
//! criterion times the native engine for each instruction set. All figures are CPU time unless they say "wall".
//!
//! The peer, ONNX Runtime, takes part when built with `--features onnxruntime`, after `benches/peers/reference.py
//! target/peers`, and with its library's path in `ORT_DYLIB_PATH`.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion};
use dfcnn::inference::Session;
use dfcnn::inference::native::{NativeNetwork, NativeSession};
use dfcnn::kernels::Kernels;
use dfcnn::model::Recipe;
use dfcnn::network::{Architecture, Tensor, Weights};

/// Ten seconds of sound.
const FRAMES: usize = 1000;
/// 160 ms of it.
const CHUNK_FRAMES: usize = 16;
/// Turns each engine takes in the interleaved run.
const ROUNDS: usize = 31;

/// CPU time of all threads of the process.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = ProcessTime;
    type Value = Duration;

    fn start(&self) -> ProcessTime {
        ProcessTime::now()
    }

    fn end(&self, start: ProcessTime) -> Duration {
        start.elapsed()
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// One engine in the interleaved run.
struct Contestant {
    name: &'static str,
    forward: Box<dyn FnMut() -> Vec<f32>>,
    cpu_ms: Vec<f64>,
    wall_ms: Vec<f64>,
}

fn contestant(name: &'static str, forward: impl FnMut() -> Vec<f32> + 'static) -> Contestant {
    Contestant { name, forward: Box::new(forward), cpu_ms: Vec::new(), wall_ms: Vec::new() }
}

fn streamed(session: &mut NativeSession, frames: &[f32], chunk: usize) -> Vec<f32> {
    let mut outputs = Vec::new();
    for chunk in frames.chunks(chunk) {
        session.push(chunk, &mut outputs).expect("whole frames");
    }
    session.finish(&mut outputs).expect("an end");
    outputs
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn interleaved(network: &Arc<NativeNetwork>, frames: &[f32]) {
    let session = |threads| NativeSession::new(Arc::clone(network), threads).expect("threads");
    let native = |threads: usize, chunk: usize| {
        let (mut session, frames) = (session(threads), frames.to_vec());
        move || streamed(&mut session, &frames, chunk)
    };
    let width = frames.len() / FRAMES;
    let mut contestants = vec![
        contestant("native, 1 thread, one push", native(1, frames.len())),
        contestant("native, 1 thread, 160 ms chunks", native(1, CHUNK_FRAMES * width)),
        contestant("native, 2 threads, one push", native(2, frames.len())),
    ];
    contestants.extend(peers(frames));
    let outputs: Vec<Vec<f32>> = contestants.iter_mut().map(|c| (c.forward)()).collect();
    for (contestant, output) in contestants.iter().zip(&outputs) {
        assert_eq!(output.len(), outputs[0].len(), "{}", contestant.name);
        let difference = output.iter().zip(&outputs[0]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-3, "{} differs by {difference}", contestant.name);
    }
    for _ in 0..ROUNDS {
        for contestant in &mut contestants {
            let (cpu, wall) = (ProcessTime::now(), Instant::now());
            black_box((contestant.forward)());
            contestant.wall_ms.push(1e3 * wall.elapsed().as_secs_f64());
            contestant.cpu_ms.push(1e3 * cpu.elapsed().as_secs_f64());
        }
    }
    println!("\ninterleaved, {ROUNDS} rounds, ms for 10 s of sound, {} kernels", network.instruction_set());
    println!("{:34} {:>8} {:>8} {:>9} {:>8}", "", "CPU", "CPU min", "CPU ratio", "wall");
    for contestant in &contestants {
        let least = contestant.cpu_ms.iter().copied().fold(f64::INFINITY, f64::min);
        let ratios: Vec<f64> = contestant.cpu_ms.iter().zip(&contestants[0].cpu_ms).map(|(a, b)| a / b).collect();
        println!(
            "{:34} {:8.1} {:8.1} {:9.2} {:8.1}",
            contestant.name,
            median(&contestant.cpu_ms),
            least,
            median(&ratios),
            median(&contestant.wall_ms),
        );
    }
    let index = |name: &str| contestants.iter().position(|c| c.name == name);
    for threads in ["1 thread", "2 threads"] {
        let ours = index(&format!("native, {threads}, one push"));
        let theirs = index(&format!("ONNX Runtime, {threads}"));
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            let ratio = |a: &[f64], b: &[f64]| median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>());
            let (ours, theirs) = (&contestants[ours], &contestants[theirs]);
            let cpu = ratio(&ours.cpu_ms, &theirs.cpu_ms);
            let wall = ratio(&ours.wall_ms, &theirs.wall_ms);
            println!("native / ONNX Runtime, {threads}: CPU {cpu:.2}, wall {wall:.2}");
        }
    }
    println!();
}

#[cfg(not(feature = "onnxruntime"))]
fn peers(_: &[f32]) -> Vec<Contestant> {
    println!("skipped: ONNX Runtime (build with --features onnxruntime)");
    Vec::new()
}

#[cfg(feature = "onnxruntime")]
fn peers(frames: &[f32]) -> Vec<Contestant> {
    use ort::session::Session;
    use ort::value::TensorRef;

    let (model, library) = (peer_file("reference.onnx"), std::env::var("ORT_DYLIB_PATH"));
    let (true, Ok(library)) = (model.exists(), library) else {
        println!("skipped: ONNX Runtime (needs {} and its library's path in ORT_DYLIB_PATH)", model.display());
        return Vec::new();
    };
    let environment = ort::init_from(library).expect("ONNX Runtime's library").build().expect("an environment");
    let width = frames.len() / FRAMES;
    let open = |threads: usize| -> Session {
        let builder = Session::builder(&environment).expect("a builder").with_intra_threads(threads).expect("threads");
        let builder = builder.with_config_entry("session.intra_op.allow_spinning", "0");
        builder.expect("no spinning").commit_from_file(&model).expect("a model")
    };
    let peer = |name, threads| {
        let (mut session, frames) = (open(threads), frames.to_vec());
        contestant(name, move || {
            let input = TensorRef::from_array_view(([1, 1, FRAMES, width], &frames[..])).expect("a tensor");
            let outputs = session.run(ort::inputs![input]).expect("a run");
            let (shape, values) = outputs[0].try_extract_tensor::<f32>().expect("floats");
            let (classes, steps) = (shape[1] as usize, shape[2] as usize);
            (0..steps * classes).map(|i| values[i % classes * steps + i / classes]).collect()
        })
    };
    vec![peer("ONNX Runtime, 1 thread", 1), peer("ONNX Runtime, 2 threads", 2)]
}

fn peer_file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(name)
}

/// Repeatable values in [-1, 1).
fn noise(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The weights that the peer has, or others if it is not there.
fn weights(architecture: &Architecture) -> Weights {
    if let Ok(weights) = Weights::read(&peer_file("reference.safetensors")) {
        return weights;
    }
    let mut weights = Weights::default();
    for parameter in architecture.parameters() {
        let fan_in = parameter.shape[1..].iter().product::<usize>().max(1) as f32;
        let values = noise(parameter.len()).iter().map(|x| x * (6.0 / fan_in).sqrt()).collect();
        weights.insert(&parameter.path, Tensor { shape: parameter.shape.clone(), values });
    }
    weights
}

fn main() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/architectures/reference.toml");
    let architecture = Recipe::load(&recipe).expect("the reference network").architecture;
    let weights = weights(&architecture);
    let frames = noise(FRAMES * architecture.input().len());
    let network = |kernels| Arc::new(NativeNetwork::with_kernels(&architecture, &weights, kernels).expect("a network"));

    interleaved(&network(Kernels::detect()), &frames);

    let mut criterion = Criterion::default().with_measurement(CpuTime).sample_size(20).configure_from_args();
    let mut group = criterion.benchmark_group("reference network, 10 s, CPU time");
    for kernels in Kernels::available() {
        let mut session = NativeSession::new(network(kernels), 1).expect("a session");
        for (name, chunk) in [("one push", frames.len()), ("160 ms", CHUNK_FRAMES * frames.len() / FRAMES)] {
            let id = BenchmarkId::new(kernels.name(), name);
            group.bench_function(id, |bencher| bencher.iter(|| streamed(&mut session, &frames, chunk)));
        }
    }
    group.finish();
    criterion.final_summary();
}
