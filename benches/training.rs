//! A training step on the reference network, 8 utterances of 6 s: forward, gradient, backward, AdamW.
//!
//!     cargo bench --bench training -- [STEPS] [THREADS] [--batch-norm]
//!
//! Prints CPU time, wall time and GFLOP/s of each step; `benches/peers/pytorch.py` does the same with PyTorch.

use std::time::Instant;

use dfcnn::layers::{Images, Mode, Network, Respect};
use dfcnn::network::{Architecture, BatchNorm, FrameShape, Layer, NamedLayer};

const UTTERANCES: usize = 8;
const FRAMES: usize = 600;
const INPUT: FrameShape = FrameShape { frequency: 80, channels: 1 };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let numbers: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let batch_norm = arguments.iter().any(|argument| argument == "--batch-norm");
    let (steps, threads) = (numbers.first().copied().unwrap_or(5), numbers.get(1).copied().unwrap_or(1));

    let architecture = reference(batch_norm);
    let mut network = Network::new(&architecture, 1, threads).expect("threads");
    let input = Images::new(INPUT, vec![FRAMES; UTTERANCES], noise(UTTERANCES * FRAMES * INPUT.len()));
    let multiply_adds: usize =
        architecture.summary().iter().map(|row| row.multiply_adds * (FRAMES / row.time.stride)).sum();
    // Backward costs twice the forward pass, except that nobody asks for the gradient of the input.
    let first = architecture.summary()[0].multiply_adds * FRAMES;
    let gflop = 2e-9 * (UTTERANCES * (3 * multiply_adds - first)) as f64;
    let mut moments: Vec<[Vec<f32>; 2]> =
        network.parameters().iter().map(|p| [(); 2].map(|()| vec![0.0; p.values.len()])).collect();
    for step in 1..=steps {
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        let output = network.forward(&input, Mode::Training { seed: step as u64 });
        // A CTC loss costs some 10 ms; its gradient looks like this, softmax − posterior.
        let share = 1.0 / output.frames() as f32;
        let mut gradient: Vec<f32> = output.values.iter().map(|y| share * y.exp()).collect();
        let classes = output.shape.channels;
        gradient.chunks_mut(classes).enumerate().for_each(|(frame, row)| row[frame * frame % classes] -= share);
        let forward = cpu_seconds() - cpu;
        network.backward(&gradient, Respect::Logits);
        let backward = cpu_seconds() - cpu - forward;
        adam_w(&mut network, &mut moments, step as i32);
        let (cpu, wall) = (cpu_seconds() - cpu, wall.elapsed().as_secs_f64());
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

fn adam_w(network: &mut Network, moments: &mut [[Vec<f32>; 2]], step: i32) {
    const RATE: f32 = 1e-3;
    let corrections = [0.9f32, 0.999].map(|beta| 1.0 - beta.powi(step));
    for (parameter, [first, second]) in network.parameters_mut().iter_mut().zip(moments) {
        let state = first.iter_mut().zip(second);
        for ((value, gradient), (m, v)) in parameter.values.iter_mut().zip(&parameter.gradients).zip(state) {
            *m += 0.1 * (gradient - *m);
            *v += 0.001 * (gradient * gradient - *v);
            *value -= RATE * (*m / corrections[0] / ((*v / corrections[1]).sqrt() + 1e-8) + 0.01 * *value);
        }
    }
}

fn noise(len: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// CPU time of all threads so far, from the scheduler.
fn cpu_seconds() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux").filter_map(Result::ok);
    let nanoseconds = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<u64>() as f64 * 1e-9
}
