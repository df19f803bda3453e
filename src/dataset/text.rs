//! From text as people write it to the tokens of a vocabulary, or the reason why it cannot be.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use crate::tokens::Tokens;

/// Why an utterance is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// Nothing is left of its text.
    Empty,
    /// A digit: how it was read aloud cannot be known.
    Number,
    /// A character that the vocabulary cannot spell.
    Character(char),
    /// Shorter than wanted.
    TooShort,
    /// Longer than wanted.
    TooLong,
    /// More tokens than the network's output has steps, a blank between equal neighbours included.
    TooDense,
    /// Its sound cannot be decoded.
    Sound,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "no text"),
            Self::Number => write!(f, "digits; spell them out"),
            Self::Character(c) => write!(f, "{c:?} (U+{:04X}) outside the vocabulary", u32::from(*c)),
            Self::TooShort => write!(f, "too short"),
            Self::TooLong => write!(f, "too long"),
            Self::TooDense => write!(f, "more tokens than output steps"),
            Self::Sound => write!(f, "sound that cannot be decoded"),
        }
    }
}

/// Brings text into the form of a vocabulary.
#[derive(Debug, Clone)]
pub struct Normalizer {
    tokens: Tokens,
    characters: HashSet<char>,
    case: Case,
    /// Whether words are told apart.
    spaces: bool,
    /// Whether pieces begin with their space, as in SentencePiece, so that the text must begin with one too.
    leading_space: bool,
    /// Characters of the longest token.
    longest: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
    Both,
}

impl Normalizer {
    /// For this vocabulary.
    pub fn new(tokens: &Tokens) -> Self {
        let pieces: Vec<String> = (0..tokens.len() as u32).filter_map(|id| tokens.piece(id)).collect();
        let characters: HashSet<char> = pieces.iter().flat_map(|piece| piece.chars()).collect();
        let has = |test: fn(&char) -> bool| characters.iter().any(test);
        let case = match (has(|c| c.is_lowercase()), has(|c| c.is_uppercase())) {
            (true, false) => Case::Lower,
            (false, true) => Case::Upper,
            _ => Case::Both,
        };
        Self {
            case,
            spaces: characters.contains(&' '),
            leading_space: pieces.iter().any(|piece| piece.len() > 1 && piece.starts_with(' ')),
            longest: pieces.iter().map(|piece| piece.chars().count()).max().unwrap_or(0),
            characters,
            tokens: tokens.clone(),
        }
    }

    /// The text in the vocabulary's case and characters, words parted by single spaces: typographic apostrophes become
    /// plain ones, hyphens spaces, and punctuation that the vocabulary lacks goes away. An empty text stays empty: it says
    /// that nothing is spoken, as in noise or music.
    ///
    /// # Errors
    /// When a digit or another character that would be spoken is not in the vocabulary, or nothing is left of a text.
    pub fn normalize(&self, text: &str) -> Result<String, Dropped> {
        let cased = match self.case {
            Case::Lower => text.to_lowercase(),
            Case::Upper => text.to_uppercase(),
            Case::Both => text.to_owned(),
        };
        let mut normal = String::with_capacity(cased.len());
        for c in cased.chars() {
            let c = if self.characters.contains(&c) { c } else { plain(c) };
            if c.is_whitespace() {
                normal.push(' ');
            } else if self.characters.contains(&c) {
                normal.push(c);
            } else if is_hyphen(c) {
                normal.push(' ');
            } else if c.is_numeric() {
                return Err(Dropped::Number);
            } else if !is_silent(c) {
                return Err(Dropped::Character(c));
            }
        }
        let words: Vec<&str> =
            normal.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).collect();
        let normal = words.join(if self.spaces { " " } else { "" });
        if normal.is_empty() && !text.trim().is_empty() { Err(Dropped::Empty) } else { Ok(normal) }
    }

    /// The token ids of normalised text, at each place the longest token that fits.
    ///
    /// # Errors
    /// When no token begins with what comes next.
    pub fn encode(&self, normal: &str) -> Result<Vec<u32>, Dropped> {
        let text = if self.leading_space && !normal.is_empty() { format!(" {normal}") } else { normal.to_owned() };
        let mut ids = Vec::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(next) = rest.chars().next() {
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).take(self.longest).collect::<Vec<_>>();
            let token = ends.into_iter().rev().find_map(|end| Some((self.tokens.id(&rest[..end])?, end)));
            let (id, end) = token.filter(|(id, _)| *id != self.tokens.blank()).ok_or(Dropped::Character(next))?;
            ids.push(id);
            rest = &rest[end..];
        }
        Ok(ids)
    }
}

fn plain(c: char) -> char {
    match c {
        '’' | '‘' | 'ʼ' | '`' | '´' | '＇' => '\'',
        _ => c,
    }
}

fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '−' | '_' | '/')
}

/// Punctuation that nobody speaks. `&`, `%`, `$` and the like are spoken and stop an utterance instead.
fn is_silent(c: char) -> bool {
    matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '"' | '\'' | '(' | ')' | '[' | ']' | '{' | '}' | '…' | '¿' | '¡')
        || matches!(
            c,
            '“' | '”'
                | '„'
                | '‟'
                | '‚'
                | '‛'
                | '«'
                | '»'
                | '‹'
                | '›'
                | '。'
                | '、'
                | '，'
                | '！'
                | '？'
                | '；'
                | '：'
        )
        || matches!(
            c,
            '「' | '」' | '『' | '』' | '《' | '》' | '（' | '）' | '\u{200b}'..='\u{200f}' | '\u{ad}' | '\u{feff}'
        )
}

