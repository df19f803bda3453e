//! Language models against the definitions: brute force over a toy text, back-off by the book, and hostile files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use dfcnn::Error;
use dfcnn::ctc::lm::compact::Compact;
use dfcnn::ctc::lm::estimate::{Corpus, Discounts, Options, estimate};
use dfcnn::ctc::lm::{self, LanguageModel, NGrams, Perplexity, arpa};
use dfcnn::lines::Lines;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..Default::default() }
}

fn lines(text: impl Into<Vec<u8>>) -> Lines {
    Lines::new("text", Cursor::new(text.into())).unwrap()
}

fn learn(text: &str, order: usize, prune: &[u32]) -> (NGrams, Vec<Discounts>) {
    let mut corpus = Corpus::new();
    corpus.read(lines(text)).unwrap();
    estimate(corpus, &Options { order, prune: prune.to_vec(), vocabulary: None }).unwrap()
}

fn as_arpa(model: &NGrams) -> String {
    let mut text = Vec::new();
    arpa::write(model, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// ln P of each word of a sentence and of its end.
fn scores(model: &(impl LanguageModel + ?Sized), sentence: &[&str]) -> Vec<f32> {
    let mut state = model.start();
    let mut scores = Vec::new();
    for word in sentence {
        let (log_prob, next) = model.score(&state, word);
        scores.push(log_prob);
        state = next;
    }
    scores.push(model.finish(&state));
    scores
}

/// Text of few words, so that n-grams repeat.
fn text() -> impl Strategy<Value = String> {
    let word =
        prop_oneof![4 => Just("a"), 2 => Just("b"), 2 => Just("c"), 1 => Just("d"), 1 => Just("e"), 1 => Just("f")];
    let sentence = prop::collection::vec(word, 1..12).prop_map(|words| words.join(" "));
    prop::collection::vec(sentence, 1..40).prop_map(|sentences| sentences.join("\n"))
}

fn sentence() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "never"]), 0..10)
}

// ---- estimation

/// By hand. Words follow 1 (a), 1 (b), 1 (c) and 2 (`</s>`) different words; the discounts are the usual 0.5, 1, 1.5, as
/// nothing occurs three times.
#[test]
fn two_sentences_by_hand() {
    let (model, discounts) = learn("a b\na c\n", 2, &[]);
    assert!(discounts.iter().all(|discounts| *discounts == Discounts { values: [0.5, 1.0, 1.5], estimated: false }));
    let p = |context: &[&str], word: &str| {
        let state = context.iter().fold(model.start(), |state, word| model.score(&state, word).1);
        if word == "</s>" { model.finish(&state).exp() } else { model.score(&state, word).0.exp() }
    };
    for (context, word, expected) in [
        (&["never"][..], "a", 0.2),
        (&["never"], "b", 0.2),
        (&["never"], "</s>", 0.3),
        (&["never"], "never", 0.1),
        (&["a"], "b", 0.35),
        (&["a"], "</s>", 0.15),
        (&["a"], "a", 0.1),
        (&["b", "a"], "never", 0.05),
        (&[], "a", 0.6),
    ] {
        assert!((p(context, word) - expected).abs() < 1e-6, "P({word} | {context:?}) = {}", p(context, word));
    }
}

/// Modified Kneser-Ney by its definition, n-grams as strings in maps.
struct ByDefinition {
    order: usize,
    prune: Vec<u32>,
    raw: HashMap<Vec<String>, u32>,
    adjusted: HashMap<Vec<String>, u32>,
    discounts: Vec<[f64; 3]>,
    words: usize,
}

