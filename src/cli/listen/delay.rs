//! The delay from sound to text, measured.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is kept of the past: more than the longest delay that is of interest.
const KEPT_S: f64 = 20.0;
/// Longer delays count as this long.
const LONGEST_MS: usize = 10_000;

/// When each moment of the stream was heard.
#[derive(Debug, Default)]
pub struct Hearing {
    /// Ends of pieces: seconds of the stream, and when they were heard.
    ends: VecDeque<(f64, Instant)>,
}

impl Hearing {
    /// The stream is `end_s` long now; the last of it was heard at `heard_at`.
    pub fn push(&mut self, end_s: f64, heard_at: Instant) {
        self.ends.push_back((end_s, heard_at));
        while self.ends.front().is_some_and(|(first_s, _)| *first_s < end_s - KEPT_S) {
            self.ends.pop_front();
        }
    }

    /// When the moment `time_s` of the stream was heard, if `lasts` tells how long so many seconds of sound take.
    pub fn heard_at(&self, time_s: f64, lasts: impl Fn(f64) -> Duration) -> Option<Instant> {
        let &(end_s, heard_at) = self.ends.iter().find(|(end_s, _)| *end_s >= time_s).or(self.ends.back())?;
        heard_at.checked_sub(lasts((end_s - time_s).max(0.0)))
    }
}

/// How long something took each time, in whole milliseconds.
#[derive(Debug, Clone)]
pub struct Delays {
    counts: Vec<u32>,
}

impl Default for Delays {
    fn default() -> Self {
        Self { counts: vec![0; LONGEST_MS + 1] }
    }
}

impl Delays {
    pub fn push(&mut self, delay: Duration) {
        self.counts[(delay.as_millis() as usize).min(LONGEST_MS)] += 1;
    }

    /// How many there were.
    pub fn len(&self) -> u64 {
        self.counts.iter().copied().map(u64::from).sum()
    }

    /// The smallest number of milliseconds within which this part, 0 … 1, of all were; nothing if there were none.
    pub fn percentile_ms(&self, part: f64) -> Option<usize> {
        let needed = (part * self.len() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.counts.iter().position(|&count| {
            seen += u64::from(count);
            seen >= needed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_within_pieces() {
        let mut hearing = Hearing::default();
        let lasts = |seconds: f64| Duration::from_secs_f64(seconds / 2.0); // played twice as fast
        assert_eq!(hearing.heard_at(0.0, lasts), None);
        let start = Instant::now() + Duration::from_secs(100);
        for piece in 1..=100_u32 {
            hearing.push(f64::from(piece), start + Duration::from_millis(500) * piece);
        }
        assert_eq!(hearing.heard_at(99.5, lasts), Some(start + Duration::from_millis(49_750)));
        assert_eq!(hearing.heard_at(100.0, lasts), Some(start + Duration::from_secs(50)));
        assert_eq!(hearing.heard_at(100.5, lasts), Some(start + Duration::from_secs(50)), "not yet");
        assert_eq!(hearing.ends.len(), 21);
    }

    #[test]
    fn percentiles() {
        let mut delays = Delays::default();
        assert_eq!(delays.percentile_ms(0.5), None);
        (1..=100).for_each(|ms| delays.push(Duration::from_millis(ms)));
        assert_eq!([0.0, 0.5, 0.95, 0.99, 1.0].map(|part| delays.percentile_ms(part).unwrap()), [1, 50, 95, 99, 100]);
        delays.push(Duration::from_secs(100));
        assert_eq!((delays.len(), delays.percentile_ms(1.0)), (101, Some(10_000)));
    }
}
