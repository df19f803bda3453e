//! Validation sets: heard by the network in evaluation, decoded greedily, compared with what was said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::config::Source;
use super::corpus::{Corpus, seconds};
use super::metrics::{EvaluationLine, Sample};
use crate::Result;
use crate::ctc::GreedyDecoder;
use crate::dataset::text::{Normalizer, Selection};
use crate::evaluate::error_rate::{ErrorRate, Score};
use crate::layers::{Images, Mode, Network};
use crate::network::FrameShape;
use crate::spectrogram::{Normalization, Settings};
use crate::tokens::Tokens;

/// Transcripts that are shown, and worst ones that the report shows.
const SAMPLES: usize = 5;
const WORST: usize = 20;

/// One dataset to validate with.
pub struct Validation {
    name: String,
    corpus: Corpus,
    /// Utterances by length, so that batches are even.
    order: Vec<usize>,
}

impl Validation {
    /// Opens a dataset. All is used but what the vocabulary cannot spell.
    pub fn open(folder: &Path, settings: &Settings, tokens: &Tokens) -> Result<Self> {
        let selection = Selection { normalizer: Normalizer::new(tokens), shortest_s: 0.0, longest_s: f64::INFINITY };
        let source = Source { folder: PathBuf::from(folder), weight: 1.0 };
        let corpus = Corpus::open(&[source], settings, &selection, |_| usize::MAX)?;
        let mut order: Vec<usize> = (0..corpus.utterances.len()).collect();
        order.sort_by_key(|&index| corpus.utterances[index].frames);
        let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, corpus, order })
    }

    /// How well `network` hears in batches of `batch_s` seconds: the whole set, and if it has several sources each of
    /// them. `None` if asked to stop.
    pub fn evaluate(
        &self,
        network: &mut Network,
        front_end: (&Settings, &Normalization),
        tokens: &Tokens,
        batch_s: f64,
        stop: &AtomicBool,
    ) -> Result<Option<Vec<EvaluationLine>>> {
        let (settings, normalization) = front_end;
        let bins = settings.bins();
        let mut heard = vec![String::new(); self.order.len()];
        let mut rest = &self.order[..];
        while !rest.is_empty() {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let frames = |index: &usize| self.corpus.utterances[*index].frames;
            let mut total = 0;
            let fits = |index: &&usize| {
                total += frames(index);
                seconds(total, settings) <= batch_s
            };
            let (batch, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            rest = later;
            let mut values = Vec::new();
            for &index in batch {
                self.corpus.read(&self.corpus.utterances[index], &mut values)?;
            }
            values.chunks_exact_mut(bins).for_each(|column| normalization.apply(column));
            let lengths = batch.iter().map(frames).collect();
            let images = Images::new(FrameShape { frequency: bins, channels: 1 }, lengths, values);
            let log_probs = network.forward(&images, Mode::Evaluation);
            for (&index, log_probs) in batch.iter().zip(log_probs.utterances()) {
                heard[index] = decode(log_probs, tokens);
            }
        }
        Ok(Some(self.lines(&heard, tokens)))
    }

    fn lines(&self, heard: &[String], tokens: &Tokens) -> Vec<EvaluationLine> {
        let sources: BTreeSet<_> =
            self.corpus.utterances.iter().map(|u| self.corpus.entry(u).source.as_ref()).collect();
        let mut parts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        parts.insert(self.name.clone(), (0..heard.len()).collect());
        if sources.len() > 1 {
            for (index, utterance) in self.corpus.utterances.iter().enumerate() {
                if let Some(source) = &self.corpus.entry(utterance).source {
                    parts.entry(format!("{}/{source}", self.name)).or_default().push(index);
                }
            }
        }
        let line = |(set, indices): (String, Vec<usize>)| {
            let mut rate = ErrorRate::default();
            let (mut samples, mut worst) = (Vec::new(), Vec::new());
            for (place, &index) in indices.iter().enumerate() {
                let reference = tokens.text(&self.corpus.utterances[index].labels);
                let hypothesis = heard[index].clone();
                let score = Score::of(&reference, &hypothesis);
                worst.push((score.characters.total(), index));
                rate.push(None, score);
                if place % indices.len().div_ceil(SAMPLES) == 0 {
                    samples.push(Sample { reference, hypothesis });
                }
            }
            worst.sort_by_key(|&(errors, index)| (std::cmp::Reverse(errors), index));
            let sample = |&(_, index): &(u64, usize)| Sample {
                reference: tokens.text(&self.corpus.utterances[index].labels),
                hypothesis: heard[index].clone(),
            };
            let Score { words, characters } = rate.total();
            EvaluationLine {
                set,
                wer: words.rate().unwrap_or(0.0),
                cer: characters.rate().unwrap_or(0.0),
                words: words.reference,
                utterances: indices.len(),
                samples,
                worst: worst.iter().take(WORST).map(sample).collect(),
                ..EvaluationLine::default()
            }
        };
        parts.into_iter().map(line).collect()
    }
}

fn decode(log_probs: &[f32], tokens: &Tokens) -> String {
    let mut decoder = GreedyDecoder::new(tokens.blank(), tokens.len());
    let mut emissions = Vec::new();
    decoder.push(log_probs, &mut emissions);
    decoder.finish(&mut emissions);
    tokens.text(&emissions.iter().map(|emission| emission.token).collect::<Vec<_>>())
}
