//! The program from the outside: what it prints, where, and how it exits.

mod program;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use dfcnn::model::Model;
use dfcnn::network::{Precision, Tensor};
use serde_json::Value;

use program::{Ran, command, dfcnn, package};

// ---- running it

fn transcribe(arguments: &[&str]) -> Ran {
    dfcnn().arg("transcribe").args(arguments).output().unwrap().into()
}

fn transcribe_input(arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = dfcnn().arg("transcribe").args(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input); // it may have left already
    child.wait_with_output().unwrap().into()
}

/// The lines as JSON; every one must have a type.
fn json_lines(text: &str) -> Vec<Value> {
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["type"].is_string()), "{text}");
    lines
}

/// One line of complaint about `name` and a failure: nothing else on standard error, no panic.
fn assert_one_complaint(ran: &Ran, name: &str, problem: &str) {
    assert_eq!(ran.code, Some(1), "{name}: {ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{name}: {}", ran.stderr);
    assert!(ran.stderr.starts_with("dfcnn: ") && ran.stderr.contains(name), "{name}: {}", ran.stderr);
    assert!(ran.stderr.contains(problem), "{name}: expected {problem:?} in: {}", ran.stderr);
}

// ---- sound to give it

/// One of our clips, 16 kHz mono 16 bit, its samples as raw bytes and the text that the program hears in it.
fn clip() -> (String, Vec<u8>, String) {
    let path = package("audio/harbour.wav");
    let mut reader = hound::WavReader::open(&path).unwrap();
    assert_eq!((reader.spec().sample_rate, reader.spec().channels), (16_000, 1));
    let raw = reader.samples::<i16>().flat_map(|sample| sample.unwrap().to_le_bytes()).collect();
    let ran = transcribe(&[&path]);
    assert!(ran.code == Some(0) && ran.stdout.len() > 20, "{ran:?}");
    (path, raw, ran.stdout)
}

/// A WAV; `format` 1 is integers, 3 floats.
fn wav(format: u16, channels: u16, rate_hz: u32, bits: u16, data: &[u8]) -> Vec<u8> {
    let block = channels * bits / 8;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0");
    bytes.extend(format.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate_hz.to_le_bytes());
    bytes.extend(rate_hz.wrapping_mul(block.into()).to_le_bytes());
    bytes.extend(block.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

/// Files that go when this does.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// `../shared/<path>`, beside the project or one of the folders it lies in.
fn shared(path: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared").join(path));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        println!("skipped: no shared/{path}");
    }
    found
}

// ---- what it hears

#[test]
fn the_reference_text_of_the_golden_clips() {
    let Some(golden) = shared("bootstrap/golden") else { return };
    let clips: Value = serde_json::from_slice(&fs::read(golden.join("golden.json")).unwrap()).unwrap();
    let clips = clips.as_array().unwrap();
    assert!(!clips.is_empty());
    for clip in clips {
        let path = golden.join(clip["wav"].as_str().unwrap()).display().to_string();
        let ran = transcribe(&["--model", &package("tests/data/bootstrap"), "--min-confidence", "0", &path]);
        let text = ran.stdout.lines().collect::<Vec<_>>().join(" ");
        assert_eq!(text, clip["greedy"].as_str().unwrap(), "{path}: {}", ran.stderr);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{path}");
    }
}

#[test]
fn every_sample_clip_is_heard() {
    let table = fs::read_to_string(package("audio/transcripts.tsv")).unwrap();
    let paths: Vec<String> =
        table.lines().map(|line| package(&format!("audio/{}", line.split('\t').next().unwrap()))).collect();
    assert!(paths.len() >= 4);
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let ran = transcribe(&paths);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.stdout.lines().count(), paths.len(), "{}", ran.stdout);
    for (line, path) in ran.stdout.lines().zip(&paths) {
        let text = line.strip_prefix(&format!("{path}: ")).unwrap();
        assert!(text.len() > 20, "{line}");
    }
}

