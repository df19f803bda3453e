//! In which order training sees the utterances: batches of similar length, in an order that depends on the seed alone.

use crate::random::Random;

/// An utterance as far as batching is concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Item {
    /// How long it is, in seconds.
    pub seconds: f64,
    /// How often it is seen per epoch on average: 2.5 is twice, and a third time in every other epoch.
    pub weight: f64,
}

/// What a batch is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Sound in one batch, in seconds, the padding to its longest utterance included: what memory depends on.
    pub seconds: f64,
    /// Short utterances first, if wanted.
    pub curriculum: Option<Curriculum>,
    /// Decides about every order and choice.
    pub seed: u64,
}

/// Short utterances first (Bengio et al. 2009): epoch by epoch the limit grows by a constant factor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curriculum {
    /// Epochs until everything is seen.
    pub epochs: u64,
    /// The longest utterance of the first epoch, in seconds.
    pub longest_s: f64,
}

/// The batches of every epoch.
#[derive(Debug, Clone)]
pub struct Batches {
    settings: Settings,
    items: Vec<Item>,
}

/// How far neighbours in length are mixed, as a share of it: enough for new batches every epoch, with little padding.
const LENGTH_JITTER: f32 = 0.1;

impl Batches {
    /// Of these items; batches name them by their index.
    pub fn new(settings: Settings, items: Vec<Item>) -> Self {
        Self { settings, items }
    }

    /// The batches of `epoch`, counted from 0: a pure function of the settings and items, so training resumes by
    /// making the epoch again and going on at the next batch. An utterance longer than a batch makes one of its own.
    pub fn epoch(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut random = Random::for_item(self.settings.seed, &[epoch]);
        let longest_s = self.longest_s(epoch);
        let mut order: Vec<(f64, usize)> = Vec::new();
        for (index, item) in self.items.iter().enumerate() {
            // Drawn for every item, so that the curriculum does not shift the numbers of the others.
            let extra = random.chance(item.weight.fract() as f32);
            let visits = item.weight.max(0.0) as usize + usize::from(extra);
            for _ in 0..visits {
                let jitter = random.uniform(-LENGTH_JITTER..LENGTH_JITTER);
                if item.seconds <= longest_s {
                    order.push((item.seconds * f64::from(1.0 + jitter), index));
                }
            }
        }
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut longest_in_batch = 0f64;
        for (_, index) in order {
            let longest = longest_in_batch.max(self.items[index].seconds);
            match batches.last_mut() {
                Some(batch) if longest * (batch.len() + 1) as f64 <= self.settings.seconds => {
                    batch.push(index);
                    longest_in_batch = longest;
                }
                _ => {
                    batches.push(vec![index]);
                    longest_in_batch = self.items[index].seconds;
                }
            }
        }
        random.shuffle(&mut batches);
        batches
    }

    /// The longest utterance that `epoch` shows; infinite after the curriculum.
    fn longest_s(&self, epoch: u64) -> f64 {
        match self.settings.curriculum {
            Some(Curriculum { epochs, longest_s }) if epoch < epochs => {
                let longest = self.items.iter().map(|item| item.seconds).fold(longest_s, f64::max);
                longest_s * (longest / longest_s).powf(epoch as f64 / epochs as f64)
            }
            _ => f64::INFINITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(count: usize, weight: f64) -> Vec<Item> {
        (0..count).map(|i| Item { seconds: 1.0 + (i * 7 % 100) as f64 / 10.0, weight }).collect()
    }

    fn batches(curriculum: Option<Curriculum>, items: Vec<Item>) -> Batches {
        Batches::new(Settings { seconds: 40.0, curriculum, seed: 5 }, items)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn every_item_once_within_the_limit(seconds in prop::collection::vec(0.1..60f64, 0..200), seed: u64, epoch: u64) {
            let items = seconds.iter().map(|&seconds| Item { seconds, weight: 1.0 }).collect();
            let batches = Batches::new(Settings { seconds: 40.0, curriculum: None, seed }, items).epoch(epoch);
            for batch in &batches {
                let longest = batch.iter().map(|&i| seconds[i]).fold(0.0, f64::max);
                prop_assert!(batch.len() == 1 || longest * batch.len() as f64 <= 40.0);
            }
            let mut seen = batches.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..seconds.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch() {
        let all = batches(None, items(300, 1.0));
        assert_eq!(all.epoch(3), all.epoch(3));
        assert_ne!(all.epoch(3), all.epoch(4));
        let other = Batches::new(Settings { seed: 6, ..all.settings }, all.items.clone());
        assert_ne!(all.epoch(3), other.epoch(3));
    }

    #[test]
    fn batches_hold_similar_lengths() {
        let all = batches(None, items(1000, 1.0));
        let seconds = |index: &usize| all.items[*index].seconds;
        let padded: f64 = all.epoch(0).iter().map(|b| b.len() as f64 * b.iter().map(seconds).fold(0.0, f64::max)).sum();
        let real: f64 = all.items.iter().map(|item| item.seconds).sum();
        assert!(padded < 1.15 * real, "{padded} {real}");
    }

    #[test]
    fn weights_repeat_and_leave_out() {
        let count = |weight| (0..20).map(|epoch| batches(None, items(100, weight)).epoch(epoch).concat().len()).sum();
        let counts: [usize; 3] = [0.25, 1.0, 2.5].map(count);
        assert!(
            (400..600).contains(&counts[0]) && counts[1] == 2000 && (4850..5150).contains(&counts[2]),
            "{counts:?}"
        );
    }

    #[test]
    fn a_curriculum_begins_with_short_ones() {
        let all = batches(Some(Curriculum { epochs: 4, longest_s: 2.0 }), items(300, 1.0));
        let longest = |epoch| all.epoch(epoch).concat().iter().map(|&i| all.items[i].seconds).fold(0.0, f64::max);
        let limits: Vec<f64> = (0..5).map(longest).collect();
        assert!(limits[0] == 2.0 && limits.is_sorted() && limits[3] < limits[4], "{limits:?}");
        assert_eq!(all.epoch(4).concat().len(), 300);
    }
}
