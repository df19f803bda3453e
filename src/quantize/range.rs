//! Which values an image holds, and which of them bytes should reach.

use super::meaning;
use crate::network::Quantize;

/// Bins on each side of zero.
const SIDE: usize = 2_048;
/// The least part of the values' range that bytes are tried for, in percent.
const LEAST_PERCENT: usize = 30;

/// A histogram that widens as greater values come.
#[derive(Debug, Clone)]
pub struct Range {
    /// Values per bin, those below zero first.
    counts: Vec<u64>,
    /// The bins reach from −limit to limit; 0 as long as nothing but zeros came.
    limit: f32,
    least: f32,
    most: f32,
}

impl Default for Range {
    fn default() -> Self {
        Self { counts: vec![0; 2 * SIDE], limit: 0.0, least: 0.0, most: 0.0 }
    }
}

impl Range {
    /// Counts `values`; those that are no numbers are passed over.
    pub fn add(&mut self, values: &[f32]) {
        let (least, most) = values
            .iter()
            .filter(|value| value.is_finite())
            .fold((0.0_f32, 0.0_f32), |(a, b), &value| (a.min(value), b.max(value)));
        (self.least, self.most) = (self.least.min(least), self.most.max(most));
        let greatest = self.most.max(-self.least);
        if greatest == 0.0 {
            return;
        }
        if self.limit == 0.0 {
            self.limit = greatest;
        }
        while self.limit < greatest {
            self.widen();
        }
        let bins = SIDE as f32 / self.limit;
        for value in values.iter().filter(|value| value.is_finite()) {
            let bin = ((value * bins).floor() + SIDE as f32) as usize;
            self.counts[bin.min(2 * SIDE - 1)] += 1;
        }
    }

    /// Doubles the limit.
    fn widen(&mut self) {
        let mut counts = vec![0; 2 * SIDE];
        for (pair, counts_of) in self.counts.chunks_exact(2).enumerate() {
            counts[SIDE / 2 + pair] = counts_of.iter().sum();
        }
        (self.counts, self.limit) = (counts, 2.0 * self.limit);
    }

    /// What bytes should mean: of the ranges tried, that with the least squared error, which rounding adds to all values
    /// and cutting off to those beyond it.
    pub fn bytes(&self) -> Quantize {
        let tried = (LEAST_PERCENT..=100).rev().map(|percent| {
            let part = percent as f32 / 100.0;
            meaning(part * self.least, part * self.most)
        });
        let best = tried.map(|bytes| (self.error(bytes), bytes)).min_by(|(a, _), (b, _)| a.total_cmp(b));
        best.map_or_else(|| meaning(self.least, self.most), |(_, bytes)| bytes)
    }

    fn error(&self, Quantize { scale, zero_point }: Quantize) -> f64 {
        let least = -f32::from(zero_point) * scale;
        let (least, most) = (f64::from(least), f64::from(least + 255.0 * scale));
        let rounding = f64::from(scale).powi(2) / 12.0;
        let width = f64::from(self.limit) / SIDE as f64;
        let errors = self.counts.iter().enumerate().map(|(bin, &count)| {
            let value = (bin as f64 - SIDE as f64 + 0.5) * width;
            let cut = value - value.clamp(least, most);
            count as f64 * (rounding + cut * cut)
        });
        errors.sum()
    }
}
