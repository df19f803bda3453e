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
mod reading;

use std::sync::Arc;

pub use acoustics::Acoustics;

use crate::Result;
use crate::ctc::{Decoder, Decoding, Emission, words};
use crate::endpoint::{Endpoint, EndpointRules};
use crate::error::Error;
use crate::inference::{Backend, Network, Prepared, prepare};
use crate::model::{Model, Recipe};
use crate::spectrogram::Normalization;
use crate::time::{FrameClock, StepClock};
use crate::tokens::Tokens;
use crate::transcript::{Event, Word};
use reading::{BestPath, Reading};

/// Samples that walk through all stages together, so that memory does not grow with the length of a push.
const BLOCK_SAMPLES: usize = 262_144;
/// Of the words less sure than this, hardly one in ten is right (`dfcnn evaluate --calibration`).
const MIN_CONFIDENCE: f32 = 0.6;

/// How to recognise.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that compute, at least one. One is best for many streams at once or for small pushes.
    pub threads: usize,
    /// How the network's output becomes text; as suits the model if not said ([`Model::decoding`]).
    pub decoding: Option<Decoding>,
    /// When a segment ends.
    pub endpoint: EndpointRules,
    /// A segment without a word at least this sure, 0 … 1, is taken for noise and not told. Short words of short segments
    /// have to be surer: to the power √(letters of the word · letters of the segment) ∕ 6, where that is below 1.
    pub min_confidence: f32,
    /// Tell partials also before a word is complete and that sure, as soon as there is a letter, even if it is not clear which:
    /// sooner by a word, but such a partial, of which nothing is stable, may turn out to be noise and have no final.
    pub tentative: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 1,
            decoding: None,
            endpoint: EndpointRules::default(),
            min_confidence: MIN_CONFIDENCE,
            tentative: false,
        }
    }
}

/// A model made ready to run on this machine, once. All recognisers that are made from it share its weights.
pub struct Engine {
    recipe: Recipe,
    normalization: Normalization,
    tokens: Tokens,
    decoding: Decoding,
    network: Arc<dyn Network>,
    reason: Option<String>,
}

impl Engine {
    /// Prepares a model for the native engine.
    ///
    /// # Errors
    /// When the model's parts do not fit each other.
    pub fn new(model: &Model) -> Result<Self> {
        Self::with_backend(model, &Backend::native())
    }

    /// Prepares a model for the engine and the device that `backend` says.
    ///
    /// # Errors
    /// When the model's parts do not fit each other, or the choice cannot be carried out.
    pub fn with_backend(model: &Model, backend: &Backend) -> Result<Self> {
        let Prepared { network, reason } = prepare(&model.architecture, &model.weights, backend)?;
        Ok(Self {
            recipe: model.recipe(),
            normalization: model.normalization.clone(),
            tokens: model.tokens.clone(),
            decoding: model.decoding(),
            network,
            reason,
        })
    }

    /// The sample rate of the sound that the model hears, and how it is cut into frames.
    pub fn clock(&self) -> FrameClock {
        self.recipe.spectrogram.clock()
    }

    /// Why an automatic choice did not take a GPU, where it looked for one.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The model's vocabulary.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The spectrogram's height.
    pub fn bins(&self) -> usize {
        self.recipe.spectrogram.bins()
    }

    /// How much sound after a frame the network waits for before it says something about it, in seconds.
    pub fn lookahead_s(&self) -> f64 {
        self.clock().frame_start_s(self.recipe.architecture.lookahead() as u64)
    }

    /// When the steps of the network's output are.
    pub fn steps(&self) -> StepClock {
        let step_s = self.clock().frame_start_s(self.recipe.architecture.time_stride() as u64);
        StepClock { step_s, delay_s: self.recipe.emission_delay_s }
    }

    /// The words that tokens make, with times in seconds.
    pub fn words(&self, emissions: &[Emission]) -> Vec<Word> {
        let steps = self.steps();
        words(emissions, &self.tokens, |step| steps.start_s(step))
    }
}

