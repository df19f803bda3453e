//! **The corridor**: samples → spectrogram → network → CTC → words, while the sound comes in.
//!
//! ```
//! use dfcnn::{audio::AudioStream, model::Model, recognizer::{Options, Recognizer}};
//!
//! # fn main() -> dfcnn::Result<()> {
//! let mut recognizer = Recognizer::new(&Model::embedded()?, &Options::default())?;
//! let mut sound = AudioStream::open("audio/harbour.wav".as_ref(), recognizer.sample_rate_hz())?;
//! let mut samples = Vec::new();
//! while sound.read(&mut samples)? > 0 {
//!     for event in recognizer.push(&samples)? {
//!         println!("{}…", event.segment().text);
//!     }
//!     samples.clear();
//! }
//! for event in recognizer.finish()? {
//!     println!("{}", event.segment().text);
//! }
//! # Ok(())
//! # }
//! ```

mod acoustics;

use std::sync::Arc;

pub use acoustics::Acoustics;

use crate::Result;
use crate::ctc::{Decoder, Decoding, Emission, beam, words};
use crate::inference::native::NativeNetwork;
use crate::model::{Model, Recipe};
use crate::spectrogram::Normalization;
use crate::time::FrameClock;
use crate::tokens::Tokens;
use crate::transcript::{Alternative, Event, Segment};

/// Samples that walk through all stages together, so that memory does not grow with the length of a push.
const BLOCK_SAMPLES: usize = 16_384;
/// A segment that began this long ago becomes final with the next word, so that a stream without end needs no memory
/// without end.
const LONG_SEGMENT_S: f64 = 30.0;
/// So does one with this many tokens at the next token, for what goes on so long without a word's end is no speech.
const MAX_SEGMENT_TOKENS: usize = 2_000;

/// How to recognise.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that compute, at least one. One is best for many streams at once or for small pushes.
    pub threads: usize,
    /// How the network's output becomes text.
    pub decoding: Decoding,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: 1, decoding: Decoding::Greedy }
    }
}

/// A model made ready to run on this machine, once. All recognisers that are made from it share its weights.
pub struct Engine {
    recipe: Recipe,
    normalization: Normalization,
    tokens: Tokens,
    network: Arc<NativeNetwork>,
}

impl Engine {
    /// Prepares a model.
    ///
    /// # Errors
    /// When the model's parts do not fit each other.
    pub fn new(model: &Model) -> Result<Self> {
        Ok(Self {
            recipe: model.recipe(),
            normalization: model.normalization.clone(),
            tokens: model.tokens.clone(),
            network: Arc::new(NativeNetwork::new(&model.architecture, &model.weights)?),
        })
    }

    /// The sample rate of the sound that the model hears, and how it is cut into frames.
    pub fn clock(&self) -> FrameClock {
        self.recipe.spectrogram.clock()
    }

    /// The model's vocabulary.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }
}

/// One stream of sound on its way to text.
///
/// How the samples are split over calls of [`push`](Self::push) changes nothing but when partial results come.
pub struct Recognizer {
    acoustics: Acoustics,
    decoder: Decoder,
    reading: Reading,
    description: String,
    /// `[m, classes]`: what one stage hands to the next.
    log_probs: Vec<f32>,
}

impl Recognizer {
    /// A recogniser at the start of a stream, with weights of its own.
    ///
    /// # Errors
    /// When the model's parts do not fit each other, or an option cannot be carried out.
    pub fn new(model: &Model, options: &Options) -> Result<Self> {
        Self::with_engine(&Engine::new(model)?, options)
    }

    /// A recogniser at the start of a stream, one of many that share the engine's weights.
    ///
    /// # Errors
    /// When an option cannot be carried out.
    pub fn with_engine(engine: &Engine, options: &Options) -> Result<Self> {
        let Engine { recipe, tokens, network, .. } = engine;
        let clock = recipe.spectrogram.clock();
        let description = format!(
            "model {}, native engine ({}, {} thread{}), delay {:.0} ms + window {:.0} ms, {}",
            recipe.name,
            network.instruction_set(),
            options.threads,
            if options.threads == 1 { "" } else { "s" },
            clock.hops_ms(recipe.architecture.lookahead()),
            clock.window_ms(),
            options.decoding,
        );
        Ok(Self {
            acoustics: Acoustics::new(engine, options.threads)?,
            decoder: Decoder::new(tokens, &options.decoding)?,
            reading: Reading::new(tokens.clone(), clock, recipe.architecture.time_stride()),
            description,
            log_probs: Vec::new(),
        })
    }

    /// Samples per second that [`push`](Self::push) expects.
    pub fn sample_rate_hz(&self) -> u32 {
        self.reading.clock.sample_rate_hz
    }

