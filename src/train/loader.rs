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
    pub images: Images,
    pub labels: Vec<Vec<u32>>,
    pub audio_s: f64,
    /// For dropout.
    pub seed: u64,
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

    fn batch(&self, epoch: u64, number: u64, items: &[usize], augment: bool) -> Result<Batch> {
        let bins = self.settings.bins();
        let utterances: Vec<_> = items.iter().map(|&item| &self.corpus.utterances[item]).collect();
        let mut read = Vec::with_capacity(items.len());
        for utterance in &utterances {
            let mut columns = Vec::with_capacity(utterance.frames * bins);
            self.corpus.read(utterance, &mut columns)?;
            read.push(columns);
        }
        let mut random = Random::for_item(self.seed, &[epoch, number]);
        let seed = random.bits();
        let (mut lengths, mut values) = (Vec::with_capacity(items.len()), Vec::new());
        for (place, utterance) in utterances.iter().enumerate() {
            let mut columns = read[place].clone();
            if let Some(augmenter) = self.augmenter.as_ref().filter(|_| augment) {
                let others = draw_others(&read, place, &mut random);
                augmenter.apply(&mut columns, &others, self.least_frames(&utterance.labels), &mut random);
            }
            columns.chunks_exact_mut(bins).for_each(|column| self.normalization.apply(column));
            lengths.push(columns.len() / bins);
            values.append(&mut columns);
        }
        let images = Images::new(FrameShape { frequency: bins, channels: 1 }, lengths, values);
        let audio_s = seconds(images.frames(), &self.settings);
        let labels = utterances.iter().map(|utterance| utterance.labels.clone()).collect();
        Ok(Batch { epoch, number, images, labels, audio_s, seed })
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
