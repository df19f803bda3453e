//! Many utterances at once through the streaming recogniser.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use dfcnn::Result;
use dfcnn::dataset::sound::SoundReader;
use dfcnn::recognizer::{Engine, Options, Recognizer};
use dfcnn::time::FrameClock;

use super::Task;

/// The text that was heard, and how many seconds of sound it was in.
pub type Outcome = Result<(String, f64)>;

/// Hears all tasks, `jobs` at a time, until `stop` is set or `go_on`, which is shown every outcome as it comes, says no.
/// The outcomes are in the tasks' order; those that were not come to are `None`.
pub fn all(
    engine: &Engine,
    tasks: &[Task],
    jobs: usize,
    stop: &AtomicBool,
    mut go_on: impl FnMut(&Outcome) -> bool,
) -> Result<Vec<Option<Outcome>>> {
    let ears = (0..jobs.min(tasks.len())).map(|_| Ear::new(engine)).collect::<Result<Vec<_>>>()?;
    let (next, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut outcomes: Vec<Option<Outcome>> = tasks.iter().map(|_| None).collect();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for mut ear in ears {
            let (sender, next, ended) = (sender.clone(), &next, &ended);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) && !ended.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(task) = tasks.get(index) else { break };
                    if sender.send((index, ear.hear(task))).is_err() {
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
    Ok(outcomes)
}

/// A recogniser and what it listens to.
struct Ear {
    recognizer: Recognizer,
    sound: SoundReader,
    clock: FrameClock,
}

impl Ear {
    fn new(engine: &Engine) -> Result<Self> {
        let recognizer = Recognizer::with_engine(engine, &Options { threads: 1 })?;
        let clock = engine.clock();
        Ok(Self { recognizer, sound: SoundReader::new(clock), clock })
    }

    fn hear(&mut self, task: &Task) -> Outcome {
        let Self { recognizer, sound, clock } = self;
        recognizer.reset();
        let mut texts = Vec::new();
        let samples = sound.read(&task.utterance, |piece| {
            let finals = recognizer.push(piece)?.into_iter().filter(|event| event.is_final());
            texts.extend(finals.map(|event| event.segment().text.clone()));
            Ok(())
        })?;
        texts.extend(recognizer.finish()?.iter().map(|event| event.segment().text.clone()));
        Ok((texts.join(" "), clock.seconds(samples)))
    }
}
