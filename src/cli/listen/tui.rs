//! The whole terminal: what the network sees, the letters it thinks of, and the text, on one time axis.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dfcnn::recognizer::Engine;
use dfcnn::tokens::Tokens;
use dfcnn::transcript::{Event, Segment};
use dfcnn::{Error, Result};
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event as TerminalEvent, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::live::Status;
use super::screen::status_line;
use crate::cli::interrupt;

/// Columns that are kept: more than any terminal has.
const COLUMNS: usize = 1024;
/// The values of the normalised spectrogram that are dark and bright.
const DARK: f32 = -1.2;
const BRIGHT: f32 = 2.2;
/// Letters shown for each step, the most probable first.
const RANKS: usize = 4;
/// Less probable letters are not shown.
const LEAST_PROBABILITY: f32 = 0.02;
/// From dark to bright, in the 256 colours that every terminal has.
const PALETTE: [u8; 14] = [16, 17, 53, 54, 90, 126, 162, 197, 203, 209, 215, 221, 228, 230];
/// The same without colours.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];

/// The terminal while it is ours.
pub struct Tui {
    terminal: DefaultTerminal,
    picture: Picture,
    stop: Arc<AtomicBool>,
    /// Whether the terminal was given back.
    closed: bool,
}

/// What is shown.
struct Picture {
    tokens: Tokens,
    bins: usize,
    /// Frames of one step.
    stride: usize,
    /// Frames that wait for the rest of their step.
    frames: Vec<f32>,
    /// Of each step its bins, 0 … 1, low ones first.
    spectrogram: VecDeque<Vec<f32>>,
    /// Of each step its most probable tokens. Lags behind the spectrogram by the look-ahead.
    letters: VecDeque<Vec<(u32, f32)>>,
    /// Steps of each so far.
    seen: u64,
    read: u64,
    finals: Vec<String>,
    partial: Option<Segment>,
    note: Option<String>,
    colors: bool,
}

impl Tui {
    /// Takes the terminal.
    pub fn new(engine: &Engine, stop: &Arc<AtomicBool>) -> Result<Self> {
        let terminal = ratatui::try_init().map_err(Error::write(Path::new("-")))?;
        let clock = engine.clock();
        let stride = (engine.steps().step_s * clock.frame_rate_hz()).round() as usize;
        let picture = Picture {
            tokens: engine.tokens().clone(),
            bins: engine.bins(),
            stride: stride.max(1),
            frames: Vec::new(),
            spectrogram: VecDeque::new(),
            letters: VecDeque::new(),
            seen: 0,
            read: 0,
            finals: Vec::new(),
            partial: None,
            note: None,
            colors: console::colors_enabled(),
        };
        Ok(Self { terminal, picture, stop: Arc::clone(stop), closed: false })
    }

    pub fn event(&mut self, event: &Event) {
        let segment = event.segment().clone();
        if event.is_final() {
            self.picture.finals.push(segment.text);
            self.picture.partial = None;
        } else {
            self.picture.partial = Some(segment);
        }
    }

    /// The network has seen `frames`, `[n, bins]`, and said `log_probs`, `[m, classes]`.
    pub fn heard(&mut self, frames: &[f32], log_probs: &[f32]) {
        self.picture.heard(frames, log_probs);
    }

    pub fn note(&mut self, text: &str) {
        self.picture.note = Some(text.to_owned());
    }

    /// Shows everything, and takes the keys that were pressed.
    pub fn draw(&mut self, status: &Status) -> Result<()> {
        let picture = &self.picture;
        let drawn = self.terminal.draw(|frame| picture.render(status, frame.area(), frame.buffer_mut()));
        drawn.map_err(Error::write(Path::new("-")))?;
        self.keys().map_err(Error::read(Path::new("-")))
    }

