//! The mathematics against hand-built networks.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::activations::{Unit, activations};
use super::deconvnet::project;
use super::occlusion::{Patch, Target, occlusion};
use super::receptive_field::fields;
use super::strongest::{Hit, Strongest, window};
use crate::layers::{Images, OpenNetwork, Rule};
use crate::model::Model;
use crate::network::{Architecture, Folded, FrameShape, NamedLayer, Tensor, Weights, fold_batch_norm};
use crate::random::Random;

#[derive(serde::Deserialize)]
struct Layers {
    layers: Vec<NamedLayer>,
}

fn architecture(bins: usize, layers: &str) -> Architecture {
    let Layers { layers } = toml::from_str(&format!("layers = [{layers}]")).unwrap();
    Architecture::new(FrameShape { frequency: bins, channels: 1 }, layers).unwrap()
}

/// Weights of which the named ones are given and the others random.
fn weights(architecture: &Architecture, given: &[(&str, &[f32])], seed: u64) -> Weights {
    let mut random = Random::new(seed);
    let mut weights = Weights::default();
    for parameter in architecture.parameters() {
        let values = match given.iter().find(|(path, _)| *path == parameter.path) {
            Some((_, values)) => values.to_vec(),
            None => (0..parameter.len()).map(|_| random.normal()).collect(),
        };
        weights.insert(parameter.path.clone(), Tensor { shape: parameter.shape.clone(), values });
    }
    weights
}

fn open(architecture: &Architecture, given: &[(&str, &[f32])]) -> OpenNetwork {
    OpenNetwork::new(architecture, &weights(architecture, given, 1), 1).unwrap()
}

fn image(bins: usize, values: Vec<f32>) -> Images {
    Images::new(FrameShape { frequency: bins, channels: 1 }, vec![values.len() / bins], values)
}

