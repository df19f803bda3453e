//! The contract of `docs/protocol.md` between the recogniser and its readers, held over random sound and random splits;
//! and what is heard where nothing is said.

mod alike;

use std::cell::RefCell;
use std::f64::consts::TAU;
use std::path::Path;

use dfcnn::audio::AudioStream;
use dfcnn::ctc::Decoding;
use dfcnn::ctc::beam::BeamOptions;
use dfcnn::endpoint::EndpointRules;
use dfcnn::model::Model;
use dfcnn::random::Random;
use dfcnn::recognizer::{Engine, Options, Recognizer};
use dfcnn::transcript::{Event, Segment, Word};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use alike::alike;

const RATE_HZ: usize = 16_000;

// ---- the contract

/// Says how the events of a stream of `duration_s` seconds break the contract.
fn breach(events: &[Event], duration_s: f64) -> Option<String> {
    let mut final_end_s = 0.0;
    // The last partial of the present segment.
    let mut partial: Option<&Segment> = None;
    for event in events {
        let segment = event.segment();
        let last = partial;
        let broken = |what: &str| Some(format!("{what}: {event:?} after {last:?}"));
        if let Some(what) = misshapen(segment, final_end_s, duration_s) {
            return broken(what);
        }
        if let Some(before) = last {
            let stable: String = before.text.chars().take(before.stable_chars).collect();
            if !segment.text.starts_with(&stable) || segment.stable_chars < before.stable_chars {
                return broken("what was stable changed");
            }
            if !event.is_final() && segment.text == before.text {
                return broken("a partial tells nothing new");
            }
        }
        partial = (!event.is_final()).then_some(segment);
        if event.is_final() {
            if segment.stable_chars != segment.text.chars().count() {
                return broken("a final is not stable");
            }
            final_end_s = segment.end_s;
        }
    }
    // That nothing was said may turn out only where nothing is stable.
    partial.filter(|partial| partial.stable_chars > 0).map(|partial| format!("no final follows {partial:?}"))
}

fn misshapen(segment: &Segment, least_s: f64, most_s: f64) -> Option<&'static str> {
    let texts: Vec<&str> = segment.words.iter().map(|word| word.text.as_str()).collect();
    let (Some(first), Some(last)) = (segment.words.first(), segment.words.last()) else { return Some("no words") };
    if segment.text != texts.join(" ") || texts.iter().any(|text| text.is_empty() || text.contains(' ')) {
        return Some("the text is not its words");
    }
    if segment.stable_chars > segment.text.chars().count() {
        return Some("more is stable than there is");
    }
    if (segment.start_s, segment.end_s) != (first.start_s, last.end_s) {
        return Some("the words do not span the segment");
    }
    let times: Vec<f64> = segment.words.iter().flat_map(|word| [word.start_s, word.end_s]).collect();
    if !times.is_sorted() || segment.start_s < least_s || segment.end_s > most_s {
        return Some("times run backwards or beyond the sound");
    }
    segment.words.iter().any(|word| !(0.0..=1.0).contains(&word.confidence)).then_some("confidence is none")
}

fn hear(recognizer: &mut Recognizer, samples: &[f32], lengths: &[usize]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut rest = samples;
    for length in lengths.iter().cycle() {
        let (now, later) = rest.split_at(rest.len().min(*length));
        events.extend(recognizer.push(now).unwrap());
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    events.extend(recognizer.finish().unwrap());
    events
}

fn finals(events: &[Event]) -> Vec<Segment> {
    events.iter().filter(|event| event.is_final()).map(|event| event.segment().clone()).collect()
}

fn clip() -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("audio/harbour.wav");
    let mut sound = AudioStream::open(&path, RATE_HZ as u32).unwrap();
    let mut samples = Vec::new();
    while sound.read(&mut samples).unwrap() > 0 {}
    samples
}

/// Sound of one kind.
#[derive(Debug, Clone, Copy)]
enum Piece {
    /// From a second in our clip on.
    Speech(f64),
    Silence,
    Noise(f64),
    Tone(f64),
}