#[test]
fn the_same_text_by_every_road() {
    let (path, raw, text) = clip();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(transcribe_input(&["-"], &bytes).stdout, text, "WAV on standard input");
    assert_eq!(transcribe_input(&["--raw", "16000"], &raw).stdout, text, "raw");
    assert_eq!(transcribe_input(&["--raw", "16000", "-"], &raw).stdout, text, "raw, `-` said");
    assert_eq!(transcribe(&["--threads", "2", &path]).stdout, text, "two threads");
    assert_eq!(transcribe(&["--model", &package("models/english"), &path]).stdout, text, "model from its folder");
    let by_environment = dfcnn().env("DFCNN_MODEL", package("models/english")).args(["transcribe", &path]).output();
    assert_eq!(Ran::from(by_environment.unwrap()).stdout, text, "model from the environment");
    let floats: Vec<u8> = raw
        .chunks_exact(2)
        .flat_map(|sample| (f32::from(i16::from_le_bytes([sample[0], sample[1]])) / 32_768.0).to_le_bytes())
        .collect();
    assert_eq!(transcribe_input(&["-"], &wav(3, 1, 16_000, 32, &floats)).stdout, text, "float WAV");
    let both = transcribe_input(&[&path, "-", "--raw", "16000"], &raw);
    assert_eq!(both.stdout, format!("{path}: {text}-: {text}"), "a file and raw: streams do not leak into each other");
}

#[test]
fn json_has_text_words_and_an_end() {
    let (path, raw, text) = clip();
    let folder = Folder::new();
    let ran = transcribe(&["--json", &path, &folder.path("missing.wav")]);
    assert_one_complaint(&ran, "missing.wav", "cannot read");
    let [said, end, error] = &json_lines(&ran.stdout)[..] else { panic!("{}", ran.stdout) };
    assert_eq!((&said["type"], &said["file"]), (&"final".into(), &path.as_str().into()));
    assert_eq!(said["text"], text.trim_end());
    let words = said["words"].as_array().unwrap();
    let joined: Vec<&str> = words.iter().map(|word| word["text"].as_str().unwrap()).collect();
    assert_eq!(joined.join(" "), text.trim_end());
    let mut last_s = said["start_s"].as_f64().unwrap();
    for word in words {
        let (start_s, end_s) = (word["start_s"].as_f64().unwrap(), word["end_s"].as_f64().unwrap());
        assert!(last_s <= start_s && start_s <= end_s, "{word}");
        assert!((0.0..=1.0).contains(&word["confidence"].as_f64().unwrap()), "{word}");
        last_s = end_s;
    }
    assert_eq!(said["end_s"].as_f64(), Some(last_s));
    let duration_s = raw.len() as f64 / 2.0 / 16_000.0;
    assert_eq!(end["type"], "end");
    assert!((end["duration_s"].as_f64().unwrap() - duration_s).abs() < 1e-3, "{end}");
    assert_eq!(error["type"], "error");
    assert!(ran.stderr.contains(error["message"].as_str().unwrap()));
}

