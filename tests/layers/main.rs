//! The mathematics of training: outputs against plain f64 loops and against the streaming engine, gradients against
//! differences and PyTorch.

#[path = "../golden/mod.rs"]
mod golden;
mod reference;

use std::sync::Arc;

use dfcnn::inference::Session;
use dfcnn::inference::native::{NativeNetwork, NativeSession};
use dfcnn::kernels::Kernels;
use dfcnn::layers::{Images, Mode, Network, Parameter, Respect};
use dfcnn::network::{Architecture, FrameShape, Layer, NamedLayer, Weights};
use proptest::prelude::*;

/// Largest difference of an f32 value from its f64 definition, relative to the largest value of its kind.
const RELATIVE: f64 = 2e-5;

/// The same for gradients, which have come through twice the layers.
const GRADIENT_RELATIVE: f64 = 1e-4;

const TRAINING: Mode = Mode::Training { seed: 7 };

/// Repeatable values in [-1, 1).
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

#[derive(serde::Deserialize)]
struct File {
    layers: Vec<NamedLayer>,
}

/// Layers as `model.toml` writes them, one inline table a line.
fn architecture(input: [usize; 2], layers: &str) -> Architecture {
    let tables: Vec<String> = layers.lines().map(|line| format!("{{ {line} }}")).collect();
    let file: File = toml::from_str(&format!("layers = [{}]", tables.join(", "))).unwrap();
    Architecture::new(FrameShape { frequency: input[0], channels: input[1] }, file.layers).unwrap()
}

/// Every layer kind, and what the engine runs as one.
fn everything() -> Architecture {
    let file: File = toml::from_str(&std::fs::read_to_string(golden::committed("layers.toml")).unwrap()).unwrap();
    Architecture::new(FrameShape { frequency: 8, channels: 1 }, file.layers).unwrap()
}

/// A network whose every parameter is random.
fn network(architecture: &Architecture, seed: u64, threads: usize, kernels: Kernels) -> Network {
    let mut network = Network::with_kernels(architecture, seed, threads, kernels).unwrap();
    for (index, parameter) in network.parameters_mut().iter_mut().enumerate() {
        if parameter.shape.len() == 1 {
            let values = noise(parameter.values.len(), seed + index as u64);
            let centre = if parameter.path.ends_with("bias") || parameter.path.ends_with("mean") { 0.0 } else { 1.0 };
            parameter.values.iter_mut().zip(values).for_each(|(value, noise)| *value = centre + 0.5 * noise);
        }
    }
    network
}

fn images(architecture: &Architecture, lengths: &[usize], seed: u64) -> Images {
    let shape = architecture.input();
    Images::new(shape, lengths.to_vec(), noise(lengths.iter().sum::<usize>() * shape.len(), seed))
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], wanted: &[f64], relative: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let scale = wanted.iter().fold(0.1, |scale: f64, x| scale.max(x.abs()));
    for (index, (&a, &b)) in found.iter().zip(wanted).enumerate() {
        assert!((f64::from(a) - b).abs() <= relative * scale, "{what}: value {index} is {a} instead of {b} of {scale}");
    }
}

/// Places to compare: all if they are few, else some.
fn places(len: usize, seed: u64) -> Vec<usize> {
    const FEW: usize = 6;
    match len {
        0..=FEW => (0..len).collect(),
        _ => noise(FEW, seed).iter().map(|x| ((x + 1.0) / 2.0 * len as f32) as usize % len).collect(),
    }
}