impl ByDefinition {
    fn new(text: &str, order: usize, prune: &[u32], discounts: &[Discounts]) -> Self {
        let mut raw: HashMap<Vec<String>, u32> = HashMap::new();
        for line in text.lines() {
            let words: Vec<String> =
                format!("<s> {line} </s>").split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
            for n in 1..=order + 1 {
                words.windows(n).for_each(|ngram| *raw.entry(ngram.to_vec()).or_default() += 1);
            }
        }
        let mut adjusted: HashMap<Vec<String>, u32> = HashMap::new();
        for (ngram, &count) in &raw {
            if ngram.len() == order || (ngram.len() < order && ngram[0] == "<s>") {
                adjusted.insert(ngram.clone(), count);
            } else if ngram.len() <= order {
                let before: HashSet<&String> =
                    raw.keys().filter(|longer| longer[1..] == **ngram).map(|longer| &longer[0]).collect();
                adjusted.insert(ngram.clone(), before.len() as u32);
            }
        }
        adjusted.remove(&vec!["<s>".to_owned()]);
        let words = raw.keys().filter(|ngram| ngram.len() == 1).count(); // with </s> and <unk>, without <s>
        let last = prune.last().copied().unwrap_or(0);
        let prune: Vec<u32> = (0..order).map(|i| prune.get(i).copied().unwrap_or(last)).collect();
        let discounts = discounts.iter().map(|discounts| discounts.values).collect();
        Self { order, prune, raw, adjusted, discounts, words }
    }

    fn discount(&self, ngram: &[String]) -> f64 {
        let count = self.adjusted[ngram];
        if self.raw[ngram] <= self.prune[ngram.len() - 1] && ngram.len() > 1 {
            return f64::from(count);
        }
        self.discounts[ngram.len() - 1][count.min(3) as usize - 1]
    }

    fn p(&self, context: &[String], word: &str) -> f64 {
        let context = &context[context.len().saturating_sub(self.order - 1)..];
        let after: Vec<&Vec<String>> = self
            .adjusted
            .keys()
            .filter(|ngram| ngram.len() == context.len() + 1 && ngram.starts_with(context))
            .collect();
        let shorter = if context.is_empty() { 1.0 / self.words as f64 } else { self.p(&context[1..], word) };
        let total: u32 = after.iter().map(|ngram| self.adjusted[*ngram]).sum();
        if total == 0 {
            return shorter;
        }
        let gamma = after.iter().map(|ngram| self.discount(ngram)).sum::<f64>() / f64::from(total);
        let ngram = [context, &[word.to_owned()]].concat();
        let own = self.adjusted.get(&ngram).map_or(0.0, |&count| f64::from(count) - self.discount(&ngram));
        own / f64::from(total) + gamma * shorter
    }
}

/// Discounts by the formula, from maps.
fn discounts_by_definition(definition: &ByDefinition, order: usize) -> Option<[f64; 3]> {
    let of = |k: u32| {
        let counts = definition.adjusted.iter().filter(|(ngram, _)| ngram.len() == order);
        counts.filter(|&(_, &count)| count == k).count() as f64
    };
    let y = of(1) / (of(1) + 2.0 * of(2));
    let values = [1, 2, 3].map(|k| f64::from(k) - f64::from(k + 1) * y * of(k + 1) / of(k));
    (values.iter().zip(1..).all(|(&value, k)| value > 0.0 && value <= f64::from(k))).then_some(values)
}

