//! What follows from networks as data: the published ones come out as published, and contradictions are named.

use std::path::{Path, PathBuf};

use dfcnn::model::{Model, Recipe};
use dfcnn::network::{
    Architecture, Convolution, FrameShape, FrequencyPadding, Layer, NamedLayer, Pool, Residual, TimePadding,
};
use proptest::prelude::*;

#[derive(serde::Deserialize)]
struct Description {
    input: FrameShape,
    layers: Vec<NamedLayer>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn architecture_file(name: &str) -> PathBuf {
    root().join("models/architectures").join(name).with_extension("toml")
}

fn recipe(name: &str) -> Recipe {
    Recipe::load(architecture_file(name)).unwrap()
}

fn network(text: &str) -> dfcnn::Result<Architecture> {
    let Description { input, layers } = toml::from_str(text).unwrap();
    Architecture::new(input, layers)
}

fn gflop_per_second(recipe: &Recipe) -> f64 {
    2e-9 * recipe.architecture.multiply_adds_per_second(recipe.spectrogram.clock().frame_rate_hz())
}

#[test]
fn alexnet_has_its_published_sizes() {
    let alexnet = network(&std::fs::read_to_string(root().join("tests/data/alexnet.toml")).unwrap()).unwrap();
    let neurons: Vec<_> = alexnet
        .summary()
        .iter()
        .filter(|layer| layer.kind == "convolution")
        .map(|layer| layer.output.len() * layer.time.output_frames(227))
        .collect();
    // The paper's text prints 253,440 for the first layer; 55 × 55 × 96 is this.
    assert_eq!(neurons, [290_400, 186_624, 64_896, 64_896, 43_264, 4_096, 4_096, 1_000]);
    assert_eq!(alexnet.output_frames(227), 1);
    // "60 million parameters": filters 34,848 + 307,200 + 884,736 + 663,552 + 442,368 + 37,748,736 + 16,777,216 + 4,096,000
    // and 10,568 biases.
    assert_eq!(alexnet.parameter_count(), 60_965_224);
}

#[test]
fn the_published_dfcnn_sees_100_frames_in_steps_of_8() {
    let recipe = recipe("dfcnn-251");
    let network = &recipe.architecture;
    assert_eq!(network.receptive_field(), 100);
    assert_eq!(network.time_stride(), 8);
    assert_eq!(network.input(), FrameShape { frequency: 200, channels: 1 });
    assert_eq!(network.output_frames(1600), 200, "the published network takes 1600 frames to 200");
    let dense = network.summary().iter().find(|layer| layer.path == "dense").unwrap();
    assert_eq!((dense.output.channels, dense.parameters), (128, 3200 * 128 + 128));
    let widths: Vec<_> =
        network.summary().iter().filter(|l| l.kind == "convolution").map(|l| l.output.channels).collect();
    assert_eq!(widths[..10], [32, 32, 64, 64, 128, 128, 128, 128, 128, 128]);
}

#[test]
fn the_bootstrap_network_is_as_its_description_says() {
    let model = Model::load(root().join("tests/data/bootstrap")).unwrap();
    let recipe = model.recipe();
    let clock = model.spectrogram.clock();
    assert_eq!(model.architecture.parameter_count(), 1_730_141);
    assert_eq!(model.architecture.lookahead(), 59);
    assert_eq!(clock.hops_ms(model.architecture.lookahead()), 590.0);
    assert_eq!(model.architecture.history(), 291);
    assert_eq!(model.architecture.time_stride(), 4);
    assert!((gflop_per_second(&recipe) - 0.132).abs() < 5e-4, "{}", gflop_per_second(&recipe));
    // Frames and output steps of the reference's four clips.
    for (frames, steps) in [(347, 87), (318, 80), (431, 108), (499, 125)] {
        assert_eq!(model.architecture.output_frames(frames), steps);
    }
}

#[test]
fn the_shipped_network_keeps_its_promises() {
    let model = Model::embedded().unwrap();
    assert_eq!(Model::load(root().join("models/english")).unwrap(), model);
    assert!(model.architecture.parameter_count() <= 12_000_000);
    assert!(gflop_per_second(&model.recipe()) <= 0.5, "{}", gflop_per_second(&model.recipe()));
    assert!(model.spectrogram.clock().hops_ms(model.architecture.lookahead()) <= 400.0);
}

#[test]
fn the_reference_network_costs_what_was_measured() {
    let recipe = recipe("reference");
    assert!((10.0 * gflop_per_second(&recipe) - 8.16).abs() < 5e-3, "{}", gflop_per_second(&recipe));
    assert_eq!(recipe.architecture.output_frames(1000), 250);
    let collapse = recipe.architecture.summary().iter().find(|layer| layer.kind == "frequency-collapse").unwrap();
    assert_eq!(collapse.output, FrameShape { frequency: 1, channels: 640 });
}

#[test]
fn our_compact_default_keeps_its_promises() {
    let recipe = recipe("compact");
    let clock = recipe.spectrogram.clock();
    assert!(gflop_per_second(&recipe) <= 0.35, "{}", gflop_per_second(&recipe));
    assert!(clock.hops_ms(recipe.architecture.lookahead()) <= 400.0);
    assert_eq!(clock.hops_ms(recipe.architecture.time_stride()), 40.0);
    assert_eq!(recipe.spectrogram.bins(), 80);
}

#[test]
fn every_shipped_architecture_is_read_back_as_written() {
    for name in ["compact", "dfcnn-251", "reference", "residual", "vgg"] {
        let recipe = recipe(name);
        assert_eq!(recipe.name, name);
        let text = recipe.to_text().unwrap();
        assert_eq!(Recipe::parse("model.toml", &text).unwrap(), recipe, "{text}");
        assert!(text.lines().any(|line| line.starts_with("    { name = \"c1\", kind = \"convolution\", ")), "{text}");
    }
}

#[test]
fn a_residual_looks_as_far_as_either_path() {
    let network = network(
        r#"
        input = { frequency = 4, channels = 2 }
        [[layers]]
        name = "r"
        kind = "residual"
        [[layers.branch]]
        name = "a"
        kind = "convolution"
        out_channels = 6
        kernel = [5, 3]
        stride = [2, 1]
        time_padding = { past = 4, future = 0 }
        frequency_padding = { low = 1, high = 1 }
        [[layers.branch]]
        name = "inner"
        kind = "residual"
        [[layers.branch.branch]]
        name = "b"
        kind = "convolution"
        out_channels = 6
        kernel = [3, 1]
        dilation = [2, 1]
        groups = 3
        time_padding = { past = 1, future = 3 }
        [[layers.shortcut]]
        name = "s"
        kind = "convolution"
        out_channels = 6
        kernel = [3, 1]
        stride = [2, 1]
        time_padding = { past = 0, future = 2 }
        "#,
    )
    .unwrap();
    assert_eq!((network.history(), network.lookahead(), network.time_stride()), (6, 6, 2));
    let rows: Vec<_> = network.summary().iter().map(|layer| (layer.path.as_str(), layer.depth)).collect();
    assert_eq!(rows, [("r", 0), ("r.a", 1), ("r.inner", 1), ("r.inner.b", 2), ("r.s", 1)]);
    let paths: Vec<_> = network.parameters().iter().map(|p| (p.path.as_str(), p.shape.as_slice())).collect();
    assert_eq!(paths[0], ("r.a.weight", [6, 2, 5, 3].as_slice()));
    assert_eq!(paths[2], ("r.inner.b.weight", [6, 2, 3, 1].as_slice()));
    // 5·3·2·6·4 + 3·2·6·4 + 3·2·6·4 multiply-adds for each output frame.
    assert_eq!(network.multiply_adds_per_second(100.0), 50.0 * (720.0 + 144.0 + 144.0));
}

/// A convolution as text: `out` channels and further settings.
fn convolution(out: &str, rest: &str) -> String {
    format!("[[layers]]\nname = 'x'\nkind = 'convolution'\nout_channels = {out}\n{rest}\n")
}

#[test]
fn contradictions_are_named() {
    const MANY: &str = "9223372036854775807";
    let residual = |branch: &str| format!("[[layers]]\nname = 'r'\nkind = 'residual'\n[[layers.branch]]\n{branch}");
    let deep = (0..9).map(|depth| format!("[[layers{}]]\nname='r'\nkind='residual'\n", ".branch".repeat(depth)));
    let deep = deep.collect::<String>() + "branch = []";
    for (layers, expected) in [
        (String::new(), "no layers"),
        ("[[layers]]\nname = ''\nkind = 'log-softmax'".into(), "ASCII letters"),
        ("[[layers]]\nname = 'a.b'\nkind = 'log-softmax'".into(), "\"a.b\": a layer's name"),
        ("[[layers]]\nname = \"a\\u001b\"\nkind = 'log-softmax'".into(), "ASCII letters"),
        ("[[layers]]\nname='a'\nkind='log-softmax'\n".repeat(2), "\"a\": the name is taken"),
        (convolution("0", "kernel = [1, 1]"), "out_channels = 0"),
        (convolution("4", "kernel = [0, 1]"), "\"x\": the kernel along time is 0"),
        (convolution("4", "kernel = [1, 1]\nstride = [1, 0]"), "the stride along frequency is 0"),
        (convolution("4", "kernel = [1, 1]\ndilation = [0, 1]"), "the dilation along time is 0"),
        (convolution("4", "kernel = [1, 1]\ngroups = 0"), "groups = 0"),
        (convolution("4", "kernel = [1, 1]\ngroups = 4"), "groups = 4 must divide both the 2 channels"),
        (convolution("3", "kernel = [1, 1]\ngroups = 2"), "groups = 2 must divide"),
        (convolution("4", "kernel = [1, 9]"), "spans 9 bins is larger than the frequency axis: 8 bins"),
        (convolution("4", "kernel = [1, 5]\ndilation = [1, 2]"), "spans 9 bins"),
        (convolution("4", "kernel = [3, 1]\ntime_padding = { past = 2, future = 1 }"), "nothing but padding"),
        (convolution("4", "kernel = [1, 3]\nfrequency_padding = { low = 3 }"), "nothing but padding"),
        (convolution("65537", "kernel = [1, 1]"), "channels is 65537, beyond the limit of 65536"),
        (convolution("4", "kernel = [4097, 1]"), "the kernel along time is 4097, beyond the limit of 4096"),
        (convolution(MANY, "kernel = [1, 1]"), "beyond the limit"),
        (convolution("4", &format!("kernel = [{MANY}, {MANY}]")), "beyond the limit"),
        (convolution("4", &format!("kernel = [1, 1]\nstride = [{MANY}, {MANY}]")), "beyond the limit"),
        (convolution("4", &format!("kernel = [2, 2]\ndilation = [{MANY}, {MANY}]")), "beyond the limit"),
        (convolution("4", &format!("kernel = [2, 2]\ngroups = {MANY}")), "must divide"),
        (
            convolution("4", &format!("kernel = [2, 2]\ntime_padding = {{ past = {MANY}, future = {MANY} }}")),
            "more than dilation",
        ),
        (
            convolution("4", &format!("kernel = [2, 2]\nfrequency_padding = {{ low = {MANY}, high = {MANY} }}")),
            "more than dilation",
        ),
        (convolution("65536", "kernel = [4096, 8]"), "parameters so far is 4294967296, beyond the limit"),
        (convolution("4", "kernel = [4096, 1]\ndilation = [4096, 1]"), "the receptive field in frames is"),
        ("[[layers]]\nname='n'\nkind='batch-norm'\nepsilon=0.0".into(), "epsilon = 0 must be a positive"),
        ("[[layers]]\nname='n'\nkind='batch-norm'\nepsilon=nan".into(), "epsilon = NaN must be"),
        ("[[layers]]\nname='n'\nkind='dropout'\nrate=1.0".into(), "rate = 1 must be in [0, 1)"),
        ("[[layers]]\nname='n'\nkind='activation'\nfunction='leaky-relu'\nslope=inf".into(), "slope = inf"),
        ("[[layers]]\nname='n'\nkind='activation'\nfunction='clipped-relu'\nceiling=-1.0".into(), "ceiling = -1"),
        (
            "[[layers]]\nname='n'\nkind='local-response-norm'\nsize=4\nalpha=1e-4\nbeta=0.75\nk=2.0".into(),
            "size = 4 must be an odd",
        ),
        (
            "[[layers]]\nname='n'\nkind='local-response-norm'\nsize=5\nalpha=1e-4\nbeta=0.75\nk=0.0".into(),
            "k = 0 must be positive",
        ),
        ("[[layers]]\nname='p'\nkind='max-pool'\nkernel=[1, 9]".into(), "spans 9 bins"),
        ("[[layers]]\nname='p'\nkind='max-pool'\nkernel=[1, 2]\nstride=[0, 1]".into(), "stride along time is 0"),
        (
            "[[layers]]\nname='p'\nkind='average-pool'\nkernel=[2, 2]\ntime_padding={past=2}".into(),
            "nothing but padding",
        ),
        (
            residual("name='c'\nkind='convolution'\nout_channels=3\nkernel=[1, 1]"),
            "branch gives 8 × 3 but the shortcut 8 × 2",
        ),
        (residual("name='c'\nkind='max-pool'\nkernel=[2, 1]"), "stride 2, 1 frames lost"),
        (residual("name='c'\nkind='max-pool'\nkernel=[2, 1]\nstride=[1, 1]"), "different numbers of frames"),
        (
            residual("name='c'\nkind='batch-norm'\n[[layers.shortcut]]\nname='c'\nkind='batch-norm'"),
            "\"r.c\": is a name in both",
        ),
        (residual("name='c'\nkind='dropout'\nrate=-0.5"), "\"r.c\": rate = -0.5"),
        (deep, "the nesting depth is 9, beyond the limit of 8"),
    ] {
        let layers = if layers.is_empty() { "layers = []".into() } else { layers };
        let text = format!("input = {{ frequency = 8, channels = 2 }}\n{layers}");
        match network(&text) {
            Ok(_) => panic!("passed: {text}"),
            Err(error) => assert!(error.to_string().contains(expected), "{error}\n{text}"),
        }
    }
}

#[test]
fn what_a_stream_keeps_and_computes_is_bounded() {
    let layer = |name: String, layer: Layer| NamedLayer { name, layer };
    let depthwise = |index: usize| {
        let convolution = Convolution {
            out_channels: 4096,
            kernel: [4096, 1],
            stride: [1, 1],
            dilation: [4, 1],
            groups: 4096,
            time_padding: TimePadding { past: 4 * 4095, future: 0 },
            frequency_padding: FrequencyPadding::default(),
            bias: false,
            int8: false,
        };
        layer(format!("d{index}"), Layer::Convolution(convolution))
    };
    let wide = FrameShape { frequency: 1, channels: 4096 };
    let error = Architecture::new(wide, (0..5).map(depthwise).collect()).unwrap_err().to_string();
    assert!(error.contains("\"d4\": the values kept between calls so far is 335462400"), "{error}");

    let costly = |index: usize| {
        let text = "kind = 'convolution'\nout_channels = 64\nkernel = [1, 5]";
        NamedLayer { name: format!("x{index}"), layer: toml::from_str(text).unwrap() }
    };
    let tall = FrameShape { frequency: 65_536, channels: 64 };
    assert!(Architecture::new(tall, vec![costly(0)]).is_ok());
    let error = Architecture::new(tall, vec![costly(0), costly(1)]).unwrap_err().to_string();
    assert!(error.contains("\"x1\": multiply-adds for one frame so far is 2684108800"), "{error}");

    let collapse = |index: usize| layer(format!("c{index}"), Layer::FrequencyCollapse);
    let error = Architecture::new(wide, (0..4097).map(collapse).collect()).unwrap_err().to_string();
    assert!(error.contains("number of layers is 4097"), "{error}");

    let huge = FrameShape { frequency: 65_536, channels: 65_536 };
    let error = Architecture::new(huge, vec![collapse(0)]).unwrap_err().to_string();
    assert!(error.contains("values in a column"), "{error}");
    let flat = FrameShape { frequency: 1024, channels: 1024 };
    let error = Architecture::new(flat, vec![collapse(0)]).unwrap_err().to_string();
    assert!(error.contains("\"c0\": the number of channels is 1048576"), "{error}");
    let empty = FrameShape { frequency: 0, channels: 1 };
    assert!(Architecture::new(empty, vec![collapse(0)]).unwrap_err().to_string().contains("is empty"));
}

/// A pooling along time, with padding that fits.
fn any_layer() -> impl Strategy<Value = Layer> {
    (1usize..6, 1usize..4, 1usize..4, 0.0..1.0f64, 0.0..1.0f64).prop_map(|(kernel, stride, dilation, share, split)| {
        let reach = dilation * (kernel - 1);
        let padding = (share * (reach + 1) as f64) as usize;
        let past = (split * (padding + 1) as f64) as usize;
        let time_padding = TimePadding { past, future: padding - past };
        if dilation == 1 {
            let frequency_padding = FrequencyPadding::default();
            return Layer::MaxPool(Pool {
                kernel: [kernel, 1],
                stride: Some([stride, 1]),
                time_padding,
                frequency_padding,
            });
        }
        Layer::Convolution(Convolution {
            out_channels: 1,
            kernel: [kernel, 1],
            stride: [stride, 1],
            dilation: [dilation, 1],
            groups: 1,
            time_padding,
            frequency_padding: FrequencyPadding::default(),
            bias: true,
            int8: false,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// A whole network has as many output frames as its layers one after the other, and sees what they see.
    #[test]
    fn a_network_is_one_window_along_time(layers in prop::collection::vec(any_layer(), 1..7), frames in 0usize..400) {
        let input = FrameShape { frequency: 1, channels: 1 };
        let named = |(index, layer): (usize, &Layer)| NamedLayer { name: format!("l{index}"), layer: layer.clone() };
        let chain: Vec<_> = layers.iter().enumerate().map(named).collect();
        let network = Architecture::new(input, chain.clone()).unwrap();
        let one_by_one = layers.iter().fold(frames, |frames, layer| layer.windows()[0].output_size(frames).unwrap_or(0));
        prop_assert_eq!(network.output_frames(frames), one_by_one);

        // The inputs of output 10, from the last layer back to the first.
        let (first, last) = layers.iter().rev().fold((10, 10), |(first, last), layer| {
            let window = layer.windows()[0];
            let start = |t: i64| t * window.stride as i64 - window.padding[0] as i64;
            (start(first), start(last) + window.reach().unwrap() as i64)
        });
        let anchor = 10 * network.time_stride() as i64;
        prop_assert_eq!((anchor - first, last - anchor), (network.history() as i64, network.lookahead() as i64));

        // Around it, a residual of the chain and itself is the same window.
        let residual = Layer::Residual(Residual { branch: chain.clone(), shortcut: Vec::new() });
        let same_length = network.time_stride() == 1 && network.output_frames(1000) == 1000;
        let around = Architecture::new(input, vec![NamedLayer { name: "r".into(), layer: residual }]);
        prop_assert_eq!(around.is_ok(), same_length);
        if let Ok(around) = around {
            prop_assert_eq!(around.time(), network.time());
        }
    }
}
