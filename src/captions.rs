//! Captions: words on a screen, as SubRip (SRT) and WebVTT (W3C, "WebVTT: The Web Video Text Tracks Format").

use crate::error::{Error, Result};
use crate::transcript::{Segment, Word};

/// A cue more is as bad as a wholly empty one.
const CUE_COST: f64 = 1.0;
/// What a cue between words costs where there is no pause at all.
const NO_PAUSE_COST: f64 = 0.5;

/// How much of a text is shown at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layout {
    /// The most characters on a line; a longer word is cut.
    pub line_chars: usize,
    /// The most lines.
    pub lines: usize,
    /// The longest that a cue stays, in seconds.
    pub longest_s: f64,
    /// A shorter cue stays on so long, in seconds, if the next one lets it.
    pub shortest_s: f64,
    /// A pause between words, in seconds, that always begins a new cue.
    pub pause_s: f64,
}

impl Default for Layout {
    fn default() -> Self {
        Self { line_chars: 42, lines: 2, longest_s: 7.0, shortest_s: 1.0, pause_s: 0.8 }
    }
}

impl Layout {
    /// Checks that something can be shown.
    ///
    /// # Errors
    /// When there is no line, no character on it or no time.
    pub fn validate(&self) -> Result<()> {
        let refuse = |setting: &str, problem: String| Err(Error::setting(setting, problem));
        if self.line_chars == 0 || self.lines == 0 {
            return refuse("caption lines", "no character fits; take 1 or more lines of 1 or more characters".into());
        }
        for (setting, seconds) in [
            ("longest caption", self.longest_s),
            ("shortest caption", self.shortest_s),
            ("caption pause", self.pause_s),
        ] {
            if !(0.0..=1e6).contains(&seconds) || seconds == 0.0 && setting == "longest caption" {
                return refuse(setting, format!("{seconds} s; take a time above 0"));
            }
        }
        Ok(())
    }
}

/// What is shown at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Cue {
    /// When it appears, in seconds.
    pub start_s: f64,
    /// When it goes, in seconds.
    pub end_s: f64,
    /// At least one, from top to bottom.
    pub lines: Vec<String>,
}

impl Cue {
    /// As a SubRip cue, `number` counted from 1.
    pub fn srt(&self, number: usize) -> String {
        format!("{number}\n{}\n{}\n\n", self.times(','), self.lines.join("\n"))
    }

    /// As a WebVTT cue, to be written after [`VTT_HEADER`].
    pub fn vtt(&self) -> String {
        let escaped = self.lines.join("\n").replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        format!("{}\n{escaped}\n\n", self.times('.'))
    }

    fn times(&self, point: char) -> String {
        let start_ms = (self.start_s * 1e3).round() as u64;
        let end_ms = ((self.end_s * 1e3).round() as u64).max(start_ms + 1);
        let clock = |ms: u64| {
            let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
            format!("{hours:02}:{minutes:02}:{seconds:02}{point}{:03}", ms % 1000)
        };
        format!("{} --> {}", clock(start_ms), clock(end_ms))
    }
}

/// The beginning of a WebVTT file.
pub const VTT_HEADER: &str = "WEBVTT\n\n";

/// A stream of segments on its way to cues. A cue never has words of two segments.
#[derive(Debug, Clone)]
pub struct Captions {
    layout: Layout,
    /// The last cue: how long it stays depends on the next.
    held: Option<Cue>,
}

impl Captions {
    /// At the start of a stream.
    ///
    /// # Errors
    /// As [`Layout::validate`].
    pub fn new(layout: Layout) -> Result<Self> {
        layout.validate()?;
        Ok(Self { layout, held: None })
    }

    /// Takes the next segment and appends the cues that it completes.
    pub fn push(&mut self, segment: &Segment, cues: &mut Vec<Cue>) {
        for cue in self.layout.cues(&segment.words) {
            let next_s = cue.start_s;
            cues.extend(self.held.replace(cue).map(|held| self.layout.lengthened(held, next_s)));
        }
    }

    /// Ends the stream: appends the last cue. The next [`push`](Self::push) starts a new stream.
    pub fn finish(&mut self, cues: &mut Vec<Cue>) {
        cues.extend(self.held.take().map(|held| self.layout.lengthened(held, f64::INFINITY)));
    }

    /// Forgets the stream; the next [`push`](Self::push) starts a new one.
    pub fn reset(&mut self) {
        self.held = None;
    }
}

/// A word, or a part of one that is too long for a line.
struct Part {
    text: String,
    chars: usize,
    start_s: f64,
    end_s: f64,
    /// Whether it goes on where the part before it ended.
    glued: bool,
}

impl Layout {
    /// Stays on until it can be read, or the next one comes.
    fn lengthened(&self, cue: Cue, next_s: f64) -> Cue {
        let end_s = cue.end_s.max((cue.start_s + self.shortest_s).min(next_s));
        Cue { end_s, ..cue }
    }

