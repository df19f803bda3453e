//! Where a segment of speech ends: the rules of Kaldi's online decoders, judged from the blanks of the best path.

use crate::error::{Error, Result};

/// A segment that is this many times too long ends within a word, if no word ends before.
const PATIENCE: f64 = 1.5;
/// The bounds of the settings; with longer segments, memory would not be bounded in any useful sense.
const LEAST_S: f64 = 0.1;
const MOST_S: f64 = 3600.0;

/// When a segment ends, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EndpointRules {
    /// Rule 1: after so much silence in which nothing was said, what the decoder took for a beginning is forgotten.
    pub nothing_said_s: f64,
    /// Rule 2: after speech, so much silence ends the segment.
    pub silence_s: f64,
    /// Rule 3: a segment that began so long ago ends with the present word; within a word when it has half of that on top.
    pub longest_s: f64,
}

impl Default for EndpointRules {
    fn default() -> Self {
        Self { nothing_said_s: 5.0, silence_s: 1.0, longest_s: 30.0 }
    }
}

impl EndpointRules {
    /// Checks that the times make sense.
    ///
    /// # Errors
    /// When one is not between 0.1 and 3,600 seconds.
    pub fn validate(&self) -> Result<()> {
        let settings = [
            ("silence before speech", self.nothing_said_s),
            ("silence after speech", self.silence_s),
            ("longest segment", self.longest_s),
        ];
        match settings.into_iter().find(|(_, seconds)| !(LEAST_S..=MOST_S).contains(seconds)) {
            None => Ok(()),
            Some((name, seconds)) => {
                Err(Error::setting(name, format!("{seconds} s; take something from {LEAST_S} to {MOST_S} s")))
            }
        }
    }
}

/// What the best path hears in one step of the network's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The blank.
    Silence,
    /// A space and nothing else: silence, and a word's end.
    Gap,
    /// The first step of a token that begins a word.
    WordStart,
    /// Any other token.
    Speech,
}

/// A stream of steps on its way to segments.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The rules in steps.
    nothing_said: u64,
    silence: u64,
    longest: u64,
    hard: u64,
    /// Silent steps since the last speech or end.
    silent_steps: u64,
    /// Steps since the segment's first speech.
    spoken_steps: Option<u64>,
}

impl Endpoint {
    /// At the start of a stream of steps of `step_s` seconds.
    ///
    /// # Errors
    /// As [`EndpointRules::validate`].
    pub fn new(rules: &EndpointRules, step_s: f64) -> Result<Self> {
        rules.validate()?;
        let steps = |seconds: f64| ((seconds / step_s).round() as u64).max(1);
        Ok(Self {
            nothing_said: steps(rules.nothing_said_s),
            silence: steps(rules.silence_s),
            longest: steps(rules.longest_s),
            hard: steps(rules.longest_s * PATIENCE),
            silent_steps: 0,
            spoken_steps: None,
        })
    }

    /// Takes the next step and tells whether a segment ends just before it.
    pub fn push(&mut self, step: Step) -> bool {
        let silent = matches!(step, Step::Silence | Step::Gap);
        let silence = self.silent_steps + u64::from(silent);
        let ends = match self.spoken_steps {
            None => silence >= self.nothing_said,
            Some(steps) => {
                let between_words = matches!(step, Step::Gap | Step::WordStart);
                silence >= self.silence || steps >= self.longest && between_words || steps >= self.hard
            }
        };
        if ends {
            self.reset();
        }
        if silent {
            self.silent_steps += 1;
        } else {
            self.silent_steps = 0;
            self.spoken_steps.get_or_insert(0);
        }
        self.spoken_steps = self.spoken_steps.map(|steps| steps + 1);
        ends
    }

    /// Forgets the stream; the next [`push`](Self::push) starts a new one.
    pub fn reset(&mut self) {
        self.silent_steps = 0;
        self.spoken_steps = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Before which steps segments end. `.` is silence, `_` a gap, `W` a word's start, `s` speech.
    fn ends(rules: [u64; 3], steps: &str) -> Vec<usize> {
        let [nothing_said_s, silence_s, longest_s] = rules.map(|steps| steps as f64);
        let mut endpoint = Endpoint::new(&EndpointRules { nothing_said_s, silence_s, longest_s }, 1.0).unwrap();
        let step = |letter| match letter {
            '.' => Step::Silence,
            '_' => Step::Gap,
            'W' => Step::WordStart,
            _ => Step::Speech,
        };
        steps.chars().map(step).enumerate().filter_map(|(index, step)| endpoint.push(step).then_some(index)).collect()
    }

    #[test]
    fn silence_before_speech() {
        assert_eq!(ends([4, 2, 99], ".........."), [3, 6, 9]);
        assert!(ends([4, 2, 99], "...s").is_empty());
    }

    #[test]
    fn silence_after_speech() {
        assert_eq!(ends([9, 3, 99], "s..s...s"), [6]);
        assert_eq!(ends([9, 3, 99], "ss_.._...s.___.."), [4, 12], "a space is no speech");
        assert_eq!(ends([4, 3, 99], "s......."), [3, 6], "then silence before speech counts, from the end on");
    }

    #[test]
    fn a_long_segment_ends_with_a_word() {
        assert_eq!(ends([9, 9, 4], "..ssssss_ss"), [8]);
        assert_eq!(ends([9, 9, 4], "ssssWsssWss"), [4, 8]);
        assert_eq!(ends([9, 9, 4], "sssWssWs"), [6]);
        assert_eq!(ends([9, 9, 4], "sssssssssssssssss"), [6, 12], "within a word, at last");
    }

    #[test]
    fn absurd_rules_are_refused() {
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            let usual = EndpointRules::default();
            for rules in [
                EndpointRules { nothing_said_s: seconds, ..usual },
                EndpointRules { silence_s: seconds, ..usual },
                EndpointRules { longest_s: seconds, ..usual },
            ] {
                assert!(Endpoint::new(&rules, 0.04).is_err(), "{rules:?}");
            }
        }
    }
}
