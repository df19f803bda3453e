//! Prefix beam search against brute force over all paths, and what it does with language models and hot words.

use std::collections::HashMap;
use std::sync::Arc;

use dfcnn::ctc::beam::{BeamDecoder, BeamOptions, Reading};
use dfcnn::ctc::hotwords::{HotWord, HotWords};
use dfcnn::ctc::lm::{LanguageModel, LmState};
use dfcnn::ctc::{Emission, GreedyDecoder, words};
use dfcnn::tokens::Tokens;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Of scores that are sums of the same numbers in another order.
const TOLERANCE: f64 = 1e-6;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Default::default() }
}

fn tokens(list: &[&str]) -> Tokens {
    Tokens::parse("tokens.txt", &format!("<b>\n{}\n", list.join("\n"))).unwrap()
}

// ---- a language model

/// A bigram over a few words; any number as ln P, sound or not.
struct Bigram {
    words: Vec<String>,
    ln_p: fn(&[u32], u32) -> f32,
}

const UNKNOWN: u32 = 100;
const END: u32 = 101;

impl Bigram {
    fn new(words: &[&str], ln_p: fn(&[u32], u32) -> f32) -> Arc<Self> {
        Arc::new(Self { words: words.iter().map(ToString::to_string).collect(), ln_p })
    }

    fn id(&self, word: &str) -> u32 {
        self.words.iter().position(|known| known == word).map_or(UNKNOWN, |id| id as u32)
    }
}

impl LanguageModel for Bigram {
    fn start(&self) -> LmState {
        LmState::default()
    }

    fn score(&self, state: &LmState, word: &str) -> (f32, LmState) {
        let id = self.id(word);
        ((self.ln_p)(state.ids(), id), LmState::new(&[id]))
    }

    fn finish(&self, state: &LmState) -> f32 {
        (self.ln_p)(state.ids(), END)
    }

    fn knows(&self, word: &str) -> bool {
        self.id(word) != UNKNOWN
    }

    fn look_ahead(&self, start: &str) -> Option<f32> {
        let ids = (0..).zip(&self.words).filter(|(_, word)| word.starts_with(start)).map(|(id, _)| id);
        ids.map(|id| (self.ln_p)(&[], id)).reduce(f32::max)
    }
}

/// Some numbers without order, the same each time.
fn scattered(history: &[u32], word: u32) -> f32 {
    let seed = word * 7 + history.last().map_or(3, |last| last * 13 + 5);
    -0.5 - (seed.wrapping_mul(2_654_435) % 997) as f32 / 250.0
}

// ---- brute force

/// The log-probabilities of all token sequences that paths through `rows` stand for.
fn all_sequences(rows: &[Vec<f32>]) -> HashMap<Vec<u32>, f64> {
    let classes = rows.first().map_or(1, Vec::len);
    let mut sums: HashMap<Vec<u32>, f64> = HashMap::new();
    for path in 0..classes.pow(rows.len() as u32) {
        let class = |step: usize| path / classes.pow(step as u32) % classes;
        let log_prob: f64 = rows.iter().enumerate().map(|(step, row)| f64::from(row[class(step)])).sum();
        let mut path: Vec<u32> = (0..rows.len()).map(|step| class(step) as u32).collect();
        path.dedup();
        path.retain(|&token| token != 0);
        *sums.entry(path).or_default() += log_prob.exp();
    }
    sums.into_iter().map(|(sequence, sum)| (sequence, sum.ln())).collect()
}

