//! A sound file played as if it were a microphone: the same ring, the same pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::BLOCK_S;
use super::ring::Writer;
use crate::audio::AudioStream;
use crate::{Error, Result};

/// How fast a file is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was recorded; who does not keep up misses some of it, as with a microphone.
    Times(f64),
    /// As fast as it is listened to; nothing is missed.
    Unpaced,
}

impl Speed {
    /// How long `sound_s` seconds of sound take.
    pub(super) fn duration(self, sound_s: f64) -> Duration {
        match self {
            Self::Times(times) => Duration::from_secs_f64(sound_s / times),
            Self::Unpaced => Duration::ZERO,
        }
    }
}

/// How long to wait until somebody has read.
const WAIT: Duration = Duration::from_millis(1);

/// Plays `sound` in a thread of its own until it ends, or `stop` is set; the result is that of reading it.
pub fn play(
    sound: AudioStream,
    rate_hz: u32,
    speed: Speed,
    writer: Writer,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<Result<()>>> {
    let player = thread::Builder::new().name("player".to_owned());
    let spawned = player.spawn(move || run(sound, rate_hz, speed, writer, &stop));
    spawned.map_err(|error| Error::setting("threads", error.to_string()))
}

fn run(mut sound: AudioStream, rate_hz: u32, speed: Speed, mut writer: Writer, stop: &AtomicBool) -> Result<()> {
    let block = ((BLOCK_S * f64::from(rate_hz)) as usize).max(1);
    let start = Instant::now();
    let mut played = 0_u64;
    let mut samples = Vec::new();
    loop {
        samples.clear();
        if sound.read(&mut samples)? == 0 {
            return Ok(());
        }
        for piece in samples.chunks(block) {
            played += piece.len() as u64;
            let heard_at = match speed {
                Speed::Unpaced => {
                    while !writer.has_room(piece.len()) && !stop.load(Ordering::Relaxed) {
                        thread::sleep(WAIT);
                    }
                    Instant::now()
                }
                Speed::Times(_) => {
                    let due = start + speed.duration(played as f64 / f64::from(rate_hz));
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    due
                }
            };
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            writer.write(piece.iter().copied(), heard_at);
        }
    }
}