    fn keys(&self) -> io::Result<()> {
        while event::poll(Duration::ZERO)? {
            let TerminalEvent::Key(key) = event::read()? else { continue };
            let interrupts = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if (interrupts || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
                && self.stop.swap(true, Ordering::Relaxed)
            {
                ratatui::restore();
                process::exit(interrupt::EXIT_CODE.into());
            }
        }
        Ok(())
    }

    /// Gives the terminal back; what was said is to be printed there.
    pub fn close(&mut self) -> Vec<String> {
        if !std::mem::replace(&mut self.closed, true) {
            ratatui::restore();
        }
        std::mem::take(&mut self.picture.finals)
    }
}

impl Drop for Tui {
    fn drop(&mut self) {
        self.close();
    }
}

impl Picture {
    fn heard(&mut self, frames: &[f32], log_probs: &[f32]) {
        self.frames.extend_from_slice(frames);
        let step = self.stride * self.bins;
        let whole = self.frames.len() - self.frames.len() % step;
        for step in self.frames[..whole].chunks_exact(step) {
            let mean = |bin: usize| step[bin..].iter().step_by(self.bins).sum::<f32>() / self.stride as f32;
            let column = (0..self.bins).map(|bin| ((mean(bin) - DARK) / (BRIGHT - DARK)).clamp(0.0, 1.0));
            keep(&mut self.spectrogram, column.collect());
            self.seen += 1;
        }
        self.frames.drain(..whole);
        for row in log_probs.chunks_exact(self.tokens.len()) {
            let mut ranked: Vec<(u32, f32)> = (0..).zip(row.iter().map(|log_prob| log_prob.exp())).collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
            ranked.retain(|(token, probability)| *token != self.tokens.blank() && *probability >= LEAST_PROBABILITY);
            ranked.truncate(RANKS);
            keep(&mut self.letters, ranked);
            self.read += 1;
        }
    }

    fn render(&self, status: &Status, area: Rect, buffer: &mut Buffer) {
        let text_rows = (area.height / 3).max(3);
        let [spectrogram, letters, text, line] = Layout::vertical([
            Constraint::Min(1),
            Constraint::Length(RANKS as u16),
            Constraint::Length(text_rows),
            Constraint::Length(1),
        ])
        .areas(area);
        self.render_spectrogram(spectrogram, buffer);
        self.render_letters(letters, buffer);
        self.render_text(text, buffer);
        let note = self.note.as_deref().map_or(String::new(), |note| format!("   {note}"));
        let status = format!("{}   q ends{note}", status_line(status));
        Line::from(status).style(self.muted()).render(line, buffer);
    }

    /// Two bands of frequency in each cell: its lower and its upper half.
    fn render_spectrogram(&self, area: Rect, buffer: &mut Buffer) {
        let bands = if self.colors { 2 * area.height } else { area.height };
        for (x, column) in newest(&self.spectrogram, area) {
            let band = |band: u16| {
                let from = usize::from(band) * self.bins / usize::from(bands);
                let to = (usize::from(band + 1) * self.bins / usize::from(bands)).max(from + 1);
                column[from..to.min(self.bins)].iter().sum::<f32>() / (to - from) as f32
            };
            for row in 0..area.height {
                let from_below = area.height - 1 - row;
                let cell = &mut buffer[(x, area.y + row)];
                if self.colors {
                    let (lower, upper) = (color(band(2 * from_below)), color(band(2 * from_below + 1)));
                    cell.set_char('▄').set_style(Style::new().fg(lower).bg(upper));
                } else {
                    cell.set_char(graded(&SHADES, band(from_below)));
                }
            }
        }
    }

    /// Below the place in the spectrogram that they are about.
    fn render_letters(&self, area: Rect, buffer: &mut Buffer) {
        let lag = self.seen.saturating_sub(self.read).min(area.width.into()) as u16;
        let area = Rect { width: area.width - lag, ..area };
        for (x, ranked) in newest(&self.letters, area) {
            for (row, (token, probability)) in ranked.iter().enumerate().take(area.height.into()) {
                let piece = self.tokens.piece(*token).unwrap_or_default();
                let letter = if piece == " " { '␣' } else { piece.trim().chars().next().unwrap_or('?') };
                let style = match probability {
                    p if *p >= 0.5 => Style::new().bold(),
                    p if *p >= 0.1 => Style::new(),
                    _ => self.muted(),
                };
                buffer[(x, area.y + row as u16)].set_char(letter).set_style(style);
            }
        }
    }