/// The readings by definition: text, acoustic, language, score; the best first.
fn brute_force(rows: &[Vec<f32>], tokens: &Tokens, options: &BeamOptions) -> Vec<(String, f64, f64, f64)> {
    let separated = (0..tokens.len() as u32).any(|id| tokens.piece(id).is_some_and(|piece| piece.contains(' ')));
    let mut readings: Vec<_> = all_sequences(rows)
        .into_iter()
        .map(|(sequence, acoustic)| {
            let text = tokens.text(&sequence);
            let words: Vec<String> = match separated {
                true => text.split_whitespace().map(str::to_owned).collect(),
                false => sequence.iter().filter_map(|&id| tokens.piece(id)).collect(),
            };
            let mut language = 0.0;
            let mut unknown = 0;
            if let Some(model) = &options.language_model {
                let mut state = model.start();
                for word in &words {
                    let (ln_p, next) = model.score(&state, word);
                    language += f64::from(ln_p);
                    state = next;
                    unknown += usize::from(!model.knows(word));
                }
                language += if words.is_empty() { 0.0 } else { f64::from(model.finish(&state)) };
            }
            let score = acoustic + options.lm_weight * language + options.word_bonus * words.len() as f64
                - options.unknown_penalty * unknown as f64;
            (text, acoustic, language, score)
        })
        .collect();
    readings.sort_by(|a, b| b.3.total_cmp(&a.3));
    let mut seen = Vec::new();
    readings.retain(|reading| {
        !seen.contains(&reading.0) && {
            seen.push(reading.0.clone());
            true
        }
    });
    readings
}

/// Nothing is pruned.
fn exhaustive() -> BeamOptions {
    BeamOptions {
        width: 4096,
        nbest: 6,
        most_tokens: usize::MAX,
        token_range: f64::INFINITY,
        score_range: f64::INFINITY,
        ..BeamOptions::default()
    }
}

/// All tokens and, of the end, the readings.
fn decode(rows: &[Vec<f32>], tokens: &Tokens, options: &BeamOptions) -> (Vec<Emission>, Vec<Reading>) {
    let mut decoder = BeamDecoder::new(tokens, options.clone()).unwrap();
    let mut out = Vec::new();
    decoder.push(&rows.concat(), &mut out);
    decoder.finish(&mut out);
    (out, decoder.readings().to_vec())
}

fn text(emissions: &[Emission], tokens: &Tokens) -> String {
    tokens.text(&emissions.iter().map(|emission| emission.token).collect::<Vec<_>>())
}

