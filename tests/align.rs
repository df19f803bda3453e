//! Word times against those of the synthesiser, in our clips with silences of known length around them.

mod golden;
mod program;

use std::fs;
use std::path::{Path, PathBuf};

use dfcnn::audio::AudioStream;
use dfcnn::ctc;
use dfcnn::dataset::text::Normalizer;
use dfcnn::model::Model;
use dfcnn::recognizer::{Acoustics, Engine, Options, Recognizer};
use dfcnn::transcript::{Event, Word};

use program::run;

/// How far from the truth a word's start or end may be, in seconds …
const TOLERANCE_S: f64 = 0.08;
/// … in this part of the words. Letters come in steps of 40 ms, and an undertrained network misses some places.
const PART: f64 = 0.8;
/// How far a segment may begin too early or end too late, in seconds.
const EDGE_TOLERANCE_S: f64 = 2.0 * TOLERANCE_S;
/// How far the middle of words may be off on the whole, in seconds: a step.
const MEAN_TOLERANCE_S: f64 = 0.04;

fn audio(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("audio").join(name)
}

/// A clip's words with their starts and ends in seconds.
type Spoken = Vec<(String, f64, f64)>;

fn clips() -> Vec<(String, Spoken)> {
    let table = fs::read_to_string(golden::committed("word-times.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split('\t').collect()).collect();
    let clips = rows.chunk_by(|a, b| a[0] == b[0]).map(|rows| {
        let word = |row: &Vec<&str>| (row[1].to_owned(), row[2].parse().unwrap(), row[3].parse().unwrap());
        (rows[0][0].to_owned(), rows.iter().map(word).collect())
    });
    clips.collect()
}

fn samples(name: &str, rate_hz: u32) -> Vec<f32> {
    let mut sound = AudioStream::open(&audio(name), rate_hz).unwrap();
    let mut samples = Vec::new();
    while sound.read(&mut samples).unwrap() > 0 {}
    samples
}

/// All clips in a row with so many seconds of silence before each and after the last; the words and when they are said.
fn recording(rate_hz: u32, silences_s: &[f64]) -> (Vec<f32>, Spoken) {
    let (mut sound, mut spoken) = (Vec::new(), Vec::new());
    let silence = |seconds: f64| vec![0.0; (seconds * f64::from(rate_hz)) as usize];
    for ((name, words), &silence_s) in clips().into_iter().zip(silences_s) {
        sound.extend(silence(silence_s));
        let begin_s = sound.len() as f64 / f64::from(rate_hz);
        spoken.extend(words.into_iter().map(|(word, start_s, end_s)| (word, begin_s + start_s, begin_s + end_s)));
        sound.extend(samples(&name, rate_hz));
    }
    sound.extend(silence(1.0));
    (sound, spoken)
}

fn text(spoken: &Spoken) -> String {
    spoken.iter().map(|(word, ..)| word.as_str()).collect::<Vec<_>>().join(" ")
}

fn align(engine: &Engine, sound: &[f32], text: &str) -> Vec<Word> {
    let normalizer = Normalizer::new(engine.tokens());
    let labels = normalizer.encode(&normalizer.normalize(text).unwrap()).unwrap();
    let (mut acoustics, mut log_probs) = (Acoustics::new(engine, 1).unwrap(), Vec::new());
    acoustics.push(sound, &mut log_probs).unwrap();
    acoustics.finish(&mut log_probs).unwrap();
    let tokens = engine.tokens();
    engine.words(&ctc::align(&log_probs, tokens.len(), tokens.blank(), &labels).unwrap().emissions)
}

/// The part of times that are near the truth.
fn near(errors_s: &[f64]) -> f64 {
    errors_s.iter().filter(|error_s| error_s.abs() <= TOLERANCE_S).count() as f64 / errors_s.len() as f64
}

#[test]
fn a_known_text_is_found_in_its_place() {
    let model = Model::embedded().unwrap();
    let engine = Engine::new(&model).unwrap();
    let rate_hz = engine.clock().sample_rate_hz;
    for silences_s in [[0.0, 0.3, 1.5, 0.7], [2.0, 0.0, 0.1, 4.0]] {
        let (sound, spoken) = recording(rate_hz, &silences_s);
        let words = align(&engine, &sound, &text(&spoken));
        assert_eq!(words.len(), spoken.len());
        assert!(words.iter().zip(&spoken).all(|(word, (said, ..))| word.text == *said));
        let starts: Vec<f64> =
            words.iter().zip(&spoken).map(|(word, (_, start_s, _))| word.start_s - start_s).collect();
        let ends: Vec<f64> = words.iter().zip(&spoken).map(|(word, (.., end_s))| word.end_s - end_s).collect();
        let mut middles: Vec<f64> = starts.iter().zip(&ends).map(|(start_s, end_s)| (start_s + end_s) / 2.0).collect();
        middles.sort_by(f64::total_cmp);
        let median_s = middles[middles.len() / 2];
        println!(
            "silences {silences_s:?}: {:.0} % of the starts and {:.0} % of the ends are within {TOLERANCE_S} s; \
             emission_delay_s should be {:.3}",
            100.0 * near(&starts),
            100.0 * near(&ends),
            model.emission_delay_s + median_s,
        );
        assert!(near(&starts) >= PART && near(&ends) >= PART, "{starts:?}\n{ends:?}");
        assert!(median_s.abs() <= MEAN_TOLERANCE_S, "model.toml: emission_delay_s is {median_s:.3} s too small");
    }
    // The check can fail: as if the network were a quarter of a second slower than its model says.
    let late = Engine::new(&Model { emission_delay_s: 0.0, ..model.clone() }).unwrap();
    let (sound, spoken) = recording(rate_hz, &[0.5; 4]);
    let words = align(&late, &sound, &text(&spoken));
    let starts =
        words.iter().zip(&spoken).map(|(word, (_, start_s, _))| word.start_s + 0.25 - model.emission_delay_s - start_s);
    assert!(near(&starts.collect::<Vec<_>>()) < PART);
}

/// Segments, not words, as the shipped network hears few of these.
#[test]
fn segments_lie_where_speech_is() {
    let engine = Engine::new(&Model::embedded().unwrap()).unwrap();
    let rate_hz = engine.clock().sample_rate_hz;
    let (sound, _) = recording(rate_hz, &[2.0, 3.0, 3.0, 3.0]);
    let mut recognizer = Recognizer::with_engine(&engine, &Options::default()).unwrap();
    let mut events = recognizer.push(&sound).unwrap();
    events.extend(recognizer.finish().unwrap());
    let segments: Vec<_> = events.iter().filter(|event| event.is_final()).map(Event::segment).collect();
    assert_eq!(segments.len(), clips().len(), "{segments:?}");
    let mut begin_s = 0.0;
    for (segment, ((name, words), silence_s)) in segments.iter().zip(clips().into_iter().zip([2.0, 3.0, 3.0, 3.0])) {
        begin_s += silence_s;
        let (first_s, last_s) = (begin_s + words[0].1, begin_s + words[words.len() - 1].2);
        // What is not heard at the edges makes a segment shorter, but hardly longer: a single word may be somewhat off.
        assert!(first_s - EDGE_TOLERANCE_S <= segment.start_s && segment.start_s < first_s + 1.0, "{segment:?}");
        assert!(last_s - 1.0 < segment.end_s && segment.end_s <= last_s + EDGE_TOLERANCE_S, "{segment:?}");
        begin_s += samples(&name, rate_hz).len() as f64 / f64::from(rate_hz);
    }
}

// ---- the program

#[test]
fn aligned_words_as_tables_and_captions() {
    let path = audio("harbour.wav").display().to_string();
    let said = "The old boat came back to the harbour, before the storm!";
    let words = ["the", "old", "boat", "came", "back", "to", "the", "harbour", "before", "the", "storm"];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("said.txt").display().to_string();
    fs::write(&file, format!("{said}\n")).unwrap();
    let tsv = run(&["align", &path, "--text", said]).well();
    let rows: Vec<Vec<&str>> = tsv.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows[0], ["file", "start_s", "end_s", "word", "confidence"]);
    assert_eq!(rows[1..].iter().map(|row| row[3]).collect::<Vec<_>>(), words);
    assert_eq!(run(&["align", &path, "--text-file", &file]).stdout, tsv);
    let json = run(&["align", &path, "--text", said, "--format", "json"]).well();
    let last: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["text"]), (&"final".into(), &words.join(" ").into()));
    let ctm = run(&["align", &path, "--text", said, "--format", "ctm"]).well();
    assert!(ctm.lines().count() == words.len() && ctm.starts_with("harbour 1 0."), "{ctm}");
    let srt = run(&["align", &path, "--text", said, "--format", "srt"]).well();
    assert!(srt.starts_with("1\n00:00:00,") && srt.contains("the harbour before the storm\n"), "{srt}");
    let empty = run(&["align", &path, "--text", ""]);
    assert_eq!(empty.code, Some(1), "{empty:?}");
}