    /// Cuts words into cues so that they are few, evenly filled, and part where the speaker pauses: the cheapest of all
    /// ways, as Knuth & Plass (1981) break paragraphs into lines.
    fn cues(&self, words: &[Word]) -> Vec<Cue> {
        let parts: Vec<Part> = words.iter().flat_map(|word| self.parts(word)).collect();
        // The least cost of the first n parts, and where the last cue of them begins.
        let mut best = vec![(0.0, 0)];
        for end in 1..=parts.len() {
            let mut cheapest = (f64::INFINITY, end - 1);
            for begin in (0..end).rev() {
                let Some(cost) = self.cost(&parts[begin..end]) else { break };
                let pause = begin.checked_sub(1).map_or(f64::INFINITY, |last| parts[begin].start_s - parts[last].end_s);
                let cost = best[begin].0 + cost + NO_PAUSE_COST * (1.0 - pause / self.pause_s).max(0.0);
                if cost < cheapest.0 {
                    cheapest = (cost, begin);
                }
            }
            best.push(cheapest);
        }
        let mut cues = Vec::new();
        let mut end = parts.len();
        while end > 0 {
            let begin = best[end].1;
            cues.push(self.cue(&parts[begin..end]));
            end = begin;
        }
        cues.reverse();
        cues
    }

    /// What a cue of these parts costs; `None` if they do not fit into one.
    fn cost(&self, parts: &[Part]) -> Option<f64> {
        let (first, last) = (parts.first()?, parts.last()?);
        let fits = parts.len() == 1
            || last.end_s - first.start_s <= self.longest_s
                && parts.windows(2).all(|pair| pair[1].start_s - pair[0].end_s < self.pause_s)
                && wrap(parts, self.line_chars).len() <= self.lines;
        let room = (self.line_chars * self.lines) as f64;
        let empty = 1.0 - parts.iter().map(|part| part.chars + 1).sum::<usize>() as f64 / (room + self.lines as f64);
        fits.then_some(CUE_COST + empty * empty)
    }

    /// The lines as even as their number allows.
    fn cue(&self, parts: &[Part]) -> Cue {
        let fewest = wrap(parts, self.line_chars).len();
        let widest = parts.iter().map(|part| part.chars).max().unwrap_or(0);
        let even = (widest..self.line_chars).find(|&width| wrap(parts, width).len() == fewest);
        let lines = wrap(parts, even.unwrap_or(self.line_chars));
        let start_s = parts[0].start_s;
        Cue { start_s, end_s: parts[parts.len() - 1].end_s.min(start_s + self.longest_s), lines }
    }

    /// A word in parts that fit on a line, its time shared out evenly over the characters.
    fn parts(&self, word: &Word) -> Vec<Part> {
        let chars: Vec<char> = word.text.chars().collect();
        let time = |place: usize| word.start_s + (word.end_s - word.start_s) * place as f64 / chars.len() as f64;
        let mut begin = 0;
        let part = |piece: &[char]| {
            let part = Part {
                text: piece.iter().collect(),
                chars: piece.len(),
                start_s: time(begin),
                end_s: time(begin + piece.len()),
                glued: begin > 0,
            };
            begin += piece.len();
            part
        };
        chars.chunks(self.line_chars).map(part).collect()
    }
}

