//! Utterances through the streaming recogniser.

use dfcnn::Result;
use dfcnn::dataset::manifest::Utterance;
use dfcnn::dataset::sound::SoundReader;
use dfcnn::evaluate::error_rate::Score;
use dfcnn::evaluate::results::Heard;
use dfcnn::recognizer::{Acoustics, Engine, Options, Recognizer};
use dfcnn::transcript::{Event, Word};

/// An utterance to be heard.
pub struct Task {
    pub set: String,
    pub utterance: Utterance,
    pub reference: String,
}

impl Task {
    /// With what was heard.
    pub fn heard(&self, hypothesis: String) -> Heard {
        let Self { set, utterance, reference } = self;
        Heard {
            id: utterance.id.clone(),
            set: set.clone(),
            source: utterance.source.clone(),
            speaker: utterance.speaker.clone(),
            score: Score::of(reference, &hypothesis),
            reference: reference.clone(),
            hypothesis,
        }
    }
}

/// A worker that gives the words that it hears, and how many seconds of sound they were in.
pub fn words(engine: &Engine, options: &Options) -> Result<impl FnMut(&Task) -> Result<(Vec<Word>, f64)> + Send> {
    let mut recognizer = Recognizer::with_engine(engine, options)?;
    let clock = engine.clock();
    let mut sound = SoundReader::new(clock);
    Ok(move |task: &Task| {
        recognizer.reset();
        let mut words = Vec::new();
        let mut hear = |events: Vec<Event>| {
            let finals = events.into_iter().filter_map(|event| match event {
                Event::Final(segment) => Some(segment.words),
                Event::Partial(_) => None,
            });
            words.extend(finals.flatten());
        };
        let samples = sound.read(&task.utterance, |piece| {
            hear(recognizer.push(piece)?);
            Ok(())
        })?;
        hear(recognizer.finish()?);
        Ok((words, clock.seconds(samples)))
    })
}

/// A worker that gives the network's log-probabilities, `[steps, classes]`.
pub fn log_probs(engine: &Engine) -> Result<impl FnMut(&Task) -> Result<Vec<f32>> + Send> {
    let mut acoustics = Acoustics::new(engine, 1)?;
    let mut sound = SoundReader::new(engine.clock());
    Ok(move |task: &Task| {
        acoustics.reset();
        let mut log_probs = Vec::new();
        sound.read(&task.utterance, |piece| acoustics.push(piece, &mut log_probs))?;
        acoustics.finish(&mut log_probs)?;
        Ok(log_probs)
    })
}
