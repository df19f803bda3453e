//! What a recogniser says: words with their times, partial and final.

/// A word and when it was said.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// Its letters; never empty, without spaces.
    pub text: String,
    /// Start in seconds from the start of the stream.
    pub start_s: f64,
    /// End in seconds from the start of the stream, never before the start.
    pub end_s: f64,
    /// How sure the recogniser is, in 0 … 1.
    pub confidence: f32,
}

/// A stretch of speech: one word or more.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// The words joined by single spaces.
    pub text: String,
    /// Start of the first word in seconds from the start of the stream.
    pub start_s: f64,
    /// End of the last word in seconds from the start of the stream.
    pub end_s: f64,
    /// The words in the order they were said.
    pub words: Vec<Word>,
    /// How many characters (Unicode scalar values) of the text, from its start, will not change any more; all in a final.
    pub stable_chars: usize,
    /// How else it may be read, best first, this reading among them. Empty in partials, and where nobody searched.
    pub alternatives: Vec<Alternative>,
}

/// One reading of a segment and how it was judged, in natural logarithms.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// The words joined by single spaces; empty if the reading is that nothing was said.
    pub text: String,
    /// Of the text given the sound.
    pub acoustic: f64,
    /// Of the text by the language model; 0 without one.
    pub language: f64,
    /// Weighed together, with word bonus and hot words: what the readings are ordered by.
    pub score: f64,
}

impl Segment {
    /// The segment of these words; `None` if there are none, for nothing said is no segment.
    pub fn new(words: Vec<Word>) -> Option<Self> {
        let (start_s, end_s) = (words.first()?.start_s, words.last()?.end_s);
        let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
        let stable_chars = text.chars().count();
        Some(Self { text, start_s, end_s, words, stable_chars, alternatives: Vec::new() })
    }
}

/// What a recogniser reports while sound is pushed.
///
/// - A partial tells the present reading of what was said since the last final. The next partial or final replaces it, and
///   may rewrite all but its stable beginning, which never gets shorter.
/// - A final never changes, and what it says is not said again. A partial of which something is stable is
///   followed by the final of its segment.
/// - Neither is ever empty. A partial that tells nothing new is not sent.
/// - Noise is not told: a segment is, once it has a word that the recogniser is sure enough of.
/// - Times never run backwards: within a segment from word to word, and no segment starts before the last final's end.
/// - The final texts of a stream joined by spaces are its transcript.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The present reading, which may still change.
    Partial(Segment),
    /// What was said.
    Final(Segment),
}

impl Event {
    /// The segment, partial or final.
    pub fn segment(&self) -> &Segment {
        match self {
            Self::Partial(segment) | Self::Final(segment) => segment,
        }
    }

    /// The same, `seconds` later.
    pub fn later(mut self, seconds: f64) -> Self {
        let (Self::Partial(segment) | Self::Final(segment)) = &mut self;
        segment.start_s += seconds;
        segment.end_s += seconds;
        for word in &mut segment.words {
            word.start_s += seconds;
            word.end_s += seconds;
        }
        self
    }

    /// Whether the segment never changes.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Final(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_spans_its_words() {
        let word = |text: &str, start_s, end_s| Word { text: text.into(), start_s, end_s, confidence: 1.0 };
        let segment = Segment::new(vec![word("no", 1.0, 1.5), word("frills", 1.75, 2.0)]).unwrap();
        assert_eq!((segment.text.as_str(), segment.start_s, segment.end_s), ("no frills", 1.0, 2.0));
        assert_eq!(Segment::new(Vec::new()), None);
    }
}