const WORDS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "never"];

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn estimates_are_those_of_the_definition(
        text in text(), order in 1usize..5, prune in prop::sample::select(vec![vec![], vec![0, 0, 1], vec![0, 1], vec![0, 1, 3]]),
        histories in prop::collection::vec(sentence(), 6),
    ) {
        let prune = &prune[..prune.len().min(order)];
        let (model, discounts) = learn(&text, order, prune);
        let definition = ByDefinition::new(&text, order, prune, &discounts);
        for (order, discounts) in (1..).zip(&discounts) {
            match discounts_by_definition(&definition, order) {
                Some(values) => prop_assert!(discounts.estimated && (0..3).all(|i| (values[i] - discounts.values[i]).abs() < 1e-9)),
                None => prop_assert!(!discounts.estimated),
            }
        }
        for history in histories {
            let state = history.iter().fold(model.start(), |state, word| model.score(&state, word).1);
            let mut context = vec!["<s>".to_owned()];
            context.extend(history.iter().map(|word| word.to_string()));
            let mut sum = f64::from(model.finish(&state)).exp();
            prop_assert!((sum - definition.p(&context, "</s>")).abs() < 1e-5);
            for word in WORDS {
                let p = f64::from(model.score(&state, word).0).exp();
                prop_assert!((p - definition.p(&context, word)).abs() < 1e-5, "{}: {} {:?}", word, p, context);
                sum += if model.knows(word) { p } else { 0.0 };
            }
            sum += f64::from(model.score(&state, "never").0).exp();
            prop_assert!((sum - 1.0).abs() < 1e-5, "{} after {:?}", sum, context);
        }
    }

    #[test]
    fn a_smaller_vocabulary_sums_to_one_too(text in text(), most in 1usize..6, rare in 0u32..4, history in sentence()) {
        let mut corpus = Corpus::new();
        corpus.read(lines(text)).unwrap();
        let (model, _) = estimate(corpus, &Options { order: 3, prune: vec![rare], vocabulary: Some(most) }).unwrap();
        let state = history.iter().fold(model.start(), |state, word| model.score(&state, word).1);
        let known: Vec<&str> = WORDS.into_iter().filter(|word| model.knows(word)).collect();
        prop_assert!(known.len() <= most);
        let p = |word: &str| f64::from(model.score(&state, word).0).exp();
        let sum = known.iter().map(|word| p(word)).sum::<f64>() + p("never") + f64::from(model.finish(&state)).exp();
        prop_assert!((sum - 1.0).abs() < 1e-5, "{}", sum);
    }
}

#[test]
fn senseless_options_are_errors() {
    let try_it = |text: &str, order, prune: &[u32], vocabulary| {
        let mut corpus = Corpus::new();
        corpus.read(lines(text))?;
        estimate(corpus, &Options { order, prune: prune.to_vec(), vocabulary })
    };
    let problem = |result: dfcnn::Result<_>| result.map(|_: (NGrams, Vec<Discounts>)| ()).unwrap_err().to_string();
    assert!(problem(try_it("a", 0, &[], None)).starts_with("order: 0"));
    assert!(problem(try_it("a", 7, &[], None)).starts_with("order: 7"));
    assert!(problem(try_it("a", 2, &[0, 0, 1], None)).starts_with("prune: 3 thresholds"));
    assert!(problem(try_it("a", 2, &[1, 0], None)).starts_with("prune: a higher"));
    assert!(problem(try_it("a", 2, &[], Some(0))).starts_with("vocab:"));
    assert!(problem(try_it("\n \n", 2, &[], None)).starts_with("text: there are no words"));
    assert!(problem(try_it("fine\na <s> b", 2, &[], None)).starts_with("text:2: <s> marks"));
    assert!(try_it("a", 6, &[0, u32::MAX], Some(usize::MAX)).is_ok());
}

// ---- scoring

/// Back-off by the book (Katz 1987) over the lines of an ARPA file, log10.
struct ByTheBook {
    order: usize,
    ngrams: HashMap<Vec<String>, (f64, f64)>,
}

impl ByTheBook {
    fn new(arpa: &str) -> Self {
        let mut ngrams = HashMap::new();
        let mut order = 0;
        for line in arpa.lines() {
            if let Some(n) = line.strip_prefix('\\').and_then(|line| line.strip_suffix("-grams:")) {
                order = n.parse().unwrap();
            } else if order > 0 && line.contains('\t') {
                let fields: Vec<&str> = line.split('\t').collect();
                let words = fields[1].split(' ').map(str::to_owned).collect();
                let back_off = fields.get(2).map_or(0.0, |field| field.parse().unwrap());
                ngrams.insert(words, (fields[0].parse().unwrap(), back_off));
            }
        }
        Self { order, ngrams }
    }

    fn log10(&self, context: &[String], word: &str) -> f64 {
        let ngram = [context, &[word.to_owned()]].concat();
        match self.ngrams.get(&ngram) {
            Some((log10, _)) => *log10,
            None => self.ngrams.get(context).map_or(0.0, |(_, back_off)| *back_off) + self.log10(&context[1..], word),
        }
    }

