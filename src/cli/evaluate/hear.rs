//! Many utterances at once through the streaming recogniser.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use dfcnn::Result;
use dfcnn::dataset::manifest::Utterance;
use dfcnn::dataset::sound::SoundReader;
use dfcnn::evaluate::error_rate::Score;
use dfcnn::evaluate::results::Heard;
use dfcnn::recognizer::{Acoustics, Engine, Options, Recognizer};

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

/// Gives all items to the workers, each at work on one at a time, until `stop` is set or `go_on`, which is shown every
/// outcome as it comes, says no. The outcomes are in the items' order; those that were not come to are `None`.
pub fn all<I: Sync, T: Send>(
    items: &[I],
    workers: Vec<impl FnMut(&I) -> Result<T> + Send>,
    stop: &AtomicBool,
    mut go_on: impl FnMut(&Result<T>) -> bool,
) -> Vec<Option<Result<T>>> {
    let (next, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut outcomes: Vec<Option<Result<T>>> = items.iter().map(|_| None).collect();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for mut work in workers {
            let (sender, next, ended) = (sender.clone(), &next, &ended);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) && !ended.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    if sender.send((index, work(item))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (index, outcome) in receiver {
            if !go_on(&outcome) {
                ended.store(true, Ordering::Relaxed);
            }
            outcomes[index] = Some(outcome);
        }
    });
    outcomes
}

/// A worker that gives the text that it hears, and how many seconds of sound it was in.
pub fn text(engine: &Engine, options: &Options) -> Result<impl FnMut(&Task) -> Result<(String, f64)> + Send> {
    let mut recognizer = Recognizer::with_engine(engine, options)?;
    let clock = engine.clock();
    let mut sound = SoundReader::new(clock);
    Ok(move |task: &Task| {
        recognizer.reset();
        let mut texts = Vec::new();
        let samples = sound.read(&task.utterance, |piece| {
            let finals = recognizer.push(piece)?.into_iter().filter(|event| event.is_final());
            texts.extend(finals.map(|event| event.segment().text.clone()));
            Ok(())
        })?;
        texts.extend(recognizer.finish()?.iter().map(|event| event.segment().text.clone()));
        Ok((texts.join(" "), clock.seconds(samples)))
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
