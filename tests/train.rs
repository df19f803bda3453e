//! Training on tones that stand for letters: it learns them, resumes bit for bit, survives being killed, and says what is
//! wrong with its data.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use dfcnn::dataset::manifest::Manifest;
use dfcnn::dataset::prepare::{Options, prepare};
use dfcnn::dataset::shards::Precision;
use dfcnn::model::{Model, Recipe};
use dfcnn::network::Weights;
use dfcnn::random::Random;
use dfcnn::tokens::Tokens;
use dfcnn::train::metrics::EvaluationLine;
use dfcnn::train::{Budget, Config, End, Event, Source, Start, Trainer};

const RATE_HZ: u32 = 8000;
const TOKENS: &str = "<b>\na\nb\nc\n";
const TONES_HZ: [f32; 3] = [400.0, 900.0, 2000.0];

const RECIPE: &str = r#"
name = "tones"
layers = [
    { name = "c1", kind = "convolution", out_channels = 16, kernel = [3, 3], stride = [2, 2], time_padding = { past = 1, future = 1 }, frequency_padding = { low = 1, high = 1 }, bias = false },
    { name = "n1", kind = "batch-norm" },
    { name = "r1", kind = "activation", function = "relu" },
    { name = "collapse", kind = "frequency-collapse" },
    { name = "c2", kind = "convolution", out_channels = 32, kernel = [5, 1], time_padding = { past = 2, future = 2 } },
    { name = "r2", kind = "activation", function = "relu" },
    { name = "drop", kind = "dropout", rate = 0.05 },
    { name = "out", kind = "convolution", out_channels = 4, kernel = [1, 1] },
    { name = "log-softmax", kind = "log-softmax" },
]

[spectrogram]
sample_rate_hz = 8000
window_samples = 200
hop_samples = 80
window = "hann"
fft_size = 256
spectrum = "power"
scale = { kind = "mel", bins = 16, low_hz = 100.0, high_hz = 3800.0 }
log_floor = 1e-4
"#;