/// Compares outputs with the definition, and gradients of `Σ factor · output` with central differences of it.
fn check(architecture: &Architecture, lengths: &[usize], kernels: Kernels, mode: Mode) {
    let training = mode != Mode::Evaluation;
    let mut network = network(architecture, 1, 2, kernels);
    let input = images(architecture, lengths, 2);
    let (mut values, mut batch) = (reference::values(&network), reference::batch(&input));
    let (layers, shape) = (architecture.layers(), architecture.input());

    let (output_shape, wanted) = reference::forward(layers, "", shape, &values, batch.clone(), training);
    let output = network.forward(&input, mode);
    assert_eq!(output.shape, output_shape);
    let frames: Vec<usize> = wanted.iter().map(|utterance| utterance.len() / output_shape.len()).collect();
    assert_eq!(output.lengths, frames);
    assert_close("output", &output.values, &wanted.concat(), RELATIVE);

    let factors = noise(output.values.len(), 3);
    let input_gradient = network.backward_to_input(&factors, Respect::Outputs).clone();
    assert_eq!((input_gradient.shape, &input_gradient.lengths), (input.shape, &input.lengths));

    let loss = |values: &reference::Values, batch: &reference::Batch| -> f64 {
        let (_, outputs) = reference::forward(layers, "", shape, values, batch.clone(), training);
        outputs.concat().iter().zip(&factors).map(|(y, &factor)| y * f64::from(factor)).sum()
    };
    const STEP: f64 = 1e-6;
    // Differences of sums in f64 are this exact; what is compared is f32.
    let tolerance =
        |gradients: &[f32]| 1e-5 + 1e-4 * gradients.iter().fold(0.0, |a: f64, &b| a.max(f64::from(b).abs()));
    for parameter in network.parameters().iter().filter(|parameter| parameter.role.is_trained()) {
        for place in places(parameter.values.len(), 4) {
            let mut at = |step: f64| {
                let old = values[&parameter.path][place];
                values.get_mut(&parameter.path).unwrap()[place] = old + step;
                let loss = loss(&values, &batch);
                values.get_mut(&parameter.path).unwrap()[place] = old;
                loss
            };
            let wanted = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let found = f64::from(parameter.gradients[place]);
            let most = tolerance(&parameter.gradients);
            assert!((found - wanted).abs() <= most, "{}[{place}]: {found} instead of {wanted}", parameter.path);
        }
    }
    let mut start = 0;
    for utterance in 0..batch.len() {
        for place in places(batch[utterance].len(), 5) {
            let mut at = |step: f64| {
                let old = batch[utterance][place];
                batch[utterance][place] = old + step;
                let loss = loss(&values, &batch);
                batch[utterance][place] = old;
                loss
            };
            let wanted = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let found = f64::from(input_gradient.values[start + place]);
            let most = tolerance(&input_gradient.values);
            assert!((found - wanted).abs() <= most, "utterance {utterance}[{place}]: {found} instead of {wanted}");
        }
        start += batch[utterance].len();
    }
}

/// Whether no output of the first layer, as [`check`] makes it, is so near zero that rounding or a difference's step changes
/// its sign: a ReLU has no gradient there.
fn keeps_off_zero(architecture: &Architecture, lengths: &[usize]) -> bool {
    const NEAR: f64 = 1e-5;
    let network = network(architecture, 1, 1, Kernels::scalar());
    let batch = reference::batch(&images(architecture, lengths, 2));
    let first = &architecture.layers()[..1];
    let (_, outputs) = reference::forward(first, "", architecture.input(), &reference::values(&network), batch, true);
    outputs.concat().iter().all(|output| output.abs() > NEAR)
}

fn check_everywhere(input: [usize; 2], lengths: &[usize], layers: &str) {
    let architecture = architecture(input, layers);
    for kernels in Kernels::available() {
        check(&architecture, lengths, kernels, TRAINING);
        check(&architecture, lengths, kernels, Mode::Evaluation);
    }
}

