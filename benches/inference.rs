//! Forward through the reference network (8.16 GFLOP for ten seconds of sound) and the shipped model.
//!
//! First all engines take turns in one interleaved run for each network, in 32 and in 8 bits, which gives the ratios that `benches/record/`
//! keeps; then many streams at once; then criterion times the native engine for each instruction set. All figures are CPU
//! time unless they say "wall".
//!
//! The peer, ONNX Runtime, takes part when built with `--features onnxruntime` and where its library is found, for example
//! in an active virtual environment with `pip install onnxruntime`.

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
use dfcnn::model::{Model, Recipe};
use dfcnn::network::{Architecture, Tensor, Weights};
use dfcnn::quantize::Quantizer;
use half::f16;

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
    name: String,
    forward: Box<dyn FnMut() -> Vec<f32>>,
    cpu_ms: Vec<f64>,
    wall_ms: Vec<f64>,
}

fn contestant(name: impl Into<String>, forward: impl FnMut() -> Vec<f32> + 'static) -> Contestant {
    Contestant { name: name.into(), forward: Box::new(forward), cpu_ms: Vec::new(), wall_ms: Vec::new() }
}

fn streamed(session: &mut dyn Session, frames: &[f32], chunk: usize) -> Vec<f32> {
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

/// A network to run, and sound for it.
struct Task {
    name: &'static str,
    /// What its convolutions compute with: nothing for 32 bits.
    bits: &'static str,
    architecture: Architecture,
    weights: Weights,
    /// Ten seconds.
    frames: Vec<f32>,
}

impl Task {
    fn new(name: &'static str, architecture: Architecture, weights: Weights) -> Self {
        let frames = noise(FRAMES * architecture.input().len());
        Self { name, bits: "", architecture, weights, frames }
    }

    /// The same in 8 bits: all convolutions but those that see few channels, calibrated on these frames.
    fn int8(&self) -> Self {
        let mut quantizer = Quantizer::new(&self.architecture, &self.weights, 2).expect("a network");
        quantizer.observe(&self.frames);
        let (architecture, weights) = quantizer.quantized(&quantizer.eligible()).expect("a network in 8 bits");
        Self { name: self.name, bits: " int8", architecture, weights, frames: self.frames.clone() }
    }

    fn network(&self, kernels: Kernels) -> Arc<NativeNetwork> {
        Arc::new(NativeNetwork::with_kernels(&self.architecture, &self.weights, kernels).expect("a network"))
    }
}

/// How long a call is.
const LENGTHS: [(&str, usize); 2] = [("one push", FRAMES), ("160 ms chunks", CHUNK_FRAMES)];

fn native(task: &Task) -> Vec<Contestant> {
    let network = task.network(Kernels::detect());
    let width = task.frames.len() / FRAMES;
    let mut contestants = Vec::new();
    for threads in [1, 2] {
        for (length, frames) in LENGTHS {
            let mut session = NativeSession::new(Arc::clone(&network), threads).expect("threads");
            let sound = task.frames.clone();
            let name = format!("native{}, {threads} threads, {length}", task.bits);
            contestants.push(contestant(name, move || streamed(&mut session, &sound, frames * width)));
        }
    }
    contestants
}

/// Panics unless the outputs of all contestants are those of the first.
fn check(contestants: &mut [Contestant], task: &Task) {
    let outputs: Vec<Vec<f32>> = contestants.iter_mut().map(|contestant| (contestant.forward)()).collect();
    for (contestant, output) in contestants.iter().zip(&outputs) {
        assert_eq!(output.len(), outputs[0].len(), "{}", contestant.name);
        let pairs = || output.iter().zip(&outputs[0]);
        if task.bits.is_empty() {
            let difference = pairs().map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
            assert!(difference < 1e-4, "{} differs by {difference}", contestant.name);
            continue;
        }
        // A value between two bytes may be rounded to either, and what follows from that may be large where nothing is
        // likely: probabilities tell.
        let difference = pairs().map(|(a, b)| (a.exp() - b.exp()).abs()).sum::<f32>() / output.len() as f32;
        println!("{}: probabilities differ by {difference:.1e} from native on average", contestant.name);
        assert!(difference < 0.01, "{} differs by {difference}", contestant.name);
    }
}

fn interleaved(task: &Task, int8: &Task) {
    let mut contestants = Vec::new();
    for task in [task, int8] {
        let mut own = native(task);
        own.extend(onnx_runtime::peers(task));
        check(&mut own, task);
        contestants.extend(own);
    }
    for _ in 0..ROUNDS {
        for contestant in &mut contestants {
            let (cpu, wall) = (ProcessTime::now(), Instant::now());
            black_box((contestant.forward)());
            contestant.wall_ms.push(1e3 * wall.elapsed().as_secs_f64());
            contestant.cpu_ms.push(1e3 * cpu.elapsed().as_secs_f64());
        }
    }
    let kernels = Kernels::detect();
    let (set, bytes) = (kernels.name(), kernels.bytes_name());
    println!("\n{}: interleaved, {ROUNDS} rounds, ms for 10 s of sound, {set} kernels, int8 {bytes}", task.name);
    println!("{:44} {:>8} {:>8} {:>9} {:>8}", "", "CPU", "CPU min", "CPU ratio", "wall");
    for contestant in &contestants {
        let least = contestant.cpu_ms.iter().copied().fold(f64::INFINITY, f64::min);
        let ratios: Vec<f64> = contestant.cpu_ms.iter().zip(&contestants[0].cpu_ms).map(|(a, b)| a / b).collect();
        println!(
            "{:44} {:8.1} {:8.1} {:9.2} {:8.1}",
            contestant.name,
            median(&contestant.cpu_ms),
            least,
            median(&ratios),
            median(&contestant.wall_ms),
        );
    }
    let find = |name: String| contestants.iter().find(|contestant| contestant.name == name);
    for (ours, theirs) in [("native", "ONNX Runtime"), ("native int8", "ONNX Runtime int8"), ("native int8", "native")]
    {
        for threads in [1, 2] {
            for (length, _) in LENGTHS {
                let name = |engine: &str| format!("{engine}, {threads} threads, {length}");
                let (Some(a), Some(b)) = (find(name(ours)), find(name(theirs))) else { continue };
                let ratio = |a: &[f64], b: &[f64]| median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>());
                let (cpu, wall) = (ratio(&a.cpu_ms, &b.cpu_ms), ratio(&a.wall_ms, &b.wall_ms));
                println!("{ours} / {theirs}, {threads} threads, {length}: CPU {cpu:.2}, wall {wall:.2}");
            }
        }
    }
    println!();
}