    fn scores(&self, sentence: &[&str]) -> Vec<f64> {
        let known = |word: &&str| self.ngrams.contains_key(&vec![word.to_string()]);
        let mut history = vec!["<s>".to_owned()];
        let mut scores = Vec::new();
        for word in sentence.iter().copied().chain(["</s>"]) {
            let word = if known(&word) { word } else { "<unk>" };
            let context = &history[history.len().saturating_sub(self.order - 1)..];
            scores.push(self.log10(context, word) * std::f64::consts::LN_10);
            history.push(word.to_owned());
        }
        scores
    }
}

fn close(a: &[f32], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(&a, &b)| (f64::from(a) - b).abs() <= tolerance)
}

/// Some n-grams lack their last words as n-grams of their own, as tools that prune by entropy leave them: `b c`, which is
/// then the context of the lacking `b c a`, and `c a`.
const PRUNED: &str = "
\\data\\
ngram 1=6
ngram 2=4
ngram 3=2
ngram 4=2

\\1-grams:
-99 <s> -0.3
-1.0 </s>
-2.5 <unk>
-0.7 a -0.2
-0.9 b -0.4
-1.1 c -0.1

\\2-grams:
-0.5 <s> a -0.15
-0.3 a b -0.25
-0.6 b a 0.05
-0.2 a a

\\3-grams:
-0.1 <s> a b -0.35
-0.4 a b c -0.45

\\4-grams:
-0.05 <s> a b c
-0.15 a b c a

\\end\\
";

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn scores_are_those_of_the_arpa_file(text in text(), order in 1usize..7, prune in 0u32..3, sentence in sentence()) {
        let (model, _) = learn(&text, order, &[0, prune][..order.min(2)]);
        prop_assert!(close(&scores(&model, &sentence), &ByTheBook::new(&as_arpa(&model)).scores(&sentence), 1e-4));
    }

    #[test]
    fn missing_suffixes_change_nothing(sentence in sentence()) {
        let model = arpa::read_lines(lines(PRUNED)).unwrap();
        let book = ByTheBook::new(&PRUNED.replace("\n-", "\n-\t").replace("-\t", "-").lines().map(tabbed).collect::<Vec<_>>().join("\n"));
        prop_assert!(close(&scores(&model, &sentence), &book.scores(&sentence), 1e-4));
        // Written and read again it is the same, although there are more n-grams now.
        let again = arpa::read_lines(lines(as_arpa(&model))).unwrap();
        prop_assert_eq!(scores(&again, &sentence), scores(&model, &sentence));
        prop_assert_eq!(again.counts(), [6, 6, 3, 2]);
    }

    #[test]
    fn arpa_files_keep_everything(text in text(), order in 1usize..7, prune in 0u32..3, sentence in sentence()) {
        let (model, _) = learn(&text, order, &[0, prune][..order.min(2)]);
        let written = as_arpa(&model);
        let again = arpa::read_lines(lines(written.clone())).unwrap();
        prop_assert_eq!(scores(&again, &sentence), scores(&model, &sentence));
        prop_assert_eq!(as_arpa(&again), written);
    }

    #[test]
    fn the_compact_form_is_within_its_bounds(text in text(), order in 1usize..7, prune in 0u32..3, sentence in sentence()) {
        let (model, _) = learn(&text, order, &[0, prune][..order.min(2)]);
        let compact = Compact::from_bytes(Compact::encode(&model).unwrap()).unwrap();
        prop_assert_eq!(compact.counts(), model.counts());
        // A score is one probability and one back-off of each order below at most.
        let bounds = compact.error_bounds();
        let greatest = bounds.iter().map(|(log_prob, _)| *log_prob).fold(0.0, f32::max);
        let bound = (greatest + bounds.iter().map(|(_, back_off)| *back_off).sum::<f32>()) * std::f32::consts::LN_10;
        prop_assert!(bounds.iter().all(|(log_prob, back_off)| *log_prob < 0.024 && *back_off < 0.048));
        let exact: Vec<f64> = scores(&model, &sentence).into_iter().map(f64::from).collect();
        prop_assert!(close(&scores(&compact, &sentence), &exact, f64::from(bound)));
        for word in WORDS {
            prop_assert_eq!(compact.knows(word), model.knows(word));
        }
    }

    /// Equal states: the same for ever after, which is what merging hypotheses needs. The compact form forgets as much.
    #[test]
    fn equal_states_have_equal_futures(text in text(), order in 1usize..5, pasts in prop::collection::vec(sentence(), 8), future in sentence()) {
        let (model, _) = learn(&text, order, &[]);
        let compact = Compact::from_bytes(Compact::encode(&model).unwrap()).unwrap();
        let book = ByTheBook::new(&as_arpa(&model));
        let mut futures: BTreeMap<Vec<u32>, Vec<f64>> = BTreeMap::new();
        for past in pasts {
            let state = past.iter().fold(model.start(), |state, word| model.score(&state, word).1);
            prop_assert!(state.ids().len() < order);
            prop_assert_eq!(past.iter().fold(compact.start(), |state, word| compact.score(&state, word).1), state);
            let scores = book.scores(&[&past[..], &future].concat())[past.len()..].to_vec();
            let known = futures.entry(state.ids().to_vec()).or_insert_with(|| scores.clone());
            prop_assert!(known.iter().zip(&scores).all(|(a, b)| (a - b).abs() < 1e-9));
        }
    }
}