#[test]
fn winograd_convolutions() {
    for (bins, channels, filters) in [(4, 16, 16), (9, 8, 24), (13, 20, 33)] {
        check_everywhere(
            [bins, channels],
            &[7, 1, 12],
            &format!(
                r#"name = "c", kind = "convolution", out_channels = {filters}, kernel = [3, 3], time_padding = {{ past = 2 }}, frequency_padding = {{ low = 1, high = 1 }}"#
            ),
        );
        check_everywhere(
            [bins + 2, channels],
            &[9, 40],
            &format!(
                r#"name = "c", kind = "convolution", out_channels = {filters}, kernel = [2, 3], dilation = [3, 1], bias = false"#
            ),
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn convolutions(
        kernel in (1usize..4, 1usize..4),
        stride in (1usize..4, 1usize..4),
        dilation in (1usize..3, 1usize..3),
        groups in prop::sample::select(vec![1usize, 1, 2, 3, 6]),
        filters in 1usize..4,
        padding in (0usize..4, 0usize..4, 0usize..4, 0usize..4),
        bins in 1usize..9,
        bias: bool,
        relu: bool,
    ) {
        let reach = [dilation.0 * (kernel.0 - 1), dilation.1 * (kernel.1 - 1)];
        let past = padding.0.min(reach[0]);
        let future = padding.1.min(reach[0] - past);
        let (low, high) = (padding.2.min(reach[1]), padding.3.min(reach[1]));
        prop_assume!(bins + low + high > reach[1]);
        let mut layers = format!(
            r#"name = "c", kind = "convolution", out_channels = {}, kernel = [{}, {}], stride = [{}, {}], dilation = [{}, {}], groups = {groups}, time_padding = {{ past = {past}, future = {future} }}, frequency_padding = {{ low = {low}, high = {high} }}, bias = {bias}"#,
            filters * groups, kernel.0, kernel.1, stride.0, stride.1, dilation.0, dilation.1,
        );
        if relu {
            layers.push_str("\nname = \"r\", kind = \"activation\", function = \"relu\"");
        }
        let architecture = architecture([bins, 6], &layers);
        let lengths = [8, 3, 13];
        prop_assume!(!relu || keeps_off_zero(&architecture, &lengths));
        for kernels in Kernels::available() {
            check(&architecture, &lengths, kernels, TRAINING);
        }
    }

    #[test]
    fn pools(
        kernel in (1usize..4, 1usize..4),
        stride in (1usize..4, 1usize..4),
        padding in (0usize..3, 0usize..3, 0usize..3, 0usize..3),
        kind in prop::sample::select(vec!["max-pool", "average-pool"]),
    ) {
        let past = padding.0.min(kernel.0 - 1);
        let future = padding.1.min(kernel.0 - 1 - past);
        let (low, high) = (padding.2.min(kernel.1 - 1), padding.3.min(kernel.1 - 1));
        let architecture = architecture([6, 5], &format!(
            r#"name = "p", kind = "{kind}", kernel = [{}, {}], stride = [{}, {}], time_padding = {{ past = {past}, future = {future} }}, frequency_padding = {{ low = {low}, high = {high} }}"#,
            kernel.0, kernel.1, stride.0, stride.1,
        ));
        check(&architecture, &[8, 3, 1], Kernels::detect(), TRAINING);
    }
}

#[test]
fn a_stride_beyond_the_bins() {
    check_everywhere(
        [2, 6],
        &[8, 1],
        r#"name = "c", kind = "convolution", out_channels = 4, kernel = [2, 3], stride = [3, 3], groups = 2, time_padding = { past = 1 }, frequency_padding = { low = 1, high = 2 }"#,
    );
}

#[test]
fn activations() {
    for function in ["relu", "leaky-relu\", slope = 0.2, x = \"", "clipped-relu", "sigmoid", "tanh", "silu", "gelu"] {
        let settings = match function {
            "clipped-relu" => "function = \"clipped-relu\", ceiling = 0.5".to_string(),
            leaky if leaky.starts_with("leaky") => "function = \"leaky-relu\", slope = 0.2".to_string(),
            plain => format!("function = \"{plain}\""),
        };
        check_everywhere([4, 5], &[3, 8], &format!("name = \"a\", kind = \"activation\", {settings}"));
    }
}

#[test]
fn norms_and_shapes() {
    for layers in [
        r#"name = "n", kind = "batch-norm""#,
        "name = \"n\", kind = \"batch-norm\", epsilon = 0.01\nname = \"r\", kind = \"activation\", function = \"relu\"",
        r#"name = "l", kind = "local-response-norm", size = 3, alpha = 0.5, beta = 0.75, k = 2.0"#,
        r#"name = "f", kind = "frequency-collapse""#,
        r#"name = "s", kind = "log-softmax""#,
    ] {
        check_everywhere([3, 18], &[5, 1, 9], layers);
    }
}

#[test]
fn everything_together() {
    // Dropout has its own test: the definition knows no masks.
    let (shape, mut layers) = (everything().input(), everything().layers().to_vec());
    layers.retain(|layer| !matches!(layer.layer, Layer::Dropout(_)));
    let architecture = Architecture::new(shape, layers).unwrap();
    for kernels in Kernels::available() {
        check(&architecture, &[24, 9, 40], kernels, TRAINING);
        check(&architecture, &[24, 9, 40], kernels, Mode::Evaluation);
    }
}

/// See tests/data/golden/layers.py.
#[test]
fn everything_equals_pytorch() {
    let (shape, mut layers) = (everything().input(), everything().layers().to_vec());
    layers.retain(|layer| !matches!(layer.layer, Layer::Dropout(_)));
    let architecture = Architecture::new(shape, layers).unwrap();
    let file = Weights::read(&golden::committed("layers.safetensors")).unwrap();
    let values = |name: &str| &file.get(name).unwrap_or_else(|| panic!("no {name}")).values;
    let wanted = |name: &str| values(name).iter().copied().map(f64::from).collect::<Vec<_>>();
    for kernels in Kernels::available() {
        let mut network = Network::with_kernels(&architecture, 1, 2, kernels).unwrap();
        for parameter in network.parameters_mut().iter_mut().filter(|parameter| parameter.role.is_trained()) {
            parameter.values.copy_from_slice(values(&format!("value:{}", parameter.path)));
        }
        let lengths = values("lengths").iter().map(|&frames| frames as usize).collect();
        let input = Images::new(shape, lengths, values("input").clone());
        assert_close("output", &network.forward(&input, TRAINING).values, &wanted("output"), RELATIVE);
        let input_gradient = network.backward_to_input(values("factors"), Respect::Outputs);
        assert_close("input gradient", &input_gradient.values, &wanted("input.gradient"), GRADIENT_RELATIVE);
        for Parameter { path, role, values, gradients, .. } in network.parameters() {
            match role.is_trained() {
                true => assert_close(path, gradients, &wanted(&format!("gradient:{path}")), GRADIENT_RELATIVE),
                false => assert_close(path, values, &wanted(&format!("after:{path}")), RELATIVE),
            }
        }
    }
}

#[test]
fn evaluation_equals_the_streaming_engine() {
    const TOLERANCE: f32 = 1e-4;
    let architecture = everything();
    let mut network = network(&architecture, 5, 2, Kernels::detect());
    let input = images(&architecture, &[33, 2, 60], 6);
    // Running statistics as training leaves them.
    network.forward(&input, TRAINING);
    let weights = network.store();
    let outputs = network.forward(&input, Mode::Evaluation);
    let native = Arc::new(NativeNetwork::new(&architecture, &weights).unwrap());
    for (input, output) in input.utterances().zip(outputs.utterances()) {
        let mut session = NativeSession::new(native.clone(), 1).unwrap();
        let mut streamed = Vec::new();
        input.chunks(7 * architecture.input().len()).for_each(|frames| session.push(frames, &mut streamed).unwrap());
        session.finish(&mut streamed).unwrap();
        assert_eq!(streamed.len(), output.len());
        let difference = streamed.iter().zip(output).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference <= TOLERANCE, "{difference}");
    }
}

#[test]
fn results_depend_neither_on_threads_nor_on_earlier_batches() {
    let architecture = everything();
    let input = images(&architecture, &[33, 2, 60, 41], 6);
    let run = |threads: usize, earlier: &[&[usize]]| {
        let mut network = network(&architecture, 5, threads, Kernels::detect());
        for lengths in earlier {
            let output = network.forward(&images(&architecture, lengths, 9), Mode::Evaluation).values.clone();
            network.backward(&output, Respect::Logits);
        }
        let output = network.forward(&input, TRAINING).values.clone();
        network.backward(&noise(output.len(), 8), Respect::Logits);
        (output, network.parameters().to_vec())
    };
    let alone = run(1, &[]);
    for threads in [1, 2, 3] {
        assert!(run(threads, &[]) == alone, "{threads} threads");
        assert!(run(threads, &[&[90, 90, 90, 90], &[5]]) == alone, "{threads} threads after other batches");
    }
}

#[test]
fn gradients_of_logits_enter_below_the_log_softmax() {
    let architecture = architecture(
        [4, 3],
        "name = \"c\", kind = \"convolution\", out_channels = 5, kernel = [2, 4]\nname = \"s\", kind = \"log-softmax\"",
    );
    let mut network = network(&architecture, 1, 1, Kernels::detect());
    let output = network.forward(&images(&architecture, &[6, 9], 2), TRAINING).values.clone();
    let gradient = noise(output.len(), 3);
    // What log-softmax makes of the gradient.
    let logits: Vec<f32> = output
        .chunks(5)
        .zip(gradient.chunks(5))
        .flat_map(|(y, g)| {
            let sum: f32 = g.iter().sum();
            y.iter().zip(g).map(|(y, g)| g - y.exp() * sum).collect::<Vec<_>>()
        })
        .collect();
    network.backward(&gradient, Respect::Outputs);
    let wanted: Vec<f64> = network.parameters()[0].gradients.iter().copied().map(f64::from).collect();
    network.backward(&logits, Respect::Logits);
    assert_close("gradients", &network.parameters()[0].gradients, &wanted, 1e-6);
}

#[test]
fn dropout_drops_the_same_values_both_ways() {
    const RATE: f32 = 0.3;
    let architecture = architecture([10, 10], "name = \"d\", kind = \"dropout\", rate = 0.3");
    let mut network = network(&architecture, 1, 1, Kernels::detect());
    let input = Images::new(architecture.input(), vec![300], vec![1.0; 30_000]);
    assert_eq!(network.forward(&input, Mode::Evaluation).values, input.values);
    let first = network.forward(&input, Mode::Training { seed: 1 }).values.clone();
    let kept = first.iter().filter(|&&x| x != 0.0).count() as f32 / first.len() as f32;
    assert!((kept - (1.0 - RATE)).abs() < 0.01, "{kept}");
    assert!(first.iter().all(|&x| x == 0.0 || (x - 1.0 / (1.0 - RATE)).abs() < 1e-6));
    assert_eq!(network.backward_to_input(&input.values, Respect::Outputs).values, first);
    assert_ne!(network.forward(&input, Mode::Training { seed: 2 }).values, first);
    assert_eq!(network.forward(&input, Mode::Training { seed: 1 }).values, first);
}

#[test]
fn running_statistics_move_towards_the_batch() {
    let architecture = architecture([2, 3], "name = \"n\", kind = \"batch-norm\"");
    let mut network = Network::new(&architecture, 1, 1).unwrap();
    let mut input = images(&architecture, &[40, 9], 2);
    // Far from zero, where a variance from sums of squares is least exact.
    input.values.iter_mut().for_each(|x| *x += 30.0);
    network.forward(&input, TRAINING);
    let (mean, variance) = reference::moments(&reference::batch(&input), 3);
    let count = (input.values.len() / 3) as f64;
    let [.., running_mean, running_var] = network.parameters() else { panic!() };
    let wanted: Vec<f64> = mean.iter().map(|mean| 0.1 * mean).collect();
    assert_close("mean", &running_mean.values, &wanted, 1e-6);
    let wanted: Vec<f64> = variance.iter().map(|variance| 0.9 + 0.1 * variance * count / (count - 1.0)).collect();
    assert_close("variance", &running_var.values, &wanted, 1e-4);
}

#[test]
fn weights_go_in_and_out() {
    let architecture = everything();
    let weights = network(&architecture, 5, 1, Kernels::detect()).store();
    let mut other = Network::new(&architecture, 6, 1).unwrap();
    assert_ne!(other.store(), weights);
    other.load(&weights).unwrap();
    assert_eq!(other.store(), weights);
    assert_eq!(Network::new(&architecture, 6, 1).unwrap().store(), Network::new(&architecture, 6, 2).unwrap().store());
    let mut wrong = weights.clone();
    wrong.remove("out.weight");
    assert!(other.load(&wrong).is_err());
    assert_eq!(other.store(), weights, "a failed load changes nothing");
}