#[cfg(not(feature = "onnxruntime"))]
mod onnx_runtime {
    pub fn peers(_: &super::Task) -> Vec<super::Contestant> {
        println!("skipped: ONNX Runtime (build with --features onnxruntime)");
        Vec::new()
    }

    pub fn batched(_: &super::Task) {}
}

#[cfg(feature = "onnxruntime")]
mod onnx_runtime {
    use dfcnn::inference::Network;
    use dfcnn::inference::onnxruntime::{Device, OnnxRuntimeNetwork, Runtime};
    use dfcnn::network::onnx::{self, Form, UNKNOWN_LENGTH};
    use ort::session::{Session, SessionInputValue};
    use ort::value::{Tensor, TensorRef};

    use super::*;

    /// Chunks that each stream of a batch hears.
    const CHUNKS: usize = 32;

    fn runtime() -> Option<Arc<Runtime>> {
        Runtime::load(None, Device::Cpu).inspect_err(|error| println!("skipped: {error}")).ok()
    }

    fn open(runtime: &Runtime, onnx: &[u8], threads: usize) -> Session {
        let builder = Session::builder(runtime.environment()).expect("a builder");
        let builder = builder.with_intra_threads(threads).expect("threads");
        builder.with_intra_op_spinning(false).expect("no spinning").commit_from_memory(onnx).expect("a session")
    }

    /// The graph for whole utterances with one and two threads, and the engine's stream.
    pub fn peers(task: &Task) -> Vec<Contestant> {
        let Some(runtime) = runtime() else { return Vec::new() };
        let width = task.frames.len() / FRAMES;
        let offline =
            onnx::export(&task.architecture, &task.weights, Form::Offline, |_| Vec::new()).expect("an ONNX file").bytes;
        let network = OnnxRuntimeNetwork::new(&task.architecture, &task.weights, Arc::clone(&runtime), Device::Cpu)
            .expect("a network");
        let network = Arc::new(network);
        let mut contestants = Vec::new();
        for threads in [1, 2] {
            let (mut session, frames) = (open(&runtime, &offline, threads), task.frames.clone());
            let name = |length: &str| format!("ONNX Runtime{}, {threads} threads, {length}", task.bits);
            contestants.push(contestant(name("one push"), move || {
                let input = TensorRef::from_array_view(([1, FRAMES, width], &frames[..])).expect("a tensor");
                let outputs = session.run(ort::inputs![input]).expect("a run");
                outputs[0].try_extract_tensor::<f32>().expect("floats").1.to_vec()
            }));
            let mut stream = Arc::clone(&network).session(threads).expect("a stream");
            let frames = task.frames.clone();
            let chunks = move || streamed(&mut *stream, &frames, CHUNK_FRAMES * width);
            contestants.push(contestant(name("160 ms chunks"), chunks));
        }
        contestants
    }

