//! Live sound: a microphone, or a file played as one, → mono samples as they are heard.
//!
//! The system's callback writes into a lock-free ring; a thread of ours reads it, resamples and hands on through a channel.
//! Both are bounded. Who does not keep up finds the channel full, then the ring, and then the oldest samples are dropped
//! and counted.

mod microphone;
mod player;
mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use self::microphone::Microphone;
pub use self::microphone::{Device, Wanted, devices};
pub use self::player::Speed;
use self::ring::Reader;
use super::{AudioStream, Resampler};
use crate::{Error, Result};

/// The length of what devices are asked to hand over at once: the first part of the delay.
pub const BLOCK_S: f64 = 0.02;
/// Sound that may wait in the ring.
const RING_S: f64 = 2.0;
/// Sound that is handed on at once, at most.
const PIECE_S: f64 = 0.1;
/// Pieces that may wait in the channel.
const CHANNEL_PIECES: usize = 4;
/// How often the ring is looked at.
const POLL: Duration = Duration::from_millis(4);
/// A microphone that says nothing for so long is gone.
const SILENT: Duration = Duration::from_secs(3);
/// Waiting time before a lost microphone is tried again; doubled each time, up to the longest.
const BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(4);

/// What comes from live sound.
#[derive(Debug)]
pub enum Captured {
    /// Sound.
    Sound(Sound),
    /// The microphone is gone. It is tried again until it is back.
    Lost {
        /// What is known about it.
        problem: String,
    },
    /// A microphone is there again.
    Resumed {
        /// Its name.
        device: String,
    },
    /// The file breaks off; nothing follows.
    Failed(Error),
}

/// A piece of live sound.
#[derive(Debug)]
pub struct Sound {
    /// Mono, in [−1, 1], at the rate asked for.
    pub samples: Vec<f32>,
    /// When the last of them was heard.
    pub heard_at: Instant,
    /// How much was dropped before them, because nobody listened in time, in seconds.
    pub dropped_s: f64,
}

/// Live sound that is being heard. Ends when it is dropped.
pub struct Capture {
    receiver: Receiver<Captured>,
    stop: Arc<AtomicBool>,
    feeder: Option<JoinHandle<()>>,
    name: String,
    description: String,
    speed: Speed,
}

/// What was opened: its name, and how it is recorded.
struct Opened {
    name: String,
    details: String,
}

impl Capture {
    /// Listens to a microphone; samples come at `rate_hz`.
    ///
    /// # Errors
    /// [`Error::Device`] when there is none, or not the wanted one, or it cannot be used; [`Error::Setting`] for a
    /// `rate_hz` that cannot be made.
    pub fn microphone(wanted: Wanted, rate_hz: u32) -> Result<Self> {
        let speed = Speed::Times(1.0);
        let microphone = move |feeder: &mut Feeder, opened: &dyn Fn(Result<Opened>)| match Live::open(&wanted, rate_hz)
        {
            Err(error) => opened(Err(error)),
            Ok(live) => {
                opened(Ok(live.opened()));
                feeder.listen(live, &wanted, rate_hz);
            }
        };
        Self::start(speed, microphone)
    }

    /// Plays a sound file as if it were heard; samples come at `rate_hz`.
    ///
    /// # Errors
    /// As [`AudioStream::open`], and [`Error::Setting`] for a speed that is none.
    pub fn file(path: &std::path::Path, speed: Speed, rate_hz: u32) -> Result<Self> {
        if let Speed::Times(times) = speed
            && !(0.01..=1e6).contains(&times)
        {
            return Err(Error::setting("speed", format!("{times}; take something from 0.01 to 1000000")));
        }
        let sound = AudioStream::open(path, rate_hz)?;
        let details = format!("played {speed}");
        let description = Opened { name: path.display().to_string(), details };
        let play = move |feeder: &mut Feeder, opened: &dyn Fn(Result<Opened>)| {
            let (writer, ring) = ring::ring(rate_hz, RING_S);
            match player::play(sound, rate_hz, speed, writer, Arc::clone(&feeder.stop)) {
                Err(error) => opened(Err(error)),
                Ok(player) => {
                    opened(Ok(description));
                    feeder.follow(player, ring, rate_hz);
                }
            }
        };
        Self::start(speed, play)
    }

    /// Starts the thread that does `work`, and waits until it has opened what it hears.
    fn start(speed: Speed, work: impl FnOnce(&mut Feeder, &dyn Fn(Result<Opened>)) + Send + 'static) -> Result<Self> {
        let (sender, receiver) = bounded(CHANNEL_PIECES);
        let (opened, opening) = bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let mut feeder = Feeder { sender, stop: Arc::clone(&stop) };
        let spawned = thread::Builder::new().name("capture".to_owned()).spawn(move || {
            work(&mut feeder, &|result| {
                let _ = opened.send(result);
            });
        });
        let feeder = Some(spawned.map_err(|error| Error::setting("threads", error.to_string()))?);
        let ended = || Err(Error::device("microphone", "the sound system broke down; try again"));
        let Opened { name, details } = opening.recv().unwrap_or_else(|_| ended())?;
        let description = format!("{name}, {details}");
        Ok(Self { receiver, stop, feeder, name, description, speed })
    }

    /// What is heard: a microphone's name, or a file's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is heard and how it is recorded.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// How long `sound_s` seconds of this sound take.
    pub fn duration(&self, sound_s: f64) -> Duration {
        self.speed.duration(sound_s)
    }

