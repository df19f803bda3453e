//! Random numbers that are the same on every machine and in every version, with a state that can be saved.

use std::ops::Range;

/// xoshiro256++ (Blackman & Vigna 2021), seeded through SplitMix64 as its authors advise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// A stream that depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        let mut counter = seed;
        Self { state: std::array::from_fn(|_| split_mix_64(&mut counter)) }
    }

    /// The stream of one item, e.g. `(epoch, utterance)`: independent of which thread draws it, and when.
    pub fn for_item(seed: u64, item: &[u64]) -> Self {
        let mixed = item.iter().fold(seed, |mut hash, &key| {
            let scrambled = split_mix_64(&mut hash);
            scrambled ^ key.wrapping_mul(0xD6E8_FEB8_6659_FD93)
        });
        Self::new(mixed)
    }

    /// Continues where a stream stood when it gave this [`Random::state`].
    pub fn from_state(state: [u64; 4]) -> Self {
        Self { state }
    }

    /// All there is to know about the stream, for checkpoints.
    pub fn state(&self) -> [u64; 4] {
        self.state
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `[0, 1)`, a multiple of 2⁻²⁴.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Uniform in `range`; the range's start if it is empty.
    pub fn uniform(&mut self, range: Range<f32>) -> f32 {
        range.start + self.unit() * (range.end - range.start).max(0.0)
    }

    /// Uniform among `0..count`; 0 for a count of 0. The bias is below `count · 2⁻⁶⁴`.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// Gaussian with mean 0 and variance 1 (Box & Muller 1958).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.unit()).cos()
    }

    /// Permutes the items, every order equally likely (Fisher & Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// SplitMix64 (Steele et al. 2014): a counter and a hash of it.
fn split_mix_64(counter: &mut u64) -> u64 {
    *counter = counter.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *counter;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published test vectors of both generators.
    #[test]
    fn the_reference_sequences() {
        let mut counter = 1_234_567;
        let hashes = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(std::array::from_fn(|_| split_mix_64(&mut counter)), hashes);
        let mut random = Random::from_state([1, 2, 3, 4]);
        let words = [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386];
        assert_eq!(std::array::from_fn(|_| random.bits()), words);
    }

    #[test]
    fn a_saved_state_continues_the_stream() {
        let mut random = Random::new(7);
        random.normal();
        let mut copy = Random::from_state(random.state());
        assert_eq!(random.bits(), copy.bits());
    }

    #[test]
    fn items_have_streams_of_their_own() {
        let mut first: Vec<u64> = Vec::new();
        for seed in 0..4 {
            for epoch in 0..10 {
                first.extend((0..10).map(|item| Random::for_item(seed, &[epoch, item]).bits()));
            }
        }
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 400);
    }

    #[test]
    fn moments_of_the_distributions() {
        let mut random = Random::new(1);
        let count = 20_000;
        let moments = |values: Vec<f32>| {
            let mean = values.iter().sum::<f32>() / count as f32;
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count as f32)
        };
        let (mean, variance) = moments((0..count).map(|_| random.normal()).collect());
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let (mean, variance) = moments((0..count).map(|_| random.uniform(2.0..5.0)).collect());
        assert!((mean - 3.5).abs() < 0.03 && (variance - 0.75).abs() < 0.03, "{mean} {variance}");
        let mut counts = [0; 3];
        (0..count).for_each(|_| counts[random.below(3)] += 1);
        assert!(counts.iter().all(|c| (6_300..7_000).contains(c)), "{counts:?}");
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Random::new(3).shuffle(&mut items);
        assert!(items.iter().enumerate().any(|(i, &item)| i as u32 != item));
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