fn piece() -> impl Strategy<Value = (Piece, f64)> {
    let kind = prop_oneof![
        6 => (0.0..2.5f64).prop_map(Piece::Speech),
        2 => Just(Piece::Silence),
        1 => (0.001..0.5f64).prop_map(Piece::Noise),
        1 => (60.0..3_000.0f64).prop_map(Piece::Tone),
    ];
    (kind, 0.1..2.0f64)
}

fn sound(pieces: &[(Piece, f64)]) -> Vec<f32> {
    let (clip, mut random) = (clip(), Random::new(1));
    let mut sound = Vec::new();
    for &(kind, seconds) in pieces {
        let count = (seconds * RATE_HZ as f64) as usize;
        match kind {
            Piece::Speech(from_s) => sound.extend(clip.iter().skip((from_s * RATE_HZ as f64) as usize).take(count)),
            Piece::Silence => sound.extend(std::iter::repeat_n(0.0, count)),
            Piece::Noise(deviation) => sound.extend(white(&mut random, count, deviation)),
            Piece::Tone(hertz) => {
                sound.extend((0..count).map(|index| (0.3 * (TAU * hertz * seconds_at(index)).sin()) as f32))
            }
        }
    }
    sound
}

fn seconds_at(index: usize) -> f64 {
    index as f64 / RATE_HZ as f64
}

#[test]
fn the_contract_holds_for_any_sound_in_any_pieces() {
    let engine = Engine::new(&Model::embedded().unwrap()).unwrap();
    let beam = Decoding::Beam(BeamOptions { width: 6, word_bonus: 0.5, nbest: 2, ..BeamOptions::default() });
    // So impatient that a few seconds of sound meet every rule.
    let endpoint = EndpointRules { nothing_said_s: 0.6, silence_s: 0.3, longest_s: 2.0 };
    for (decoding, min_confidence) in [(Decoding::Greedy, 0.0), (Decoding::Greedy, 0.5), (beam, 0.3)] {
        let decoding = Some(decoding);
        let options = Options { decoding, endpoint, min_confidence, ..Options::default() };
        let used = RefCell::new(Recognizer::with_engine(&engine, &options).unwrap());
        let told = RefCell::new((0, 0));
        let config =
            ProptestConfig { cases: 6, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Default::default() };
        proptest!(config, |(
            pieces in prop::collection::vec(piece(), 2..9),
            lengths in prop::collection::vec(1..12_000usize, 1..6),
        )| {
            let samples = sound(&pieces);
            let mut recognizer = used.borrow_mut();
            let split = hear(&mut recognizer, &samples, &lengths);
            prop_assert_eq!(breach(&split, seconds_at(samples.len())), None);
            let whole = hear(&mut recognizer, &samples, &[samples.len().max(1)]);
            prop_assert_eq!(breach(&whole, seconds_at(samples.len())), None);
            prop_assert!(alike(&finals(&split), &finals(&whole)), "{split:?} instead of {whole:?}");
            let mut told = told.borrow_mut();
            told.0 += split.len() - finals(&split).len();
            told.1 += finals(&split).len();
        });
        let (partials, finals) = *told.borrow();
        assert!(partials > 10 && finals > 5, "{partials} partials and {finals} finals are hardly a test");
    }
}

