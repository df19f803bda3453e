//! Model bundles: saved and read back; broken ones each end in one clear line.

mod golden;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use dfcnn::Error;
use dfcnn::ctc::Decoding;
use dfcnn::ctc::lm::arpa;
use dfcnn::ctc::lm::compact::Compact;
use dfcnn::model::{Language, LanguageWeights, Model, Recipe};
use dfcnn::network::{Precision, Tensor, Weights};
use dfcnn::spectrogram::Normalization;
use dfcnn::tokens::Tokens;
use tempfile::TempDir;

const DESCRIPTION: &str = r#"
name = "tiny"
layers = [
    { name = "c", kind = "convolution", out_channels = 2, kernel = [3, 3], time_padding = { past = 2 }, bias = false },
    { name = "norm", kind = "batch-norm" },
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
const TOKENS: &str = "<b>\n<space>\na\n";

fn tiny() -> Model {
    let recipe = Recipe::parse("model.toml", DESCRIPTION).unwrap();
    let mut weights = Weights::default();
    for parameter in recipe.architecture.parameters() {
        let values = (0..parameter.len()).map(|i| 0.25 + i as f32 / 64.0).collect();
        weights.insert(&parameter.path, Tensor { shape: parameter.shape.clone(), values });
    }
    let normalization = Normalization { mean: vec![-3.0; 8], std: vec![1.5; 8] };
    Model::new(recipe, normalization, weights, Tokens::parse("tokens.txt", TOKENS).unwrap()).unwrap()
}

/// The tiny model in a new folder.
fn saved() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny().save(folder.path(), Precision::F32).unwrap();
    folder
}

/// What loading says about a tiny model whose `file` was changed to `bytes`.
fn complaint(file: &str, bytes: impl AsRef<[u8]>) -> String {
    let folder = saved();
    fs::write(folder.path().join(file), bytes).unwrap();
    let complaint = Model::load(folder.path()).unwrap_err().to_string();
    assert!(complaint.starts_with(folder.path().to_str().unwrap()), "names the path: {complaint}");
    assert!(!complaint.contains('\n'), "is one line: {complaint}");
    complaint
}

/// What loading says about a tiny model whose weights were changed.
fn complaint_about_weights(change: impl FnOnce(&mut Weights)) -> String {
    let folder = saved();
    let mut weights = Weights::read(&folder.path().join("weights.safetensors")).unwrap();
    change(&mut weights);
    complaint("weights.safetensors", weights.to_bytes(Precision::F32).unwrap())
}

fn weights_file() -> Vec<u8> {
    fs::read(saved().path().join("weights.safetensors")).unwrap()
}

/// The tiny model with a language model of two words.
fn tiny_with_language() -> Model {
    let folder = tempfile::tempdir().unwrap();
    let (arpa, compact) = (folder.path().join("words.arpa"), folder.path().join("words.lm"));
    fs::write(&arpa, "\\data\\\nngram 1=4\n\n\\1-grams:\n-1\t<unk>\n-99\t<s>\n-0.5\t</s>\n-0.5\ta\n\n\\end\\\n")
        .unwrap();
    Compact::write(&arpa::read(&arpa).unwrap(), &compact).unwrap();
    let words = Arc::new(Compact::load(&compact).unwrap());
    let weights = LanguageWeights { weight: 0.25, word_bonus: -1.5 };
    Model { language: Some(Language { weights, words }), ..tiny() }
}