    /// What runs: the model, the engine with its instruction set and threads, and the delay from sound to text.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Takes the next `samples`, mono in [−1, 1], and tells what they change: finals first, then at most one partial.
    ///
    /// # Errors
    /// When the engine fails; the stream is then lost, [`reset`](Self::reset) starts a new one.
    pub fn push(&mut self, samples: &[f32]) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for block in samples.chunks(BLOCK_SAMPLES) {
            self.log_probs.clear();
            self.acoustics.push(block, &mut self.log_probs)?;
            let mut emissions = Vec::new();
            self.decoder.push(&self.log_probs, &mut emissions);
            self.reading.push(emissions, &mut events);
        }
        events.extend(self.reading.partial(self.decoder.open()));
        Ok(events)
    }

    /// Ends the stream and tells what was said since the last final. The next [`push`](Self::push) starts a new stream.
    ///
    /// # Errors
    /// When the engine fails; [`reset`](Self::reset) starts a new stream.
    pub fn finish(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        self.log_probs.clear();
        self.acoustics.finish(&mut self.log_probs)?;
        let mut emissions = Vec::new();
        self.decoder.push(&self.log_probs, &mut emissions);
        self.decoder.finish(&mut emissions);
        self.reading.push(emissions, &mut events);
        self.reading.alternatives = self.reading.alternatives(self.decoder.readings());
        self.reading.finish(&mut events);
        Ok(events)
    }

    /// Forgets the stream; the next [`push`](Self::push) starts a new one.
    pub fn reset(&mut self) {
        self.acoustics.reset();
        self.decoder.reset();
        self.reading.reset();
    }
}

/// What has been heard since the last final.
struct Reading {
    tokens: Tokens,
    clock: FrameClock,
    frames_per_step: usize,
    emissions: Vec<Emission>,
    alternatives: Vec<Alternative>,
    /// What the last partial said.
    told: String,
}

impl Reading {
    fn new(tokens: Tokens, clock: FrameClock, frames_per_step: usize) -> Self {
        let (emissions, alternatives, told) = Default::default();
        Self { tokens, clock, frames_per_step, emissions, alternatives, told }
    }

    /// Takes tokens one by one, so that it does not matter how many come at a time.
    fn push(&mut self, emissions: Vec<Emission>, events: &mut Vec<Event>) {
        for emission in emissions {
            if self.ends_before(&emission) {
                self.finish(events);
            }
            self.emissions.push(emission);
        }
    }

    /// Whether the segment is long enough to end before `emission`.
    fn ends_before(&self, emission: &Emission) -> bool {
        let Some(first) = self.emissions.first() else { return false };
        let begins_word = self.tokens.piece(emission.token).is_some_and(|piece| piece.starts_with(' '));
        let lasts_s = self.start_s(emission.start_step) - self.start_s(first.start_step);
        begins_word && lasts_s >= LONG_SEGMENT_S || self.emissions.len() >= MAX_SEGMENT_TOKENS
    }

    /// A partial, if with the `open` tokens it says something else than the last one.
    fn partial(&mut self, open: Vec<Emission>) -> Option<Event> {
        let settled = self.emissions.len();
        self.emissions.extend(open);
        let segment = self.segment();
        self.emissions.truncate(settled);
        let segment = segment.filter(|segment| segment.text != self.told)?;
        self.told.clone_from(&segment.text);
        Some(Event::Partial(segment))
    }

    /// Adds the final, if anything was said, and begins the next segment.
    fn finish(&mut self, events: &mut Vec<Event>) {
        let alternatives = std::mem::take(&mut self.alternatives);
        events.extend(self.segment().map(|segment| Event::Final(Segment { alternatives, ..segment })));
        self.reset();
    }

    fn reset(&mut self) {
        self.emissions.clear();
        self.alternatives.clear();
        self.told.clear();
    }

    /// The whole segment, which now ends with the first of `readings`, in all of them.
    fn alternatives(&self, readings: &[beam::Reading]) -> Vec<Alternative> {
        let last = readings.first().map_or(0, |best| best.emissions.len());
        // A segment that began after the settled tokens has no other reading of its own.
        let Some(settled) = self.emissions.len().checked_sub(last) else { return Vec::new() };
        let alternative = |reading: &beam::Reading| {
            let heard = self.emissions[..settled].iter().chain(&reading.emissions);
            let text = self.tokens.text(&heard.map(|emission| emission.token).collect::<Vec<_>>());
            Alternative { text, acoustic: reading.acoustic, language: reading.language, score: reading.score }
        };
        readings.iter().map(alternative).collect()
    }

    fn segment(&self) -> Option<Segment> {
        Segment::new(words(&self.emissions, &self.tokens, |step| self.start_s(step)))
    }

    /// When output step `step` starts, in seconds.
    fn start_s(&self, step: u64) -> f64 {
        self.clock.frame_start_s(step * self.frames_per_step as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    /// Sound with changing loudness and pitch, in which the shipped network hears letters.
    fn babble(seconds: f64) -> Vec<f32> {
        let sample = |index: usize| {
            let t = index as f64 / 16_000.0;
            let voice: f64 = (1..20).map(|k| (t * 700.0 * f64::from(k)).sin() / f64::from(k)).sum();
            let mouth = (t * 1300.0 * (1.0 + 0.5 * (t * 7.0).sin())).sin();
            (0.15 * voice * mouth * (t * 11.0).sin().max(0.0)) as f32
        };
        (0..(seconds * 16_000.0) as usize).map(sample).collect()
    }

    /// All events of `samples` pushed in pieces of these lengths, again and again.
    fn hear(recognizer: &mut Recognizer, samples: &[f32], lengths: &[usize]) -> Vec<Event> {
        let mut events = Vec::new();
        let mut rest = samples;
        for length in lengths.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*length));
            events.extend(recognizer.push(now).unwrap());
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        events.extend(recognizer.finish().unwrap());
        events
    }