    /// The next that comes, waiting for it as long as `timeout`; `Ok(None)` if nothing came, `Err` at the end.
    #[expect(clippy::result_unit_err, reason = "the end is no error, and there is nothing to say about it")]
    pub fn next(&self, timeout: Duration) -> Result<Option<Captured>, ()> {
        match self.receiver.recv_timeout(timeout) {
            Ok(captured) => Ok(Some(captured)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    /// Hears no more. What was heard still comes, then the end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop();
        while self.receiver.recv().is_ok() {} // so that the thread finds room and ends
        if let Some(feeder) = self.feeder.take() {
            let _ = feeder.join();
        }
    }
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Times(1.0) => write!(f, "in real time"),
            Self::Times(times) => write!(f, "{times} times as fast"),
            Self::Unpaced => write!(f, "as fast as it goes"),
        }
    }
}

/// The thread between the ring and the channel.
struct Feeder {
    sender: Sender<Captured>,
    stop: Arc<AtomicBool>,
}

/// A ring and what makes samples of the wanted rate of it.
struct Source {
    ring: Reader,
    resampler: Resampler,
    rate_hz: u32,
    raw: Vec<f32>,
}

impl Source {
    fn new(ring: Reader, rate_hz: u32, wanted_hz: u32) -> Result<Self> {
        Ok(Self { ring, resampler: Resampler::new(rate_hz, wanted_hz)?, rate_hz, raw: Vec::new() })
    }

    /// What has come since the last time, if anything has.
    fn read(&mut self) -> Option<Sound> {
        self.raw.clear();
        let heard_at = self.ring.read(&mut self.raw, (PIECE_S * f64::from(self.rate_hz)) as usize)?;
        let dropped_s = self.ring.take_dropped() as f64 / f64::from(self.rate_hz);
        let mut samples = Vec::new();
        self.resampler.push(&self.raw, &mut samples);
        Some(Sound { samples, heard_at, dropped_s })
    }

    /// What the resampler still holds.
    fn finish(&mut self) -> Sound {
        let mut samples = Vec::new();
        self.resampler.finish(&mut samples);
        Sound { samples, heard_at: Instant::now(), dropped_s: 0.0 }
    }
}

/// An open microphone on its way to samples.
struct Live {
    microphone: Microphone,
    source: Source,
}

impl Live {
    fn open(wanted: &Wanted, rate_hz: u32) -> Result<Self> {
        let (microphone, ring) = Microphone::open(wanted)?;
        let source = Source::new(ring, microphone.rate_hz, rate_hz)?;
        Ok(Self { microphone, source })
    }

    fn opened(&self) -> Opened {
        let Microphone { name, rate_hz, channels, .. } = &self.microphone;
        let details = format!("{rate_hz} Hz, {channels} channel{}", if *channels == 1 { "" } else { "s" });
        Opened { name: name.clone(), details }
    }
}

impl Feeder {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Hands on all that there is while there is room. Tells whether there was anything.
    fn forward(&self, source: &mut Source) -> bool {
        let mut any = false;
        while !self.sender.is_full()
            && let Some(sound) = source.read()
        {
            any = true;
            self.send(Captured::Sound(sound));
        }
        any
    }

    /// Waits for room; nobody listens any more only when the capture is being dropped.
    fn send(&self, captured: Captured) {
        let _ = self.sender.send(captured);
    }

    /// Hands on the rest.
    fn drain(&self, source: &mut Source) {
        while let Some(sound) = source.read() {
            self.send(Captured::Sound(sound));
        }
        self.send(Captured::Sound(source.finish()));
    }

    /// Hands on what the player writes until it ends.
    fn follow(&self, player: JoinHandle<Result<()>>, ring: Reader, rate_hz: u32) {
        let Ok(mut source) = Source::new(ring, rate_hz, rate_hz) else { return };
        while !player.is_finished() {
            if !self.forward(&mut source) {
                thread::sleep(POLL);
            }
        }
        self.drain(&mut source);
        if let Ok(Err(error)) = player.join() {
            self.send(Captured::Failed(error));
        }
    }

    /// Hands on what the microphone hears until it is asked to stop; when it is lost, waits for it to come back.
    fn listen(&self, mut live: Live, wanted: &Wanted, rate_hz: u32) {
        loop {
            let problem = self.hear(&mut live);
            let Live { microphone, mut source } = live;
            microphone.close();
            self.drain(&mut source);
            let Some(problem) = problem else { return };
            self.send(Captured::Lost { problem });
            let Some(found) = self.reopen(wanted, rate_hz) else { return };
            live = found;
            self.send(Captured::Resumed { device: live.microphone.name.clone() });
        }
    }

    /// Hands on what is heard until it is asked to stop, or says why nothing more comes.
    fn hear(&self, live: &mut Live) -> Option<String> {
        let mut last = Instant::now();
        while !self.is_stopped() {
            if self.forward(&mut live.source) || self.sender.is_full() {
                last = Instant::now();
            }
            if let Some(problem) = live.microphone.problem() {
                return Some(problem);
            }
            if last.elapsed() > SILENT {
                return Some(format!("no sound for {} s", SILENT.as_secs()));
            }
            thread::sleep(POLL);
        }
        None
    }

    /// Tries until there is a microphone again; nothing if it is asked to stop before.
    fn reopen(&self, wanted: &Wanted, rate_hz: u32) -> Option<Live> {
        let mut backoff = BACKOFF;
        loop {
            let until = Instant::now() + backoff;
            backoff = (2 * backoff).min(LONGEST_BACKOFF);
            while Instant::now() < until {
                if self.is_stopped() {
                    return None;
                }
                thread::sleep(POLL);
            }
            if let Ok(live) = Live::open(wanted, rate_hz) {
                return Some(live);
            }
        }
    }
}
