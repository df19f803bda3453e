//! Models in 8 bits: made by `dfcnn quantize`, read back, and broken ones refused.

mod program;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use dfcnn::inference::Session;
use dfcnn::inference::native::{NativeNetwork, NativeSession};
use dfcnn::model::{Model, Recipe};
use dfcnn::network::{Architecture, Precision, Tensor, Weights};
use dfcnn::quantize::Quantizer;
use dfcnn::spectrogram::Normalization;
use dfcnn::tokens::Tokens;

use program::{Ran, run};

const DESCRIPTION: &str = r#"
name = "tiny"
layers = [
    { name = "c", kind = "convolution", out_channels = 4, kernel = [3, 3], time_padding = { past = 2 } },
    { name = "relu", kind = "activation", function = "relu" },
    { name = "collapse", kind = "frequency-collapse" },
    { name = "out", kind = "convolution", out_channels = 3, kernel = [1, 1] },
    { name = "softmax", kind = "log-softmax" },
]

[spectrogram]
sample_rate_hz = 8000
window_samples = 200
hop_samples = 80
window = "hann"
fft_size = 256
spectrum = "power"
scale = { kind = "mel", bins = 8, low_hz = 20.0, high_hz = 3800.0 }
log_floor = 1e-6
"#;

/// A model whose last convolution is in 8 bits.
fn tiny() -> Model {
    let recipe = Recipe::parse("model.toml", DESCRIPTION).unwrap();
    let mut weights = Weights::default();
    for parameter in recipe.architecture.parameters() {
        let values = (0..parameter.len()).map(|i| (i as f32 * 0.7).sin()).collect();
        weights.insert(&parameter.path, Tensor { shape: parameter.shape.clone(), values });
    }
    let mut quantizer = Quantizer::new(&recipe.architecture, &weights, 1).unwrap();
    quantizer.observe(&(0..8 * 50).map(|i| (i as f32 * 1.3).sin()).collect::<Vec<_>>());
    let (architecture, weights) = quantizer.quantized(&BTreeSet::from(["out".to_owned()])).unwrap();
    let normalization = Normalization { mean: vec![-3.0; 8], std: vec![1.5; 8] };
    let tokens = Tokens::parse("tokens.txt", "<b>\n<space>\na\n").unwrap();
    Model::new(Recipe { architecture, ..recipe }, normalization, weights, tokens).unwrap()
}