/// The fields of an n-gram's line parted by tabs, as [`ByTheBook`] reads them.
fn tabbed(line: &str) -> String {
    let fields: Vec<&str> = line.split(' ').collect();
    let number = |field: &str| field.parse::<f64>().is_ok();
    if !line.starts_with('-') {
        return line.to_owned();
    }
    let back_off = fields.last().filter(|field| number(field)).map(|field| format!("\t{field}")).unwrap_or_default();
    let words: Vec<&str> = fields[1..].iter().copied().filter(|field| !number(field)).collect();
    format!("{}\t{}{back_off}", fields[0], words.join(" "))
}

#[test]
fn states_forget_what_no_n_gram_remembers() {
    let model = arpa::read_lines(lines(PRUNED)).unwrap();
    let after = |words: &[&str]| words.iter().fold(model.start(), |state, word| model.score(&state, word).1);
    assert_eq!(after(&["never"]).ids().len(), 0);
    assert_eq!(after(&["c", "c", "c"]), after(&["c"]));
    assert_eq!(after(&["a", "a", "a", "b"]), after(&["c", "a", "b"]));
    assert_ne!(after(&["a", "b"]), after(&["c", "a", "b"]), "`<s> a b` has a back-off");
    assert_eq!(after(&["c", "c", "b", "c"]), after(&["b", "c"]));
}

#[test]
fn unknown_words_and_marks_score_as_unknown() {
    let model = arpa::read_lines(lines(PRUNED)).unwrap();
    let start = model.start();
    for word in ["never", "<s>", "</s>", "<unk>", ""] {
        assert!(!model.knows(word));
        assert_eq!(model.score(&start, word), model.score(&start, "never"));
    }
    let closed = PRUNED.replace("-2.5 <unk>\n", "").replace("1=6", "1=5");
    let model = arpa::read_lines(lines(closed)).unwrap();
    let (log_prob, _) = model.score(&Default::default(), "never");
    assert!((log_prob - lm::LEAST_LOG10 * std::f32::consts::LN_10).abs() < 1e-4, "{log_prob}");
    let other = arpa::read_lines(lines(PRUNED.replace("<unk>", "<UNK>").replace('\n', "\r\n"))).unwrap();
    assert!((other.score(&Default::default(), "never").0 + 2.5 * std::f32::consts::LN_10).abs() < 1e-4);
}

#[test]
fn perplexity_counts_ends_and_unknown_words() {
    let (model, _) = learn("a b\na c\n", 2, &[]);
    let mut sum = Perplexity::default();
    sum.add(&model, "a  never ");
    assert_eq!((sum.sentences, sum.words, sum.unknown), (1, 2, 1));
    // P(a | <s>) = 0.6, P(never | a) = 0.05, P(</s> | never) = 0.3
    assert!((sum.with_unknown() - (0.6f64 * 0.05 * 0.3).powf(-1.0 / 3.0)).abs() < 1e-4);
    assert!((sum.without_unknown() - (0.6f64 * 0.3).powf(-1.0 / 2.0)).abs() < 1e-4);
}