/// A recording of `count` words of tones in a little noise and its manifest, which names a missing file too.
fn record(folder: &Path, count: usize) -> PathBuf {
    let format = hound::WavSpec {
        channels: 1,
        sample_rate: RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut random = Random::new(11);
    let mut wav = hound::WavWriter::create(folder.join("tones.wav"), format).unwrap();
    let mut manifest = String::new();
    let mut written = 0;
    for _ in 0..count {
        let letters: Vec<usize> = (0..2 + random.below(3)).map(|_| random.below(3)).collect();
        let begin = written;
        for tone in std::iter::once(None).chain(letters.iter().flat_map(|&letter| [Some(letter), None])) {
            let samples = if tone.is_some() { RATE_HZ / 10 } else { RATE_HZ / 20 };
            for sample in 0..samples {
                let phase = tone.map_or(0.0, |letter| TONES_HZ[letter] * sample as f32 / RATE_HZ as f32);
                let value = 0.3 * (std::f32::consts::TAU * phase).sin() + 0.003 * random.normal();
                wav.write_sample((value * 32767.0) as i16).unwrap();
            }
            written += samples;
        }
        let text: String = letters.iter().map(|&letter| ['a', 'b', 'c'][letter]).collect();
        let [offset, duration] = [begin, written - begin].map(|samples| f64::from(samples) / f64::from(RATE_HZ));
        let line =
            format!(r#"{{"audio_filepath":"tones.wav","offset":{offset},"duration":{duration},"text":"{text}"}}"#);
        manifest += &(line + "\n");
    }
    wav.finalize().unwrap();
    manifest += "{\"audio_filepath\":\"gone.wav\",\"duration\":1.0,\"text\":\"abc\"}\n";
    let path = folder.join("tones.jsonl");
    fs::write(&path, manifest).unwrap();
    path
}

fn recipe() -> Recipe {
    Recipe::parse("model.toml", RECIPE).unwrap()
}

fn dataset(folder: &Path, count: usize) -> PathBuf {
    let manifest = Manifest::read(&record(folder, count), false).unwrap();
    assert_eq!((manifest.utterances.len(), manifest.missing.len()), (count, 1));
    let out = folder.join("tones");
    let settings = recipe().spectrogram;
    let options = Options { settings, precision: Precision::Bits8, threads: 1, longest_s: 5.0, strict: true };
    prepare(&manifest.utterances, &out, &options, &|_| true).unwrap();
    out
}

fn config(dataset: &Path, budget: Budget) -> Config {
    let source = Source { folder: dataset.to_path_buf(), weight: 1.0 };
    Config {
        batch_s: 8.0,
        learning_rate: 1e-2,
        warmup_steps: 10,
        ema_decay: 0.95,
        curriculum_epochs: 1,
        curriculum_longest_s: 0.5,
        checkpoint_minutes: 1e9,
        evaluate_minutes: 1e9,
        ..Config::new(vec![source], budget)
    }
}

fn start() -> Start {
    Start { recipe: recipe(), tokens: Tokens::parse("tokens.txt", TOKENS).unwrap(), from: None }
}

/// Runs to the end, or until `stop_after` steps are done.
fn run(trainer: &mut Trainer, stop_after: Option<u64>) -> (End, Vec<f64>, Vec<EvaluationLine>) {
    let stop = AtomicBool::new(false);
    let (mut losses, mut evaluations) = (Vec::new(), Vec::new());
    let end = trainer.run(&stop, &mut |event| match event {
        Event::Step { line, logged, .. } => {
            losses.extend(logged.then_some(line.loss_per_label));
            stop.store(stop_after.is_some_and(|after| line.step >= after), Ordering::Relaxed);
        }
        Event::Evaluation(line) => evaluations.push(line.clone()),
        Event::Model(_) | Event::Warning(_) => {}
    });
    (end.unwrap(), losses, evaluations)
}

fn bits(weights: &Weights) -> Vec<(String, Vec<u32>)> {
    weights
        .iter()
        .map(|(path, tensor)| (path.to_owned(), tensor.values.iter().map(|v| v.to_bits()).collect()))
        .collect()
}

#[test]
fn tones_are_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 60);
    let at = folder.path().join("run");
    let mut config = config(&dataset, Budget::Steps(200));
    config.augment = 0.0;
    config.dev = vec![dataset];
    let mut trainer = Trainer::start(&at, &config, start(), 2).unwrap();
    assert_eq!(trainer.report().used.utterances, 60);
    let (end, losses, evaluations) = run(&mut trainer, None);
    assert_eq!((end, losses.len()), (End::Finished, 20));
    assert!(losses[0] > 1.0 && losses[19] < 0.1, "{losses:?}");
    let [evaluation] = &evaluations[..] else { panic!("{evaluations:?}") };
    assert!(evaluation.cer < 0.05 && evaluation.utterances == 60 && !evaluation.samples.is_empty(), "{evaluation:?}");

    let lines = fs::read_to_string(at.join("metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 22);
    assert!(lines[0]["type"] == "step" && lines[21]["type"] == "evaluation" && lines[21]["set"] == "tones");
    assert!(lines[20]["type"] == "filters" && lines[20]["filters"].as_array().unwrap().len() == 16);
    for field in ["step", "minutes", "loss", "loss_per_label", "gradient_norm", "audio_seconds_per_second", "skipped"] {
        assert!(lines[0][field].is_number(), "{field}");
    }
    let (best, last) = (Model::load(at.join("best")).unwrap(), Model::load(at.join("last")).unwrap());
    assert_eq!(best, last);

    // Fine-tuning begins where this ended.
    let begin = Start { from: Some(best), ..start() };
    let fine = Trainer::start(&folder.path().join("fine"), &config, begin, 1).unwrap();
    assert_eq!(bits(&fine.average()), bits(&last.weights));
}

#[test]
fn resumed_is_uninterrupted() {
    let folder = tempfile::tempdir().unwrap();
    // Augmentation begins on the way, and the epochs end on the way.
    let config = Config { augment_after: 1e9, ..config(&dataset(folder.path(), 40), Budget::Steps(30)) };
    let [whole, parts, killed] = ["whole", "parts", "killed"].map(|name| folder.path().join(name));
    let mut trainer = Trainer::start(&whole, &config, start(), 1).unwrap();
    run(&mut trainer, None);
    let expected = (trainer.state().clone(), bits(&trainer.average()));
    assert!(expected.0.augment_from.is_some() && expected.0.epoch > 1, "{:?}", expected.0);

    // Stopped three times, with other numbers of threads.
    let mut trainer = Trainer::start(&parts, &config, start(), 2).unwrap();
    for (stop_after, threads) in [(1, 1), (4, 3), (17, 2)] {
        assert_eq!(run(&mut trainer, Some(stop_after)).0, End::Stopped);
        assert_eq!(trainer.state().steps, stop_after);
        drop(trainer);
        trainer = Trainer::resume(&parts, None, threads).unwrap();
    }
    assert_eq!(run(&mut trainer, None).0, End::Finished);
    let same = |trainer: &Trainer| {
        assert_eq!(bits(&trainer.average()), expected.1);
        assert_eq!(trainer.state().loss, expected.0.loss);
        assert_eq!((trainer.state().epoch, trainer.state().batch), (expected.0.epoch, expected.0.batch));
    };
    same(&trainer);
    let step_lines = |at: &Path| {
        let text = fs::read_to_string(at.join("metrics.jsonl")).unwrap();
        text.lines().filter(|line| line.contains(r#""type":"step""#)).count()
    };
    assert!(step_lines(&parts) > 0 && step_lines(&whole) == 3);

    // Killed: what was on disk after step 9 is all that is left.
    let frequent = Config { checkpoint_minutes: 0.0, ..config.clone() };
    let mut trainer = Trainer::start(&folder.path().join("frequent"), &frequent, start(), 1).unwrap();
    trainer
        .run(&AtomicBool::new(false), &mut |event| {
            if let Event::Step { line, .. } = event
                && line.step == 9
            {
                copy(&folder.path().join("frequent"), &killed);
            }
        })
        .unwrap();
    let mut trainer = Trainer::resume(&killed, None, 1).unwrap();
    assert_eq!(trainer.state().steps, 8);
    run(&mut trainer, None);
    same(&trainer);

    // Half a checkpoint is noticed, the one before it taken.
    let last = killed.join("checkpoints/last.safetensors");
    fs::write(&last, &fs::read(&last).unwrap()[..1000]).unwrap();
    assert_eq!(Trainer::resume(&killed, None, 1).unwrap().state().steps, 30);
    let error = Trainer::start(&whole, &config, start(), 1).err().unwrap().to_string();
    assert!(error.contains("holds a run already"), "{error}");
    let error = Trainer::resume(&folder.path().join("none"), None, 1).err().unwrap().to_string();
    assert!(error.contains("holds no run"), "{error}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { fs::copy(entry.path(), to).map(drop).unwrap() }
    }
}

#[test]
fn a_run_that_diverges_stops_and_names_its_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        Config { learning_rate: 1e30, warmup_steps: 0, ..config(&dataset(folder.path(), 20), Budget::Steps(200)) };
    let at = folder.path().join("run");
    let mut trainer = Trainer::start(&at, &config, start(), 1).unwrap();
    let mut skipped = 0;
    let outcome = trainer.run(&AtomicBool::new(false), &mut |event| {
        skipped += usize::from(matches!(event, Event::Warning(text) if text.contains("skipped")));
    });
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("50 steps in a row") && error.contains("last.safetensors"), "{error}");
    assert!(skipped >= 50 && trainer.state().skipped_steps == skipped as u64, "{skipped}");
    assert_eq!(Trainer::resume(&at, None, 1).unwrap().state().steps, 0);
}

#[test]
fn a_damaged_dataset_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path(), 20);
    let mut trainer =
        Trainer::start(&folder.path().join("run"), &config(&dataset, Budget::Epochs(2)), start(), 1).unwrap();
    let columns = dataset.join("shard-00000.bin");
    let mut bytes = fs::read(&columns).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(&columns, bytes).unwrap();
    let error = trainer.run(&AtomicBool::new(false), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("shard-00000.bin: damaged"), "{error}");
}

