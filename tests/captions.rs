//! Every form of results, from the outside, and many recordings into a folder. `tests/peers/captions.py` has captions read by
//! parsers that others wrote; the checks here are ours, as strict as the formats.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use program::{Ran, run};

fn audio(name: &str) -> String {
    program::package(&format!("audio/{name}"))
}

fn transcribe(arguments: &[&str]) -> Ran {
    run(&[&["transcribe"][..], arguments].concat())
}

fn heard(arguments: &[&str]) -> String {
    transcribe(arguments).well()
}

// ---- strict readers: what is not exactly as it should be is an error

#[derive(Debug, PartialEq)]
struct Cue {
    start_ms: u64,
    end_ms: u64,
    text: String,
}

/// `HH:MM:SS` and milliseconds after `point`.
fn milliseconds(clock: &str, point: char) -> Result<u64, String> {
    let (seconds, ms) = clock.rsplit_once(point).ok_or(format!("no {point:?} in {clock}"))?;
    let parts: Vec<&str> = seconds.split(':').collect();
    let [hours, minutes, seconds] = parts[..] else { return Err(format!("{clock} is no time")) };
    let number = |digits: &str, count: usize, most: u64| match digits.parse::<u64>() {
        Ok(number) if digits.len() >= count && number <= most && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(number)
        }
        _ => Err(format!("{digits} in {clock}")),
    };
    let minutes = number(hours, 2, u64::MAX)? * 60 + number(minutes, 2, 59)?;
    Ok((minutes * 60 + number(seconds, 2, 59)?) * 1000 + number(ms, 3, 999)?)
}

fn cue(block: &str, point: char) -> Result<Cue, String> {
    let (times, text) = block.split_once('\n').ok_or(format!("no text in {block:?}"))?;
    let (start, end) = times.split_once(" --> ").ok_or(format!("no arrow in {times:?}"))?;
    let cue = Cue { start_ms: milliseconds(start, point)?, end_ms: milliseconds(end, point)?, text: text.into() };
    let lines: Vec<&str> = text.split('\n').collect();
    if cue.end_ms <= cue.start_ms || lines.iter().any(|line| line.trim() != *line || line.is_empty()) {
        return Err(format!("{cue:?}"));
    }
    Ok(cue)
}

fn srt(text: &str) -> Result<Vec<Cue>, String> {
    let blocks = text.split_terminator("\n\n").enumerate().map(|(index, block)| {
        let (number, rest) = block.split_once('\n').ok_or(format!("{block:?}"))?;
        if number == (index + 1).to_string() { cue(rest, ',') } else { Err(format!("{number} is cue {}", index + 1)) }
    });
    if text.is_empty() || text.ends_with("\n\n") { blocks.collect() } else { Err("breaks off".into()) }
}

fn vtt(text: &str) -> Result<Vec<Cue>, String> {
    let text = text.strip_prefix("WEBVTT\n\n").ok_or("no head")?;
    text.split_terminator("\n\n").map(|block| cue(block, '.')).collect()
}

/// In order, without overlap, and laid out as asked for.
fn check(cues: &[Cue], chars: usize, lines: usize, longest_ms: u64) {
    assert!(cues.windows(2).all(|pair| pair[0].end_ms <= pair[1].start_ms), "{cues:?}");
    for cue in cues {
        assert!(cue.text.lines().count() <= lines && cue.end_ms - cue.start_ms <= longest_ms, "{cue:?}");
        assert!(cue.text.lines().all(|line| line.chars().count() <= chars), "{cue:?}");
    }
}

#[test]
fn the_readers_are_strict() {
    let good = "1\n00:00:00,040 --> 00:00:01,040\none\ntwo\n\n2\n00:01:02,040 --> 100:00:03,040\nthree\n\n";
    assert_eq!(srt(good).unwrap().len(), 2);
    for (from, to) in [
        ("2\n00", "3\n00"),
        ("0,040", "0.040"),
        ("-->", "->"),
        ("00:01:02", "00:61:02"),
        ("00:01:02", "1:02"),
        ("one\n", "\n"),
        ("00:00:01,040", "00:00:00,040"),
        ("three\n\n", "three\n"),
    ] {
        assert!(srt(&good.replacen(from, to, 1)).is_err(), "{from:?} as {to:?}");
    }
    assert!(vtt("WEBVTT\n\n00:00:00.040 --> 00:00:01.040\none\n\n").is_ok() && vtt("00:00\n").is_err());
}

