//! How far a long file has come: a bar on a terminal, nothing elsewhere.

use std::fmt::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Shorter sound is transcribed before a bar could be read.
const LONG_S: f64 = 30.0;

/// A bar on standard error that vanishes when dropped.
pub struct Progress {
    /// Its position is in milliseconds of sound.
    bar: ProgressBar,
}

impl Progress {
    /// Progress through `duration_s` seconds of sound, or through an unknown number.
    pub fn new(name: &str, duration_s: Option<f64>, quiet: bool) -> Self {
        if quiet || duration_s.is_some_and(|duration_s| duration_s < LONG_S) {
            return Self { bar: ProgressBar::hidden() };
        }
        let target = ProgressDrawTarget::stderr(); // draws only on a terminal
        let bar = ProgressBar::with_draw_target(duration_s.map(milliseconds), target);
        let template = match duration_s {
            Some(_) => "{msg} {wide_bar} {heard} of {duration}, {speed}",
            None => "{msg} {spinner} {heard}, {speed}",
        };
        let style = ProgressStyle::with_template(template)
            .expect("the template is a constant")
            .with_key("heard", |state: &ProgressState, out: &mut dyn Write| clock(out, state.pos()))
            .with_key("duration", |state: &ProgressState, out: &mut dyn Write| clock(out, state.len().unwrap_or(0)))
            .with_key("speed", |state: &ProgressState, out: &mut dyn Write| {
                let elapsed_ms = state.elapsed().as_secs_f64() * 1e3;
                let _ = write!(out, "{:.1} × real time", state.pos() as f64 / elapsed_ms.max(1.0));
            });
        Self { bar: bar.with_style(style).with_message(name.to_owned()) }
    }

    /// Progress through work of which [`set`](Self::set) tells the share that is done.
    pub fn share(name: &str, quiet: bool) -> Self {
        if quiet {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::with_draw_target(Some(milliseconds(1.0)), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent} %").expect("the template is a constant");
        Self { bar: bar.with_style(style).with_message(name.to_owned()) }
    }

    /// `heard_s` seconds are done.
    pub fn set(&self, heard_s: f64) {
        self.bar.set_position(milliseconds(heard_s));
    }

    /// Lets `print` write to the terminal without meeting the bar there.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1e3) as u64
}

/// Writes `1:02:03`, or `2:03` within the first hour.
fn clock(out: &mut dyn Write, milliseconds: u64) {
    let (minutes, seconds) = (milliseconds / 60_000, milliseconds / 1000 % 60);
    let _ = match (minutes / 60, minutes % 60) {
        (0, minutes) => write!(out, "{minutes}:{seconds:02}"),
        (hours, minutes) => write!(out, "{hours}:{minutes:02}:{seconds:02}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_shows_hours_only_when_there_are_some() {
        for (milliseconds, shown) in [(0, "0:00"), (59_999, "0:59"), (3_599_000, "59:59"), (36_061_000, "10:01:01")] {
            let mut text = String::new();
            clock(&mut text, milliseconds);
            assert_eq!(text, shown);
        }
    }
}