/// Rows of log-probabilities.
fn rows(classes: usize, steps: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<Vec<f32>>> {
    prop::collection::vec(prop::collection::vec(-4.0f32..2.0, classes), steps).prop_map(|rows| {
        let normal = |row: Vec<f32>| {
            let sum = row.iter().map(|logit| logit.exp()).sum::<f32>().ln();
            row.into_iter().map(|logit| logit - sum).collect()
        };
        rows.into_iter().map(normal).collect()
    })
}

fn assert_exact(rows: &[Vec<f32>], tokens: &Tokens, options: &BeamOptions) -> Result<(), TestCaseError> {
    let wanted = brute_force(rows, tokens, options);
    let (emissions, readings) = decode(rows, tokens, options);
    prop_assert_eq!(readings.len(), wanted.len().min(options.nbest));
    prop_assert_eq!(text(&emissions, tokens), wanted[0].0.clone());
    for (reading, (wanted_text, acoustic, language, score)) in readings.iter().zip(&wanted) {
        prop_assert_eq!(&text(&reading.emissions, tokens), wanted_text);
        for (found, wanted) in [(reading.acoustic, acoustic), (reading.language, language), (reading.score, score)] {
            prop_assert!((found - wanted).abs() < TOLERANCE, "{} for {}", found, wanted);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn exact_over_all_paths(rows in rows(4, 0..6), weight in 0.0..2.0, bonus in -1.0..2.0) {
        let tokens = tokens(&["<space>", "a", "b"]);
        assert_exact(&rows, &tokens, &exhaustive())?;
        let bonus_only = BeamOptions { word_bonus: bonus, ..exhaustive() };
        assert_exact(&rows, &tokens, &bonus_only)?;
        let model = Bigram::new(&["a", "ab", "b", "ba"], scattered);
        let options = BeamOptions { language_model: Some(model), lm_weight: weight, ..bonus_only };
        assert_exact(&rows, &tokens, &options)?;
        // As wide a beam as there are texts prunes nothing, but the shortcuts for full beams are taken.
        let distinct = all_sequences(&rows).len();
        assert_exact(&rows, &tokens, &BeamOptions { width: distinct.max(6), ..options })?;
    }

    #[test]
    fn exact_with_word_pieces(rows in rows(5, 0..6)) {
        let tokens = tokens(&["▁a", "b", "b▁", "▁a▁b"]);
        let model = Bigram::new(&["a", "ab", "b"], scattered);
        let options = BeamOptions { language_model: Some(model), lm_weight: 0.7, word_bonus: 0.3, ..exhaustive() };
        assert_exact(&rows, &tokens, &options)?;
    }

    #[test]
    fn exact_without_words(rows in rows(4, 0..6)) {
        let tokens = tokens(&["中", "文", "国"]);
        let model = Bigram::new(&["中", "文"], scattered);
        let options = BeamOptions { language_model: Some(model), lm_weight: 0.7, word_bonus: 0.3, ..exhaustive() };
        assert_exact(&rows, &tokens, &options)?;
    }

    #[test]
    fn splitting_changes_nothing(
        rows in rows(6, 0..60),
        cuts in prop::collection::vec(0usize..60, 0..8),
        width in 1usize..12,
        hole in 0usize..60,
    ) {
        let mut rows = rows;
        if let Some(row) = rows.get_mut(hole) {
            row[2] = f32::NAN;
        }
        let tokens = tokens(&["<space>", "a", "b", "▁c", "d"]);
        let hot = HotWords::new(&[HotWord { phrase: "a cd".into(), boost: 4.0 }], &tokens).unwrap();
        let model: Arc<dyn LanguageModel> = Bigram::new(&["a", "ab", "cd"], scattered);
        let options = BeamOptions {
            width,
            nbest: width.min(3),
            language_model: Some(model),
            hot_words: Some(Arc::new(hot)),
            word_bonus: 1.0,
            ..BeamOptions::default()
        };
        let (whole, readings) = decode(&rows, &tokens, &options);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(rows.len())).chain([0, rows.len()]).collect();
        cuts.sort_unstable();
        let mut decoder = BeamDecoder::new(&tokens, options).unwrap();
        for reset in [true, false, false] {
            let mut out = Vec::new();
            for cut in cuts.windows(2) {
                decoder.push(&rows[cut[0]..cut[1]].concat(), &mut out);
                // What is settled or agreed on is how the text begins.
                let open = decoder.open();
                let sure: Vec<u32> = out.iter().chain(&open[..decoder.agreed()]).map(|emission| emission.token).collect();
                prop_assert!(whole.iter().map(|emission| emission.token).take(sure.len()).eq(sure.iter().copied()));
            }
            if reset {
                decoder.reset();
                continue;
            }
            decoder.finish(&mut out);
            prop_assert_eq!(&out, &whole);
            prop_assert_eq!(decoder.readings(), &readings[..]);
        }
        // Times never run backwards, the best reading ends the text, and the readings are sorted.
        prop_assert!(whole.iter().all(|emission| emission.start_step < emission.end_step));
        prop_assert!(whole.iter().all(|emission| emission.end_step <= rows.len() as u64 && emission.log_prob <= 0.0));
        prop_assert!(whole.windows(2).all(|pair| pair[0].end_step <= pair[1].start_step));
        prop_assert!(whole.ends_with(&readings[0].emissions));
        prop_assert!(readings.windows(2).all(|pair| pair[0].score >= pair[1].score));
    }

    /// Rows as a trained network gives them: one class is nearly sure.
    #[test]
    fn without_a_model_sure_rows_give_the_greedy_text(path in prop::collection::vec(0u32..5, 0..60), width in 1usize..9) {
        let tokens = tokens(&["<space>", "a", "b", "c"]);
        let row = |&best: &u32| (0..5).map(|class| if class == best { -0.02 } else { -5.5f32 }).collect::<Vec<_>>();
        let rows: Vec<Vec<f32>> = path.iter().map(row).collect();
        let mut greedy = GreedyDecoder::new(0, 5);
        let mut wanted = Vec::new();
        greedy.push(&rows.concat(), &mut wanted);
        greedy.finish(&mut wanted);
        let (found, _) = decode(&rows, &tokens, &BeamOptions { width, ..BeamOptions::default() });
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn a_hostile_model_does_no_harm(rows in rows(5, 0..30), which in 0usize..6) {
        let models: [fn(&[u32], u32) -> f32; 6] = [
            |_, _| f32::NAN,
            |_, _| f32::NEG_INFINITY,
            |_, _| f32::INFINITY,
            |_, word| if word == END { f32::NAN } else { -1e38 },
            |history, _| if history.is_empty() { f32::MAX } else { f32::MIN },
            |_, word| if word % 2 == 0 { f32::NAN } else { -1.0 },
        ];
        for list in [["<space>", "a", "b", "c"], ["中", "文", "国", "人"]] {
            let tokens = tokens(&list);
            let model: Arc<dyn LanguageModel> = Bigram::new(&["a", "b", "中"], models[which]);
            let options = BeamOptions { language_model: Some(model), width: 4, nbest: 4, ..BeamOptions::default() };
            let (emissions, readings) = decode(&rows, &tokens, &options);
            prop_assert!(!readings.is_empty() && readings.iter().all(|reading| reading.score.is_finite()));
            prop_assert!(emissions.ends_with(&readings[0].emissions));
        }
    }
}

// ---- look-ahead

/// A model that only tells which words there are.
struct Blind(Arc<Bigram>);

impl LanguageModel for Blind {
    fn start(&self) -> LmState {
        self.0.start()
    }

    fn score(&self, state: &LmState, word: &str) -> (f32, LmState) {
        self.0.score(state, word)
    }

    fn finish(&self, state: &LmState) -> f32 {
        self.0.finish(state)
    }

    fn knows(&self, word: &str) -> bool {
        self.0.knows(word)
    }

    fn look_ahead(&self, start: &str) -> Option<f32> {
        self.0.look_ahead(start).map(|_| 0.0)
    }
}

/// Words that have not ended yet have not paid; who looks ahead does not fill a narrow beam with them.
#[test]
fn look_ahead_finds_more_with_a_narrow_beam() {
    let tokens = tokens(&["<space>", "a", "b", "c", "d"]);
    let words = ["ab", "bad", "cab", "dab", "acd"];
    let model = Bigram::new(&words, |_, word| -1.0 - 4.0 * word.min(5) as f32);
    let blind: Arc<dyn LanguageModel> = Arc::new(Blind(model.clone()));
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize
    };
    let (mut seeing, mut unseeing) = (0, 0);
    for _ in 0..200 {
        // Three words, hardly understood.
        let said = [(); 3].map(|()| words[next() % words.len()]).join(" ");
        let mut sound = Vec::new();
        for c in said.chars() {
            let said = tokens.id(&c.to_string()).unwrap() as usize;
            sound.extend((0..6).map(|class| if class == said { -0.5 } else { -2.0 - (next() % 1000) as f32 / 200.0 }));
            sound.extend([0.0, -9.0, -9.0, -9.0, -9.0, -9.0]);
        }
        let rows: Vec<Vec<f32>> = sound.chunks(6).map(<[f32]>::to_vec).collect();
        let heard = |model: Arc<dyn LanguageModel>, width| {
            let options = BeamOptions { language_model: Some(model), width, nbest: 1, ..exhaustive() };
            heard(&rows, &tokens, &options)
        };
        let best = heard(model.clone(), 1000);
        seeing += usize::from(heard(model.clone(), 3) == best);
        unseeing += usize::from(heard(blind.clone(), 3) == best);
    }
    assert!(seeing > 100 && seeing > 2 * unseeing, "{seeing} and {unseeing} of 200");
}

// ---- spelled sound

const LETTERS: [&str; 27] = [
    "<space>", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u",
    "v", "w", "x", "y", "z",
];

/// What sounds like it. In `also`, letters are given as (place, other letter, its log-probability).
fn spelled(text: &str, tokens: &Tokens, also: &[(usize, char, f32)]) -> Vec<Vec<f32>> {
    let id = |c: char| tokens.id(&c.to_string()).unwrap() as usize;
    let mut rows = Vec::new();
    for (place, c) in text.chars().enumerate() {
        let mut row = vec![-12.0; tokens.len()];
        row[id(c)] = -0.1;
        for (_, other, log_prob) in also.iter().filter(|(at, ..)| *at == place) {
            row[id(*other)] = *log_prob;
        }
        let mut blank = vec![-12.0; tokens.len()];
        blank[0] = -0.01;
        rows.extend([row, blank]);
    }
    rows
}

fn heard(rows: &[Vec<f32>], tokens: &Tokens, options: &BeamOptions) -> String {
    text(&decode(rows, tokens, options).0, tokens)
}

fn plain(history: &[u32], word: u32) -> f32 {
    match (history, word) {
        (_, UNKNOWN) => -9.0,
        ([1], 2) => -0.5, // "recognise" then "speech"
        _ => -3.0,
    }
}

fn with_model() -> BeamOptions {
    let words = ["wreck", "recognise", "speech", "a", "nice", "beach", "we", "shaun", "shown", "has"];
    BeamOptions {
        language_model: Some(Bigram::new(&words, plain)),
        lm_weight: 0.6,
        word_bonus: 1.5,
        ..BeamOptions::default()
    }
}

#[test]
fn the_language_model_chooses_among_what_sounds_alike() {
    let tokens = tokens(&LETTERS);
    let rows = spelled("recognise beach", &tokens, &[(10, 's', -2.0), (11, 'p', -3.0), (13, 'e', -2.0)]);
    assert_eq!(heard(&rows, &tokens, &BeamOptions::default()), "recognise beach");
    let rows = spelled("recognise speach", &tokens, &[(13, 'e', -1.5)]);
    assert_eq!(heard(&rows, &tokens, &BeamOptions::default()), "recognise speach");
    let (emissions, readings) = decode(&rows, &tokens, &BeamOptions { nbest: 3, ..with_model() });
    assert_eq!(text(&emissions, &tokens), "recognise speech");
    assert!((readings[0].language - (-3.0 - 0.5 - 3.0)).abs() < TOLERANCE, "{readings:?}");
    assert!(readings[0].acoustic < readings[1].acoustic && readings[0].language > readings[1].language, "{readings:?}");
}

#[test]
fn words_have_the_times_at_which_they_were_heard() {
    let tokens = tokens(&LETTERS);
    let mut rows = spelled("we", &tokens, &[]);
    let silence = vec![
        {
            let mut row = vec![-12.0; 28];
            row[0] = -0.001;
            row
        };
        100
    ];
    rows.extend(silence.clone());
    rows.extend(spelled(" has", &tokens, &[(2, 'e', -0.3)]));
    rows.extend(silence);
    let (emissions, _) = decode(&rows, &tokens, &with_model());
    let words = words(&emissions, &tokens, |step| step as f64);
    let times: Vec<_> = words.iter().map(|word| (word.text.as_str(), word.start_s, word.end_s)).collect();
    assert_eq!(times, [("we", 0.0, 3.0), ("has", 106.0, 111.0)]);
    assert!(words.iter().all(|word| word.confidence > 0.9));
}

#[test]
fn a_rare_name_is_heard_only_when_it_is_expected() {
    let tokens = tokens(&LETTERS);
    let hot = |phrases: &[&str]| {
        let phrases: Vec<HotWord> = phrases.iter().map(|phrase| phrase.parse().unwrap()).collect();
        BeamOptions { hot_words: Some(Arc::new(HotWords::new(&phrases, &tokens).unwrap())), ..with_model() }
    };
    // Sounds more like "shown" than like the name, which the model does not know.
    let rows = spelled("we has shown", &tokens, &[(9, 'a', -2.5), (10, 'y', -3.0)]);
    let name = "we has shayn";
    assert_eq!(heard(&rows, &tokens, &with_model()), "we has shown");
    assert_eq!(heard(&rows, &tokens, &hot(&["shayn:12"])), name);
    assert_eq!(heard(&rows, &tokens, &hot(&["has shayn:12"])), name);
    let without_model = BeamOptions { language_model: None, ..hot(&["shayn:8"]) };
    assert_eq!(heard(&rows, &tokens, &without_model), name);
    // A phrase that does not complete gives back what it got.
    for unmet in [&["shaynlike:12"][..], &["shayn we:12"], &["ayn:12"], &["dfcnn:12", "siobhan"]] {
        assert_eq!(heard(&rows, &tokens, &hot(unmet)), "we has shown", "{unmet:?}");
    }
    // What nobody expects is heard as ever.
    for said in ["a nice beach", "we recognise speech", "we has a beach", ""] {
        let rows = spelled(said, &tokens, &[]);
        assert_eq!(heard(&rows, &tokens, &hot(&["shayn:12", "beaches:12", "nine:12"])), said);
    }
    // Words that are expected cost nothing for being unknown.
    let rows = spelled("we shayn", &tokens, &[]);
    let score = |options: &BeamOptions| decode(&rows, &tokens, options).1[0].score;
    let difference = score(&hot(&["shayn:4"])) - score(&with_model());
    assert!((difference - 4.0 - with_model().unknown_penalty).abs() < TOLERANCE, "{difference}");
}

#[test]
fn segments_of_one_stream() {
    let tokens = tokens(&LETTERS);
    let rows = spelled("we has", &tokens, &[]);
    let mut decoder = BeamDecoder::new(&tokens, with_model()).unwrap();
    let mut out = Vec::new();
    for _ in 0..2 {
        decoder.push(&rows.concat(), &mut out);
        decoder.end_segment(&mut out);
    }
    let (alone, readings) = decode(&rows, &tokens, &with_model());
    let later = |&emission: &Emission| {
        let steps = rows.len() as u64;
        Emission { start_step: emission.start_step + steps, end_step: emission.end_step + steps, ..emission }
    };
    assert_eq!(out, alone.iter().copied().chain(alone.iter().map(later)).collect::<Vec<_>>());
    assert!((decoder.readings()[0].score - readings[0].score).abs() < TOLERANCE);
}

#[test]
fn options_out_of_range_are_refused() {
    let usual = BeamOptions::default;
    for (options, reason) in [
        (BeamOptions { width: 0, ..usual() }, "beam width: 0"),
        (BeamOptions { width: 1 << 20, ..usual() }, "beam width: 1048576"),
        (BeamOptions { nbest: 0, ..usual() }, "n-best: 0"),
        (BeamOptions { nbest: 65, ..usual() }, "n-best: 65"),
        (BeamOptions { most_tokens: 0, ..usual() }, "tokens per step"),
        (BeamOptions { token_range: f64::NAN, ..usual() }, "token range: NaN"),
        (BeamOptions { score_range: -1.0, ..usual() }, "score range: -1"),
        (BeamOptions { lm_weight: -0.5, ..usual() }, "language model weight: -0.5"),
        (BeamOptions { lm_weight: f64::INFINITY, ..usual() }, "language model weight: inf"),
        (BeamOptions { word_bonus: f64::NAN, ..usual() }, "word bonus: NaN"),
        (BeamOptions { unknown_penalty: 1e9, ..usual() }, "unknown word penalty"),
    ] {
        let error = BeamDecoder::new(&tokens(&LETTERS), options).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error} for {reason}");
    }
}
