//! The numbers of an evaluation, as tables or as JSON Lines as `docs/protocol.md` describes them.

use std::fmt::Write;

use dfcnn::Error;
use dfcnn::evaluate::calibration::{Bin, Calibration};
use dfcnn::evaluate::error_rate::{ErrorRate, Errors, Score, aligned_errors};
use dfcnn::evaluate::results::{Heard, Results};
use serde::Serialize;

/// Of the bootstrap, so that the same results have the same interval.
const SEED: u64 = 1;

/// What it took, and what was left out.
pub struct Costs {
    pub jobs: usize,
    pub heard_s: f64,
    pub wall_s: f64,
    pub cpu_s: f64,
    /// Manifests and sound files.
    pub failed: usize,
    /// Utterances.
    pub dropped: usize,
}

/// What is to be shown.
pub struct Show<'a> {
    pub results: &'a Results,
    pub calibration: Option<&'a Calibration>,
    pub costs: &'a Costs,
    pub speakers: bool,
    pub errors: bool,
}

/// What an error rate is about.
#[derive(Clone, Copy)]
enum Unit {
    Words,
    Characters,
}

impl Unit {
    fn of(self, score: &Score) -> Errors {
        match self {
            Self::Words => score.words,
            Self::Characters => score.characters,
        }
    }
}

impl Show<'_> {
    /// Tables of words and characters, then what was misheard, then the costs.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.errors {
            for Heard { set, id, reference, hypothesis, score, .. } in self.results.worst() {
                let rate =
                    score.words.rate().map_or("nothing was said".into(), |rate| format!("WER {} %", percent(rate)));
                let _ = writeln!(text, "{set}: {id}: {rate}\n{}", aligned_errors(reference, hypothesis));
            }
        }
        let mut sets = self.results.sets();
        if sets.iter().filter(|(name, _)| !name.contains('/')).count() != 1 {
            sets.push(("total".into(), self.results.total()));
        }
        for (unit, name, rate_name) in [(Unit::Words, "words", "WER %"), (Unit::Characters, "characters", "CER %")] {
            let head = [name, "utterances", "said", rate_name, "95 %", "subst.", "insert.", "delet."].map(String::from);
            let mut rows = vec![head.to_vec()];
            for (name, rate) in &sets {
                rows.push(row(name, rate.utterances().to_string(), unit.of(&rate.total()), interval(rate, unit)));
            }
            if self.speakers {
                for (speaker, score) in self.results.total().speakers() {
                    rows.push(row(&format!("speaker {speaker}"), String::new(), unit.of(score), None));
                }
            }
            let _ = writeln!(text, "{}", aligned(&rows));
        }
        if let Some(calibration) = self.calibration {
            let _ = writeln!(text, "{}", reliability(calibration));
        }
        let Costs { jobs, heard_s, wall_s, cpu_s, failed, dropped } = self.costs;
        let factor =
            |seconds: &f64| real_time_factor(*seconds, *heard_s).map_or("–".into(), |rtf| format!("{rtf:.4}"));
        let _ = writeln!(text, "sound             {heard_s:.1} s");
        let _ = writeln!(text, "CPU time          {cpu_s:.1} s, real-time factor {}", factor(cpu_s));
        let jobs = format!("{jobs} job{}", if *jobs == 1 { "" } else { "s" });
        let _ = writeln!(text, "wall time         {wall_s:.1} s, real-time factor {} with {jobs}", factor(wall_s));
        let _ = writeln!(text, "failed            {failed}");
        let _ = writeln!(text, "left out          {dropped} with a text that the vocabulary cannot spell");
        text
    }

    /// Lines of type `error`, `utterance`, `set`, `speaker`, `calibration`, and one of type `total`.
    pub fn json(&self, failed: &[Error]) -> serde_json::Result<String> {
        let mut lines = Vec::new();
        for error in failed {
            lines.push(serde_json::to_string(&Line::Error { message: error.to_string() })?);
        }
        if self.errors {
            for heard in self.results.worst() {
                let Heard { id, set, source, speaker, reference, hypothesis, score } = heard;
                let (source, speaker, rates) = (source.as_deref(), speaker.as_deref(), Rates::new(score));
                let line = Line::Utterance { set, id, source, speaker, reference, hypothesis, rates };
                lines.push(serde_json::to_string(&line)?);
            }
        }
        for (set, rate) in &self.results.sets() {
            lines.push(serde_json::to_string(&Line::Set { set, rates: SetRates::new(rate) })?);
        }
        let total = self.results.total();
        if self.speakers {
            for (speaker, score) in total.speakers() {
                lines.push(serde_json::to_string(&Line::Speaker { speaker, rates: Rates::new(score) })?);
            }
        }
        if let Some(calibration) = self.calibration {
            lines.push(serde_json::to_string(&Line::Calibration {
                bins: calibration.bins().map(|(range, bin)| BinFields::new(range.start, range.end, bin)).collect(),
                total: BinFields::new(0.0, 1.0, calibration.total()),
                expected_calibration_error: calibration.expected_error(),
            })?);
        }
        let Costs { jobs, heard_s, wall_s, cpu_s, failed, dropped } = *self.costs;
        lines.push(serde_json::to_string(&Line::Total {
            rates: SetRates::new(&total),
            duration_s: heard_s,
            cpu_s,
            wall_s,
            cpu_real_time_factor: real_time_factor(cpu_s, heard_s),
            wall_real_time_factor: real_time_factor(wall_s, heard_s),
            jobs,
            failed,
            dropped,
        })?);
        Ok(lines.join("\n") + "\n")
    }
}

