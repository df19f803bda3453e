//! From live sound to what the user sees: one loop.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dfcnn::Error;
use dfcnn::audio::capture::{Capture, Captured, Sound};
use dfcnn::recognizer::Recognizer;
use dfcnn::transcript::Event;

use super::delay::{Delays, Hearing};
use super::recording::Recording;
use super::screen::Screen;
use super::tui::Tui;
use crate::cli::Verbosity;
use crate::cli::output::{Form, Output};

/// How long to wait for sound before looking whether the user wants to stop.
const WAIT: Duration = Duration::from_millis(50);
/// How often the status is shown.
const STATUS_EVERY: Duration = Duration::from_millis(100);

/// Where live results are shown.
pub enum View {
    /// A line each on standard output.
    Lines(Output<io::Stdout>),
    /// A terminal on which the present words are rewritten.
    Screen(Screen),
    /// The whole terminal.
    Tui(Box<Tui>),
}

/// How it is going.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Seconds of sound heard.
    pub heard_s: f64,
    /// The loudness of the last sound, in dB of full scale.
    pub level_db: f64,
    /// From the end of the newest letters to their appearance.
    pub delay: Option<Duration>,
    /// Seconds of sound that were dropped.
    pub dropped_s: f64,
    /// Why nothing is heard at the moment.
    pub lost: Option<String>,
}

/// Everything that a live transcription needs.
pub struct Live {
    pub recognizer: Recognizer,
    pub capture: Capture,
    pub recording: Option<Recording>,
    pub save: Option<Output<File>>,
    pub view: View,
    pub verbosity: Verbosity,
    /// Set when the user wants to stop.
    pub stop: Arc<AtomicBool>,
}

/// What was measured.
#[derive(Default)]
struct Measured {
    hearing: Hearing,
    /// From the start of a segment's first word to its first partial.
    first: Delays,
    /// From the end of the newest letters to their partial.
    partial: Delays,
    /// From the last sound that an end-point needed to the final.
    fin: Delays,
    /// The end of the newest letters that a partial had, in seconds.
    told_s: f64,
    /// The end of the present segment's last partial, in seconds; nothing before its first.
    partial_end_s: Option<f64>,
}

/// A live transcription under way.
struct Run {
    live: Live,
    /// What is heard, for the results.
    name: String,
    /// What the recogniser's times count from, in seconds.
    start_s: f64,
    status: Status,
    measured: Measured,
}

impl Live {
    /// Listens until the sound ends or the user ends it.
    pub fn run(self) -> anyhow::Result<()> {
        let name = self.capture.name().to_owned();
        let (status, measured) = Default::default();
        let mut run = Run { live: self, name, start_s: 0.0, status, measured };
        run.begin()?;
        let outcome = run.hear();
        run.live.view.close();
        run.end(outcome?)
    }
}

impl Run {
    fn begin(&mut self) -> anyhow::Result<()> {
        self.live.view.begin()?;
        if let Some(save) = &mut self.live.save {
            save.begin()?;
        }
        Ok(())
    }

    /// Hears all there is; what it gives is why the sound broke off, if it did.
    fn hear(&mut self) -> anyhow::Result<Option<Error>> {
        let mut failed = None;
        let mut shown_at = Instant::now();
        loop {
            if self.live.stop.load(Ordering::Relaxed) {
                self.live.capture.stop();
            }
            match self.live.capture.next(WAIT) {
                Err(()) => break,
                Ok(None) => {}
                Ok(Some(Captured::Sound(sound))) => self.sound(sound)?,
                Ok(Some(Captured::Lost { problem })) => {
                    self.finish()?;
                    self.start_s = self.status.heard_s;
                    self.note(&format!("the microphone is gone ({problem}); waiting for it"));
                    self.status.lost = Some(problem);
                }
                Ok(Some(Captured::Resumed { device })) => {
                    self.note(&format!("hearing {device} again"));
                    self.status.lost = None;
                }
                Ok(Some(Captured::Failed(error))) => failed = Some(error),
            }
            if shown_at.elapsed() >= STATUS_EVERY {
                self.live.view.status(&self.status)?;
                shown_at = Instant::now();
            }
        }
        self.finish()?;
        Ok(failed)
    }

    /// Hears a piece.
    fn sound(&mut self, mut sound: Sound) -> anyhow::Result<()> {
        let Live { recognizer, recording, view, .. } = &mut self.live;
        if let Some(recording) = recording {
            recording.write(&mut sound.samples)?;
        }
        let status = &mut self.status;
        status.heard_s += sound.samples.len() as f64 / f64::from(recognizer.sample_rate_hz());
        status.dropped_s += sound.dropped_s;
        if !sound.samples.is_empty() {
            let power = sound.samples.iter().map(|sample| f64::from(sample * sample)).sum::<f64>();
            status.level_db = 10.0 * (power / sound.samples.len() as f64).max(1e-10).log10();
        }
        self.measured.hearing.push(status.heard_s, sound.heard_at);
        let events = recognizer.push(&sound.samples)?;
        view.heard(recognizer);
        events.into_iter().try_for_each(|event| self.event(event))
    }