#[test]
fn a_language_model_goes_with_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_with_language();
    model.save(folder.path(), Precision::F32).unwrap();
    assert_eq!(Model::load(folder.path()).unwrap(), model);
    let Decoding::Beam(options) = model.decoding() else { panic!("a search") };
    assert_eq!((options.lm_weight, options.word_bonus), (0.25, -1.5));
    assert!(options.language_model.unwrap().knows("a") && matches!(tiny().decoding(), Decoding::Greedy));

    let complaint = || Model::load(folder.path()).unwrap_err().to_string();
    let description = fs::read_to_string(folder.path().join("model.toml")).unwrap();
    fs::write(folder.path().join("model.toml"), description.replace("0.25", "inf")).unwrap();
    assert!(complaint().contains("weight"), "{}", complaint());
    fs::write(folder.path().join("model.toml"), &description).unwrap();
    fs::write(folder.path().join("words.lm"), "dfcnn-lm, but broken").unwrap();
    assert!(complaint().contains("words.lm"), "{}", complaint());
    fs::remove_file(folder.path().join("words.lm")).unwrap();
    assert!(complaint().contains("words.lm: cannot read"), "{}", complaint());
    fs::write(folder.path().join("model.toml"), description.split("\n[language_model]").next().unwrap()).unwrap();
    assert_eq!(Model::load(folder.path()).unwrap(), tiny(), "none is asked for");
}

/// A safetensors file with this header and `data` zero bytes.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn what_is_saved_is_read_back() {
    let model = tiny();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("model");
    model.save(&path, Precision::F32).unwrap();
    fs::write(path.join("README.md"), "the card").unwrap();
    assert_eq!(Model::load(&path).unwrap(), model);
    // These values are exact in f16 too; saving again replaces the three files and leaves the card.
    model.save(&path, Precision::F16).unwrap();
    assert_eq!(Model::load(&path).unwrap(), model);
    let mut files: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["README.md", "model.toml", "tokens.txt", "weights.safetensors"]);
}

#[test]
fn a_model_that_does_not_fit_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let mut broken = tiny();
    broken.weights.remove("out.bias");
    assert!(matches!(broken.save(&path, Precision::F32), Err(Error::Network { .. })));
    let mut loud = tiny();
    loud.weights.get_mut("out.weight").unwrap().values[1] = 1e6;
    let error = loud.save(&path, Precision::F16).unwrap_err().to_string();
    assert!(error.contains("out.weight") && error.contains("save it as f32"), "{error}");
    assert!(!path.exists());
    fs::write(&path, "a file is in the way").unwrap();
    assert!(matches!(tiny().save(&path, Precision::F32), Err(Error::Write { .. })));
}

#[test]
fn half_precision_is_read() {
    let header = r#"{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]}}"#;
    let mut bytes = safetensors(header, 0);
    bytes.extend([0x00, 0x3c, 0x00, 0xc0, 0x40, 0x40]);
    let weights = Weights::from_bytes(&bytes).unwrap();
    assert_eq!(weights.get("h").unwrap().values, [1.0, -2.0]);
    assert_eq!(weights.get("b").unwrap().values, [3.0]);
}

#[test]
fn bad_paths() {
    let folder = saved();
    let load = |path: &Path| Model::load(path).unwrap_err();
    assert!(matches!(load(&folder.path().join("nowhere")), Error::Read { .. }));
    let error = load(&folder.path().join("tokens.txt")).to_string();
    assert!(error.contains("tokens.txt: is no folder; a model is a folder with model.toml"), "{error}");
    for file in ["tokens.txt", "weights.safetensors", "model.toml"] {
        fs::remove_file(folder.path().join(file)).unwrap();
        let error = load(folder.path()).to_string();
        assert!(error.contains(&format!("has no {file}")), "{error}");
        fs::create_dir(folder.path().join(file)).unwrap();
        assert!(matches!(load(folder.path()), Error::Read { .. }), "{file} is a folder");
        fs::remove_dir(folder.path().join(file)).unwrap();
        tiny().save(folder.path(), Precision::F32).unwrap();
    }
}