    fn finals(events: &[Event]) -> Vec<(String, f64, f64)> {
        let finals = events.iter().filter(|event| event.is_final()).map(Event::segment);
        finals.map(|segment| (segment.text.clone(), segment.start_s, segment.end_s)).collect()
    }

    fn recognizer() -> Recognizer {
        Recognizer::new(&Model::embedded().unwrap(), &Options::default()).unwrap()
    }

    #[test]
    fn splitting_the_sound_changes_nothing() {
        let samples = babble(4.0);
        let mut recognizer = recognizer();
        let whole = hear(&mut recognizer, &samples, &[samples.len()]);
        assert!(finals(&whole)[0].0.len() > 5, "{whole:?}");
        let config = ProptestConfig { cases: 8, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() };
        let used = RefCell::new(&mut recognizer); // the same one again and again: finish leaves nothing behind
        proptest!(config, |(lengths in prop::collection::vec(1..20_000_usize, 1..9))| {
            let split = hear(&mut used.borrow_mut(), &samples, &lengths);
            prop_assert_eq!(finals(&split), finals(&whole));
        });
        recognizer.push(&samples[..30_000]).unwrap();
        recognizer.reset();
        assert_eq!(finals(&hear(&mut recognizer, &samples, &[100, 30_000])), finals(&whole));
    }

    #[test]
    fn streams_that_share_an_engine_do_not_mix() {
        let engine = Engine::new(&Model::embedded().unwrap()).unwrap();
        let recognizer = || Recognizer::with_engine(&engine, &Options::default()).unwrap();
        let samples = babble(2.0);
        let alone = hear(&mut recognizer(), &samples, &[8_000]);
        assert!(!alone.is_empty());
        let (mut one, mut other) = (recognizer(), recognizer());
        let mut events = Vec::new();
        for piece in samples.chunks(8_000) {
            events.extend(one.push(piece).unwrap());
            other.push(&piece[piece.len() / 3..]).unwrap();
        }
        events.extend(one.finish().unwrap());
        assert_eq!(events, alone);
    }

    #[test]
    fn partials_lead_to_the_final() {
        let events = hear(&mut recognizer(), &babble(4.0), &[1_600]);
        let (last, partials) = events.split_last().unwrap();
        assert!(last.is_final() && partials.len() > 1 && partials.iter().all(|event| !event.is_final()), "{events:?}");
        assert!(partials.windows(2).all(|pair| pair[0].segment().text != pair[1].segment().text), "{events:?}");
    }

    #[test]
    fn nothing_said_is_no_event() {
        let mut recognizer = recognizer();
        for samples in [&[][..], &[0.5], &[0.0; 32_000]] {
            assert_eq!(hear(&mut recognizer, samples, &[5_000]), []);
        }
    }

    /// Tokens that come without end, one every `steps_apart` steps of 40 ms.
    fn endless(classes: &[u32], count: usize, steps_apart: u64) -> (Tokens, Vec<Event>) {
        let tokens = Tokens::parse("tokens.txt", "<b>\n<space>\na\nb\n").unwrap();
        let clock = FrameClock { sample_rate_hz: 16_000, window_samples: 400, hop_samples: 160 };
        let mut reading = Reading::new(tokens.clone(), clock, 4);
        let mut events = Vec::new();
        for (index, &token) in classes.iter().cycle().take(count).enumerate() {
            let start_step = index as u64 * steps_apart;
            reading.push(vec![Emission { token, start_step, end_step: start_step + 1, log_prob: 0.0 }], &mut events);
            assert!(reading.emissions.len() <= MAX_SEGMENT_TOKENS);
        }
        reading.finish(&mut events);
        (tokens, events)
    }

    #[test]
    fn a_long_segment_ends_at_the_end_of_a_word() {
        let (tokens, events) = endless(&[2, 3, 1], 3_000, 5);
        assert!(events.len() > 15 && events.iter().all(Event::is_final));
        for event in &events {
            let segment = event.segment();
            assert!(segment.end_s - segment.start_s < LONG_SEGMENT_S + 1.0, "{segment:?}");
            assert!(segment.words.iter().all(|word| word.text == "ab"), "{segment:?}");
        }
        let texts: Vec<&str> = events.iter().map(|event| event.segment().text.as_str()).collect();
        assert_eq!(texts.join(" "), tokens.text(&[2, 3, 1].repeat(1_000)));
    }

    #[test]
    fn a_word_without_end_ends() {
        let (_, events) = endless(&[2, 3], 3 * MAX_SEGMENT_TOKENS, 1);
        assert_eq!(events.len(), 3);
    }
}
