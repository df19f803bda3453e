//! What a run says about itself: JSON Lines in `metrics.jsonl`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use super::learner::Step;
use crate::{Error, Result, atomic_file};

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line {
    /// A few steps.
    Step(StepLine),
    /// A validation set.
    Evaluation(EvaluationLine),
    /// The first layer's filters.
    Filters(FiltersLine),
}

/// The last few steps together. Losses are `null` if all of them were skipped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepLine {
    /// Optimiser steps done.
    pub step: u64,
    /// Minutes of training.
    pub minutes: f64,
    /// Mean CTC loss of an utterance, in nats.
    #[serde(deserialize_with = "nan_if_null")]
    pub loss: f64,
    /// Mean CTC loss per label, in nats.
    #[serde(deserialize_with = "nan_if_null")]
    pub loss_per_label: f64,
    /// Of the last step.
    pub learning_rate: f32,
    /// Mean norm of the gradient of the loss per label, before clipping.
    #[serde(deserialize_with = "nan_if_null")]
    pub gradient_norm: f64,
    /// Sound per second of time, waiting for data included.
    #[serde(deserialize_with = "nan_if_null")]
    pub audio_seconds_per_second: f64,
    /// Steps left out since the run began.
    pub skipped: u64,
}

/// A validation set, or a part of it, heard with the averaged weights and decoded greedily.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvaluationLine {
    /// Optimiser steps done.
    pub step: u64,
    /// Minutes of training.
    pub minutes: f64,
    /// The dataset, or `dataset/source` for what comes from one source.
    pub set: String,
    /// Word error rate.
    #[serde(deserialize_with = "nan_if_null")]
    pub wer: f64,
    /// Character error rate.
    #[serde(deserialize_with = "nan_if_null")]
    pub cer: f64,
    /// Words of the references.
    pub words: u64,
    /// Utterances.
    pub utterances: usize,
    /// A few transcripts.
    pub samples: Vec<Sample>,
    /// Those with the most wrong characters, the worst first.
    pub worst: Vec<Sample>,
}

/// The first convolution's filters, averaged weights, at a validation (as in figure 4 of Zeiler & Fergus 2013).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FiltersLine {
    /// Optimiser steps done.
    pub step: u64,
    /// Time and frequency extents of a filter.
    pub kernel: [usize; 2],
    /// The weights of the first input channel for each filter, `[time, frequency]`.
    pub filters: Vec<Vec<f32>>,
}

/// What was said and what was heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What was said.
    pub reference: String,
    /// What was heard.
    pub hypothesis: String,
}

/// JSON has no NaN.
fn nan_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Steps on their way to a [`StepLine`].
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    pub steps: u64,
    finite: u64,
    loss: f64,
    utterances: usize,
    labels: usize,
    norm: f64,
    audio_s: f64,
    seconds: f64,
}

impl Window {
    /// Adds a step that took `seconds` for `audio_s` of sound.
    pub fn push(&mut self, step: &Step, audio_s: f64, seconds: f64) {
        self.steps += 1;
        self.audio_s += audio_s;
        self.seconds += seconds;
        if !step.skipped {
            self.finite += 1;
            self.loss += step.outcome.loss;
            self.utterances += step.outcome.utterances;
            self.labels += step.outcome.labels;
            self.norm += f64::from(step.norm);
        }
    }

    /// The means; what a window cannot know is left at 0.
    pub fn line(&self) -> StepLine {
        StepLine {
            loss: self.loss / self.utterances as f64,
            loss_per_label: self.loss / self.labels as f64,
            gradient_norm: self.norm / self.finite as f64,
            audio_seconds_per_second: self.audio_s / self.seconds.max(1e-9),
            ..StepLine::default()
        }
    }
}

/// The lines of a `metrics.jsonl`, in their order, and how many others there were: of a type that we do not know, or cut
/// off because the run was killed or goes on.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> Result<(Vec<Line>, usize)> {
    let mut reader = BufReader::new(File::open(path).map_err(Error::read(path))?);
    let (mut lines, mut others) = (Vec::new(), 0);
    let mut bytes = Vec::new();
    while reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes).map_err(Error::read(path))? > 0 {
        match serde_json::from_slice(&bytes) {
            Ok(line) => lines.push(line),
            Err(_) => others += 1,
        }
        bytes.clear();
    }
    Ok((lines, others))
}

/// Bytes of a line, beyond which it is none of ours.
const LONGEST_LINE: u64 = 1 << 20;

/// `metrics.jsonl`, growing.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Goes on after step `steps`; what an interrupted run wrote about later steps is forgotten.
    pub fn open(path: &Path, steps: u64) -> Result<Self> {
        if path.exists() {
            let text = fs::read_to_string(path).map_err(Error::read(path))?;
            let is_past = |line: &&str| {
                let step = serde_json::from_str::<serde_json::Value>(line).ok().and_then(|line| line["step"].as_u64());
                step.is_some_and(|step| step <= steps)
            };
            let kept: String = text.lines().filter(is_past).map(|line| format!("{line}\n")).collect();
            if kept != text {
                atomic_file::write(path, |file| file.write_all(kept.as_bytes()))?;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::write(path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    pub fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|error| Error::data(&self.path, error.to_string()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(Error::write(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_log_forgets_what_was_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let line = |step| Line::Step(StepLine { step, loss: f64::NAN, ..StepLine::default() });
        let mut log = Log::open(&path, 0).unwrap();
        (1..=4).for_each(|step| log.write(&line(step)).unwrap());
        log.file.write_all(b"{\"type\":\"st").unwrap(); // killed
        let mut log = Log::open(&path, 3).unwrap();
        log.write(&Line::Evaluation(EvaluationLine { step: 3, set: "dev".into(), ..EvaluationLine::default() }))
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 3]);
        assert_eq!((&lines[0]["type"], &lines[3]["type"]), (&"step".into(), &"evaluation".into()));
        assert!(lines[0]["loss"].is_null() && lines[3]["samples"].is_array());

        fs::write(&path, format!("{text}{{\"type\":\"later\"}}\nnoise \u{7f}\n{{\"type\":\"st")).unwrap();
        let (lines, others) = read(&path).unwrap();
        assert_eq!((lines.len(), others), (4, 3));
        assert!(matches!(&lines[0], Line::Step(line) if line.step == 1 && line.loss.is_nan()), "{lines:?}");
        assert!(matches!(&lines[3], Line::Evaluation(line) if line.set == "dev"), "{lines:?}");
    }
}