/// Lines of at most `width` characters, each as full as can be.
fn wrap(parts: &[Part], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut chars = 0;
    for part in parts {
        let space = usize::from(!part.glued);
        match lines.last_mut() {
            Some(line) if chars + space + part.chars <= width => {
                line.push_str(if part.glued { "" } else { " " });
                line.push_str(&part.text);
                chars += space + part.chars;
            }
            _ => {
                lines.push(part.text.clone());
                chars = part.chars;
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    /// Words that last 0.3 s; a `|` is a pause of a second.
    fn segment(text: &str) -> Segment {
        let mut time_s = 1.0;
        let mut words = Vec::new();
        for text in text.split(' ') {
            time_s += if text == "|" { 1.0 } else { 0.3 };
            if text != "|" {
                words.push(Word { text: text.into(), start_s: time_s - 0.3, end_s: time_s, confidence: 1.0 });
            }
        }
        Segment::new(words).unwrap()
    }

    fn cues(layout: Layout, segments: &[Segment]) -> Vec<Cue> {
        let mut captions = Captions::new(layout).unwrap();
        let mut cues = Vec::new();
        segments.iter().for_each(|segment| captions.push(segment, &mut cues));
        captions.finish(&mut cues);
        cues
    }

    fn lines(cues: &[Cue]) -> Vec<String> {
        cues.iter().map(|cue| cue.lines.join("/")).collect()
    }

    #[test]
    fn lines_are_even_and_cues_few() {
        let short = segment("the old boat");
        assert_eq!(lines(&cues(Layout::default(), &[short])), ["the old boat"]);
        let long = segment("the old boat came back to the harbour before the storm");
        assert_eq!(
            lines(&cues(Layout::default(), std::slice::from_ref(&long))),
            ["the old boat came back to/the harbour before the storm"]
        );
        let narrow = Layout { line_chars: 12, ..Layout::default() };
        assert_eq!(
            lines(&cues(narrow, std::slice::from_ref(&long))),
            ["the old/boat came", "back to the/harbour", "before/the storm"]
        );
        let one_line = Layout { lines: 1, line_chars: 30, ..Layout::default() };
        assert_eq!(lines(&cues(one_line, &[long])), ["the old boat came back to", "the harbour before the storm"]);
    }

    #[test]
    fn cues_part_at_pauses_and_in_time() {
        let pause = segment("so it is | and so it will be");
        let parted = cues(Layout::default(), &[pause]);
        assert_eq!(lines(&parted), ["so it is", "and so it will be"]);
        assert!(parted[0].start_s == 1.0 && (parted[1].start_s - 2.9).abs() < 1e-9, "{parted:?}");
        let brief = Layout { longest_s: 1.0, ..Layout::default() };
        let timed = cues(brief, &[segment("a b c d e f")]);
        assert!(timed.iter().all(|cue| cue.end_s - cue.start_s <= 1.0 + 1e-9), "{timed:?}");
        assert_eq!(timed.len(), 2);
    }

    #[test]
    fn a_cue_stays_until_it_can_be_read() {
        let (first, second) = (segment("yes"), segment("| | no"));
        let shown = cues(Layout::default(), &[first.clone(), second]);
        assert_eq!((shown[0].start_s, shown[0].end_s), (1.0, 2.0));
        let next = cues(Layout::default(), &[first.clone(), segment("a b c")]);
        assert_eq!(next[0].end_s, 1.3, "it never overlaps");
        assert_eq!(cues(Layout::default(), &[first])[0].end_s, 2.0);
    }

    #[test]
    fn a_word_too_long_is_cut() {
        let layout = Layout { line_chars: 4, lines: 2, ..Layout::default() };
        assert_eq!(lines(&cues(layout, &[segment("一二三四五六七八九十")])), ["一二三四", "五六七八/九十"]);
    }

    #[test]
    fn as_srt_and_vtt() {
        let cue = Cue { start_s: 3661.0405, end_s: 3661.0405, lines: vec!["a <b>".into(), "c & d".into()] };
        assert_eq!(cue.srt(7), "7\n01:01:01,041 --> 01:01:01,042\na <b>\nc & d\n\n");
        assert_eq!(cue.vtt(), "01:01:01.041 --> 01:01:01.042\na &lt;b&gt;\nc &amp; d\n\n");
    }

    #[test]
    fn absurd_layouts_are_refused() {
        let usual = Layout::default();
        for layout in [
            Layout { line_chars: 0, ..usual },
            Layout { lines: 0, ..usual },
            Layout { longest_s: 0.0, ..usual },
            Layout { longest_s: f64::NAN, ..usual },
            Layout { pause_s: -1.0, ..usual },
        ] {
            assert!(Captions::new(layout).is_err(), "{layout:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Default::default() })]

        #[test]
        fn every_word_is_shown_in_its_place(
            words in prop::collection::vec(("[a-z]{1,12}", 0.0f64..1.5, 0.01f64..1.0), 1..60),
            line_chars in 3usize..50,
            lines in 1usize..4,
            longest_s in 1.0f64..9.0,
        ) {
            let layout = Layout { line_chars, lines, longest_s, ..Layout::default() };
            let mut time_s = 0.0;
            let words: Vec<Word> = words.into_iter().map(|(text, pause_s, length_s)| {
                let start_s = time_s + pause_s;
                time_s = start_s + length_s;
                Word { text, start_s, end_s: time_s, confidence: 1.0 }
            }).collect();
            let segment = Segment::new(words.clone()).unwrap();
            let cues = cues(layout, &[segment]);
            let shown: String = cues.iter().flat_map(|cue| &cue.lines).flat_map(|line| line.chars()).filter(|c| *c != ' ').collect();
            prop_assert_eq!(shown, words.iter().map(|word| word.text.as_str()).collect::<String>());
            for cue in &cues {
                prop_assert!(!cue.lines.is_empty() && cue.lines.len() <= lines);
                prop_assert!(cue.lines.iter().all(|line| !line.is_empty() && line.chars().count() <= line_chars));
                prop_assert!(cue.start_s < cue.end_s && cue.end_s - cue.start_s <= longest_s + 1e-9);
            }
            prop_assert!(cues.windows(2).all(|pair| pair[0].end_s <= pair[1].start_s));
        }
    }
}