/// A row for each range of confidence that has words, and what they mean together.
fn reliability(calibration: &Calibration) -> String {
    let part = |part: Option<f64>| part.map_or("–".into(), percent);
    let row = |name: String, bin: Bin| vec![name, bin.words.to_string(), part(bin.confidence()), part(bin.accuracy())];
    let mut rows = vec![["confidence %", "words", "mean", "right %"].map(String::from).to_vec()];
    for (range, bin) in calibration.bins().filter(|(_, bin)| bin.words > 0) {
        rows.push(row(format!("{:.0}–{:.0}", 100.0 * range.start, 100.0 * range.end), bin));
    }
    rows.push(row("total".into(), calibration.total()));
    format!("{}\nexpected calibration error {} %\n", aligned(&rows), part(calibration.expected_error()))
}

/// Seconds of work for each second of sound.
fn real_time_factor(seconds: f64, heard_s: f64) -> Option<f64> {
    (heard_s > 0.0).then(|| seconds / heard_s)
}

fn interval(rate: &ErrorRate, unit: Unit) -> Option<[f64; 2]> {
    rate.interval(|score| unit.of(score), SEED)
}

pub fn percent(rate: f64) -> String {
    format!("{:.1}", 100.0 * rate)
}

fn row(name: &str, utterances: String, errors: Errors, interval: Option<[f64; 2]>) -> Vec<String> {
    vec![
        name.to_owned(),
        utterances,
        errors.reference.to_string(),
        errors.rate().map_or("–".into(), percent),
        interval.map_or(String::new(), |[low, high]| format!("{}–{}", percent(low), percent(high))),
        errors.substitutions.to_string(),
        errors.insertions.to_string(),
        errors.deletions.to_string(),
    ]
}

/// The first column flush left, the others right.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let cell = |(column, (cell, width)): (usize, (&String, &usize))| match column {
        0 => format!("{cell:<width$}"),
        _ => format!("  {cell:>width$}"),
    };
    let line = |row: &Vec<String>| row.iter().zip(&widths).enumerate().map(cell).collect::<String>() + "\n";
    rows.iter().map(line).collect()
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Error {
        message: String,
    },
    Utterance {
        set: &'a str,
        id: &'a str,
        source: Option<&'a str>,
        speaker: Option<&'a str>,
        reference: &'a str,
        hypothesis: &'a str,
        #[serde(flatten)]
        rates: Rates,
    },
    Set {
        set: &'a str,
        #[serde(flatten)]
        rates: SetRates,
    },
    Speaker {
        speaker: &'a str,
        #[serde(flatten)]
        rates: Rates,
    },
    Calibration {
        bins: Vec<BinFields>,
        #[serde(flatten)]
        total: BinFields,
        expected_calibration_error: Option<f64>,
    },
    Total {
        #[serde(flatten)]
        rates: SetRates,
        duration_s: f64,
        cpu_s: f64,
        wall_s: f64,
        cpu_real_time_factor: Option<f64>,
        wall_real_time_factor: Option<f64>,
        jobs: usize,
        failed: usize,
        dropped: usize,
    },
}

#[derive(Serialize)]
struct BinFields {
    from: f64,
    to: f64,
    words: u64,
    right: u64,
    confidence: Option<f64>,
    accuracy: Option<f64>,
}

impl BinFields {
    fn new(from: f64, to: f64, bin: Bin) -> Self {
        Self { from, to, words: bin.words, right: bin.right, confidence: bin.confidence(), accuracy: bin.accuracy() }
    }
}

#[derive(Serialize)]
struct Rates {
    wer: Option<f64>,
    cer: Option<f64>,
    words: Counts,
    characters: Counts,
}

impl Rates {
    fn new(score: &Score) -> Self {
        let Score { words, characters } = score;
        Self {
            wer: words.rate(),
            cer: characters.rate(),
            words: Counts::new(words),
            characters: Counts::new(characters),
        }
    }
}

#[derive(Serialize)]
struct SetRates {
    utterances: usize,
    #[serde(flatten)]
    rates: Rates,
    wer_interval: Option<[f64; 2]>,
    cer_interval: Option<[f64; 2]>,
}

impl SetRates {
    fn new(rate: &ErrorRate) -> Self {
        Self {
            utterances: rate.utterances(),
            rates: Rates::new(&rate.total()),
            wer_interval: interval(rate, Unit::Words),
            cer_interval: interval(rate, Unit::Characters),
        }
    }
}

#[derive(Serialize)]
struct Counts {
    reference: u64,
    substitutions: u64,
    insertions: u64,
    deletions: u64,
}

impl Counts {
    fn new(errors: &Errors) -> Self {
        let Errors { substitutions, insertions, deletions, reference } = *errors;
        Self { reference, substitutions, insertions, deletions }
    }
}