/// Which utterances training can use.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The vocabulary's text rules.
    pub normalizer: Normalizer,
    /// The shortest utterance wanted, in seconds.
    pub shortest_s: f64,
    /// The longest utterance wanted, in seconds.
    pub longest_s: f64,
}

impl Selection {
    /// The token ids of an utterance of `seconds` that becomes `steps` steps of the network's output.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn admit(&self, text: &str, seconds: f64, steps: usize) -> Result<Vec<u32>, Dropped> {
        if seconds < self.shortest_s {
            return Err(Dropped::TooShort);
        }
        if seconds > self.longest_s {
            return Err(Dropped::TooLong);
        }
        let ids = self.normalizer.encode(&self.normalizer.normalize(text)?)?;
        // CTC needs a blank between equal neighbours.
        let repeats = ids.windows(2).filter(|pair| pair[0] == pair[1]).count();
        if ids.len() + repeats > steps { Err(Dropped::TooDense) } else { Ok(ids) }
    }
}

/// What was used and what was not, and why.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Utterances used.
    pub used: Tally,
    /// Utterances not used, by reason.
    pub dropped: BTreeMap<Dropped, Tally>,
}

/// Utterances and how long they are together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// How many.
    pub utterances: usize,
    /// Seconds of sound.
    pub seconds: f64,
}

impl Report {
    /// Counts one utterance and passes on what it became.
    pub fn count<T>(&mut self, seconds: f64, outcome: Result<T, Dropped>) -> Option<T> {
        let (tally, value) = match outcome {
            Ok(value) => (&mut self.used, Some(value)),
            Err(reason) => (self.dropped.entry(reason).or_default(), None),
        };
        tally.utterances += 1;
        tally.seconds += seconds;
        value
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let line = |tally: &Tally| format!("{} utterances, {:.2} h", tally.utterances, tally.seconds / 3600.0);
        write!(f, "used: {}", line(&self.used))?;
        self.dropped.iter().try_for_each(|(reason, tally)| write!(f, "\ndropped, {reason}: {}", line(tally)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalizer(tokens: &str) -> Normalizer {
        Normalizer::new(&Tokens::parse("tokens.txt", tokens).unwrap())
    }

    fn letters(extra: &str, letters: std::ops::RangeInclusive<char>) -> Normalizer {
        normalizer(&("<b>\n".to_owned() + extra + &letters.map(|c| format!("{c}\n")).collect::<String>()))
    }

    #[test]
    fn text_takes_the_form_of_the_vocabulary() {
        let lower = letters("<space>\n'\n", 'a'..='z');
        for (text, normal) in [
            ("  Well-known “Dr.” O’Neill,\tsaid: it’s (so)!", Ok("well known dr o'neill said it's so")),
            ("wait — what…", Ok("wait what")),
            ("room 12", Err(Dropped::Number)),
            ("½ pint", Err(Dropped::Number)),
            ("café", Err(Dropped::Character('é'))),
            ("you & me", Err(Dropped::Character('&'))),
            ("...", Err(Dropped::Empty)),
            ("'", Err(Dropped::Empty)),
            ("", Ok("")),
            (" \t", Ok("")),
        ] {
            assert_eq!(lower.normalize(text).as_deref(), normal.as_ref().copied(), "{text}");
        }
        assert_eq!(letters("<space>\n", 'A'..='Z').normalize("It's on").as_deref(), Ok("ITS ON"));
        assert_eq!(letters(".\n", 'a'..='z').normalize("A b.").as_deref(), Ok("ab."));
        assert_eq!(letters("<space>\n1\n", 'a'..='z').normalize("A 1").as_deref(), Ok("a 1"));
        assert_eq!(normalizer("<b>\n中\n文\n").normalize("中 文。").as_deref(), Ok("中文"));
    }

    #[test]
    fn tokens_longest_first() {
        let lower = letters("<space>\n'\n", 'a'..='c');
        assert_eq!(lower.encode("ab c"), Ok(vec![3, 4, 1, 5]));
        assert_eq!(lower.encode("ad"), Err(Dropped::Character('d')));
        let pieces = normalizer("<b>\n▁\n▁the\nt\nh\ne\nre\nr\n");
        assert_eq!(pieces.encode("there the r"), Ok(vec![2, 6, 2, 1, 7]));
        assert_eq!(pieces.encode(&pieces.normalize("THE").unwrap()), Ok(vec![2]));
    }

    #[test]
    fn a_report_of_what_was_dropped() {
        let selection = Selection { normalizer: letters("<space>\n", 'a'..='z'), shortest_s: 0.5, longest_s: 9.0 };
        let mut report = Report::default();
        let cases = [("a bee", 1.0, 6), ("a bee", 1.0, 5), ("a", 0.1, 9), ("a", 10.0, 9), ("3", 1.0, 9), ("ß", 1.0, 9)];
        let admitted: Vec<_> = cases.map(|(text, s, steps)| report.count(s, selection.admit(text, s, steps))).into();
        assert_eq!(admitted[0].as_ref().map(Vec::len), Some(5));
        assert!(admitted[1..].iter().all(Option::is_none));
        assert_eq!(report.used, Tally { utterances: 1, seconds: 1.0 });
        let reasons: Vec<_> = report.dropped.keys().copied().collect();
        let expected =
            [Dropped::Number, Dropped::Character('ß'), Dropped::TooShort, Dropped::TooLong, Dropped::TooDense];
        assert_eq!(reasons, expected);
        assert!(report.to_string().contains("dropped, 'ß' (U+00DF) outside the vocabulary: 1 utterances, 0.00 h"));
    }
}