    /// How many streams a core keeps at real time when each call takes 160 ms of so many.
    pub fn batched(task: &Task) {
        let Some(runtime) = runtime() else { return };
        let streaming =
            onnx::export(&task.architecture, &task.weights, Form::Streaming, |_| Vec::new()).expect("an ONNX file");
        let mut session = open(&runtime, &streaming.bytes, 1);
        let width = task.frames.len() / FRAMES;
        for batch in [1, 4, 16] {
            let frames = noise(batch * CHUNK_FRAMES * width);
            let mut histories: Vec<SessionInputValue> = streaming
                .histories
                .iter()
                .map(|history| {
                    let [channels, rows, bins] = history.shape;
                    let shape = [batch, channels, rows, bins];
                    if history.bytes {
                        Tensor::from_array((shape, vec![0_u8; batch * history.len()])).expect("a tensor").into()
                    } else {
                        Tensor::from_array((shape, vec![0.0_f32; batch * history.len()])).expect("a tensor").into()
                    }
                })
                .collect();
            let mut cpu_ms = Vec::new();
            for chunk in 0..CHUNKS {
                let began = ProcessTime::now();
                let numbers = |number: i64| Tensor::from_array(([batch], vec![number; batch])).expect("a tensor");
                let mut inputs: Vec<(&str, SessionInputValue)> = vec![
                    (
                        "frames",
                        TensorRef::from_array_view(([batch, CHUNK_FRAMES, width], &frames[..]))
                            .expect("a tensor")
                            .into(),
                    ),
                    ("position", numbers((chunk * CHUNK_FRAMES) as i64).into()),
                    ("length", numbers(UNKNOWN_LENGTH).into()),
                ];
                inputs.extend(streaming.histories.iter().map(|history| history.name.as_str()).zip(histories));
                let outputs = session.run(inputs).expect("a run");
                histories = outputs.into_iter().skip(1).map(|(_, value)| value.into()).collect();
                cpu_ms.push(1e3 * began.elapsed().as_secs_f64());
            }
            report(&format!("ONNX Runtime{}", task.bits), batch, median(&cpu_ms) / batch as f64);
        }
    }
}

/// Prints what 160 ms of a stream cost, and how many streams fill a core.
fn report(engine: &str, batch: usize, cpu_ms: f64) {
    let streams = 10.0 * CHUNK_FRAMES as f64 / cpu_ms;
    println!("{engine:18} {batch:3} streams a call: {cpu_ms:6.3} ms for 160 ms of one, {streams:6.0} streams a core");
}

/// Many streams at once on one core: ours take turns, ONNX Runtime takes them in batches.
fn many_streams(task: &Task) {
    println!("{}{}: streams at real time", task.name, task.bits);
    let network = task.network(Kernels::detect());
    let chunk = CHUNK_FRAMES * task.frames.len() / FRAMES;
    let mut sessions: Vec<_> =
        (0..16).map(|_| NativeSession::new(Arc::clone(&network), 1).expect("a session")).collect();
    let mut cpu_ms = Vec::new();
    for frames in task.frames.chunks_exact(chunk) {
        let began = ProcessTime::now();
        for session in &mut sessions {
            session.push(frames, &mut Vec::new()).expect("whole frames");
        }
        cpu_ms.push(1e3 * began.elapsed().as_secs_f64());
    }
    report(&format!("native{}", task.bits), 1, median(&cpu_ms) / sessions.len() as f64);
    onnx_runtime::batched(task);
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

/// Weights that keep the values' size from layer to layer, in half precision as those of models are.
fn weights(architecture: &Architecture) -> Weights {
    let mut weights = Weights::default();
    for parameter in architecture.parameters() {
        let fan_in = parameter.shape[1..].iter().product::<usize>().max(1) as f32;
        let scale = (6.0 / fan_in).sqrt();
        let values = noise(parameter.len()).iter().map(|x| f16::from_f32(x * scale).to_f32()).collect();
        weights.insert(&parameter.path, Tensor { shape: parameter.shape.clone(), values });
    }
    weights
}

fn main() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/architectures/reference.toml");
    let architecture = Recipe::load(&recipe).expect("the reference network").architecture;
    let weights = weights(&architecture);
    let reference = Task::new("reference network", architecture, weights);
    let model = Model::embedded().expect("the shipped model");
    let english = Task::new("shipped model", model.architecture, model.weights);
    for task in [&reference, &english] {
        let int8 = task.int8();
        interleaved(task, &int8);
        many_streams(task);
        many_streams(&int8);
    }

    let int8 = reference.int8();
    let mut criterion = Criterion::default().with_measurement(CpuTime).sample_size(20).configure_from_args();
    let mut group = criterion.benchmark_group("reference network, 10 s, CPU time");
    for kernels in Kernels::available() {
        for (task, set) in [(&reference, kernels.name().to_owned()), (&int8, format!("int8 {}", kernels.bytes_name()))]
        {
            let mut session = NativeSession::new(task.network(kernels), 1).expect("a session");
            let frames = &task.frames;
            for (name, chunk) in [("one push", frames.len()), ("160 ms", CHUNK_FRAMES * frames.len() / FRAMES)] {
                let id = BenchmarkId::new(&set, name);
                group.bench_function(id, |bencher| bencher.iter(|| streamed(&mut session, frames, chunk)));
            }
        }
    }
    group.finish();
    criterion.final_summary();
}
