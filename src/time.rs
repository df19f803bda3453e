//! The one place where samples, frames and seconds meet.

use serde::{Deserialize, Serialize};

/// How a stream of samples is cut into spectrogram frames: frame `t` covers the samples
/// `[t · hop_samples, t · hop_samples + window_samples)`, without padding at the edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameClock {
    /// Samples per second.
    pub sample_rate_hz: u32,
    /// Samples that one frame looks at.
    pub window_samples: usize,
    /// Samples from the start of one frame to the start of the next.
    pub hop_samples: usize,
}

impl FrameClock {
    /// The number of whole frames in `samples` samples.
    pub fn frames(&self, samples: u64) -> u64 {
        match samples.checked_sub(self.window_samples as u64) {
            Some(rest) => rest / self.hop_samples as u64 + 1,
            None => 0,
        }
    }

    /// When frame `frame` starts, in seconds.
    pub fn frame_start_s(&self, frame: u64) -> f64 {
        self.seconds(frame * self.hop_samples as u64)
    }

    /// How long `samples` samples last, in seconds.
    pub fn seconds(&self, samples: u64) -> f64 {
        samples as f64 / f64::from(self.sample_rate_hz)
    }

    /// The samples in `seconds`, rounded to the nearest.
    pub fn samples(&self, seconds: f64) -> u64 {
        (seconds * f64::from(self.sample_rate_hz)).round() as u64
    }

    /// How long `frames` hops last, in milliseconds.
    pub fn hops_ms(&self, frames: usize) -> f64 {
        self.ms(frames * self.hop_samples)
    }

    /// How long one window lasts, in milliseconds.
    pub fn window_ms(&self) -> f64 {
        self.ms(self.window_samples)
    }

    /// Multiplied before the division, so that whole milliseconds come out whole.
    fn ms(&self, samples: usize) -> f64 {
        1e3 * samples as f64 / f64::from(self.sample_rate_hz)
    }

    /// Frames per second of sound.
    pub fn frame_rate_hz(&self) -> f64 {
        f64::from(self.sample_rate_hz) / self.hop_samples as f64
    }
}

/// When the steps of a network's output are, which come every few frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepClock {
    /// From one step to the next, in seconds.
    pub step_s: f64,
    /// How much later than it is said a token tends to come, in seconds.
    pub delay_s: f64,
}

impl StepClock {
    /// When what step `step` tells starts to be said, in seconds; never before the start of the stream.
    pub fn start_s(&self, step: u64) -> f64 {
        (step as f64 * self.step_s - self.delay_s).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_at_the_edges_of_a_window() {
        let clock = FrameClock { sample_rate_hz: 16_000, window_samples: 400, hop_samples: 160 };
        for (samples, frames) in [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98)] {
            assert_eq!(clock.frames(samples), frames, "{samples} samples");
        }
        assert_eq!(clock.frame_start_s(100), 1.0);
        assert_eq!(clock.samples(0.025), 400);
        assert_eq!((clock.hops_ms(59), clock.hops_ms(403), clock.window_ms()), (590.0, 4030.0, 25.0));
    }

    #[test]
    fn steps_tell_what_was_said_before() {
        let clock = StepClock { step_s: 0.5, delay_s: 0.75 };
        assert_eq!([0, 1, 2, 4].map(|step| clock.start_s(step)), [0.0, 0.0, 0.25, 1.25]);
    }
}
