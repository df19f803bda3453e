//! `dfcnn evaluate` and `dfcnn report` from the outside, on our own clips.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use dfcnn::audio::AudioStream;
use dfcnn::evaluate::error_rate::{ErrorRate, Score};
use dfcnn::model::Model;
use dfcnn::recognizer::{Options, Recognizer};
use serde_json::{Value, json};

use program::{Ran, run};

/// What a run left behind.
/// The lines of this type.
fn lines(ran: &Ran, kind: &str) -> Vec<Value> {
    let lines = ran.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["type"] == kind).collect()
}

fn clips() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("audio")
}

/// Our clips: name, and what is said.
fn transcripts() -> Vec<(String, String)> {
    let table = fs::read_to_string(clips().join("transcripts.tsv")).unwrap();
    let rows = table.lines().map(|line| line.split_once('\t').unwrap());
    rows.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

/// A folder with a manifest of these utterances, its sound files beside it.
fn manifest(utterances: &[Value]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, _) in transcripts() {
        fs::copy(clips().join(&name), folder.path().join(&name)).unwrap();
    }
    let text: String = utterances.iter().map(|utterance| format!("{utterance}\n")).collect();
    let path = folder.path().join("clips.jsonl");
    fs::write(&path, text).unwrap();
    (folder, path.display().to_string())
}

/// All clips, by two speakers from two sources.
fn all_clips() -> Vec<Value> {
    let utterance = |(index, (name, text)): (usize, (String, String))| {
        let (speaker, source) = [("ann", "read"), ("bob", "free")][index % 2];
        let text = text.to_uppercase() + "!";
        json!({"audio_filepath": name, "text": text, "speaker": speaker, "source": source})
    };
    transcripts().into_iter().enumerate().map(utterance).collect()
}

/// What the library hears in `name` between `start` and `end` samples.
fn heard(name: &str, start: usize, end: Option<usize>) -> String {
    let mut recognizer = Recognizer::new(&Model::embedded().unwrap(), &Options::default()).unwrap();
    let mut sound = AudioStream::open(&clips().join(name), recognizer.sample_rate_hz()).unwrap();
    let mut samples = Vec::new();
    while sound.read(&mut samples).unwrap() > 0 {}
    let mut events = recognizer.push(&samples[start..end.unwrap_or(samples.len())]).unwrap();
    events.extend(recognizer.finish().unwrap());
    let finals = events.iter().filter(|event| event.is_final()).map(|event| event.segment().text.as_str());
    finals.collect::<Vec<_>>().join(" ")
}

/// Rates, counts and interval of a `set` or `total` line are those of `rate`.
fn assert_rate(line: &Value, rate: &ErrorRate) {
    let Score { words, characters } = rate.total();
    assert_eq!(line["utterances"], rate.utterances(), "{line}");
    let intervals = [rate.interval(|score| score.words, 1), rate.interval(|score| score.characters, 1)];
    for ((errors, interval), [name, counts, interval_name]) in [words, characters]
        .into_iter()
        .zip(intervals)
        .zip([["wer", "words", "wer_interval"], ["cer", "characters", "cer_interval"]])
    {
        assert_eq!(line[name], json!(errors.rate()), "{line}");
        assert_eq!(line[interval_name], json!(interval), "{line}");
        let expected = json!({
            "reference": errors.reference, "substitutions": errors.substitutions,
            "insertions": errors.insertions, "deletions": errors.deletions,
        });
        assert_eq!(line[counts], expected, "{line}");
    }
}