fn dfcnn(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dfcnn")).args(arguments).current_dir(folder).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_door_takes_manifests() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    record(folder, 20);
    fs::write(folder.join("model.toml"), RECIPE).unwrap();
    fs::write(folder.join("tokens.txt"), TOKENS).unwrap();
    let base = ["train", "tones.jsonl", "--recipe", "model.toml", "--tokens", "tokens.txt", "--threads", "1"];
    let train = |more: &[&str]| dfcnn(folder, &[&base[..], more].concat());

    let output = train(&["--run", "run", "--max-steps", "12", "--dev", "tones.jsonl"]);
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    for part in ["1 sound files are missing", "gone.wav", "used: 20 utterances", "step 12: tones: WER", "heard: "] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(output.stdout.is_empty());
    Model::load(folder.join("run/best")).unwrap();

    let output = dfcnn(folder, &["train", "--resume", "--run", "run", "--max-steps", "15"]);
    assert!(output.status.success() && stderr(&output).contains("step 15: tones: WER"), "{}", stderr(&output));

    for (arguments, code, part) in [
        (&["--run", "strict", "--max-steps", "2", "--strict"][..], 1, "1 sound files are missing"),
        (&["--run", "run", "--max-steps", "2"], 1, "holds a run already"),
        (&["--run", "new"], 2, "say when to end"),
        (&["--run", "new", "--max-steps", "2", "--epochs", "2"], 2, "cannot be used with"),
        (&["--run", "new", "--max-steps", "2", "--learning-rate", "-1"], 2, "unexpected argument '-1'"),
        (&["--run", "new", "--max-steps", "2", "--learning-rate=-1"], 1, "learning-rate: must be positive"),
        (&["--run", "new", "--max-steps", "2", "--resume"], 2, "cannot be used with"),
    ] {
        let output = train(arguments);
        let text = stderr(&output);
        assert!(output.status.code() == Some(code) && text.contains(part), "{arguments:?}: {:?} {text}", output.status);
    }
    let other = folder.join("other.txt");
    fs::write(&other, "<b>\na\n").unwrap();
    let output = dfcnn(
        folder,
        &["train", "tones.jsonl", "--recipe", "model.toml", "--tokens", "other.txt", "--run", "x", "--epochs", "1"],
    );
    assert!(stderr(&output).contains("the network has 4 classes but there are 2 tokens"), "{}", stderr(&output));
    let output = dfcnn(folder, &["prepare", "none.jsonl", "--out", "o", "--recipe", "model.toml"]);
    assert!(output.status.code() == Some(1) && stderr(&output).contains("none.jsonl"), "{}", stderr(&output));
}

