//! What goes to standard output: lines of text, or JSON Lines as `docs/protocol.md` describes them.

use std::io::Write;
use std::path::Path;

use dfcnn::transcript::{Alternative, Event, Segment, Word};
use dfcnn::{Error, Result};
use serde::Serialize;

/// How results are written.
#[derive(Debug, Clone, Copy)]
pub enum Format {
    /// The text of each segment on a line; `names`: after the file's name.
    Text { names: bool },
    /// One object a line; `partials`: also results that may still change; `alternatives`: also other readings.
    Json { partials: bool, alternatives: bool },
}

/// A writer of results. Each line is flushed, so that a reader hears of it at once.
pub struct Output<W: Write> {
    out: W,
    format: Format,
    /// Whether the present file has a line of text yet.
    has_text: bool,
}

impl<W: Write> Output<W> {
    pub fn new(out: W, format: Format) -> Self {
        Self { out, format, has_text: false }
    }

    /// Writes what was recognised in `file`.
    pub fn event(&mut self, file: &str, event: &Event) -> Result<()> {
        match (self.format, event) {
            (Format::Text { .. } | Format::Json { partials: false, .. }, Event::Partial(_)) => Ok(()),
            (Format::Text { .. }, Event::Final(segment)) => self.text(file, &segment.text),
            (Format::Json { .. }, Event::Partial(segment)) => {
                self.json(&Line::Partial { file, segment: segment.into() })
            }
            (Format::Json { alternatives, .. }, Event::Final(segment)) => {
                let alternatives = alternatives.then(|| segment.alternatives.iter().map(Into::into).collect());
                self.json(&Line::Final { file, segment: segment.into(), alternatives })
            }
        }
    }

    /// Writes that all `duration_s` seconds of `file` were heard; an empty line, if nothing was said in them.
    pub fn end(&mut self, file: &str, duration_s: f64) -> Result<()> {
        match self.format {
            Format::Text { .. } if std::mem::take(&mut self.has_text) => Ok(()),
            Format::Text { .. } => self.text(file, "").map(|()| self.has_text = false),
            Format::Json { .. } => self.json(&Line::End { file, duration_s: rounded(duration_s) }),
        }
    }

    /// Writes that `file` failed, for readers of JSON; others read standard error.
    pub fn error(&mut self, file: &str, error: &Error) -> Result<()> {
        self.has_text = false;
        match self.format {
            Format::Text { .. } => Ok(()),
            Format::Json { .. } => self.json(&Line::Error { file, message: error.to_string() }),
        }
    }

    fn text(&mut self, file: &str, text: &str) -> Result<()> {
        self.has_text = true;
        match self.format {
            Format::Text { names: true } => self.line(&format!("{file}: {text}")),
            _ => self.line(text),
        }
    }

    fn json(&mut self, line: &Line) -> Result<()> {
        self.line(&serde_json::to_string(line).expect("strings and finite numbers always serialize"))
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let written = self.out.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.out.flush());
        written.map_err(Error::write(Path::new("-")))
    }
}

/// A line of the protocol.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Partial {
        file: &'a str,
        #[serde(flatten)]
        segment: SegmentFields<'a>,
    },
    Final {
        file: &'a str,
        #[serde(flatten)]
        segment: SegmentFields<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        alternatives: Option<Vec<AlternativeFields<'a>>>,
    },
    End {
        file: &'a str,
        duration_s: f64,
    },
    Error {
        file: &'a str,
        message: String,
    },
}

#[derive(Debug, Serialize)]
struct SegmentFields<'a> {
    start_s: f64,
    end_s: f64,
    text: &'a str,
    words: Vec<WordFields<'a>>,
}

#[derive(Debug, Serialize)]
struct WordFields<'a> {
    text: &'a str,
    start_s: f64,
    end_s: f64,
    confidence: f64,
}

#[derive(Debug, Serialize)]
struct AlternativeFields<'a> {
    text: &'a str,
    acoustic: f64,
    language: f64,
    score: f64,
}