#[test]
fn the_numbers_are_those_of_the_library() {
    let (_folder, path) = manifest(&all_clips());
    let one = run(&["evaluate", &path, "--json", "--errors", "--speakers", "--jobs", "1"]);
    assert_eq!((one.code, one.stderr.as_str()), (Some(0), ""), "{one:?}");
    let (mut all, mut read, mut texts) = (ErrorRate::default(), ErrorRate::default(), Vec::new());
    for (index, (name, reference)) in transcripts().into_iter().enumerate() {
        let hypothesis = heard(&name, 0, None);
        let score = Score::of(&reference, &hypothesis);
        all.push(None, score);
        if index % 2 == 0 {
            read.push(None, score);
        }
        texts.push((name, reference, hypothesis));
    }
    let sets = lines(&one, "set");
    let names: Vec<&str> = sets.iter().map(|line| line["set"].as_str().unwrap()).collect();
    assert_eq!(names, ["clips", "clips/free", "clips/read"]);
    assert_rate(&sets[0], &all);
    assert_rate(&sets[2], &read);
    let [total] = &lines(&one, "total")[..] else { panic!("{one:?}") };
    assert_rate(total, &all);
    assert!(total["duration_s"].as_f64().unwrap() > 10.0 && total["cpu_real_time_factor"].as_f64().unwrap() > 0.0);
    assert_eq!((&total["jobs"], &total["failed"], &total["dropped"]), (&json!(1), &json!(0), &json!(0)));
    let speakers = lines(&one, "speaker");
    assert_eq!((speakers.len(), &speakers[0]["speaker"]), (2, &json!("ann")));
    assert_eq!(speakers[0]["words"], sets[2]["words"]); // ann is the one who reads

    let errors = lines(&one, "utterance");
    let rates: Vec<f64> = errors.iter().map(|line| line["wer"].as_f64().unwrap()).collect();
    assert!(rates.is_sorted_by(|a, b| a >= b) && !rates.is_empty(), "{rates:?}");
    for line in &errors {
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        assert!(texts.contains(&(text("id"), text("reference"), text("hypothesis"))), "{line}");
    }

    let three = run(&["evaluate", &path, "--json", "--errors", "--speakers", "--jobs", "3"]);
    let but_costs = |ran: &Ran| ran.stdout.lines().rev().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(but_costs(&one), but_costs(&three));
}

