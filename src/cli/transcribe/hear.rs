//! Recording after recording through one recogniser.

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dfcnn::Result;
use dfcnn::audio::{AudioStream, SourceFormat};
use dfcnn::recognizer::Recognizer;

use crate::cli::Verbosity;
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::cli::sources::Source;

/// Sound between two partial results of a file.
const PARTIAL_S: f64 = 0.5;

/// One recogniser that hears source after source.
pub struct Hearing {
    recognizer: Recognizer,
    verbosity: Verbosity,
    /// Whether progress is shown for each source.
    progress: bool,
    /// Set when the user wants no more.
    stop: Arc<AtomicBool>,
}

impl Hearing {
    /// Alone at work.
    pub fn new(recognizer: Recognizer, verbosity: Verbosity) -> Self {
        Self { recognizer, verbosity, progress: !verbosity.quiet, stop: Arc::default() }
    }

    /// One of several; leaves a source when `stop` is set.
    pub fn beside_others(recognizer: Recognizer, verbosity: Verbosity, stop: Arc<AtomicBool>) -> Self {
        Self { recognizer, verbosity, progress: false, stop }
    }

    /// Opens `source`.
    pub fn open(&self, source: &Source) -> Result<AudioStream> {
        let rate_hz = self.recognizer.sample_rate_hz();
        let sound = source.open(rate_hz)?;
        let described = Described(sound.source());
        self.verbosity.note(format_args!("{}: {described}, heard at {rate_hz} Hz", source.name()));
        Ok(sound)
    }

    /// Writes what is said in `sound`, which is that of `source`; when it breaks off, first what was heard until then.
    pub fn transcribe(
        &mut self,
        source: &Source,
        sound: &mut AudioStream,
        output: &mut Output<impl Write>,
    ) -> Result<()> {
        let name = source.name();
        output.begin()?;
        let heard_s = self.hear(&name, sound, output);
        for event in self.recognizer.finish()? {
            output.event(&name, &event)?;
        }
        if sound.damage() > 0 {
            self.verbosity.warn(format_args!("{name}: damaged in {} places; the rest is transcribed", sound.damage()));
        }
        output.end(&name, heard_s?)
    }

    /// Gives the recogniser all of `sound` and says how long it was, in seconds.
    fn hear(&mut self, name: &str, sound: &mut AudioStream, output: &mut Output<impl Write>) -> Result<f64> {
        let progress = Progress::new(name, sound.duration_s(), !self.progress);
        let rate_hz = f64::from(self.recognizer.sample_rate_hz());
        let mut samples = Vec::new();
        let mut heard_samples = 0;
        let mut heard_s = 0.0;
        while !self.stop.load(Ordering::Relaxed) && sound.read(&mut samples)? > 0 {
            let at_once = if output.has_partials() { (PARTIAL_S * rate_hz) as usize } else { samples.len() };
            for piece in samples.chunks(at_once) {
                for event in self.recognizer.push(piece)? {
                    progress.suspend(|| output.event(name, &event))?;
                }
            }
            heard_samples += samples.len();
            heard_s = heard_samples as f64 / rate_hz;
            progress.set(heard_s);
            samples.clear();
        }
        Ok(heard_s)
    }
}

/// Says how something was recorded.
struct Described<'a>(&'a SourceFormat);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let SourceFormat { codec, sample_rate_hz, channels, duration_s } = self.0;
        write!(f, "{codec}, {sample_rate_hz} Hz, {channels} channel{}", if *channels == 1 { "" } else { "s" })?;
        duration_s.map_or(Ok(()), |duration_s| write!(f, ", {duration_s:.1} s"))
    }
}