    /// Tells what was said since the last final.
    fn finish(&mut self) -> anyhow::Result<()> {
        let events = self.live.recognizer.finish()?;
        events.into_iter().try_for_each(|event| self.event(event))
    }

    fn event(&mut self, event: Event) -> anyhow::Result<()> {
        let event = event.later(self.start_s);
        let Live { save, view, capture, .. } = &mut self.live;
        if let Some(save) = save {
            save.event(&self.name, &event)?;
        }
        view.event(&self.name, &event)?;
        let delay = self.measured.event(&event, capture, self.status.heard_s);
        self.status.delay = delay.or(self.status.delay);
        Ok(())
    }

    fn note(&mut self, text: &str) {
        self.live.view.note(self.live.verbosity, text);
    }

    /// Ends what was written, and tells how it went.
    fn end(self, failed: Option<Error>) -> anyhow::Result<()> {
        let Self { live, name, status, measured, .. } = self;
        if let Some(mut save) = live.save {
            save.end(&name, status.heard_s)?;
        }
        if let Some(recording) = live.recording {
            recording.finish()?;
        }
        if let View::Lines(mut output) = live.view
            && output.form() == Form::Json
        {
            match &failed {
                None => output.end(&name, status.heard_s)?,
                Some(error) => output.error(&name, error)?,
            }
        }
        if status.dropped_s > 0.0 {
            let Status { dropped_s, heard_s, .. } = status;
            live.verbosity.warn(format_args!(
                "{dropped_s:.1} s of sound were dropped and {heard_s:.1} s heard: this machine did not keep up"
            ));
        }
        measured.tell(live.verbosity);
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

impl Measured {
    /// `event` was shown just now. The delay of its newest letters, if it has new ones.
    fn event(&mut self, event: &Event, capture: &Capture, heard_s: f64) -> Option<Duration> {
        let now = Instant::now();
        let since = |time_s: f64| {
            let heard_at = self.hearing.heard_at(time_s, |seconds| capture.duration(seconds))?;
            Some(now.saturating_duration_since(heard_at))
        };
        let segment = event.segment();
        if event.is_final() {
            since(heard_s).into_iter().for_each(|delay| self.fin.push(delay));
            self.partial_end_s = None;
            self.told_s = segment.end_s;
            return None;
        }
        let (first, newest) = (since(segment.start_s), since(segment.end_s));
        // A partial that begins after all of the last one is a first one too: that one turned out to be nothing.
        if self.partial_end_s.replace(segment.end_s).is_none_or(|end_s| segment.start_s >= end_s) {
            first.into_iter().for_each(|delay| self.first.push(delay));
        }
        if segment.end_s <= self.told_s {
            return None;
        }
        self.told_s = segment.end_s;
        newest.into_iter().for_each(|delay| self.partial.push(delay));
        newest
    }

    fn tell(&self, verbosity: Verbosity) {
        let series = [
            ("a segment's first letters, since they began", &self.first),
            ("further letters, since they ended", &self.partial),
            ("a final, since its end-point was heard", &self.fin),
        ];
        for (what, delays) in series {
            let part = |part| delays.percentile_ms(part).unwrap_or(0);
            if delays.len() > 0 {
                let (half, most, nearly_all) = (part(0.5), part(0.95), part(0.99));
                verbosity.note(format_args!(
                    "delay of {what}: {half} ms (half), {most} ms (95 %), {nearly_all} ms (99 %), {} times",
                    delays.len()
                ));
            }
        }
    }
}

impl View {
    fn begin(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Lines(output) => Ok(output.begin()?),
            Self::Screen(_) | Self::Tui(_) => Ok(()),
        }
    }

    fn event(&mut self, name: &str, event: &Event) -> anyhow::Result<()> {
        match self {
            Self::Lines(output) => Ok(output.event(name, event)?),
            Self::Screen(screen) => Ok(screen.event(event)?),
            Self::Tui(tui) => {
                tui.event(event);
                Ok(())
            }
        }
    }

    /// The recogniser has heard something new.
    fn heard(&mut self, recognizer: &Recognizer) {
        if let Self::Tui(tui) = self {
            tui.heard(recognizer.frames(), recognizer.log_probs());
        }
    }

    fn status(&mut self, status: &Status) -> anyhow::Result<()> {
        match self {
            Self::Lines(_) => Ok(()),
            Self::Screen(screen) => {
                screen.status(status);
                Ok(())
            }
            Self::Tui(tui) => Ok(tui.draw(status)?),
        }
    }

    /// Something that the user should know.
    fn note(&mut self, verbosity: Verbosity, text: &str) {
        match self {
            Self::Lines(_) => verbosity.warn(text),
            Self::Screen(screen) => screen.suspend(|| verbosity.warn(text)),
            Self::Tui(tui) => tui.note(text),
        }
    }

    /// Gives the terminal back.
    fn close(&mut self) {
        match self {
            Self::Lines(_) => {}
            Self::Screen(screen) => screen.close(),
            Self::Tui(tui) => {
                for line in tui.close() {
                    let _ = writeln!(io::stdout(), "{line}");
                }
            }
        }
    }
}