#[test]
fn partial_results_come_while_the_sound_comes() {
    let (_, raw, text) = clip();
    let mut child =
        dfcnn().args(["transcribe", "--raw", "16000", "--json", "--partials"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    stdin.write_all(&raw).unwrap();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap(); // waits for ever if there is none
    assert_eq!(first["type"], "partial");
    drop(stdin);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let rest = json_lines(&rest.join("\n"));
    assert_eq!(rest[rest.len() - 2]["type"], "final");
    assert_eq!(rest[rest.len() - 2]["text"], text.trim_end());
    assert!(child.wait().unwrap().success());
}

// ---- manners

#[test]
fn help_and_version() {
    for arguments in [&["--help"][..], &["help", "transcribe"], &["transcribe", "--help"], &["--version"]] {
        let ran = Ran::from(dfcnn().args(arguments).output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(ran.stdout.contains("dfcnn"), "{arguments:?}");
    }
    let help = transcribe(&["--help"]).stdout;
    for option in ["--json", "--partials", "--raw", "--model", "--threads", "--verbose", "--quiet", "DFCNN_MODEL"] {
        assert!(help.contains(option), "{option}");
    }
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [
        &[][..],
        &["sing"],
        &["transcribe"],
        &["transcribe", "--jsn", "a.wav"],
        &["transcribe", "--threads", "0", "a.wav"],
        &["transcribe", "--raw", "0"],
        &["transcribe", "--raw", "16000", "a.wav"],
        &["transcribe", "-", "-"],
        &["transcribe", "--partials", "a.wav"],
        &["transcribe", "-v", "-q", "a.wav"],
    ] {
        let ran = Ran::from(dfcnn().args(arguments).output().unwrap());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(ran.stderr.contains("--help") || ran.stderr.contains("Usage"), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn verbose_says_what_runs() {
    let (path, _, text) = clip();
    let ran = transcribe(&["-v", &path]);
    assert_eq!((ran.code, &ran.stdout), (Some(0), &text));
    for part in ["model english", "native engine", "1 thread", "delay 350 ms + window 25 ms", "16000 Hz", "1 channel"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains('\u{1b}'), "no colours or bars off a terminal: {}", ran.stderr);
    let ran = transcribe(&["-v", "--threads", "2", &path]);
    assert_eq!((ran.code, &ran.stdout), (Some(0), &text));
    assert!(ran.stderr.contains("up to 2 threads"), "{}", ran.stderr);
}

#[test]
fn a_reader_who_leaves_is_no_error() {
    let (path, _, _) = clip();
    let mut child = dfcnn().args(["transcribe", &path, &path]).spawn().unwrap();
    drop(child.stdout.take());
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_error() {
    let (path, _, _) = clip();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = Ran::from(dfcnn().args(["transcribe", &path, &path]).stdout(full).output().unwrap());
    assert_one_complaint(&ran, "dfcnn: -:", "cannot write");
}

#[cfg(unix)]
#[test]
fn closed_streams_do_no_harm() {
    let (path, _, _) = clip();
    for (closed, expected) in [(">&-", 0), (">&- 2>&-", 0), ("<&-", 0), ("nothing-there 2>&-", 1)] {
        let script = format!("\"$0\" transcribe \"$1\" {closed}");
        let ran = Ran::from(command("sh").args(["-c", &script, env!("CARGO_BIN_EXE_dfcnn"), &path]).output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(expected), ""), "{closed}");
    }
}

// ---- bad sound

#[test]
fn a_bad_file_gets_one_line_and_the_others_their_text() {
    let (good, raw, text) = clip();
    let folder = Folder::new();
    fs::create_dir(folder.path("folder.wav")).unwrap();
    let whole = fs::read(&good).unwrap();
    let s16 = [0; 200];
    let bad = [
        (folder.file("empty.wav", b""), "empty"),
        (folder.file("text.wav", b"These are words, not sound.\n"), "not a sound file"),
        (folder.file("header-cut.wav", &whole[..30]), "cut off"),
        (folder.file("no-channels.wav", &wav(1, 0, 16_000, 16, &s16)), "channels"),
        (folder.file("no-rate.wav", &wav(1, 1, 0, 16, &s16)), "0 samples per second"),
        (folder.file("absurd-rate.wav", &wav(1, 1, 2_000_000_000, 16, &s16)), "samples per second"),
        (folder.file("header-only.flac", b"fLaC"), "cut off"),
        (folder.path("folder.wav"), "folder"),
        (folder.path("missing.wav"), "cannot read"),
    ];
    for (path, problem) in &bad {
        let ran = transcribe(&[&good, path, &good]);
        assert_one_complaint(&ran, path, problem);
        assert_eq!(ran.stdout, format!("{good}: {text}{good}: {text}"), "{path}");
    }
    let paths: Vec<&str> = bad.iter().map(|(path, _)| path.as_str()).chain([good.as_str()]).collect();
    let ran = transcribe(&paths);
    assert_eq!((ran.code, ran.stderr.lines().count()), (Some(1), bad.len()));
    assert_eq!(ran.stdout, format!("{good}: {text}"));
    let ran = transcribe_input(&["-"], &raw);
    assert_one_complaint(&ran, "-: ", "");
}

#[cfg(unix)]
#[test]
fn a_file_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let path = folder.file("secret.wav", &wav(1, 1, 16_000, 16, &[0; 200]));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        println!("skipped: this user may read everything");
        return;
    }
    assert_one_complaint(&transcribe(&[&path]), &path, "cannot read");
}

#[test]
fn what_was_heard_before_the_break_is_printed() {
    let (good, raw, text) = clip();
    let folder = Folder::new();
    let mut promises_more = wav(1, 1, 16_000, 16, &raw);
    let claimed = (raw.len() as u32 * 2).to_le_bytes();
    promises_more[40..44].copy_from_slice(&claimed);
    let path = folder.file("cut.wav", &promises_more);
    let ran = transcribe(&[&path, &good]);
    assert_one_complaint(&ran, &path, "");
    assert_eq!(ran.stdout, format!("{path}: {text}{good}: {text}"));
    let types: Vec<Value> =
        json_lines(&transcribe(&["--json", &path]).stdout).iter().map(|line| line["type"].clone()).collect();
    assert_eq!(types, ["final", "error"]);
}

#[test]
fn hardly_any_sound_is_fine() {
    let folder = Folder::new();
    for (name, count) in [("none.wav", 0), ("one.wav", 2), ("a-window.wav", 800), ("silence.wav", 32_000)] {
        let ran = transcribe(&[&folder.file(name, &wav(1, 1, 16_000, 16, &vec![0; count]))]);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "\n", ""), "{name}");
    }
    let ran = transcribe_input(&["--raw", "16000"], b"");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "\n", ""));
}