    /// The end of what was said, at the bottom of its place.
    fn render_text(&self, area: Rect, buffer: &mut Buffer) {
        let last = self.finals.len().saturating_sub(area.height.into());
        let mut text: Text = self.finals[last..].iter().map(|line| Line::from(line.as_str())).collect();
        if let Some(Segment { text: partial, stable_chars, .. }) = &self.partial {
            let split = partial.char_indices().nth(*stable_chars).map_or(partial.len(), |(at, _)| at);
            let (stable, open) = partial.split_at(split);
            text.push_line(Line::from(vec![Span::raw(stable).bold(), Span::styled(open, self.muted())]));
        }
        let width = usize::from(area.width.max(1));
        let rows: usize = text.lines.iter().map(|line| rows(line, width)).sum();
        let scrolled = rows.saturating_sub(area.height.into()) as u16;
        Paragraph::new(text).wrap(Wrap { trim: true }).scroll((scrolled, 0)).render(area, buffer);
    }

    fn muted(&self) -> Style {
        if self.colors { Style::new().dim() } else { Style::new() }
    }
}

/// Rows that a line takes when its words are wrapped.
fn rows(line: &Line, width: usize) -> usize {
    let text: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
    let (mut rows, mut used) = (1, 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            rows += 1;
            used = 0;
        }
        used += length + usize::from(used > 0);
        rows += used.saturating_sub(1) / width;
        used = if used > width { (used - 1) % width + 1 } else { used };
    }
    rows
}

/// The newest columns, each with its place in `area`, the last one at the right.
fn newest<T>(columns: &VecDeque<T>, area: Rect) -> impl Iterator<Item = (u16, &T)> {
    (area.x..area.right()).rev().zip(columns.iter().rev())
}

fn keep<T>(columns: &mut VecDeque<T>, column: T) {
    if columns.len() == COLUMNS {
        columns.pop_front();
    }
    columns.push_back(column);
}

fn color(brightness: f32) -> Color {
    Color::Indexed(graded(&PALETTE, brightness))
}

/// The one of `grades` for something in 0 … 1.
fn graded<T: Copy>(grades: &[T], value: f32) -> T {
    grades[((value * grades.len() as f32) as usize).min(grades.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(colors: bool) -> Picture {
        Picture {
            tokens: Tokens::parse("tokens.txt", "<b>\n<space>\na\n").unwrap(),
            bins: 4,
            stride: 2,
            frames: Vec::new(),
            spectrogram: VecDeque::new(),
            letters: VecDeque::new(),
            seen: 0,
            read: 0,
            finals: vec!["said before".into()],
            partial: None,
            note: None,
            colors,
        }
    }

    fn lines(picture: &Picture, width: u16, height: u16) -> Vec<String> {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        picture.render(&Status { level_db: -30.0, ..Status::default() }, area, &mut buffer);
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(row).collect()
    }

    #[test]
    fn letters_stand_below_the_sound_they_are_about() {
        let mut picture = picture(false);
        let loud_and_low = [BRIGHT, BRIGHT, DARK, DARK];
        let silent = [DARK; 4];
        // Six steps, the third is loud; the network has read three of them.
        for frame in 0..12 {
            picture.heard(if frame / 2 == 2 { &loud_and_low } else { &silent }, &[]);
        }
        let row = |letter: f32| [1.0 - letter - 0.3, 0.3, letter].map(f32::ln);
        picture.heard(&[], &[row(0.0), row(0.0), row(0.6)].concat());
        let lines = lines(&picture, 8, 12);
        // 12 rows: 3 of spectrogram, 4 of letters, 4 of text, 1 of status
        let column = lines[2].chars().position(|c| c == '█').unwrap();
        assert_eq!(column, 8 - 4);
        assert_eq!(lines[0].trim(), "", "high bands are dark");
        assert_eq!(lines[3].chars().nth(column), Some('a'), "{lines:#?}");
        assert_eq!(lines[4].chars().nth(column), Some('␣'));
        assert!(lines[11].starts_with("0:00"));
    }

    #[test]
    fn the_end_of_the_text_is_seen() {
        let mut picture = picture(true);
        let word =
            |text: &str| dfcnn::transcript::Word { text: text.into(), start_s: 0.0, end_s: 1.0, confidence: 1.0 };
        let words = "one two three four five six seven eight nine ten".split(' ').map(word).collect();
        picture.partial = Segment::new(words);
        let lines = lines(&picture, 12, 12);
        assert!(lines[10].contains("ten"), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("seven")));
    }

    #[test]
    fn any_size_will_do() {
        let mut picture = picture(true);
        picture.heard(&[0.3; 4 * 2 * 300], &[-1.0; 3 * 290]);
        for (width, height) in [(1, 1), (2, 5), (80, 24), (200, 50), (3, 90)] {
            lines(&picture, width, height);
        }
    }
}
