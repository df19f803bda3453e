//! The learning rate over a run: linear warm-up, then decay (Loshchilov & Hutter 2017) to the end of the steps or of the
//! time there is.

use serde::{Deserialize, Serialize};

/// How far a run is. Both are in the checkpoint, so that a resumed run goes on where it stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub steps: u64,
    /// Minutes spent on them.
    pub minutes: f64,
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// After this many steps.
    Steps(u64),
    /// After this many minutes.
    Minutes(f64),
}

/// The way down from the peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine.
    Cosine,
    /// A straight line.
    Linear,
}

/// A learning rate for every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The greatest learning rate.
    pub peak: f32,
    /// The last one, as a part of the peak.
    pub last: f32,
    /// Steps until the peak.
    pub warmup_steps: u64,
    /// The way down.
    pub decay: Decay,
    /// When it ends.
    pub length: Length,
}

impl Schedule {
    /// The learning rate of the step to be done next.
    pub fn learning_rate(&self, progress: Progress) -> f32 {
        let warmup = ((progress.steps + 1) as f64 / (self.warmup_steps + 1) as f64).min(1.0);
        let done = self.done(progress);
        let height = match self.decay {
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Decay::Linear => 1.0 - done,
        };
        let last = f64::from(self.last);
        (f64::from(self.peak) * warmup * (last + (1.0 - last) * height)) as f32
    }

    /// Whether the run is over.
    pub fn is_over(&self, progress: Progress) -> bool {
        match self.length {
            Length::Steps(steps) => progress.steps >= steps,
            Length::Minutes(minutes) => progress.minutes >= minutes,
        }
    }

    /// The part of the decay that lies behind, 0 to 1. With a limit in minutes it begins with the run: how long the
    /// warm-up takes is not known in advance.
    pub fn done(&self, progress: Progress) -> f64 {
        let done = match self.length {
            Length::Steps(steps) => {
                let decaying = steps.saturating_sub(self.warmup_steps).max(1);
                progress.steps.saturating_sub(self.warmup_steps) as f64 / decaying as f64
            }
            Length::Minutes(minutes) => progress.minutes / minutes.max(f64::MIN_POSITIVE),
        };
        done.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay, length: Length) -> Schedule {
        Schedule { peak: 1e-3, last: 0.1, warmup_steps: 9, decay, length }
    }

    #[test]
    fn rises_then_falls_to_the_last() {
        for (decay, middle) in [(Decay::Cosine, 0.55e-3), (Decay::Linear, 0.55e-3)] {
            let schedule = schedule(decay, Length::Steps(109));
            let rates: Vec<f32> =
                (0..110).map(|steps| schedule.learning_rate(Progress { steps, minutes: 0.0 })).collect();
            assert!((rates[0] - 1e-4).abs() < 1e-9 && (rates[4] - 5e-4).abs() < 1e-9);
            assert!(rates[..10].is_sorted() && rates[9..].iter().rev().is_sorted());
            assert!((rates[9] - 1e-3).abs() < 1e-9 && (rates[59] - middle).abs() < 1e-8, "{}", rates[59]);
            assert!((rates[109] - 1e-4).abs() < 1e-9);
            assert!(!schedule.is_over(Progress { steps: 108, minutes: 1e9 }));
            assert!(schedule.is_over(Progress { steps: 109, minutes: 0.0 }));
        }
        let quarter = Progress { steps: 34, minutes: 0.0 };
        assert!(schedule(Decay::Cosine, Length::Steps(109)).learning_rate(quarter) > 0.86e-3);
    }

    #[test]
    fn by_minutes_whatever_the_steps() {
        let schedule = schedule(Decay::Linear, Length::Minutes(60.0));
        for steps in [100, 10_000] {
            assert!((schedule.learning_rate(Progress { steps, minutes: 30.0 }) - 0.55e-3).abs() < 1e-8);
            assert!((schedule.learning_rate(Progress { steps, minutes: 61.0 }) - 1e-4).abs() < 1e-9);
            assert!(schedule.is_over(Progress { steps, minutes: 60.0 }));
        }
        assert!((schedule.learning_rate(Progress { steps: 4, minutes: 30.0 }) - 0.275e-3).abs() < 1e-8);
    }
}
