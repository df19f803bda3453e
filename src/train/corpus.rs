//! The utterances of several datasets that a run can use.

use std::path::Path;

use super::config::Source;
use crate::dataset::batches::Item;
use crate::dataset::shards::{Dataset, Entry};
use crate::dataset::text::{Report, Selection};
use crate::spectrogram::{Normalization, Settings};
use crate::{Error, Result};

/// What to say and where it is said.
#[derive(Debug, Clone)]
pub struct Utterance {
    pub labels: Vec<u32>,
    pub frames: usize,
    dataset: usize,
    index: usize,
    weight: f64,
}

/// Several datasets of one front-end.
#[derive(Debug)]
pub struct Corpus {
    datasets: Vec<Dataset>,
    weights: Vec<f64>,
    pub utterances: Vec<Utterance>,
    /// What is used and what is not.
    pub report: Report,
}

impl Corpus {
    /// Opens datasets made with `settings` and keeps what `selection` admits; an utterance of `frames` becomes
    /// `steps(frames)` steps of output.
    pub fn open(
        sources: &[Source],
        settings: &Settings,
        selection: &Selection,
        steps: impl Fn(usize) -> usize,
    ) -> Result<Self> {
        let mut corpus = Self { datasets: vec![], weights: vec![], utterances: vec![], report: Report::default() };
        for (number, Source { folder, weight }) in sources.iter().enumerate() {
            let dataset = Dataset::open(folder)?;
            dataset.require(settings)?;
            for (index, entry) in dataset.entries().iter().enumerate() {
                let seconds = seconds(entry.frames, settings);
                let outcome = selection.admit(&entry.text, seconds, steps(entry.frames));
                if let Some(labels) = corpus.report.count(seconds, outcome) {
                    let (frames, weight) = (entry.frames, *weight);
                    corpus.utterances.push(Utterance { labels, frames, dataset: number, index, weight });
                }
            }
            corpus.datasets.push(dataset);
            corpus.weights.push(*weight);
        }
        if corpus.utterances.is_empty() {
            let folder = sources.first().map_or(Path::new(""), |source| &source.folder);
            return Err(Error::data(folder, format!("no usable utterance; {}", corpus.report).replace('\n', "; ")));
        }
        Ok(corpus)
    }

    /// The utterances as far as batching is concerned.
    pub fn items(&self, settings: &Settings) -> Vec<Item> {
        let item = |u: &Utterance| Item { seconds: seconds(u.frames, settings), weight: u.weight };
        self.utterances.iter().map(item).collect()
    }

    /// What the dataset says about an utterance.
    pub fn entry(&self, utterance: &Utterance) -> &Entry {
        &self.datasets[utterance.dataset].entries()[utterance.index]
    }

    /// Appends the columns of an utterance, `[frames, bins]`, not normalised.
    pub fn read(&self, utterance: &Utterance, columns: &mut Vec<f32>) -> Result<()> {
        self.datasets[utterance.dataset].read(utterance.index, columns)
    }

    /// Mean and standard deviation over all datasets, each as often as it is seen.
    pub fn normalization(&self) -> Normalization {
        let bins = self.datasets[0].normalization().mean.len();
        let (mut total, mut sum, mut sum_of_squares) = (0.0, vec![0.0; bins], vec![0.0; bins]);
        for (dataset, weight) in self.datasets.iter().zip(&self.weights) {
            let frames: usize = dataset.entries().iter().map(|entry| entry.frames).sum();
            let share = weight * frames as f64;
            let Normalization { mean, std } = dataset.normalization();
            total += share;
            for bin in 0..bins {
                let [mean, std] = [mean[bin], std[bin]].map(f64::from);
                sum[bin] += share * mean;
                sum_of_squares[bin] += share * (std * std + mean * mean);
            }
        }
        let mean: Vec<f64> = sum.iter().map(|sum| sum / total).collect();
        let variance = sum_of_squares.iter().zip(&mean).map(|(squares, mean)| squares / total - mean * mean);
        let std = variance.map(|variance| variance.max(1e-6).sqrt() as f32).collect();
        Normalization { mean: mean.into_iter().map(|mean| mean as f32).collect(), std }
    }
}

/// How long `frames` last.
pub fn seconds(frames: usize, settings: &Settings) -> f64 {
    settings.clock().frame_start_s(frames as u64)
}