#[test]
fn a_breach_of_the_contract_is_caught() {
    let segment = |text: &str, start_s: f64| {
        let mut time_s = start_s;
        let word = |text: &str| {
            time_s += 0.5;
            Word { text: text.into(), start_s: time_s - 0.5, end_s: time_s, confidence: 0.5 }
        };
        Segment::new(text.split(' ').map(word).collect()).unwrap()
    };
    let partial = |text: &str, stable_chars| Event::Partial(Segment { stable_chars, ..segment(text, 0.0) });
    let last = |text: &str, start_s| Event::Final(segment(text, start_s));
    assert_eq!(breach(&[partial("a", 1), partial("a bet", 3), last("a bad", 0.0), last("day", 1.0)], 9.0), None);
    let empty = Event::Final(Segment { text: String::new(), words: Vec::new(), ..segment("a", 0.0) });
    let other = Event::Final(Segment { text: "b".into(), ..segment("a", 0.0) });
    for (events, what) in [
        (vec![empty], "no words"),
        (vec![other], "not its words"),
        (vec![partial("a", 9), last("a", 0.0)], "more is stable"),
        (vec![partial("a", 1), partial("a", 1), last("a", 0.0)], "nothing new"),
        (vec![partial("ab", 2), last("ac", 0.0)], "stable changed"),
        (vec![partial("ab", 2), partial("abc", 1), last("abc", 0.0)], "stable changed"),
        (vec![partial("ab", 1)], "no final follows"),
        (vec![last("a", 0.0), last("b", 0.4)], "backwards"),
        (vec![last("a", 8.9)], "beyond"),
        (vec![Event::Final(Segment { stable_chars: 0, ..segment("a", 0.0) })], "not stable"),
        (vec![Event::Final(Segment { end_s: 3.0, ..segment("a", 0.0) })], "span"),
    ] {
        let found = breach(&events, 9.0);
        assert!(found.as_ref().is_some_and(|found| found.contains(what)), "{what}: {found:?}");
    }
}

// ---- where nothing is said

fn white(random: &mut Random, count: usize, deviation: f64) -> Vec<f32> {
    (0..count).map(|_| (deviation * f64::from(random.normal())).clamp(-1.0, 1.0) as f32).collect()
}

/// Twenty seconds of a sum over time.
fn made(value: impl Fn(f64) -> f64) -> Vec<f32> {
    (0..20 * RATE_HZ).map(|index| value(seconds_at(index)).clamp(-1.0, 1.0) as f32).collect()
}

#[test]
fn silence_and_noise_give_no_words() {
    let mut random = Random::new(7);
    let mut sounds = vec![("digital silence", vec![0.0; 20 * RATE_HZ])];
    for (name, decibels) in [("hiss", -60.0), ("soft noise", -40.0), ("noise", -20.0), ("loud noise", -6.0)] {
        sounds.push((name, white(&mut random, 20 * RATE_HZ, 10.0_f64.powf(decibels / 20.0))));
    }
    sounds.push(("hum", made(|t| (1..8).map(|k| 0.1 * (TAU * 50.0 * f64::from(k) * t).sin() / f64::from(k)).sum())));
    sounds.push(("a tone", made(|t| 0.3 * (TAU * 1000.0 * t).sin())));
    sounds.push(("a sweep", made(|t| 0.3 * (TAU * (100.0 * t + 60.0 * t * t)).sin())));
    sounds.push((
        "chords",
        made(|t| {
            let (chord, t) = ((t / 2.0) as usize, t % 2.0);
            let root = [131.0, 147.0, 175.0, 196.0][chord % 4];
            let notes = [1.0, 1.26, 1.5, 2.0].into_iter().flat_map(|note| (1..8).map(move |k| (note, f64::from(k))));
            let sum: f64 = notes.map(|(note, k)| (TAU * root * note * k * t).sin() / k).sum();
            0.08 * (4.0 * t).min(1.0) * (-t).exp() * sum
        }),
    ));
    let mut keys = white(&mut random, 20 * RATE_HZ, 0.001);
    for stroke in 0..100 {
        let begin = stroke * RATE_HZ / 5 + random.below(1_500);
        for (delay, strength, decay) in [(0, 0.2, 30.0), (1_000, 0.08, 100.0)] {
            for index in 0..400.min(keys.len().saturating_sub(begin + delay)) {
                let click = strength * f64::from(random.normal()) * (-(index as f64) / decay).exp();
                keys[begin + delay + index] += click as f32;
            }
        }
    }
    sounds.push(("a keyboard", keys));
    let mut recognizer = Recognizer::new(&Model::embedded().unwrap(), &Options::default()).unwrap();
    for (name, samples) in sounds {
        let events = hear(&mut recognizer, &samples, &[4_000]);
        assert_eq!(events, [], "{name}");
    }
    assert_ne!(hear(&mut recognizer, &clip(), &[4_000]), [], "but speech does");
}
