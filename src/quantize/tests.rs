use super::*;
use crate::network::{Activation, Convolution, FrameShape, FrequencyPadding, Pool, Residual, Tensor, TimePadding};
use crate::random::Random;

fn named(name: &str, layer: Layer) -> NamedLayer {
    NamedLayer { name: name.into(), layer }
}

fn convolution(out_channels: usize, kernel: [usize; 2]) -> Layer {
    Layer::Convolution(Convolution {
        out_channels,
        kernel,
        stride: [1, 1],
        dilation: [1, 1],
        groups: 1,
        time_padding: TimePadding { past: kernel[0] - 1, future: 0 },
        frequency_padding: FrequencyPadding { low: kernel[1] / 2, high: kernel[1] / 2 },
        bias: true,
        int8: false,
    })
}

fn relu() -> Layer {
    Layer::Activation(Activation::Relu)
}

/// Convolutions a, b behind a max-pool, r.x and r.y in a residual, and out.
fn network() -> (Architecture, Weights) {
    let pool = Pool {
        kernel: [1, 2],
        stride: None,
        time_padding: TimePadding::default(),
        frequency_padding: FrequencyPadding::default(),
    };
    let branch =
        vec![named("x", convolution(16, [3, 1])), named("x-relu", relu()), named("y", convolution(16, [1, 1]))];
    let layers = vec![
        named("a", convolution(8, [3, 3])),
        named("a-relu", relu()),
        named("pool", Layer::MaxPool(pool)),
        named("collapse", Layer::FrequencyCollapse),
        named("b", convolution(16, [2, 1])),
        named("b-relu", relu()),
        named("r", Layer::Residual(Residual { branch, shortcut: Vec::new() })),
        named("r-relu", relu()),
        named("out", convolution(5, [1, 1])),
        named("log-softmax", Layer::LogSoftmax),
    ];
    let architecture = Architecture::new(FrameShape { frequency: 6, channels: 1 }, layers).unwrap();
    let mut random = Random::new(1);
    let mut weights = Weights::default();
    for parameter in architecture.parameters() {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let deviation = (2.0 / fan_in as f32).sqrt();
        let values = (0..parameter.len()).map(|_| deviation * random.normal()).collect();
        weights.insert(&parameter.path, Tensor { shape: parameter.shape.clone(), values });
    }
    (architecture, weights)
}

fn paths(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|&path| path.to_owned()).collect()
}

/// A network that has heard noise, and that noise.
fn quantizer() -> (Quantizer, Vec<Heard>) {
    let (architecture, weights) = network();
    let mut quantizer = Quantizer::new(&architecture, &weights, 1).unwrap();
    let mut session = NativeSession::new(Arc::new(NativeNetwork::new(&architecture, &weights).unwrap()), 1).unwrap();
    let mut random = Random::new(2);
    let sound = (0..4).map(|_| {
        let mut heard = Heard { frames: (0..6 * 40).map(|_| random.normal()).collect(), log_probs: Vec::new() };
        session.push(&heard.frames, &mut heard.log_probs).unwrap();
        session.finish(&mut heard.log_probs).unwrap();
        quantizer.observe(&heard.frames);
        heard
    });
    let sound = sound.collect();
    (quantizer, sound)
}

fn names(layers: &[NamedLayer]) -> Vec<&str> {
    layers.iter().map(|layer| layer.name.as_str()).collect()
}

#[test]
fn rounding_comes_where_an_image_is_made_and_only_where_bytes_are_used() {
    let (quantizer, _) = quantizer();
    let (all, _) = quantizer.quantized(&paths(&["a", "b", "r.x", "r.y", "out"])).unwrap();
    let expected = [
        "input-u8",
        "a",
        "a-relu",
        "a-relu-u8",
        "pool",
        "collapse",
        "b",
        "b-relu",
        "b-relu-u8",
        "r",
        "r-relu",
        "r-relu-u8",
        "out",
        "log-softmax",
    ];
    assert_eq!(names(all.layers()), expected);
    let Layer::Residual(residual) = &all.layers()[9].layer else { panic!("r is a residual") };
    assert_eq!(names(&residual.branch), ["x", "x-relu", "x-relu-u8", "y", "y-u8"]);
    // What is behind a ReLU has no negative values, what is behind r.y has.
    let zero = |layer: &NamedLayer| match layer.layer {
        Layer::Quantize(settings) => settings.zero_point,
        _ => panic!("{} is no rounding", layer.name),
    };
    assert_eq!(zero(&all.layers()[3]), 0);
    assert!(zero(&residual.branch[4]) > 50 && zero(&all.layers()[0]) > 50);

    let (some, _) = quantizer.quantized(&paths(&["r.y"])).unwrap();
    let Layer::Residual(residual) = &some.layers()[6].layer else { panic!("r is a residual") };
    assert_eq!(names(&residual.branch), ["x", "x-relu", "x-relu-u8", "y"]);
    assert_eq!(some.layers().len(), 10);
    assert_eq!(quantizer.quantized(&paths(&[])).unwrap().0, quantizer.architecture);
}

