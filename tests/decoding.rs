//! Beam search in the recogniser and in the program, on our own clips.

mod alike;
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dfcnn::audio::AudioStream;
use dfcnn::ctc::Decoding;
use dfcnn::ctc::beam::BeamOptions;
use dfcnn::ctc::hotwords::{HotWord, HotWords};
use dfcnn::model::Model;
use dfcnn::recognizer::{Engine, Options, Recognizer};
use dfcnn::transcript::{Event, Segment};
use serde_json::Value;

use alike::alike;
use program::{Ran, run};

fn clip(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("audio").join(name)
}

fn samples(engine: &Engine) -> Vec<f32> {
    let mut sound = AudioStream::open(&clip("harbour.wav"), engine.clock().sample_rate_hz).unwrap();
    let mut samples = Vec::new();
    while sound.read(&mut samples).unwrap() > 0 {}
    samples
}

fn beam(engine: &Engine, options: BeamOptions) -> Recognizer {
    Recognizer::with_engine(engine, &Options { decoding: Some(Decoding::Beam(options)), ..Options::default() }).unwrap()
}

/// The finals of `samples` heard in pieces, and the partials before them.
fn hear(recognizer: &mut Recognizer, samples: &[f32], piece: usize) -> (Vec<Segment>, Vec<String>) {
    let mut events = Vec::new();
    for samples in samples.chunks(piece) {
        events.extend(recognizer.push(samples).unwrap());
    }
    events.extend(recognizer.finish().unwrap());
    let (finals, partials): (Vec<Event>, Vec<Event>) = events.into_iter().partition(Event::is_final);
    let segments = finals.iter().map(|event| event.segment().clone()).collect();
    (segments, partials.iter().map(|event| event.segment().text.clone()).collect())
}

#[test]
fn the_recogniser_searches_as_the_sound_comes_in() {
    let engine = Engine::new(&Model::embedded().unwrap()).unwrap();
    let samples = samples(&engine);
    let mut recognizer = beam(&engine, BeamOptions { nbest: 4, word_bonus: 0.5, ..BeamOptions::default() });
    assert!(recognizer.description().ends_with(", beam 64"), "{}", recognizer.description());
    let (whole, _) = hear(&mut recognizer, &samples, samples.len());
    let [segment] = &whole[..] else { panic!("{whole:?}") };
    for piece in [1_600, 7_001] {
        let (finals, partials) = hear(&mut recognizer, &samples, piece);
        assert!(alike(&finals, &whole), "{finals:?} instead of {whole:?}");
        assert!(partials.len() > 3 && partials.windows(2).all(|pair| pair[0] != pair[1]), "{partials:?}");
    }
    let texts: Vec<&str> = segment.alternatives.iter().map(|reading| reading.text.as_str()).collect();
    assert_eq!((texts.len(), texts[0]), (4, segment.text.as_str()));
    assert!(texts.iter().enumerate().all(|(place, text)| !texts[..place].contains(text)), "{texts:?}");
    assert!(segment.alternatives.is_sorted_by(|a, b| a.score >= b.score));
    let greedy = Options { decoding: Some(Decoding::Greedy), ..Options::default() };
    let greedy = hear(&mut Recognizer::with_engine(&engine, &greedy).unwrap(), &samples, 8_000).0;
    assert!(greedy[0].alternatives.is_empty());
    assert!((greedy[0].start_s - segment.start_s).abs() < 0.3 && (greedy[0].end_s - segment.end_s).abs() < 0.3);
}

#[test]
fn an_expected_phrase_is_heard_in_real_sound() {
    let model = Model::embedded().unwrap();
    let engine = Engine::new(&model).unwrap();
    let samples = samples(&engine);
    let hot = |phrase: &str| {
        let hot = HotWords::new(&[HotWord { phrase: phrase.into(), boost: 20.0 }], &model.tokens).unwrap();
        let mut recognizer = beam(&engine, BeamOptions { hot_words: Some(Arc::new(hot)), ..BeamOptions::default() });
        hear(&mut recognizer, &samples, 8_000).0.remove(0).text
    };
    let said = fs::read_to_string(clip("transcripts.tsv")).unwrap();
    let said = said.lines().find_map(|line| line.strip_prefix("harbour.wav\t")).unwrap().to_owned();
    let plain = hear(&mut beam(&engine, BeamOptions::default()), &samples, 8_000).0.remove(0).text;
    let has = |text: &str, word: &str| text.split(' ').any(|found| found == word);
    let missed: Vec<&str> = said.split(' ').filter(|word| !has(&plain, word)).collect();
    let helped = missed.iter().filter(|word| has(&hot(word), word)).count();
    assert!(helped > 0, "none of {missed:?} is heard in {plain:?}");
    assert_eq!(hot("xylophone quartz"), plain);
}