#[test]
fn tables_and_aligned_errors() {
    let (_folder, path) = manifest(&all_clips());
    let ran = run(&["evaluate", &path, "--errors", "--speakers"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    for text in
        ["\nREF: ", "\nHYP: ", "\nwords ", "\ncharacters ", "WER %", "\nclips/read ", "\nspeaker ann ", "real-time"]
    {
        assert!(ran.stdout.contains(text), "no {text:?} in {}", ran.stdout);
    }
    let ran = run(&["evaluate", &path, "--limit", "2", "--json"]);
    assert_eq!(lines(&ran, "total")[0]["utterances"], 2);
    assert_eq!(lines(&ran, "set")[0]["set"], "clips"); // of two: the first and the third clip, both read
    assert_eq!(lines(&ran, "set").len(), 1);
}

#[test]
fn parts_of_a_file() {
    let part = |offset: f64, duration: f64| json!({"audio_filepath": "harbour.wav", "offset": offset, "duration": duration, "text": "x"});
    let (_folder, path) = manifest(&[part(1.0, 1.5), part(0.25, 1.5)]);
    let ran = run(&["evaluate", &path, "--json", "--errors"]);
    let mut hypotheses: Vec<_> = lines(&ran, "utterance").iter().map(|line| line["hypothesis"].clone()).collect();
    let mut expected = [heard("harbour.wav", 16_000, Some(40_000)), heard("harbour.wav", 4_000, Some(28_000))];
    assert!(expected[0] != expected[1]);
    hypotheses.sort_by_key(|text| text.as_str().unwrap().to_owned());
    expected.sort();
    assert_eq!(hypotheses, expected, "{ran:?}");
    assert_eq!(lines(&ran, "total")[0]["duration_s"], 3.0);
}

#[test]
fn what_cannot_be_used_is_named_and_the_run_goes_on() {
    let mut utterances = all_clips();
    utterances.insert(0, json!({"audio_filepath": "gone.wav", "text": "gone"}));
    utterances.insert(1, json!({"audio_filepath": "text.wav", "text": "no sound"}));
    utterances.insert(2, json!({"audio_filepath": "harbour.wav", "text": "route 66"}));
    utterances.insert(3, json!({"audio_filepath": "harbour.wav", "text": "the end", "offset": 100.0, "duration": 2.0}));
    let (folder, path) = manifest(&utterances);
    fs::write(folder.path().join("text.wav"), "this is no sound").unwrap();
    let none = folder.path().join("none.jsonl").display().to_string();
    let bad = folder.path().join("bad.jsonl").display().to_string();
    fs::write(&bad, "{\"audio_filepath\": \"harbour.wav\", \"text\": \"one\"}\n{\"audio_filepath\": 7}\n").unwrap();

    let ran = run(&["evaluate", &none, &path, &bad, "--json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let total = &lines(&ran, "total")[0];
    assert_eq!((&total["utterances"], &total["failed"], &total["dropped"]), (&json!(4), &json!(5), &json!(1)));
    let errors: Vec<_> = lines(&ran, "error").iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect();
    let expected =
        ["none.jsonl: cannot read", "gone.wav does not exist", "bad.jsonl:2: ", "text.wav: ", "harbour.wav: ends"];
    assert_eq!((errors.len(), ran.stderr.lines().count()), (5, 5), "{ran:?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.contains(expected) && ran.stderr.contains(error), "{error} for {expected}: {}", ran.stderr);
    }

    for manifests in [[&none, &bad], [&bad, &none], [&path, &path]] {
        let ran = run(&["evaluate", manifests[0], manifests[1], "--json", "--strict"]);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.lines().count()), (Some(1), "", 1), "{ran:?}");
    }
    fs::write(folder.path().join("gone.wav"), "there, but no sound").unwrap();
    let ran = run(&["evaluate", &path, "--json", "--strict", "--jobs", "1"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.lines().count()), (Some(1), "", 1), "{ran:?}");
    assert!(ran.stderr.contains("gone.wav: not a sound file"), "{ran:?}");
}

#[test]
fn nothing_usable_and_wrong_usage() {
    let (_folder, path) = manifest(&[json!({"audio_filepath": "gone.wav", "text": "gone"})]);
    let ran = run(&["evaluate", &path]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("gone.wav"), "{ran:?}");
    for wrong in [&["evaluate"][..], &["evaluate", &path, "--limit", "0"], &["evaluate", &path, "--jobs", "0"]] {
        assert_eq!(run(wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn a_page_about_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let [stage, page] = ["run", "page.html"].map(|name| folder.path().join(name));
    fs::create_dir(&stage).unwrap();
    let [run_name, page_name] = [&stage, &page].map(|path| path.display().to_string());
    let ran = run(&["report", &run_name]);
    assert_eq!((ran.code, ran.stderr.lines().count()), (Some(1), 1), "{ran:?}");
    assert!(ran.stderr.contains("has no metrics.jsonl"), "{ran:?}");
    fs::write(stage.join("metrics.jsonl"), "{\"type\":\"step\",\"step\":1,\"minutes\":0.1}\n").unwrap();
    assert_eq!(run(&["-q", "report", &run_name, "--out", &page_name]).stderr, "");
    assert_eq!(run(&["report", &run_name]).code, Some(0));
    let text = fs::read_to_string(page).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && text == fs::read_to_string(stage.join("report.html")).unwrap());
}

#[test]
fn how_far_confidence_can_be_trusted() {
    let (_folder, manifest) = manifest(&all_clips());
    let ran = run(&["evaluate", &manifest, "--calibration", "--json"]);
    let [calibration] = &lines(&ran, "calibration")[..] else { panic!("{ran:?}") };
    let total = &lines(&ran, "total")[0];
    let counts = &total["words"];
    let count = |value: &Value, key: &str| value[key].as_u64().unwrap();
    let right = count(counts, "reference") - count(counts, "substitutions") - count(counts, "deletions");
    assert_eq!(count(calibration, "right"), right);
    assert_eq!(count(calibration, "words"), right + count(counts, "substitutions") + count(counts, "insertions"));
    let bins = calibration["bins"].as_array().unwrap();
    assert_eq!(
        (bins.len(), bins.iter().map(|bin| count(bin, "words")).sum::<u64>()),
        (10, count(calibration, "words"))
    );
    assert!((0.0..=1.0).contains(&calibration["expected_calibration_error"].as_f64().unwrap()));
    let table = run(&["evaluate", &manifest, "--calibration"]).stdout;
    assert!(table.contains("expected calibration error"), "{table}");
    assert!(!run(&["evaluate", &manifest]).stdout.contains("calibration"));
}
