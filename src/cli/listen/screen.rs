//! A terminal on which finals stay, and below them the present words and how it is going are rewritten.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use console::{Term, style};
use dfcnn::transcript::Event;
use dfcnn::{Error, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::live::Status;

/// A partial of which nothing is stable turns out to be noise when nothing follows for so long.
const TENTATIVE: Duration = Duration::from_secs(2);

/// Finals on standard output, the rest on standard error.
pub struct Screen {
    lines: MultiProgress,
    words: ProgressBar,
    status: ProgressBar,
    /// When the present words came, while none of them is stable.
    tentative_since: Option<Instant>,
}

impl Screen {
    pub fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(20) };
        let lines = MultiProgress::with_draw_target(target);
        let line = || {
            let style = ProgressStyle::with_template("{wide_msg}").expect("the template is a constant");
            lines.add(ProgressBar::new_spinner().with_style(style))
        };
        let (words, status) = (line(), line());
        Self { lines, words, status, tentative_since: None }
    }

    pub fn event(&mut self, event: &Event) -> Result<()> {
        let segment = event.segment();
        if event.is_final() {
            self.words.set_message("");
            self.tentative_since = None;
            let text = &segment.text;
            return self.suspend(|| writeln!(io::stdout(), "{text}").map_err(Error::write(Path::new("-"))));
        }
        let room = usize::from(Term::stderr().size().1).saturating_sub(1);
        let (stable, open) = tail(&segment.text, segment.stable_chars, room);
        self.words.set_message(format!("{stable}{}", style(open).dim()));
        self.tentative_since = (segment.stable_chars == 0).then(Instant::now);
        Ok(())
    }

    pub fn status(&mut self, status: &Status) {
        if self.tentative_since.is_some_and(|since| since.elapsed() > TENTATIVE) {
            self.tentative_since = None;
            self.words.set_message("");
        }
        self.status.set_message(style(status_line(status)).dim().to_string());
    }

    /// Lets `print` write to the terminal.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.lines.suspend(print)
    }

    pub fn close(&self) {
        self.words.finish_and_clear();
        self.status.finish_and_clear();
    }
}

/// What of a text, of which the first `stable` characters stay, fits into `room` characters: its end, without half words
/// where that can be; the stable part and the rest.
fn tail(text: &str, stable: usize, room: usize) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let mut from = chars.len().saturating_sub(room);
    if from > 0 {
        let word = chars[from - 1..].iter().position(|c| *c == ' ').map_or(from, |space| from + space);
        from = if word < chars.len() { word } else { from };
    }
    let split = stable.clamp(from, chars.len());
    (chars[from..split].iter().collect(), chars[split..].iter().collect())
}

/// `1:02  ▮▮▮▮▯▯▯▯  -23 dB  delay 0.41 s`, and what was lost.
pub fn status_line(status: &Status) -> String {
    const MARKS: usize = 10;
    let Status { heard_s, level_db, delay, dropped_s, lost } = status;
    let seconds = *heard_s as u64;
    // Each mark is 6 dB.
    let marks = ((level_db + 60.0) / 6.0).round().clamp(0.0, MARKS as f64) as usize;
    let mut line = format!("{}:{:02}  {}{}", seconds / 60, seconds % 60, "▮".repeat(marks), "▯".repeat(MARKS - marks));
    line += &if *level_db > -99.0 { format!("  {level_db:>3.0} dB") } else { "  silent".to_owned() };
    if let Some(delay) = delay {
        line += &format!("  delay {:.2} s", delay.as_secs_f64());
    }
    if *dropped_s > 0.0 {
        line += &format!("  dropped {dropped_s:.1} s");
    }
    if lost.is_some() {
        line += "  no microphone";
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_text_is_shown() {
        let shown = |text, stable, room| {
            let (stable, open) = tail(text, stable, room);
            format!("{stable}|{open}")
        };
        assert_eq!(shown("one two", 4, 80), "one |two");
        assert_eq!(shown("one two three", 8, 9), "two |three");
        assert_eq!(shown("one two three", 8, 8), "|three");
        assert_eq!(shown("one two three", 3, 3), "|ree", "a word that is too long");
        assert_eq!(shown("", 0, 0), "|");
    }

    #[test]
    fn the_status_in_one_line() {
        let mut status = Status { heard_s: 62.4, level_db: -24.2, ..Status::default() };
        assert_eq!(status_line(&status), "1:02  ▮▮▮▮▮▮▯▯▯▯  -24 dB");
        status = Status { level_db: -100.0, delay: Some(Duration::from_millis(412)), dropped_s: 1.26, ..status };
        status.lost = Some("unplugged".into());
        let rest = "silent  delay 0.41 s  dropped 1.3 s  no microphone";
        assert_eq!(status_line(&status), format!("1:02  ▯▯▯▯▯▯▯▯▯▯  {rest}"));
    }
}