#[test]
fn bad_descriptions() {
    for (from, to, expected) in [
        (
            "kind = \"batch-norm\"",
            "kind = \"bath-norm\"",
            "line 3: layer \"norm\" (kind = \"bath-norm\"): unknown variant",
        ),
        ("kind = \"batch-norm\"", "kind = \"batch-norm\", momentum = 0.1", "layer \"norm\""),
        ("name = \"tiny\"", "nam = \"tiny\"", "line 2: unknown field `nam`"),
        ("name = \"tiny\"", "name = \"\"", "the name not empty"),
        ("name = \"tiny\"", "name = \"\\u001b[2J\"", "must each be one line"),
        ("hop_samples = 80", "hop_samples = 80\nhops = 1", "unknown field `hops`"),
        ("hop_samples = 80", "hop_samples = 0", "spectrogram.hop_samples"),
        ("hop_samples = 80", "", "missing field `hop_samples`"),
        ("kernel = [3, 3]", "kernel = [3, 9]", "layer \"c\": a kernel that spans 9 bins"),
        ("kernel = [3, 3]", "kernel = [3, 99999999999999999999]", "line 4"),
        ("out_channels = 3", "out_channels = 4000000000", "layer \"out\": the number of channels"),
        ("name = \"norm\"", "name = \"c\"", "layer \"c\": the name is taken"),
        ("    { name = \"collapse\", kind = \"frequency-collapse\" },\n", "", "add a frequency-collapse layer"),
        ("    { name = \"softmax\", kind = \"log-softmax\" },\n", "", "is no log-softmax"),
        ("layers = [", "layers = {", "line "),
    ] {
        assert!(DESCRIPTION.contains(from));
        let complaint = complaint("model.toml", DESCRIPTION.replacen(from, to, 1));
        assert!(complaint.contains("model.toml: ") && complaint.contains(expected), "{complaint}");
    }
    let known = complaint("model.toml", DESCRIPTION.replace("batch-norm", "bath-norm"));
    assert!(known.contains("`convolution`") && known.contains("`batch-norm`"), "lists the known kinds: {known}");
    assert!(complaint("model.toml", b"name = \"\xff\"").contains("not UTF-8 at byte 8"));
    assert!(complaint("model.toml", vec![b'#'; (1 << 20) + 1]).contains("this is no model.toml"));
    assert!(complaint("model.toml", "").contains("missing field"));
    assert!(complaint("model.toml", [0; 64]).contains("model.toml: "));
}

#[test]
fn bad_tokens() {
    assert!(complaint("tokens.txt", "<b>\na\n").contains("3 classes but there are 2 tokens"));
    assert!(complaint("tokens.txt", "a\nb\nc\n").contains("blank"));
}

#[test]
fn bad_tensors() {
    let set =
        |path: &'static str, value: f32| move |weights: &mut Weights| weights.get_mut(path).unwrap().values[1] = value;
    let rename = |from: &'static str, to: &'static str| {
        move |weights: &mut Weights| {
            let tensor = weights.remove(from).unwrap();
            weights.insert(to, tensor);
        }
    };
    let transpose = |weights: &mut Weights| weights.get_mut("out.weight").unwrap().shape.swap(0, 1);
    let resize = |weights: &mut Weights| {
        weights.insert("spectrogram.mean", Tensor { shape: vec![7], values: vec![0.0; 7] });
    };
    for (complaint, expected) in [
        (complaint_about_weights(set("out.weight", f32::NAN)), "layer \"out.weight\": value 1 of the weights is NaN"),
        (complaint_about_weights(set("out.bias", f32::INFINITY)), "layer \"out.bias\": value 1 of the weights is inf"),
        (
            complaint_about_weights(set("norm.running_var", -0.5)),
            "\"norm.running_var\": value 1 is -0.5, but a variance",
        ),
        (complaint_about_weights(set("spectrogram.std", 0.0)), "std of bin 1"),
        (complaint_about_weights(set("spectrogram.mean", f32::NAN)), "mean of bin 1"),
        (complaint_about_weights(resize), "7 values of mean for 8 bins"),
        (complaint_about_weights(rename("spectrogram.std", "x")), "\"spectrogram.std\": the weights lack"),
        (
            complaint_about_weights(rename("c.weight", "d.weight")),
            "\"c.weight\": the weights lack this tensor of shape [2, 1, 3, 3]",
        ),
        (
            complaint_about_weights(transpose),
            "\"out.weight\": the layer needs shape [3, 12, 1, 1], the weights have [12, 3, 1, 1]",
        ),
        (
            complaint_about_weights(|w| w.insert("c.bias", Tensor { shape: vec![2], values: vec![0.0; 2] })),
            "\"c.bias\": the weights have this tensor of shape [2], but no layer uses it",
        ),
    ] {
        assert!(complaint.contains("weights.safetensors: ") && complaint.contains(expected), "{complaint}");
    }
}