#[test]
fn numbers_that_are_none_are_told_and_do_no_harm() {
    let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38];
    let data: Vec<u8> = (0..16_000).flat_map(|index| values[index % 4].to_le_bytes()).collect();
    let folder = Folder::new();
    let path = folder.file("nan.wav", &wav(3, 1, 16_000, 32, &data));
    let ran = transcribe(&[&path]);
    assert_eq!((ran.code, ran.stderr.lines().count()), (Some(0), 1), "{ran:?}");
    assert!(ran.stderr.contains(&path) && ran.stderr.contains("damaged"), "{}", ran.stderr);
    assert_eq!(transcribe(&["-q", &path]).stderr, "");
}

// ---- bad models

/// Runs with the embedded model after `spoil` changed the files of its bundle.
fn with_model(spoil: impl FnOnce(&Path)) -> (Ran, String) {
    let folder = Folder::new();
    let bundle = folder.0.path().join("model");
    Model::embedded().unwrap().save(&bundle, Precision::F16).unwrap();
    spoil(&bundle);
    (transcribe(&["--model", &folder.path("model"), &package("audio/harbour.wav")]), folder.path("model"))
}

fn assert_model_is_refused(problem: &str, spoil: impl FnOnce(&Path)) {
    let (ran, folder) = with_model(spoil);
    assert_one_complaint(&ran, &folder, problem);
    assert_eq!(ran.stdout, "");
}