#[test]
fn eight_bits_are_near_32_and_more_layers_are_further() {
    let (quantizer, sound) = quantizer();
    let divergence = |int8: &[&str]| quantizer.divergence(&paths(int8), &sound, 2).unwrap();
    assert!(divergence(&[]).abs() < 1e-6);
    let all = divergence(&["a", "b", "r.x", "r.y", "out"]);
    assert!(all > 1e-7 && all < 3e-3, "{all}");
}

#[test]
fn what_hurts_most_stays_in_32_bits() {
    let (quantizer, sound) = quantizer();
    let found = |most: f64| quantizer.search(&sound, most, 1, || true).unwrap().unwrap();
    let all = found(1.0);
    let bits: Vec<bool> = all.choices.iter().map(|choice| choice.int8).collect();
    // One input channel is too few for bytes to be faster.
    assert_eq!(bits, [false, true, true, true, true]);
    assert_eq!((all.choices[0].alone, all.architecture.int8_convolutions()), (None, 4));
    let fewer = found(all.divergence * 0.9);
    assert!(fewer.divergence <= all.divergence * 0.9 && fewer.divergence > 0.0);
    let worst = all.choices.iter().max_by(|a, b| a.alone.unwrap_or(0.0).total_cmp(&b.alone.unwrap_or(0.0))).unwrap();
    let same = fewer.choices.iter().find(|choice| choice.path == worst.path).unwrap();
    assert!(!same.int8 && same.alone.is_some());
    let none = found(0.0);
    assert_eq!((none.architecture.int8_convolutions(), none.divergence.abs() < 1e-6), (0, true));
    assert_eq!(quantizer.search(&sound, 1.0, 1, || false).unwrap(), None);
}

#[test]
fn eight_bits_are_not_made_of_eight_bits() {
    let (quantizer, _) = quantizer();
    let (architecture, weights) = quantizer.quantized(&paths(&["b"])).unwrap();
    let Err(error) = Quantizer::new(&architecture, &weights, 1) else { panic!("8 bits twice") };
    assert!(error.to_string().contains("in 8 bits already"), "{error}");
}

#[test]
fn filters_of_nothing_and_extremes_do_not_break() {
    let (architecture, mut weights) = network();
    let filters = weights.get_mut("b.weight").unwrap();
    let taps = filters.values.len() / 16;
    filters.values[..taps].fill(0.0);
    filters.values[taps] = 1e30;
    weights.get_mut("b.bias").unwrap().values[0] = 1e6;
    let quantizer = Quantizer::new(&architecture, &weights, 1).unwrap();
    let (_, quantized) = quantizer.quantized(&paths(&["b"])).unwrap();
    let (int8, scales) = quantized.int8("b.weight").unwrap();
    assert!(int8[..taps].iter().all(|&weight| weight == 0) && scales[0] > 0.0, "{scales:?}");
    // A bias that is many steps of a scale must fit 32 bits when it is exported.
    crate::network::onnx::export(
        &quantizer.quantized(&paths(&["b"])).unwrap().0,
        &quantized,
        crate::network::onnx::Form::Offline,
        |_| Vec::new(),
    )
    .unwrap();
}

#[test]
fn a_range_reaches_what_is_there_but_not_every_outlier() {
    let mut range = Range::default();
    assert!(range.bytes().scale > 0.0);
    range.add(&[0.0; 10]);
    let mut random = Random::new(3);
    let values: Vec<f32> = (0..100_000).map(|_| random.normal().max(0.0)).collect();
    range.add(&values);
    range.add(&[f32::NAN, f32::INFINITY, 40.0]);
    let bytes = range.bytes();
    assert_eq!(bytes.zero_point, 0);
    let most = 255.0 * bytes.scale;
    // One in 100,000 is worth less than finer steps for the rest.
    assert!(most > 20.0 && most < 38.0, "{most}");
    range.add(&[-2.0; 1_000]);
    let bytes = range.bytes();
    assert!(f32::from(bytes.zero_point) * bytes.scale > 1.8 && bytes.zero_point < 200, "{bytes:?}");
}