#[test]
fn bad_weight_files() {
    let whole = weights_file();
    for length in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        let complaint = complaint("weights.safetensors", &whole[..length]);
        assert!(complaint.contains("it is damaged or no safetensors file"), "{length}: {complaint}");
    }
    let longer = [&whole[..], b"more"].concat();
    assert!(complaint("weights.safetensors", longer).contains("bytes of data but"));
    // Eight tensors of 2^61 bytes each would end at 2^64: the sum must not overflow on its way to being refused.
    let tensor = |i: u64| {
        let start = u128::from(i) << 61;
        let end = (start + (1 << 61)).min(u128::from(u64::MAX));
        format!(r#""t{i}":{{"dtype":"U8","shape":[{}],"data_offsets":[{start},{end}]}}"#, end - start)
    };
    let colossal = format!("{{{}}}", (0..8).map(tensor).collect::<Vec<_>>().join(","));
    for (header, data) in [
        ("{", 0),
        ("[]", 0),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            4,
        ),
        (r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}"#, 4),
        (r#"{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}}"#, 0),
        (r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#, 4),
        (&"[".repeat(100_000), 0),
        (&colossal, 0),
    ] {
        let complaint = complaint("weights.safetensors", safetensors(header, data));
        assert!(complaint.contains("it is damaged or no safetensors file"), "{complaint}");
    }
    for length in [u64::MAX, 1 << 40, 100_000_000] {
        assert!(complaint("weights.safetensors", length.to_le_bytes()).contains("claims a header of"));
    }
    let integers = safetensors(r#"{"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}"#, 8);
    assert!(complaint("weights.safetensors", integers).contains("tensor \"a\" has type I64"));
}

#[test]
fn random_bytes_never_panic() {
    let mut seed = 7u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let whole = weights_file();
    for round in 0..2_000 {
        let noise: Vec<u8> = (0..random() % 64).map(|_| random() as u8).collect();
        assert!(Weights::from_bytes(&noise).is_err());
        let mut damaged = whole.clone();
        for _ in 0..=round % 4 {
            let at = random() % damaged.len();
            damaged[at] = random() as u8;
        }
        let _ = Model::from_parts("random", DESCRIPTION, &damaged, TOKENS, None);
        let mut text = DESCRIPTION.as_bytes().to_vec();
        let at = random() % text.len();
        text[at] = random() as u8;
        let _ = Recipe::parse("random", &String::from_utf8_lossy(&text));
    }
}

#[test]
fn the_bootstrap_network_is_the_reference_rounded() {
    let Some(reference) = golden::bootstrap::f32_model() else { return };
    let shipped = golden::bootstrap::model();
    assert_eq!(shipped.normalization, reference.normalization);
    for (path, tensor) in shipped.weights.iter() {
        let reference = reference.weights.get(path).unwrap();
        let round = |value: f32| if tensor.shape.len() > 1 { half::f16::from_f32(value).to_f32() } else { value };
        assert!(reference.values.iter().map(|&value| round(value)).eq(tensor.values.iter().copied()), "{path}");
    }
    // Saved by us as f16, the reference is what we keep.
    let folder = tempfile::tempdir().unwrap();
    reference.save(folder.path(), Precision::F16).unwrap();
    assert_eq!(Model::load(folder.path()).unwrap(), shipped);
}
