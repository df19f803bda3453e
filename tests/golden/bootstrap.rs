//! The bootstrap network at full precision, from the PyTorch file that `tests/data/bootstrap/convert.py` reads too.

use dfcnn::model::Model;
use dfcnn::network::Tensor;
use safetensors::SafeTensors;

/// What our layers are called in PyTorch: `t0.pointwise-norm.bias` is `t.0.b1.bias`.
fn pytorch_name(path: &str) -> String {
    let (layers, parameter) = path.rsplit_once('.').unwrap();
    let renamed = match layers.split_once('.') {
        Some((block, layer)) => {
            let part = match layer {
                "depthwise" => "dw",
                "depthwise-norm" => "b0",
                "pointwise" => "p1",
                "pointwise-norm" => "b1",
                other => panic!("no layer of the bootstrap network: {other}"),
            };
            format!("t.{}.{part}", block.strip_prefix('t').unwrap())
        }
        None if layers == "spectrogram" => "feature".into(),
        None if layers == "out" => layers.into(),
        None => layers.strip_suffix("-norm").map_or_else(|| format!("{layers}.0"), |layer| format!("{layer}.1")),
    };
    format!("{renamed}.{parameter}")
}

/// The model with its filters rounded to f16, in our own format.
pub fn model() -> Model {
    Model::load(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bootstrap")).unwrap()
}

/// The model with its f32 weights; `None`, said aloud, where `shared` is absent.
pub fn f32_model() -> Option<Model> {
    let bytes = std::fs::read(super::shared("bootstrap/model.safetensors")?).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |path: &str| -> Vec<f32> {
        let data = file.tensor(&pytorch_name(path)).unwrap().data();
        data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let mut model = model();
    for parameter in model.architecture.parameters() {
        let tensor = Tensor { shape: parameter.shape.clone(), values: values(&parameter.path) };
        model.weights.insert(&parameter.path, tensor);
    }
    model.normalization.mean = values("spectrogram.mean");
    model.normalization.std = values("spectrogram.std");
    model.check().unwrap();
    Some(model)
}