// ---- one recording

/// The words of the finals.
fn words(json: &str) -> Vec<Value> {
    let lines = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let finals = lines.filter(|line| line["type"] == "final");
    finals.flat_map(|line| line["words"].as_array().unwrap().clone()).collect()
}

#[test]
fn every_form_has_the_same_words_and_times() {
    let path = audio("train.opus");
    let json = heard(&["--format", "json", &path]);
    assert_eq!(heard(&["--json", &path]), json);
    let words = words(&json);
    let texts: Vec<&str> = words.iter().map(|word| word["text"].as_str().unwrap()).collect();
    assert!(texts.len() > 5, "{json}");
    let ms = |word: &Value, key: &str| (word[key].as_f64().unwrap() * 1e3).round() as u64;

    let text = heard(&["--format", "text", &path]);
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), texts);
    assert_eq!(heard(&[&path]), text);

    let cues = srt(&heard(&["--format", "srt", &path])).unwrap();
    assert_eq!(vtt(&heard(&["--format", "vtt", &path])).unwrap(), cues);
    check(&cues, 42, 2, 7_000);
    let shown: Vec<&str> = cues.iter().flat_map(|cue| cue.text.split_whitespace()).collect();
    assert_eq!(shown, texts);
    assert_eq!(cues[0].start_ms, ms(&words[0], "start_s"));

    for (line, word) in heard(&["--format", "tsv", &path]).lines().skip(1).zip(&words) {
        let columns: Vec<&str> = line.split('\t').collect();
        assert_eq!((columns.len(), columns[0]), (5, path.as_str()));
        assert_eq!(
            (columns[3], Some(columns[1].parse().unwrap())),
            (word["text"].as_str().unwrap(), word["start_s"].as_f64())
        );
    }
    let ctm = heard(&["--format", "ctm", &path]);
    assert_eq!(ctm.lines().count(), words.len());
    for (line, word) in ctm.lines().zip(&words) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [name, channel, start_s, duration_s, text, confidence] = fields[..] else { panic!("{line}") };
        assert_eq!((name, channel, text), ("train", "1", word["text"].as_str().unwrap()));
        let numbers = [start_s, duration_s, confidence].map(|number| number.parse::<f64>().unwrap());
        let wanted =
            [word["start_s"].clone(), word["end_s"].clone(), word["confidence"].clone()].map(|n| n.as_f64().unwrap());
        let found = [numbers[0], numbers[0] + numbers[1], numbers[2]];
        assert!(found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-6), "{line} {word}");
    }
}

#[test]
fn captions_as_narrow_and_brief_as_asked_for() {
    let path = audio("market.mp3");
    let narrow = ["--caption-chars", "12", "--caption-lines", "1", "--caption-longest", "1.5"];
    let cues = srt(&heard(&[&["--format", "srt", &path][..], &narrow].concat())).unwrap();
    check(&cues, 12, 1, 1_500);
    assert!(cues.len() > 3, "{cues:?}");
}

#[test]
fn segments_end_as_asked_for() {
    let path = audio("market.mp3");
    let finals =
        |arguments: &[&str]| heard(&[&["--min-confidence", "0", &path][..], arguments].concat()).lines().count();
    assert_eq!(finals(&[]), 1);
    assert!(finals(&["--longest-segment", "1"]) > 2);
    assert!(finals(&["--endpoint-silence", "0.12"]) > 1);
    let none = transcribe(&["--min-confidence", "1", &path]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), "\n"));
}