fn noise(bins: usize, frames: usize, seed: u64) -> Images {
    let mut random = Random::new(seed);
    image(bins, (0..bins * frames).map(|_| random.normal()).collect())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

const CONVOLUTIONS: [&str; 4] = [
    r#"{ name = "c", kind = "convolution", out_channels = 5, kernel = [3, 3], bias = false, time_padding = { past = 1, future = 1 }, frequency_padding = { low = 1, high = 1 } }"#,
    r#"{ name = "c", kind = "convolution", out_channels = 3, kernel = [5, 2], stride = [2, 3], bias = false, time_padding = { past = 4 } }"#,
    r#"{ name = "c", kind = "convolution", out_channels = 2, kernel = [3, 3], dilation = [2, 1], bias = false }"#,
    r#"{ name = "p", kind = "average-pool", kernel = [2, 2] }, { name = "f", kind = "frequency-collapse" }, { name = "c", kind = "convolution", out_channels = 4, kernel = [3, 1], bias = false }"#,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Default::default() })]

    /// ⟨Ax, y⟩ = ⟨x, Aᵀy⟩: what is sent back goes through the transposed filters.
    #[test]
    fn the_way_back_is_the_adjoint(layers in 0..CONVOLUTIONS.len(), frames in 7usize..30, seed: u64) {
        let architecture = architecture(11, CONVOLUTIONS[layers]);
        let mut network = open(&architecture, &[]);
        let x = noise(11, frames, seed);
        let ax = network.forward(&x).clone();
        let mut random = Random::new(!seed);
        let y: Vec<f32> = ax.values.iter().map(|_| random.normal()).collect();
        let back = network.backward("c", &y, Rule::Gradient);
        prop_assert_eq!(&back.lengths, &x.lengths);
        let (forth, back) = (dot(&ax.values, &y), dot(&x.values, &back.values));
        prop_assert!((forth - back).abs() < 1e-4 * (1.0 + forth.abs()), "{} {}", forth, back);
    }

    /// Unpooled, every maximum is where it was, and all else is zero.
    #[test]
    fn unpooling_restores_the_places_of_the_maxima(frames in 6usize..20, seed: u64) {
        let architecture = architecture(9, r#"{ name = "p", kind = "max-pool", kernel = [2, 3] }"#);
        let mut network = open(&architecture, &[]);
        let x = noise(9, frames, seed);
        let pooled = network.forward(&x).values.clone();
        let back = network.backward("p", &pooled, Rule::Deconvnet).values.clone();
        // The deconvnet has no rectification here, so maxima below zero return too.
        for (&value, &original) in back.iter().zip(&x.values) {
            prop_assert!(value == 0.0 || value == original);
        }
        prop_assert_eq!(back.iter().filter(|&&value| value != 0.0).count(), pooled.len());
        prop_assert_eq!(&network.forward(&image(9, back.iter().map(|&v| if v == 0.0 { -9.0 } else { v }).collect())).values, &pooled);
    }
}

#[test]
fn the_rules_differ_at_the_rectifier() {
    let layers = r#"{ name = "c", kind = "convolution", out_channels = 1, kernel = [1, 1], bias = false }, { name = "r", kind = "activation", function = "relu" }"#;
    let mut network = open(&architecture(4, layers), &[("c.weight", &[2.0])]);
    network.forward(&image(4, vec![1.0, -1.0, 1.0, -1.0]));
    for (rule, back) in [
        (Rule::Gradient, [6.0, 0.0, -6.0, 0.0]),
        (Rule::Guided, [6.0, 0.0, 0.0, 0.0]),
        (Rule::Deconvnet, [6.0, 6.0, 0.0, 0.0]),
    ] {
        assert_eq!(network.backward("r", &[3.0, 3.0, -3.0, -3.0], rule).values, back, "{rule:?}");
    }
}

/// The curve detector of A. Deshpande's "A beginner's guide to understanding convolutional neural networks".
const CURVE: [[u8; 7]; 7] = [
    *b".....3.", //
    *b"....3..",
    *b"...3...",
    *b"...3...",
    *b"...3...",
    *b"...3...",
    *b".......",
];
/// The primer's receptive field on the back of its mouse, in tens.
const MOUSE: [[u8; 7]; 7] = [
    *b"......3", //
    *b"....555",
    *b"...25..",
    *b"...55..",
    *b"...55..",
    *b"...55..",
    *b"...55..",
];

fn tens(rows: [[u8; 7]; 7]) -> [[f32; 7]; 7] {
    rows.map(|row| row.map(|digit| if digit == b'.' { 0.0 } else { 10.0 * f32::from(digit - b'0') }))
}

#[test]
fn the_curve_detector_fires_where_the_curve_is() {
    let layers = r#"{ name = "c", kind = "convolution", out_channels = 1, kernel = [7, 7], bias = false }"#;
    let filter: Vec<f32> = tens(CURVE).concat();
    let mut network = open(&architecture(24, layers), &[("c.weight", &filter)]);
    let mut values = vec![0.0; 30 * 24];
    for (row, pixels) in tens(MOUSE).iter().enumerate() {
        values[(12 + row) * 24 + 9..][..7].copy_from_slice(pixels);
    }
    network.forward(&image(24, values));
    let (maps, unit) = (activations(&network), Unit { step: 12, bin: 9, channel: 0 });
    assert_eq!(maps[0].at(unit), 6600.0);
    let strongest = maps[0].strongest(0).unwrap();
    assert!(
        strongest.step.abs_diff(12) <= 1 && strongest.bin.abs_diff(9) <= 1,
        "{strongest:?}: the line goes on below"
    );
    for far in [[0, 0], [3, 9], [20, 9], [12, 1], [12, 17], [23, 17]] {
        assert_eq!(maps[0].at(Unit { step: far[0], bin: far[1], channel: 0 }), 0.0, "{far:?}");
    }
    let seen = project(&mut network, "c", unit, Rule::Deconvnet);
    for (at, &value) in seen.iter().enumerate() {
        let (row, column) = ((at / 24).wrapping_sub(12), (at % 24).wrapping_sub(9));
        let expected = if row < 7 && column < 7 { filter[row * 7 + column] } else { 0.0 };
        assert_eq!(value, expected, "the filter itself, where it fired");
    }
}

#[test]
fn occlusion_finds_the_planted_cue() {
    let layers = r#"
        { name = "c", kind = "convolution", out_channels = 2, kernel = [3, 3], stride = [2, 1], time_padding = { past = 1, future = 1 }, frequency_padding = { low = 1, high = 1 } },
        { name = "p", kind = "max-pool", kernel = [1, 12] },
        { name = "s", kind = "log-softmax" }"#;
    let architecture = architecture(12, layers);
    let cue: Vec<f32> = [[1.0; 9], [0.0; 9]].concat();
    let mut network = open(&architecture, &[("c.weight", &cue), ("c.bias", &[-4.0, 0.0])]);
    let mut values = vec![0.1; 12 * 60];
    for frame in 39..42 {
        values[frame * 12 + 6..][..3].fill(1.0);
    }
    let image = image(12, values);
    let target = |step| Target { step, class: 0 };
    let patch = Patch { size: [3, 3], stride: [3, 3] };
    let mut told = Vec::new();
    let found = occlusion(&mut network, &image, &[target(20), target(5)], patch, |share| told.push(share));
    assert_eq!((found.places, told.last()), ([20, 4], Some(&1.0)));
    let (cued, other) = found.falls.split_at(20 * 4);
    let most = (0..cued.len()).max_by(|&a, &b| cued[a].total_cmp(&cued[b])).unwrap();
    assert_eq!([most / 4, most % 4], [13, 2], "frames 39…41, bins 6…8");
    assert!(cued[most] > 3.0, "{}", cued[most]);
    assert!(cued.iter().enumerate().all(|(at, &fall)| at == most || fall.abs() < 0.5), "{cued:?}");
    assert!(other.iter().all(|fall| fall.abs() < 0.5), "{other:?}");
}

/// The crops change nothing: the same as covering the whole image each time.
#[test]
fn occlusion_is_that_of_the_whole_image() {
    let layers = r#"
        { name = "c", kind = "convolution", out_channels = 3, kernel = [3, 3], stride = [2, 2], time_padding = { past = 1, future = 1 }, frequency_padding = { low = 1, high = 1 } },
        { name = "r", kind = "activation", function = "relu" },
        { name = "f", kind = "frequency-collapse" },
        { name = "t", kind = "convolution", out_channels = 4, kernel = [5, 1], stride = [2, 1], time_padding = { past = 3, future = 1 } },
        { name = "s", kind = "log-softmax" }"#;
    let architecture = architecture(6, layers);
    let mut network = open(&architecture, &[]);
    let whole = noise(6, 70, 3);
    let targets = [Target { step: 2, class: 1 }, Target { step: 9, class: 3 }, Target { step: 17, class: 0 }];
    let patch = Patch { size: [5, 4], stride: [4, 3] };
    let found = occlusion(&mut network, &whole, &targets, patch, |_| {});
    let before = network.forward(&whole).values.clone();
    for place in 0..found.places[0] * found.places[1] {
        let (i, j) = (place / found.places[1], place % found.places[1]);
        let mut covered = whole.clone();
        for frame in (4 * i..4 * i + 5).take_while(|&frame| frame < 70) {
            (3 * j..(3 * j + 4).min(6)).for_each(|bin| covered.values[frame * 6 + bin] = 0.0);
        }
        let after = &network.forward(&covered).values;
        for (index, target) in targets.iter().enumerate() {
            let at = target.step * 4 + target.class;
            let fall = found.falls[index * found.places[0] * found.places[1] + place];
            assert!((fall - (before[at] - after[at])).abs() < 1e-5, "target {index}, place {i}, {j}");
        }
    }
}

#[test]
fn fields_are_those_of_the_summary() {
    let architecture = Model::embedded().unwrap().architecture;
    for (line, row) in architecture.summary().iter().enumerate() {
        let time = fields(&architecture, line)[0].unwrap().time;
        let expected = [row.time.stride, row.time.history, row.time.lookahead].map(|value| value as i64);
        assert_eq!([time.stride, time.before, time.after], expected, "{}", row.path);
    }
}

/// What lies outside the field changes nothing, what lies at its corners does.
#[test]
fn fields_are_what_is_seen() {
    let layers = r#"
        { name = "c", kind = "convolution", out_channels = 2, kernel = [3, 3], stride = [2, 2], time_padding = { past = 1, future = 1 }, frequency_padding = { low = 1, high = 1 } },
        { name = "t", kind = "residual", branch = [
            { name = "a", kind = "convolution", out_channels = 2, kernel = [4, 2], time_padding = { past = 3 }, frequency_padding = { low = 1 } },
            { name = "b", kind = "average-pool", kernel = [1, 1] },
        ] }"#;
    let architecture = architecture(16, layers);
    let mut network = open(&architecture, &[]);
    network.forward(&noise(16, 40, 5));
    for (line, path) in ["c", "t", "t.a", "t.b"].into_iter().enumerate() {
        let field = fields(&architecture, line)[0].unwrap();
        let back = project(&mut network, path, Unit { step: 9, bin: 4, channel: 1 }, Rule::Gradient);
        let (times, bins) = (field.time.of(9, 40).unwrap(), field.frequency.of(4, 16).unwrap());
        let seen: Vec<[usize; 2]> =
            (0..back.len()).filter(|&at| back[at] != 0.0).map(|at| [at / 16, at % 16]).collect();
        let extent = |axis: usize| {
            let along = || seen.iter().map(|place| place[axis]);
            along().min().unwrap()..=along().max().unwrap()
        };
        assert_eq!((extent(0), extent(1)), (times, bins), "{path}");
    }
    assert_eq!(fields(&architecture, 2)[2], None, "the sum is behind its branch");
}

/// The strongest nine are those of a sort of everything, and cut out to what they see they are as strong.
#[test]
fn the_strongest_are_those_of_brute_force_and_stand_alone() {
    let model = Model::embedded().unwrap();
    let Folded { architecture, weights, .. } = fold_batch_norm(&model.architecture, &model.weights).unwrap();
    let mut network = OpenNetwork::new(&architecture, &weights, 2).unwrap();
    let clips: Vec<Images> = (0..12).map(|seed| noise(80, 90 + 17 * seed as usize, seed)).collect();
    let mut strongest = Strongest::new(&architecture, 9);
    let mut all: Vec<Vec<Vec<Hit>>> = Vec::new();
    for (clip, image) in clips.iter().enumerate() {
        network.forward(image);
        let maps = activations(&network);
        strongest.look(clip, &maps);
        all.resize(maps.len(), Vec::new());
        for (map, all) in maps.iter().zip(&mut all) {
            all.resize(map.layer.output.channels, Vec::new());
            for (channel, all) in all.iter_mut().enumerate() {
                let unit = map.strongest(channel).unwrap();
                all.push(Hit { clip, unit, value: map.at(unit) });
            }
        }
    }
    for (line, layer) in architecture.summary().iter().enumerate() {
        let field = fields(&architecture, line)[0].unwrap();
        for (channel, mut all) in std::mem::take(&mut all[line]).into_iter().enumerate() {
            all.retain(|hit| hit.value > 0.0);
            all.sort_by(|a, b| b.value.total_cmp(&a.value));
            all.truncate(9);
            assert_eq!(strongest.of(line, channel), all, "{} {channel}", layer.path);
            let Some(hit) = all.first().filter(|_| channel % 40 == 0) else { continue };
            let image = &clips[hit.clip];
            let seen = window(&field, hit.unit, image.lengths[0], architecture.time_stride()).unwrap();
            let first = *seen.start();
            network.forward(&self::image(80, image.values[first * 80..(seen.end() + 1) * 80].to_vec()));
            let unit = Unit { step: hit.unit.step - first / layer.time.stride, ..hit.unit };
            let value = activations(&network)[line].at(unit);
            assert!((value - hit.value).abs() <= 1e-4 * hit.value.abs().max(1.0), "{} {channel}: {value}", layer.path);
        }
    }
}