/// A file-size limit stands in for a full disk: the same refusal in the middle of a write.
#[cfg(unix)]
#[test]
fn a_full_disk_costs_no_checkpoint() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    record(folder, 20);
    fs::write(folder.join("model.toml"), RECIPE).unwrap();
    fs::write(folder.join("tokens.txt"), TOKENS).unwrap();
    let shell = |limit: &str, arguments: &str| {
        let program = env!("CARGO_BIN_EXE_dfcnn");
        // The signal that a limit sends otherwise is ignored, so the write itself fails, as on a full disk.
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"{program}\" train {arguments}");
        Command::new("sh").args(["-c", &script]).current_dir(folder).output().unwrap()
    };
    let output = shell(
        "unlimited",
        "tones.jsonl --recipe model.toml --tokens tokens.txt --threads 1 --run run --max-steps 4 --checkpoint-minutes 0",
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let checkpoints = ["last", "previous"].map(|name| folder.join(format!("run/checkpoints/{name}.safetensors")));
    let before = checkpoints.each_ref().map(|path| fs::read(path).unwrap());
    assert!(before[0].len() > 16 * 1024, "{}", before[0].len());

    let output = shell("8", "--resume --run run --max-steps 8");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in ["next.safetensors: cannot write", "the run goes on without a checkpoint"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(checkpoints.each_ref().map(|path| fs::read(path).unwrap()) == before);
    assert_eq!(Trainer::resume(&folder.join("run"), Some(Budget::Steps(8)), 1).unwrap().state().steps, 4);
}

/// `dfcnn train` on its way, as soon as it has told of a step; it would go on for an hour.
#[cfg(unix)]
fn on_its_way(folder: &Path) -> std::process::Child {
    record(folder, 20);
    fs::write(folder.join("model.toml"), RECIPE).unwrap();
    fs::write(folder.join("tokens.txt"), TOKENS).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_dfcnn"))
        .args(["train", "tones.jsonl", "--recipe", "model.toml", "--tokens", "tokens.txt", "--threads", "1"])
        .args(["--run", "run", "--max-minutes", "60", "--checkpoint-minutes", "0"])
        .current_dir(folder)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while fs::metadata(folder.join("run/metrics.jsonl")).map_or(0, |metadata| metadata.len()) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child
}

/// Ctrl-C saves and says how to go on.
#[cfg(unix)]
#[test]
fn ctrl_c_saves() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let child = on_its_way(folder);
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert!(output.status.code() == Some(130) && text.contains("dfcnn train --resume --run run"), "{text}");
    assert!(Trainer::resume(&folder.join("run"), Some(Budget::Steps(1)), 1).unwrap().state().steps >= 10);
}

/// Killed without warning, it loses what came after its last checkpoint, here a step, and nothing else.
#[cfg(unix)]
#[test]
fn kill_9_loses_what_came_after_the_last_checkpoint() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let mut child = on_its_way(folder);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "killed");
    let steps = Trainer::resume(&folder.join("run"), Some(Budget::Steps(1)), 1).unwrap().state().steps;
    assert!(steps >= 9, "{steps}");
    let more = (steps + 3).to_string();
    let output = dfcnn(folder, &["train", "--resume", "--run", "run", "--max-steps", &more]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(Trainer::resume(&folder.join("run"), Some(Budget::Steps(1)), 1).unwrap().state().steps, steps + 3);
}