/// One stream of sound on its way to text.
///
/// How the samples are split over calls of [`push`](Self::push) changes nothing but when partial results come.
pub struct Recognizer {
    acoustics: Acoustics,
    best_path: BestPath,
    endpoint: Endpoint,
    decoder: Decoder,
    reading: Reading,
    sample_rate_hz: u32,
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
        if !(0.0..=1.0).contains(&options.min_confidence) {
            let problem = format!("{}; take something from 0 to 1", options.min_confidence);
            return Err(Error::setting("least confidence", problem));
        }
        let clock = recipe.spectrogram.clock();
        let decoding = options.decoding.as_ref().unwrap_or(&engine.decoding);
        // Short pushes may not be worth more than one.
        let threads = match options.threads {
            1 => "1 thread".into(),
            most => format!("up to {most} threads"),
        };
        let description = format!(
            "model {}, {} ({}, {threads}), delay {:.0} ms + window {:.0} ms, {}",
            recipe.name,
            network.engine(),
            network.device(),
            clock.hops_ms(recipe.architecture.lookahead()),
            clock.window_ms(),
            decoding,
        );
        Ok(Self {
            acoustics: Acoustics::new(engine, options.threads)?,
            best_path: BestPath::new(tokens),
            endpoint: Endpoint::new(&options.endpoint, engine.steps().step_s)?,
            decoder: Decoder::new(tokens, decoding)?,
            reading: Reading::new(tokens.clone(), engine.steps(), options.min_confidence, options.tentative),
            sample_rate_hz: clock.sample_rate_hz,
            description,
            log_probs: Vec::new(),
        })
    }

    /// Samples per second that [`push`](Self::push) expects.
    pub fn sample_rate_hz(&self) -> u32 {
        self.sample_rate_hz
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
            self.read(&mut events);
        }
        events.extend(self.reading.partial(&self.decoder));
        Ok(events)
    }

    /// `[n, bins]`: the spectrogram frames that the last [`push`](Self::push) of at most 16 seconds made, for those who want
    /// to see them.
    pub fn frames(&self) -> &[f32] {
        self.acoustics.frames()
    }

    /// `[m, classes]`: the log-probabilities that the last [`push`](Self::push) of at most 16 seconds made.
    pub fn log_probs(&self) -> &[f32] {
        &self.log_probs
    }

    /// Ends the stream and tells what was said since the last final. The next [`push`](Self::push) starts a new stream.
    ///
    /// # Errors
    /// When the engine fails; [`reset`](Self::reset) starts a new stream.
    pub fn finish(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        self.log_probs.clear();
        self.acoustics.finish(&mut self.log_probs)?;
        self.read(&mut events);
        events.extend(self.reading.end_segment(&mut self.decoder));
        self.decoder.reset();
        self.best_path.reset();
        self.endpoint.reset();
        Ok(events)
    }

    /// Decodes the new rows, segment by segment.
    fn read(&mut self, events: &mut Vec<Event>) {
        let classes = self.best_path.classes();
        let mut decoded = 0;
        for (index, row) in self.log_probs.chunks_exact(classes).enumerate() {
            if self.endpoint.push(self.best_path.push(row)) {
                let end = index * classes;
                self.reading.push(&mut self.decoder, &self.log_probs[decoded..end]);
                events.extend(self.reading.end_segment(&mut self.decoder));
                decoded = end;
            }
        }
        self.reading.push(&mut self.decoder, &self.log_probs[decoded..]);
    }

    /// Forgets the stream; the next [`push`](Self::push) starts a new one.
    pub fn reset(&mut self) {
        self.acoustics.reset();
        self.best_path.reset();
        self.endpoint.reset();
        self.decoder.reset();
        self.reading.reset();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    /// Sound with changing loudness and pitch, in which the network hears letters.
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

    /// An early network, which hears letters in what a better one would not take for speech.
    fn bootstrap() -> Model {
        Model::load(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bootstrap")).unwrap()
    }

    fn recognizer() -> Recognizer {
        Recognizer::new(&bootstrap(), &Options::default()).unwrap()
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
        let engine = Engine::new(&bootstrap()).unwrap();
        let options = Options { min_confidence: 0.0, ..Options::default() };
        let recognizer = || Recognizer::with_engine(&engine, &options).unwrap();
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
}
