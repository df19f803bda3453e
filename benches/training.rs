//! A training step on the reference network, 8 utterances of 6 s: forward, CTC, backward, AdamW.
//!
//!     cargo bench --bench training -- [STEPS] [THREADS] [--batch-norm | --layers]
//!
//! Prints CPU time, wall time and GFLOP/s of each step; `benches/peers/pytorch.py` does the same with PyTorch. With
//! `--layers` every convolution runs alone instead, and its GFLOP/s are put beside the machine's peak.

mod peak;

use std::time::Instant;

use cpu_time::ProcessTime;
use dfcnn::ctc::loss::CtcLoss;
use dfcnn::layers::{Images, Mode, Network, Parameter, Respect};
use dfcnn::network::{Architecture, BatchNorm, FrameShape, Layer, NamedLayer, Role};
use dfcnn::train::optimizer::{AdamW, Moments};
use peak::fma_peak;

const UTTERANCES: usize = 8;
const FRAMES: usize = 600;
const SYMBOLS: usize = 60;
const INPUT: FrameShape = FrameShape { frequency: 80, channels: 1 };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let numbers: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let batch_norm = arguments.iter().any(|argument| argument == "--batch-norm");
    let (steps, threads) = (numbers.first().copied().unwrap_or(5), numbers.get(1).copied().unwrap_or(1));

    let architecture = reference(batch_norm);
    if arguments.iter().any(|argument| argument == "--layers") {
        return layers(&architecture, steps, threads);
    }
    let mut network = Network::new(&architecture, 1, threads).expect("threads");
    let input = Images::new(INPUT, vec![FRAMES; UTTERANCES], noise(UTTERANCES * FRAMES * INPUT.len()));
    let multiply_adds: usize =
        architecture.summary().iter().map(|row| row.multiply_adds * (FRAMES / row.time.stride)).sum();
    // Backward costs twice the forward pass, except that nobody asks for the gradient of the input.
    let first = architecture.summary()[0].multiply_adds * FRAMES;
    let gflop = 2e-9 * (UTTERANCES * (3 * multiply_adds - first)) as f64;
    let mut moments: Vec<Moments> = network.parameters().iter().map(|p| Moments::new(p.values.len())).collect();
    let (optimizer, mut ctc, mut gradient) = (AdamW::default(), CtcLoss::new(0), Vec::new());
    // Neighbours differ, so 150 frames carry them.
    let labels: Vec<u32> = (0..UTTERANCES * SYMBOLS).map(|index| 1 + (index * 7 % 31) as u32).collect();
    for step in 1..=steps {
        let (cpu, wall) = (ProcessTime::now(), Instant::now());
        let output = network.forward(&input, Mode::Training { seed: step as u64 });
        let (frames, classes) = (output.lengths[0], output.shape.channels);
        gradient.resize(output.values.len(), 0.0);
        let utterances = output.utterances().zip(gradient.chunks_exact_mut(frames * classes));
        for ((log_probs, gradient), labels) in utterances.zip(labels.chunks(SYMBOLS)) {
            ctc.loss_and_gradient(log_probs, classes, labels, gradient).expect("as many frames as labels need");
            gradient.iter_mut().for_each(|gradient| *gradient /= UTTERANCES as f32);
        }
        let forward = cpu.elapsed().as_secs_f64();
        network.backward(&gradient, Respect::Logits);
        let backward = cpu.elapsed().as_secs_f64() - forward;
        for (parameter, moments) in network.parameters_mut().iter_mut().zip(&mut moments) {
            if parameter.role.is_trained() {
                let Parameter { values, gradients, role, .. } = parameter;
                optimizer.update(step as u64, 1e-3, *role == Role::Weight, values, gradients, moments);
            }
        }
        let (cpu, wall) = (cpu.elapsed().as_secs_f64(), wall.elapsed().as_secs_f64());
        println!(
            "dfcnn threads {threads}: CPU {cpu:.3} s (forward {forward:.3}, backward {backward:.3}), wall {wall:.3} s, \
             {:.0} GFLOP/s per CPU second of {gflop:.1} GFLOP",
            gflop / cpu
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("unknown");
    println!("dfcnn threads {threads}: peak memory {}", peak.trim_start_matches("VmHWM:").trim());
}

/// A table of what each convolution of `architecture` does in a CPU second: medians of `steps` steps.
fn layers(architecture: &Architecture, steps: usize, threads: usize) {
    let peak = fma_peak(threads);
    println!("threads {threads}: peak {:.0} GFLOP/s per CPU second", peak.unwrap_or(f64::NAN));
    println!("layer  kernel   channels   image    GFLOP  forward  backward-data  backward-weights  of the peak");
    let (mut input, mut stride) = (INPUT, 1);
    let (mut total, mut total_cpu) = (0.0, 0.0);
    for (layer, row) in architecture.layers().iter().zip(architecture.summary()) {
        if let Layer::Convolution(convolution) = &layer.layer {
            let alone = Architecture::new(input, vec![layer.clone()]).expect("a layer of a network that fits together");
            let frames = FRAMES / stride;
            let gflop = 2e-9 * (UTTERANCES * frames * row.multiply_adds) as f64;
            let [forward, both, weights] = alone_seconds(&alone, frames, steps, threads);
            let data = both - weights;
            // Nobody asks for the gradient of the first layer's input.
            let (passes, cpu) =
                if stride == 1 && input == INPUT { (2.0, forward + weights) } else { (3.0, forward + both) };
            total += passes * gflop;
            total_cpu += cpu;
            println!(
                "{:5}  {:7}  {:3} → {:3}  {:2} × {frames}  {gflop:5.2}  {:7.0}  {:13.0}  {:16.0}  {:4.0} %",
                layer.name,
                format!("{}×{}", convolution.kernel[0], convolution.kernel[1]),
                input.channels,
                row.output.channels,
                row.output.frequency,
                gflop / forward,
                gflop / data,
                gflop / weights,
                passes * gflop / cpu / peak.unwrap_or(f64::NAN) * 100.0,
            );
        }
        (input, stride) = (row.output, row.time.stride);
    }
    println!("all: {total:.1} GFLOP in {total_cpu:.3} s of CPU time, {:.0} GFLOP/s", total / total_cpu);
}

/// Medians of CPU seconds: forward, backward with and without the gradient of the input.
fn alone_seconds(architecture: &Architecture, frames: usize, steps: usize, threads: usize) -> [f64; 3] {
    let mut network = Network::new(architecture, 1, threads).expect("threads");
    let len = UTTERANCES * frames * architecture.input().len();
    let input = Images::new(architecture.input(), vec![frames; UTTERANCES], noise(len));
    let mut times = [vec![], vec![], vec![]];
    for step in 0..=steps {
        let gradient = noise(network.forward(&input, Mode::Evaluation).values.len());
        let start = ProcessTime::now();
        network.forward(&input, Mode::Training { seed: 1 });
        let forward = start.elapsed();
        network.backward_to_input(&gradient, Respect::Outputs);
        let both = start.elapsed();
        network.backward(&gradient, Respect::Outputs);
        let weights = start.elapsed();
        // The first step fills the caches and the memory.
        if step > 0 {
            let spent = [forward, both - forward, weights - both].map(|spent| spent.as_secs_f64());
            times.iter_mut().zip(spent).for_each(|(times, spent)| times.push(spent));
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

/// `models/architectures/reference.toml`, with batch normalisation behind each convolution but the last if asked for.
fn reference(batch_norm: bool) -> Architecture {
    #[derive(serde::Deserialize)]
    struct File {
        layers: Vec<NamedLayer>,
    }
    let file: File = toml::from_str(include_str!("../models/architectures/reference.toml")).expect("layers");
    let mut layers = Vec::new();
    for layer in file.layers {
        let name = format!("{}-norm", layer.name);
        let normalized = batch_norm && matches!(layer.layer, Layer::Convolution(_)) && layer.name != "out";
        layers.push(layer);
        if normalized {
            layers.push(NamedLayer { name, layer: Layer::BatchNorm(BatchNorm { epsilon: 1e-5 }) });
        }
    }
    Architecture::new(INPUT, layers).expect("the reference network fits together")
}

fn noise(len: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}