impl<'a> From<&'a Alternative> for AlternativeFields<'a> {
    fn from(alternative: &'a Alternative) -> Self {
        let Alternative { text, acoustic, language, score } = alternative;
        Self { text, acoustic: rounded(*acoustic), language: rounded(*language), score: rounded(*score) }
    }
}

impl<'a> From<&'a Segment> for SegmentFields<'a> {
    fn from(segment: &'a Segment) -> Self {
        let word = |word: &'a Word| WordFields {
            text: &word.text,
            start_s: rounded(word.start_s),
            end_s: rounded(word.end_s),
            confidence: rounded(word.confidence.into()),
        };
        Self {
            start_s: rounded(segment.start_s),
            end_s: rounded(segment.end_s),
            text: &segment.text,
            words: segment.words.iter().map(word).collect(),
        }
    }
}

/// Times are true to some hundredths of a second and scores to less, so more than three decimals would pretend.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Event {
        let words = text.split(' ').map(|text| Word { text: text.into(), start_s: 0.04, end_s: 0.5, confidence: 0.75 });
        Event::Final(Segment::new(words.collect()).unwrap())
    }

    fn written(format: Format, write: impl FnOnce(&mut Output<&mut Vec<u8>>) -> Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut Output::new(&mut out, format)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_file_that_was_heard_has_a_line_of_text() {
        let write = |output: &mut Output<&mut Vec<u8>>| {
            output.event("a.wav", &said("one two"))?;
            output.event("a.wav", &said("three"))?;
            output.end("a.wav", 60.0)?;
            output.end("silence.wav", 1.0)?;
            output.event("broken.wav", &said("four"))?;
            output.error("broken.wav", &Error::audio("broken.wav", "breaks off"))?;
            output.end("silence.wav", 1.0)
        };
        assert_eq!(written(Format::Text { names: false }, write), "one two\nthree\n\nfour\n\n");
        assert_eq!(
            written(Format::Text { names: true }, write),
            "a.wav: one two\na.wav: three\nsilence.wav: \nbroken.wav: four\nsilence.wav: \n"
        );
    }

    #[test]
    fn json_lines_are_those_of_the_protocol() {
        let json = |partials, alternatives| Format::Json { partials, alternatives };
        let write = |output: &mut Output<&mut Vec<u8>>| {
            let Event::Final(segment) = said("one") else { unreachable!() };
            output.event("a.wav", &Event::Partial(segment.clone()))?;
            output.event("a.wav", &Event::Final(segment))?;
            output.end("a.wav", 1.00049)?;
            output.error("b.wav", &Error::audio("b.wav", "breaks off"))
        };
        let segment = r#""file":"a.wav","start_s":0.04,"end_s":0.5,"text":"one","words":[{"text":"one","start_s":0.04,"end_s":0.5,"confidence":0.75}]}"#;
        let partial = format!(r#"{{"type":"partial",{segment}"#);
        let rest = format!(
            "{{\"type\":\"final\",{segment}\n{}\n{}\n",
            r#"{"type":"end","file":"a.wav","duration_s":1.0}"#,
            r#"{"type":"error","file":"b.wav","message":"b.wav: breaks off"}"#
        );
        assert_eq!(written(json(false, false), write), rest);
        assert_eq!(written(json(true, false), write), format!("{partial}\n{rest}"));
        let write = |output: &mut Output<&mut Vec<u8>>| {
            let Event::Final(mut segment) = said("one") else { unreachable!() };
            segment.alternatives = ["one", ""]
                .map(|text| Alternative { text: text.into(), acoustic: -0.12345, language: -3.0, score: -1.0 })
                .into();
            output.event("a.wav", &Event::Final(segment))
        };
        let scores = r#""acoustic":-0.123,"language":-3.0,"score":-1.0"#;
        let alternatives = format!(r#""alternatives":[{{"text":"one",{scores}}},{{"text":"",{scores}}}]"#);
        let line = rest.lines().next().unwrap().strip_suffix('}').unwrap();
        assert_eq!(written(json(false, true), write), format!("{line},{alternatives}}}\n"));
    }
}
