//! Several ways to decode, compared on the same output of the network.

use std::fmt::Write;
use std::sync::atomic::AtomicBool;

use dfcnn::ctc::beam::BeamOptions;
use dfcnn::ctc::{Decoder, Decoding};
use dfcnn::evaluate::error_rate::Score;
use dfcnn::evaluate::results::Results;
use dfcnn::recognizer::Engine;
use dfcnn::{Error, Result};
use serde_json::json;

use super::super::parallel;
use super::hear::{self, Task};
use super::show::{aligned, percent};

/// An utterance as the network heard it: log-probabilities, `[steps, classes]`.
type Output<'a> = (&'a Task, Vec<f32>);

/// How well each way to decode does.
pub struct Comparison {
    rows: Vec<(Decoding, Results)>,
    failed: usize,
}

impl Comparison {
    /// Hears all tasks once and decodes them in all ways; gives what failed too. `tick` is called for each task heard.
    pub fn new(
        engine: &Engine,
        tasks: &[Task],
        decodings: Vec<Decoding>,
        jobs: usize,
        stop: &AtomicBool,
        mut tick: impl FnMut(),
    ) -> Result<(Self, Vec<Error>)> {
        let ears = (0..jobs.min(tasks.len())).map(|_| hear::log_probs(engine)).collect::<Result<Vec<_>>>()?;
        let heard = parallel::all(tasks, ears, stop, |_| {
            tick();
            true
        });
        let (mut outputs, mut failed) = (Vec::new(), Vec::new());
        for (task, outcome) in tasks.iter().zip(heard) {
            match outcome {
                None => {}
                Some(Ok(log_probs)) => outputs.push((task, log_probs)),
                Some(Err(error)) => failed.push(error),
            }
        }
        let mut rows = Vec::new();
        for decoding in decodings {
            let results = decode(engine, &outputs, &decoding, jobs, stop)?;
            rows.push((decoding, results));
        }
        Ok((Self { rows, failed: failed.len() }, failed))
    }

    /// A table with a row for each way: word error rates in percent of each set, then of everything.
    pub fn text(&self) -> String {
        let mut table = Vec::new();
        for (decoding, results) in &self.rows {
            let sets = results.sets();
            let rate = |score: Score| score.words.rate().map_or("–".into(), percent);
            if table.is_empty() {
                let head = ["lm-weight", "word-bonus"].into_iter().chain(sets.iter().map(|(name, _)| name.as_str()));
                table.push(head.chain(["total"]).map(String::from).collect());
            }
            let [weight, bonus] = settings(decoding).map(|value| value.to_string());
            let rates = sets.iter().map(|(_, set)| rate(set.total()));
            table.push([weight, bonus].into_iter().chain(rates).chain([rate(results.total().total())]).collect());
        }
        let mut text = aligned(&table);
        let _ = writeln!(text, "\nword error rates in %; {} failed", self.failed);
        text
    }

    /// A line of type `tuning` for each way.
    pub fn json(&self) -> String {
        let line = |(decoding, results): &(Decoding, Results)| {
            let [lm_weight, word_bonus] = settings(decoding);
            let sets = results.sets();
            let rates = |score: Score| json!({"wer": score.words.rate(), "cer": score.characters.rate()});
            let sets: serde_json::Map<_, _> = sets.into_iter().map(|(name, set)| (name, rates(set.total()))).collect();
            let total = rates(results.total().total());
            let failed = self.failed;
            json!({"type": "tuning", "lm_weight": lm_weight, "word_bonus": word_bonus, "sets": sets, "total": total, "failed": failed})
        };
        self.rows.iter().map(|row| format!("{}\n", line(row))).collect()
    }
}

fn settings(decoding: &Decoding) -> [f64; 2] {
    match decoding {
        Decoding::Greedy => [0.0, 0.0],
        Decoding::Beam(BeamOptions { lm_weight, word_bonus, .. }) => [*lm_weight, *word_bonus],
    }
}

fn decode(engine: &Engine, outputs: &[Output], decoding: &Decoding, jobs: usize, stop: &AtomicBool) -> Result<Results> {
    let worker = || {
        let mut decoder = Decoder::new(engine.tokens(), decoding)?;
        let mut emissions = Vec::new();
        Ok(move |(_, log_probs): &Output| {
            emissions.clear();
            decoder.push(log_probs, &mut emissions);
            decoder.finish(&mut emissions);
            let ids: Vec<u32> = emissions.iter().map(|emission| emission.token).collect();
            Ok(engine.tokens().text(&ids))
        })
    };
    let workers = (0..jobs.min(outputs.len())).map(|_| worker()).collect::<Result<Vec<_>>>()?;
    let mut results = Results::default();
    for ((task, _), text) in outputs.iter().zip(parallel::all(outputs, workers, stop, |_| true)) {
        if let Some(hypothesis) = text.transpose()? {
            results.push(task.heard(hypothesis));
        }
    }
    Ok(results)
}