#[test]
fn forms_that_do_not_fit_are_refused() {
    let (one, two) = (audio("harbour.wav"), audio("train.opus"));
    for (arguments, code, reason) in [
        (&["--format", "srt", &one, &two][..], 2, "--output-dir"),
        (&["--format", "poem", &one], 2, "poem"),
        (&["--format", "srt", "--json", &one], 2, "cannot be used with"),
        (&["--partials", &one], 2, "--json"),
        (&["--format", "ctm", "--nbest", "2", &one], 2, "--json"),
        (&["--jobs", "2", &one], 2, "--output-dir"),
        (&["--caption-chars", "0", "--format", "vtt", &one], 1, "caption lines"),
        (&["--caption-longest", "nan", "--format", "vtt", &one], 1, "longest caption"),
        (&["--endpoint-silence", "0", &one], 1, "silence after speech: 0 s"),
        (&["--longest-segment", "1e9", &one], 1, "longest segment"),
        (&["--min-confidence", "1.5", &one], 1, "least confidence"),
    ] {
        let ran = transcribe(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{arguments:?}: {}", ran.stderr);
    }
}

// ---- many recordings

/// Every file below `folder` with its content.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// A folder with two recordings, one of them deep inside, a broken one and a note.
fn recordings(folder: &Path) -> PathBuf {
    let talks = folder.join("talks");
    fs::create_dir_all(talks.join("day 2")).unwrap();
    fs::copy(audio("harbour.wav"), talks.join("one.wav")).unwrap();
    fs::copy(audio("train.opus"), talks.join("day 2/two.opus")).unwrap();
    fs::write(talks.join("broken.wav"), "These are words, not sound.").unwrap();
    fs::write(talks.join("note.txt"), "Not to be heard.").unwrap();
    talks
}

#[test]
fn a_folder_becomes_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let talks = recordings(folder.path());
    let one = heard(&["--format", "srt", &audio("harbour.wav")]);
    let two = heard(&["--format", "srt", &audio("train.opus")]);
    let wanted = BTreeMap::from([("one.srt".to_owned(), one), ("day 2/two.srt".to_owned(), two)]);
    for jobs in ["1", "3"] {
        let out = folder.path().join(format!("out {jobs}/deeper"));
        let (talks, out_dir) = (talks.display().to_string(), out.display().to_string());
        let ran = transcribe(&["--format", "srt", "--jobs", jobs, "--output-dir", &out_dir, &talks]);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.lines().count()), (Some(1), "", 1), "{ran:?}");
        assert!(ran.stderr.contains("broken.wav: not a sound file"), "{}", ran.stderr);
        assert_eq!(files(&out), wanted);
        assert!(wanted.values().all(|text| !srt(text).unwrap().is_empty()));
    }
    let text = transcribe(&[&talks.display().to_string()]);
    assert_eq!((text.code, text.stdout.lines().count(), text.stderr.lines().count()), (Some(1), 2, 1), "{text:?}");
}

#[test]
fn a_pattern_is_all_that_match_it() {
    let folder = tempfile::tempdir().unwrap();
    let talks = recordings(folder.path());
    let out = folder.path().join("out");
    let pattern = talks.join("*/t?o.*").display().to_string();
    heard(&["--json", "--output-dir", &out.display().to_string(), &pattern]);
    let files = files(&out);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["two.jsonl"]);
    assert!(!words(&files["two.jsonl"]).is_empty());
    let none = transcribe(&[&talks.join("*.flac").display().to_string()]);
    assert!(none.code == Some(1) && none.stderr.contains("*.flac: cannot read"), "{none:?}");
}

#[test]
fn results_that_would_overwrite_each_other_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").display().to_string();
    fs::copy(audio("harbour.wav"), folder.path().join("train.wav")).unwrap();
    let same = folder.path().join("train.wav").display().to_string();
    let ran = transcribe(&["--output-dir", &out, &same, &audio("train.opus")]);
    assert!(ran.code == Some(2) && ran.stderr.contains("would both be written to"), "{ran:?}");
    assert!(!Path::new(&out).exists());
    fs::write(&out, "in the way").unwrap();
    let ran = transcribe(&["--output-dir", &out, &same]);
    assert!(ran.code == Some(1) && ran.stderr.contains("cannot write"), "{ran:?}");
}

#[test]
fn what_was_heard_before_a_break_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(audio("harbour.wav")).unwrap();
    let samples = u32::from_le_bytes(bytes[40..44].try_into().unwrap());
    bytes[40..44].copy_from_slice(&(samples * 2).to_le_bytes()); // promises more than there is
    let cut = folder.path().join("cut.wav");
    fs::write(&cut, bytes).unwrap();
    let out = folder.path().join("out");
    for (form, whole) in [("text", "harbour.txt"), ("json", ""), ("vtt", "harbour.vtt")] {
        let arguments = ["--format", form, "--output-dir", &out.display().to_string()];
        let ran = transcribe(&[&arguments[..], &[&cut.display().to_string(), &audio("harbour.wav")]].concat());
        assert!(ran.code == Some(1) && ran.stderr.lines().count() == 1 && ran.stderr.contains("cut.wav"), "{ran:?}");
        let files = files(&out);
        match files.get(whole) {
            Some(text) => assert_eq!(files[&whole.replace("harbour", "cut")], *text),
            None => assert!(files["cut.jsonl"].lines().last().unwrap().contains("\"error\""), "{files:?}"),
        }
    }
}