// ---- hostile files

#[test]
fn broken_arpa_files_are_errors_that_name_the_line() {
    arpa::read_lines(lines(PRUNED)).unwrap();
    for (from, to, expected) in [
        ("\\data\\", "\\date\\", "text:2: not an ARPA file"),
        ("ngram 2=4", "ngram 2=5", "text:21: fewer 2-grams than the header says"),
        ("ngram 2=4", "ngram 2=3", "text:20: expected \\3-grams:: more 2-grams"),
        ("ngram 4=2", "ngram 4=0", "text:27: expected \\end\\: more 4-grams"),
        ("ngram 2=4", "ngram 3=4", "text:4: expected the number of 2-grams"),
        ("ngram 2=4", "ngram 2=-4", "text:4: expected `ngram ORDER=COUNT`"),
        ("ngram 2=4", "ngram 2=4000000000", "text:4: more than"),
        ("ngram 2=4", "ngram 2=400000000000000000000000", "text:4: expected `ngram"),
        ("ngram 4=2", "ngram 4=2\nngram 5=0\nngram 6=0\nngram 7=0", "text:9: n-grams of more than 6 words"),
        ("\\2-grams:", "\\3-grams:", "text:16: expected \\2-grams:"),
        ("\\end\\", "", "ends without \\end\\"),
        ("-0.3 a b -0.25", "nan a b -0.25", "text:18: \"nan\" is not a finite number"),
        ("-0.3 a b -0.25", "-inf a b -0.25", "text:18: \"-inf\" is not a finite number"),
        ("-0.3 a b -0.25", "0.3 a b -0.25", "text:18: the log-probability 0.3 is above 0"),
        ("-0.3 a b -0.25", "-0.3 a b NaN", "text:18: \"NaN\" is not a finite number"),
        ("-0.3 a b -0.25", "-0.3 a b 1e99", "text:18: \"1e99\" is not a finite number"),
        ("-0.3 a b -0.25", "-0.3 a b c -0.25", "text:18: \"c\" is not a finite number"),
        ("-0.3 a b -0.25", "-0.3 a b -0.25 c", "text:18: more than 2 words"),
        ("-0.3 a b -0.25", "-0.3 a", "text:18: fewer than 2 words"),
        ("-0.3 a b -0.25", "a b", "text:18: \"a\" is not a finite number"),
        ("-0.3 a b -0.25", "-0.3 a new -0.25", "text:18: \"new\" is not among the 1-grams"),
        ("-0.3 a b -0.25", "-0.3 a b", "text:24: \"a b c\" continues an n-gram that has no back-off"),
        ("-0.3 a b -0.25", "-0.3 c b -0.25", "text:24: \"a b c\" has no context"),
        ("-0.9 b -0.4", "-0.9 b", "continues an n-gram that has no back-off"),
        ("-0.2 a a", "-0.2 a b", "text:20: \"a b\" is there twice"),
        ("-1.1 c -0.1", "-1.1 b -0.1", "is not among the 1-grams"),
        (
            "-0.05 <s> a b c",
            "-0.05 <s> a b c -0.1",
            "text:27: n-grams of the highest order have 4 words and no back-off",
        ),
        ("-99 <s> -0.3", "-99 <x> -0.3", "no <s> among the 1-grams"),
        ("-1.0 </s>", "-1.0 </x>", "no </s> among the 1-grams"),
    ] {
        assert!(PRUNED.contains(from), "{from}");
        let error = arpa::read_lines(lines(PRUNED.replacen(from, to, 1))).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Data { .. }));
        assert!(error.to_string().contains(expected), "{from:?} → {to:?}: {error}");
    }
    for length in 0..PRUNED.len() - 2 {
        assert!(arpa::read_lines(lines(&PRUNED[..length])).is_err(), "cut at {length}");
    }
}