// ---- the program

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_n_best_readings_as_json() {
    let path = clip("harbour.wav").display().to_string();
    let ran = run(&["transcribe", "--json", "--nbest", "3", "--beam", "8", "--hotword", "Harbour:3", &path]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let last = lines(&ran).remove(0);
    let alternatives = last["alternatives"].as_array().unwrap();
    assert_eq!((alternatives.len(), &alternatives[0]["text"]), (3, &last["text"]));
    let numbers = |key: &str| alternatives.iter().map(|reading| reading[key].as_f64().unwrap()).collect::<Vec<_>>();
    assert!(numbers("score").is_sorted_by(|a, b| a >= b) && numbers("acoustic").iter().all(|&ln_p| ln_p < 0.0));
    assert!(numbers("language").iter().all(|&ln_p| ln_p < 0.0), "the model's own language model is asked");
    let plain = run(&["transcribe", "--json", "--beam", "8", &path]);
    assert!(plain.code == Some(0) && !plain.stdout.contains("alternatives"), "{plain:?}");
}

#[test]
fn what_cannot_be_decoded_with_is_refused_with_a_reason() {
    let path = clip("harbour.wav").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.txt").display().to_string();
    fs::write(&bad, "harbour\nfair:high\n").unwrap();
    let bootstrap = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/bootstrap");
    for (arguments, code, reason) in [
        (&["--beam", "0"][..], 1, "beam width: 0"),
        (&["--beam", "1000000"], 1, "beam width: 1000000"),
        (&["--beam", "many"], 2, "--beam"),
        (&["--nbest", "3"], 2, "--json"),
        (&["--json", "--nbest", "0"], 1, "n-best: 0"),
        (&["--json", "--nbest", "9", "--beam", "8"], 1, "n-best: 9"),
        (&["--model", bootstrap, "--lm-weight", "0.5"], 1, "--lm"),
        (&["--greedy", "--beam", "8"], 2, "--greedy"),
        (&["--word-bonus", "nan"], 1, "word bonus: NaN"),
        (&["--word-bonus", "0,1"], 2, "dfcnn evaluate"),
        (&["--hotword", "fair:high"], 2, "\"high\" is no number"),
        (&["--hotword", "fair:-1"], 2, "above 0"),
        (&["--hotword", "route 66"], 1, "digits"),
        (&["--hotword", "中国"], 1, "outside the vocabulary"),
        (&["--hotwords", "none.txt"], 1, "none.txt: cannot read"),
        (&["--hotwords", &bad], 1, "bad.txt:2: "),
        (&["--lm", "none.arpa"], 1, "none.arpa: "),
    ] {
        let ran = run(&[&["transcribe", &path][..], arguments].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(reason), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn several_bonuses_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("clips.jsonl").display().to_string();
    let transcripts = fs::read_to_string(clip("transcripts.tsv")).unwrap();
    let rows = transcripts.lines().map(|line| line.split_once('\t').unwrap());
    let line =
        |(name, text): (&str, &str)| format!("{}\n", serde_json::json!({"audio_filepath": clip(name), "text": text}));
    fs::write(&manifest, rows.map(line).collect::<String>()).unwrap();

    let table = run(&["evaluate", &manifest, "--beam", "4", "--word-bonus=-2,0,1.5"]);
    assert_eq!((table.code, table.stderr.as_str(), table.stdout.lines().count()), (Some(0), "", 6), "{table:?}");
    let tuned = lines(&run(&["evaluate", &manifest, "--beam", "4", "--word-bonus=-2,0,1.5", "--json"]));
    let bonuses: Vec<_> = tuned.iter().map(|line| line["word_bonus"].as_f64().unwrap()).collect();
    assert_eq!(bonuses, [-2.0, 0.0, 1.5]);
    assert!(tuned.iter().all(|line| line["type"] == "tuning" && line["sets"]["clips"]["wer"].is_number()));
    for line in &tuned {
        let bonus = format!("--word-bonus={}", line["word_bonus"]);
        let one = lines(&run(&["evaluate", &manifest, "--beam", "4", &bonus, "--json"]));
        let total = one.last().unwrap();
        assert_eq!((&line["total"]["wer"], &line["total"]["cer"]), (&total["wer"], &total["cer"]), "{bonus}");
    }
    assert!(tuned[0]["total"]["cer"] != tuned[2]["total"]["cer"], "{tuned:?}");
}
