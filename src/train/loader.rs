//! Batches made ahead of their step by a thread of its own: read, augmented, normalised.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use super::augment::Augmenter;
use super::corpus::{Corpus, seconds};
use crate::Result;
use crate::ctc::loss::steps_needed;
use crate::dataset::batches::Batches;
use crate::layers::Images;
use crate::network::{Architecture, FrameShape};
use crate::random::Random;
use crate::spectrogram::{Normalization, Settings};

/// One step's worth of sound.
pub struct Batch {
    pub epoch: u64,
    /// Its place in the epoch.
    pub number: u64,
    /// At least one; none is empty.
    pub parts: Vec<Part>,
    pub audio_s: f64,
}

/// Utterances that walk through the network together.
pub struct Part {
    pub images: Images,
    pub labels: Vec<Vec<u32>>,
    /// For dropout.
    pub seed: u64,
}

/// An utterance as it was recorded and as augmentation changes it: normalised columns `[frames, bins]`.
pub struct Example {
    pub text: String,
    pub before: Vec<f32>,
    pub after: Vec<f32>,
}

/// Other utterances of the batch that may talk in the background.
const MOST_VOICES: usize = 3;

/// Makes batches. A batch is a function of the seed and its place alone.
pub struct Loader {
    pub corpus: Arc<Corpus>,
    pub batches: Batches,
    pub augmenter: Option<Augmenter>,
    pub architecture: Architecture,
    pub settings: Settings,
    pub normalization: Normalization,
    /// Parts of a batch, as far as there are utterances.
    pub parts: usize,
    pub seed: u64,
}

impl Loader {
    /// Makes a batch for every request, from batch `number` of `epoch` on. A request says whether to augment. Ends when
    /// nobody asks or listens any more, or after an error.
    pub fn serve(&self, mut epoch: u64, number: u64, requests: &Receiver<bool>, out: &Sender<Result<Batch>>) {
        let mut first = number;
        loop {
            for (number, items) in (0u64..).zip(self.batches.epoch(epoch)).skip(first as usize) {
                let Ok(augment) = requests.recv() else { return };
                let batch = self.batch(epoch, number, &items, augment);
                let failed = batch.is_err();
                if out.send(batch).is_err() || failed {
                    return;
                }
            }
            first = 0;
            epoch += 1;
        }
    }

    /// The first `count` utterances of the first epoch, before and after augmentation.
    pub fn examples(&self, count: usize) -> Result<Vec<Example>> {
        let mut examples = Vec::new();
        for (number, items) in (0u64..).zip(self.batches.epoch(0)) {
            let heard = |augment| self.columns(&items, augment, &mut Random::for_item(self.seed, &[0, number]));
            for ((before, after), &item) in heard(false)?.into_iter().zip(heard(true)?).zip(&items) {
                if examples.len() == count {
                    return Ok(examples);
                }
                let text = self.corpus.entry(&self.corpus.utterances[item]).text.clone();
                examples.push(Example { text, before, after });
            }
        }
        Ok(examples)
    }

    fn batch(&self, epoch: u64, number: u64, items: &[usize], augment: bool) -> Result<Batch> {
        let bins = self.settings.bins();
        let mut random = Random::for_item(self.seed, &[epoch, number]);
        let mut parts = Vec::new();
        parts.resize_with(self.parts.min(items.len()).max(1), || {
            let images = Images { shape: FrameShape { frequency: bins, channels: 1 }, ..Images::default() };
            Part { images, labels: Vec::new(), seed: random.bits() }
        });
        let mut frames = 0;
        for (mut columns, &item) in self.columns(items, augment, &mut random)?.into_iter().zip(items) {
            frames += columns.len() / bins;
            // The part with the least sound so far takes it.
            let Some(part) = parts.iter_mut().min_by_key(|part| part.images.values.len()) else { continue };
            part.images.lengths.push(columns.len() / bins);
            part.images.values.append(&mut columns);
            part.labels.push(self.corpus.utterances[item].labels.clone());
        }
        Ok(Batch { epoch, number, parts, audio_s: seconds(frames, &self.settings) })
    }

    /// The normalised columns of each utterance, which may talk in one another's background.
    fn columns(&self, items: &[usize], augment: bool, random: &mut Random) -> Result<Vec<Vec<f32>>> {
        let bins = self.settings.bins();
        let mut read = Vec::with_capacity(items.len());
        for &item in items {
            let utterance = &self.corpus.utterances[item];
            let mut columns = Vec::with_capacity(utterance.frames * bins);
            self.corpus.read(utterance, &mut columns)?;
            read.push(columns);
        }
        let mut made = read.clone();
        for (place, columns) in made.iter_mut().enumerate() {
            if let Some(augmenter) = self.augmenter.as_ref().filter(|_| augment) {
                let others = draw_others(&read, place, random);
                let labels = &self.corpus.utterances[items[place]].labels;
                augmenter.apply(columns, &others, self.least_frames(labels), random);
            }
            columns.chunks_exact_mut(bins).for_each(|column| self.normalization.apply(column));
        }
        Ok(made)
    }

    /// The fewest frames whose output can carry `labels`.
    fn least_frames(&self, labels: &[u32]) -> usize {
        let needed = steps_needed(labels);
        let stride = self.architecture.time_stride();
        let mut frames = needed.saturating_sub(1) * stride;
        while self.architecture.output_frames(frames) < needed {
            frames += 1;
        }
        frames
    }
}

fn draw_others<'a>(read: &'a [Vec<f32>], place: usize, random: &mut Random) -> Vec<&'a [f32]> {
    let count = if read.len() > 1 { 1 + random.below(MOST_VOICES) } else { 0 };
    let other = |random: &mut Random| (place + 1 + random.below(read.len() - 1)) % read.len();
    (0..count).map(|_| &read[other(random)][..]).collect()
}