fn edit(path: PathBuf, from: &str, to: &str) {
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{} has no {from:?}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn edit_weights(bundle: &Path, change: impl FnOnce(&mut dfcnn::network::Weights)) {
    let path = bundle.join("weights.safetensors");
    let mut weights = dfcnn::network::Weights::read(&path).unwrap();
    change(&mut weights);
    fs::write(path, weights.to_bytes(Precision::F32).unwrap()).unwrap();
}

#[test]
fn a_saved_model_works() {
    let (_, _, text) = clip();
    let (ran, _) = with_model(|_| {});
    assert_eq!((ran.code, ran.stdout, ran.stderr), (Some(0), text, String::new()));
}

#[test]
fn a_model_whose_files_do_not_fit_is_refused() {
    assert_model_is_refused("model.toml", |bundle| fs::remove_file(bundle.join("model.toml")).unwrap());
    assert_model_is_refused("weights", |bundle| fs::remove_file(bundle.join("weights.safetensors")).unwrap());
    assert_model_is_refused("", |bundle| fs::remove_dir_all(bundle).unwrap());
    assert_model_is_refused("weights", |bundle| fs::write(bundle.join("weights.safetensors"), [0xff; 99]).unwrap());
    assert_model_is_refused("tokens", |bundle| fs::write(bundle.join("tokens.txt"), "<b>\na\n").unwrap());
}

#[test]
fn a_model_whose_weights_do_not_fit_is_refused() {
    assert_model_is_refused("shape", |bundle| {
        edit_weights(bundle, |weights| {
            weights.insert("c1.weight", Tensor { shape: vec![1], values: vec![0.0] });
        });
    });
    assert_model_is_refused("lack", |bundle| edit_weights(bundle, |weights| drop(weights.remove("c1.weight"))));
    for number in [f32::NAN, f32::INFINITY] {
        assert_model_is_refused("c2.weight", |bundle| {
            edit_weights(bundle, |weights| weights.get_mut("c2.weight").unwrap().values[7] = number);
        });
    }
}

#[test]
fn a_model_whose_description_is_absurd_is_refused() {
    let toml = |from: &'static str, to: &'static str| move |bundle: &Path| edit(bundle.join("model.toml"), from, to);
    assert_model_is_refused("telepathy", toml("\"batch-norm\"", "\"telepathy\""));
    assert_model_is_refused("", toml("out_channels = 32", "out_channels = 4000000000"));
    assert_model_is_refused("", toml("out_channels = 32", "out_channels = 0"));
    assert_model_is_refused("", toml("out_channels = 32", "out_channels = 18446744073709551615"));
    assert_model_is_refused("", toml("stride = [2, 2]", "stride = [0, 2]"));
    assert_model_is_refused("", toml("past = 1", "past = 9000000000000"));
    assert_model_is_refused("", toml("sample_rate_hz = 16000", "sample_rate_hz = 0"));
    assert_model_is_refused("", toml("hop_samples = 160", "hop_samples = 0"));
    assert_model_is_refused("", toml("fft_size = 512", "fft_size = 1000000000000"));
    assert_model_is_refused("", toml("name = ", "name = ["));
}

// ---- long sound

/// The most memory the child has had so far, in kB.
#[cfg(target_os = "linux")]
fn peak_memory_kb(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Pushes `piece` for `minutes` and says by how many kB memory grew after the first minute.
#[cfg(target_os = "linux")]
fn growth_kb(piece: &[u8], minutes: usize) -> u64 {
    let mut child = dfcnn().args(["transcribe", "--raw", "16000"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let minute: Vec<u8> = piece.iter().copied().cycle().take(60 * 32_000).collect();
    let mut peaks_kb = Vec::new();
    for _ in 0..minutes {
        stdin.write_all(&minute).unwrap(); // returns when all but a pipe's worth has been taken
        peaks_kb.push(peak_memory_kb(&child));
    }
    drop(stdin);
    assert_eq!(Ran::from(child.wait_with_output().unwrap()).code, Some(0));
    peaks_kb[minutes - 1] - peaks_kb[0]
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_sound() {
    assert!(growth_kb(&[0; 2], 3) < 2_000);
    let (_, raw, _) = clip();
    assert!(growth_kb(&raw, 3) < 2_000);
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "takes minutes"]
fn two_hours_of_silence() {
    assert!(growth_kb(&[0; 2], 120) < 2_000);
}
