//! The lines of `docs/protocol.md`.

use dfcnn::Error;
use dfcnn::transcript::{Alternative, Segment, Word};
use serde::Serialize;

/// A reading of `file` that may still change.
pub fn partial(file: &str, segment: &Segment) -> String {
    line(&Line::Partial { file, segment: segment.into(), stable_chars: segment.stable_chars })
}

/// What was said in `file`.
pub fn finished(file: &str, segment: &Segment, alternatives: bool) -> String {
    let alternatives = alternatives.then(|| segment.alternatives.iter().map(Into::into).collect());
    line(&Line::Final { file, segment: segment.into(), alternatives })
}

/// All of `file` was heard.
pub fn end(file: &str, duration_s: f64) -> String {
    line(&Line::End { file, duration_s: rounded(duration_s) })
}

/// `file` failed.
pub fn error(file: &str, error: &Error) -> String {
    line(&Line::Error { file, message: error.to_string() })
}

fn line(line: &Line) -> String {
    serde_json::to_string(line).expect("strings and finite numbers always serialize") + "\n"
}

/// A line of the protocol.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Partial {
        file: &'a str,
        #[serde(flatten)]
        segment: SegmentFields<'a>,
        stable_chars: usize,
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