#[test]
fn what_cannot_be_aligned_is_refused_with_a_reason() {
    let path = audio("harbour.wav").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let long = "word ".repeat(1_000);
    for (arguments, code, reason) in [
        (&[path.as_str()][..], 2, "--text"),
        (&[&path, "--text", "a", "--text-file", "b"], 2, "cannot be used with"),
        (&[&path, "--text", &long], 1, "is it the text of this recording?"),
        (&[&path, "--text", "route 66"], 1, "digits"),
        (&[&path, "--text", "中国"], 1, "outside the vocabulary"),
        (&[&path, "--text-file", "none.txt"], 1, "none.txt: cannot read"),
        (&[&path, "--text-file", &file("bytes.txt", b"\xff\xfe")], 1, "bytes.txt: cannot read"),
        (&[&path, "--text-file", &file("huge.txt", &vec![b'a'; 5 << 20])], 1, "huge.txt: "),
        (&["none.wav", "--text", "a"], 1, "none.wav: cannot read"),
        (&[&file("text.wav", b"These are words."), "--text", "a"], 1, "not a sound file"),
        (&[&path, "--text", "a", "--format", "srt", "--caption-lines", "0"], 1, "caption lines"),
    ] {
        let ran = run(&[&["align"][..], arguments].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{arguments:?}: {ran:?}");
    }
}