#[test]
fn a_bundle_is_read_back_as_it_was_and_its_filters_are_bytes() {
    let model = tiny();
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path(), Precision::F32).unwrap();
    let loaded = Model::load(folder.path()).unwrap();
    assert_eq!((&loaded.architecture, &loaded.tokens), (&model.architecture, &model.tokens));
    assert_eq!(loaded.weights.int8("out.weight"), model.weights.int8("out.weight"));
    // Read once, it is the same for ever.
    loaded.save(folder.path(), Precision::F16).unwrap();
    assert_eq!(Model::load(folder.path()).unwrap().weights.int8("out.weight"), model.weights.int8("out.weight"));
    let bytes = fs::read(folder.path().join("weights.safetensors")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains(r#""out.weight":{"dtype":"I8","shape":[3,24,1,1]"#), "{text}");
    assert!(text.contains(r#""out.weight_scale":{"dtype":"F32","shape":[3]"#), "{text}");
}

#[test]
fn broken_scales_and_filters_are_refused() {
    let complaint = |change: &dyn Fn(&mut Weights)| {
        let Model { mut weights, architecture, .. } = tiny();
        change(&mut weights);
        weights.check(&architecture).unwrap_err().to_string()
    };
    let scale = |value: f32| complaint(&|weights| weights.get_mut("out.weight_scale").unwrap().values[1] = value);
    for (value, shown) in [
        (f32::NAN, "is NaN"),
        (f32::INFINITY, "is inf"),
        (0.0, "value 1 is 0"),
        (-0.1, "value 1 is -0.1"),
        (1e30, "value 1 is 1000000000"),
        (1e-30, "from 1e-12 to 1e12"),
        // Filters that are no multiples of it, or too great ones.
        (0.0123, "filter 1 holds"),
        (1e-9, "which is no int8; quantize the model again"),
    ] {
        let text = scale(value);
        assert!(text.starts_with("layer \"out.weight_scale\": ") && text.contains(shown), "{text}");
    }
    let text = complaint(&|weights| drop(weights.remove("out.weight_scale")));
    assert!(text.contains("\"out.weight_scale\": the weights lack this tensor of shape [3]"), "{text}");
    let longer = Tensor { shape: vec![4], values: vec![1.0; 4] };
    let text = complaint(&|weights| weights.insert("out.weight_scale", longer.clone()));
    assert!(text.contains("needs shape [3], the weights have [4]"), "{text}");

    // In the file itself.
    let file = |header: &str, data: &[u8]| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat();
    let alone = file(r#"{"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}"#, &[1, 255]);
    let short = file(
        r#"{"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]},"a_scale":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#,
        &[1, 255, 0, 0, 128, 63],
    );
    for bytes in [alone, short] {
        let text = Weights::from_bytes(&bytes).unwrap_err();
        assert!(text.contains("\"a\" is int8") && text.contains("quantize the model again"), "{text}");
    }
    let whole = file(
        r#"{"a":{"dtype":"I8","shape":[1,2],"data_offsets":[0,2]},"a_scale":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#,
        &[3, 255, 0, 0, 0, 63],
    );
    assert_eq!(Weights::from_bytes(&whole).unwrap().get("a").unwrap().values, [1.5, -0.5]);
}

#[test]
fn damaged_bundles_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    tiny().save(folder.path(), Precision::F32).unwrap();
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let (description, whole) = (String::from_utf8(read("model.toml")).unwrap(), read("weights.safetensors"));
    assert!(Model::from_parts("x", &description, &whole, "<b>\n<space>\na\n", None).is_ok());
    let mut noise = dfcnn::random::Random::new(5);
    let mut random = |below: usize| ((noise.normal().abs() * 1e6) as usize) % below;
    for round in 0..2_000 {
        let mut damaged = whole.clone();
        for _ in 0..=round % 4 {
            let at = random(damaged.len());
            damaged[at] = random(256) as u8;
        }
        // What is accepted must run.
        if let Ok(model) = Model::from_parts("x", &description, &damaged, "<b>\n<space>\na\n", None) {
            let network = NativeNetwork::new(&model.architecture, &model.weights).unwrap();
            let mut session = NativeSession::new(Arc::new(network), 1).unwrap();
            session.push(&[1.0; 8 * 5], &mut Vec::new()).unwrap();
            model.weights.to_bytes(Precision::F32).unwrap();
        }
    }
}

#[test]
fn descriptions_that_cannot_be_in_8_bits_are_refused() {
    let description = tiny().recipe().to_text().unwrap();
    let complaint = |from: &str, to: &str| {
        assert!(description.contains(from), "{from} in {description}");
        Recipe::parse("tiny/model.toml", &description.replacen(from, to, 1)).unwrap_err().to_string()
    };
    let scale =
        description.split("kind = \"quantize\", scale = ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    for (from, to, expected) in [
        (scale.as_str(), "nan", "layer \"relu-u8\": scale = NaN must be a number from"),
        (&scale, "-0.1", "scale = -0.1 must be"),
        (&scale, "1e20", "scale = 100000000000000000000 must be"),
        (
            "kind = \"quantize\", scale",
            "kind = \"dropout\", rate",
            "layer \"out\": int8 filters need an image of bytes",
        ),
        (
            "kind = \"frequency-collapse\"",
            "kind = \"local-response-norm\", size = 1, alpha = 1.0, beta = 1.0, k = 1.0",
            "int8 filters need an image of bytes",
        ),
        ("int8 = true", "int8 = 8", "layer \"out\" (kind = \"convolution\"): invalid type"),
        ("int8 = true", "int8 = true, groups = 32", "must divide"),
    ] {
        let text = complaint(from, to);
        assert!(text.starts_with("tiny/model.toml: ") && text.contains(expected), "{text}");
    }
    let wide = description.replacen("kernel = [1, 1]", "kernel = [4096, 1]", 1);
    let text = Recipe::parse("tiny/model.toml", &wide).unwrap_err().to_string();
    assert!(text.contains("the number of products in a sum of int8 is 98304, beyond the limit of 65536"), "{text}");
    let input = tiny().architecture.input();
    assert!(Architecture::new(input, tiny().architecture.layers().to_vec()).is_ok());
}

#[test]
fn the_command_makes_a_model_that_every_command_takes() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let (manifest, out) = (folder.path().join("sound.jsonl"), folder.path().join("small"));
    let line = |clip: &str| {
        serde_json::json!({"audio_filepath": package.join("audio").join(clip), "duration": 3.0, "text": "x"})
            .to_string()
    };
    fs::write(&manifest, [line("harbour.wav"), line("garden.flac")].join("\n")).unwrap();
    let (manifest, out) = (manifest.to_str().unwrap(), out.to_str().unwrap());
    let Ran { code, stdout: table, stderr: said } =
        run(&["-q", "quantize", "--calibrate", manifest, "--out", out, "--divergence", "0.1"]);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{table}");
    let line = |path: &str| table.lines().find(|line| line.starts_with(&format!("{path} "))).unwrap_or_default();
    assert!(line("c1").ends_with("32 bits: 8 are no faster here"), "{table}");
    assert!(line("t0.a").ends_with("8 bits") && line("hid").contains("0.00"), "{table}");
    assert!(table.contains("\n18 of 19 convolutions in 8 bits, 99.7 % of the cost; divergence 0.00"), "{table}");

    let clip = package.join("audio/harbour.wav");
    let clip = clip.to_str().unwrap();
    let Ran { code, stdout: heard, stderr: said } =
        run(&["-v", "transcribe", "--model", out, "--engine", "native", clip]);
    assert!(
        code == Some(0) && said.contains("model english-int8, native engine (") && said.contains("8 bits by "),
        "{said}"
    );
    assert!(heard.contains("boat") && heard.contains("storm"), "{heard}");
    let Ran { code, stdout: shown, .. } = run(&["inspect", out]);
    assert!(code == Some(0) && shown.contains("18 of 19 convolutions in 8 bits, 99.7 % of the cost"), "{shown}");
    assert!(
        shown.contains("convolution, int8") && shown.contains("  a-relu-u8") && shown.contains("quantize"),
        "{shown}"
    );
    let Ran { code, stdout: lines, .. } = run(&["inspect", "--json", out]);
    let int8 = lines.lines().filter(|line| line.contains("\"int8\":true")).count();
    assert_eq!((code, int8), (Some(0), 18), "{lines}");

    let again = folder.path().join("again");
    let Ran { code, stderr: said, .. } =
        run(&["quantize", out, "--calibrate", manifest, "--out", again.to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("in 8 bits already") && !again.exists(), "{said}");
    let stage = folder.path().join("run");
    let recipe = format!("{out}/model.toml");
    let arguments = ["train", manifest, "--dev", manifest, "--recipe", &recipe, "--run", stage.to_str().unwrap()];
    let Ran { code, stderr: said, .. } = run(&[&arguments[..], &["--max-minutes", "0.01"]].concat());
    assert!(code == Some(1) && said.contains("train the model that it was made of"), "{said}");
    for (divergence, problem) in [("-1", "is no divergence"), ("nan", "is no divergence"), ("0", "allow a larger one")]
    {
        let divergence = format!("--divergence={divergence}");
        let arguments =
            ["quantize", "--calibrate", manifest, "--out", again.to_str().unwrap(), "--limit", "1", &divergence];
        let Ran { code, stderr: said, .. } = run(&[&["-q"][..], &arguments].concat());
        assert!(code == Some(1) && said.contains(problem) && !again.exists(), "{said}");
    }
}