fn compact_bytes() -> Vec<u8> {
    Compact::encode(&arpa::read_lines(lines(PRUNED)).unwrap()).unwrap()
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn exercise(model: &impl LanguageModel) {
    for sentence in [&["a", "b", "c", "a"][..], &["never", "b", "a", "a", "b"], &[]] {
        assert!(scores(model, sentence).iter().all(|score| score.is_finite()));
    }
}

#[test]
fn foreign_and_cut_compact_files_are_errors() {
    let bytes = compact_bytes();
    exercise(&Compact::from_bytes(bytes.clone()).unwrap());
    for length in 0..bytes.len() {
        assert!(Compact::from_bytes(bytes[..length].to_vec()).is_err(), "cut at {length}");
    }
    assert!(Compact::from_bytes([&bytes[..], &[0]].concat()).is_err());
    let mut newer = bytes.clone();
    newer[8] += 1;
    assert!(Compact::from_bytes(newer).unwrap_err().contains("version 2"));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Compact::from_bytes(flipped).is_err(), "bit {bit} flipped");
    }
    // The second word's children begin beyond the last.
    let mut astray = bytes.clone();
    let words = u32::from_le_bytes(bytes[20..24].try_into().unwrap()) as usize;
    astray[24 + 4 * 4 + 4 * 16 + words] |= 0b111 << 3;
    assert!(Compact::from_bytes(with_checksum(astray)).is_err());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.lm");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = lm::load(&path).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("x.lm") && error.contains("damaged"), "{error}");
}

proptest! {
    #![proptest_config(config(2000))]

    /// Whoever means harm mends the checksum.
    #[test]
    fn forged_compact_files_never_panic(changes in prop::collection::vec((12usize..400, any::<u8>()), 1..4)) {
        let mut bytes = compact_bytes();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(model) = Compact::from_bytes(with_checksum(bytes)) {
            exercise(&model);
        }
    }

    #[test]
    fn forged_arpa_files_never_panic(changes in prop::collection::vec((0usize..400, any::<u8>()), 1..4)) {
        let mut bytes = PRUNED.as_bytes().to_vec();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(model) = arpa::read_lines(lines(bytes)) {
            exercise(&model);
        }
    }
}

// ---- the program

fn dfcnn(arguments: &[&str], folder: &Path, input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfcnn"));
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()); // not all commands read it
    child.wait_with_output().unwrap()
}

#[test]
fn the_program_builds_converts_and_measures() {
    let folder = tempfile::tempdir().unwrap();
    let text = "a b c\na b\nb c a\na c\n".repeat(3);
    let build = ["lm", "build", "-", "--order", "3", "--prune", "0,0,1", "--arpa", "x.arpa", "--out", "x.lm"];
    let built = dfcnn(&build, folder.path(), &text);
    assert!(built.status.success(), "{built:?}");
    assert!(String::from_utf8_lossy(&built.stderr).contains("6 1-grams"), "{built:?}");
    assert!(dfcnn(&["lm", "convert", "x.arpa", "--out", "y.lm"], folder.path(), "").status.success());
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert_eq!(read("x.lm"), read("y.lm"));
    for model in ["x.lm", "x.arpa"] {
        let measured = dfcnn(&["lm", "perplexity", model, "-"], folder.path(), "a b never\n");
        let said = String::from_utf8_lossy(&measured.stdout).into_owned();
        assert!(said.contains("unknown words: 1\nwords: 3\nsentences: 1\n"), "{said}");
    }
    let json = dfcnn(&["lm", "perplexity", "x.lm", "-", "--json"], folder.path(), "a b\n\nc\n");
    let types: Vec<serde_json::Value> =
        String::from_utf8_lossy(&json.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(types.iter().map(|line| &line["type"]).collect::<Vec<_>>(), ["sentence", "sentence", "perplexity"]);
    let wrong = dfcnn(&["lm", "build", "-"], folder.path(), &text);
    assert_eq!(wrong.status.code(), Some(2), "something to write is needed");
    let foreign = dfcnn(&["lm", "perplexity", "/dev/null", "-"], folder.path(), "");
    assert_eq!(foreign.status.code(), Some(1));
}
