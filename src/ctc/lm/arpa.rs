//! ARPA files: n-grams with log10 probabilities and back-offs as text, the form in which tools exchange models.

use std::io::{self, Write};
use std::path::Path;

use super::ngrams::{Listed, NGrams};
use super::trie::Trie;
use super::vocabulary::{END, RESERVED, START, UNKNOWN, Vocabulary};
use super::{LEAST_LOG10, MAX_ORDER};
use crate::lines::Lines;
use crate::{Error, Result};

/// N-grams of one order that are read at most; each takes some 20 to 50 bytes of memory meanwhile.
const MOST_NGRAMS: usize = 1 << 27;

/// Reads an ARPA file of order 1 to 6, plain or gzipped.
///
/// # Errors
/// When the file cannot be read or is no such model, with the line at fault: counts that differ from the header's,
/// probabilities above one, n-grams that are there twice, whose words are not among the 1-grams or whose context (the
/// n-gram without the last word) is missing or has no back-off.
pub fn read(path: &Path) -> Result<NGrams> {
    read_lines(Lines::open(path)?)
}

/// As [`read`], from lines.
///
/// # Errors
/// As [`read`].
pub fn read_lines(lines: Lines) -> Result<NGrams> {
    let mut reader = Reader { lines, vocabulary: Vocabulary::new() };
    let counts = reader.counts()?;
    let mut listed = Vec::new();
    for (order, &count) in (1..).zip(&counts) {
        let ngrams =
            if order == 1 { reader.words(count, counts.len()) } else { reader.ngrams(order, count, counts.len()) };
        listed.push(ngrams?);
        reader.section_end(order, counts.len())?;
    }
    let Reader { lines, vocabulary } = reader;
    NGrams::assemble(vocabulary, listed).map_err(|(line, problem)| Error::line(lines.path(), line, problem))
}

/// Writes an ARPA file. Reading it again gives the same model.
///
/// # Errors
/// What the operating system said.
pub fn write(model: &NGrams, to: &mut impl Write) -> io::Result<()> {
    writeln!(to, "\\data\\")?;
    for (order, count) in (1..).zip(model.counts()) {
        writeln!(to, "ngram {order}={count}")?;
    }
    for order in 1..=model.order() {
        writeln!(to, "\n\\{order}-grams:")?;
        for (words, path) in model.each(order) {
            let node = path[order - 1];
            write!(to, "{}\t{}", model.log_prob(order, node), model.vocabulary.spell(&words[..order]))?;
            // An n-gram that a longer one begins with always has one, even of 0.
            match model.back_off(order, node) {
                Some(back_off) => writeln!(to, "\t{back_off}")?,
                None => writeln!(to)?,
            }
        }
    }
    writeln!(to, "\n\\end\\")
}

struct Reader {
    lines: Lines,
    vocabulary: Vocabulary,
}

/// A line of a section.
struct Entry {
    log_prob: f32,
    /// NaN where there is none.
    back_off: f32,
    line: u32,
}

impl Reader {
    fn error(&self, problem: impl Into<String>) -> Error {
        self.lines.error(problem)
    }

    /// The next line that is not blank, trimmed; nothing at the end of the file.
    fn full_line(&mut self) -> Result<Option<String>> {
        while let Some(line) = self.lines.next()? {
            if !line.trim().is_empty() {
                return Ok(Some(line.trim().to_owned()));
            }
        }
        Ok(None)
    }

    /// The header: how many n-grams of each order there are.
    fn counts(&mut self) -> Result<Vec<usize>> {
        if self.full_line()?.as_deref() != Some("\\data\\") {
            return Err(self.error("not an ARPA file: it does not begin with \\data\\"));
        }
        let mut counts = Vec::new();
        loop {
            let Some(line) = self.full_line()? else { return Err(self.error("ends within the header")) };
            if line.starts_with('\\') && !counts.is_empty() {
                return self.heading(&line, 1).map(|()| counts);
            }
            let pair = line.strip_prefix("ngram").and_then(|pair| pair.split_once('='));
            let numbers = pair.map(|(order, count)| (order.trim().parse::<usize>(), count.trim().parse::<usize>()));
            let Some((Ok(order), Ok(count))) = numbers else {
                return Err(self.error("expected `ngram ORDER=COUNT`"));
            };
            if order != counts.len() + 1 {
                return Err(self.error(format!("expected the number of {}-grams", counts.len() + 1)));
            }
            if order > MAX_ORDER {
                return Err(
                    self.error(format!("n-grams of more than {MAX_ORDER} words are not supported; prune the model"))
                );
            }
            if count > MOST_NGRAMS {
                return Err(self.error(format!("more than {MOST_NGRAMS} n-grams of one order; prune the model")));
            }
            counts.push(count);
        }
    }

    fn heading(&self, line: &str, order: usize) -> Result<()> {
        if line.strip_prefix('\\').and_then(|line| line.strip_suffix("-grams:")) == Some(order.to_string().as_str()) {
            Ok(())
        } else {
            Err(self.error(format!("expected \\{order}-grams:")))
        }
    }

    /// What comes after the section of `order`.
    fn section_end(&mut self, order: usize, highest: usize) -> Result<()> {
        let expected = if order < highest { format!("\\{}-grams:", order + 1) } else { "\\end\\".to_owned() };
        match self.full_line()? {
            None => Err(self.error(format!("the file ends without {expected}"))),
            Some(line) if line.starts_with('\\') && order < highest => self.heading(&line, order + 1),
            Some(line) if line == expected => Ok(()),
            Some(_) => Err(self.error(format!("expected {expected}: more {order}-grams than the header says"))),
        }
    }

    /// The next line of the section of `order`, whose words are given to `word`.
    fn entry(
        &mut self,
        order: usize,
        highest: usize,
        mut word: impl FnMut(&mut Vocabulary, &str) -> Result<(), String>,
    ) -> Result<Entry> {
        let Self { lines, vocabulary } = self;
        let parsed = match lines.next()?.map(str::trim) {
            None => Err(format!("the file ends within the {order}-grams")),
            Some(line) if line.is_empty() || (line.starts_with('\\') && !line.contains(['\t', ' '])) => {
                Err(format!("fewer {order}-grams than the header says"))
            }
            Some(line) => (|| {
                let mut fields = line.split(['\t', ' ']).filter(|field| !field.is_empty());
                let log_prob = number(fields.next())?;
                if log_prob > 0.0 {
                    return Err(format!("the log-probability {log_prob} is above 0"));
                }
                for _ in 0..order {
                    word(vocabulary, fields.next().ok_or_else(|| format!("fewer than {order} words"))?)?;
                }
                let back_off = fields.next().map_or(Ok(f32::NAN), |field| number(Some(field)))?;
                if !back_off.is_nan() && order == highest {
                    return Err(format!("n-grams of the highest order have {order} words and no back-off"));
                }
                if fields.next().is_some() {
                    return Err(format!("more than {order} words"));
                }
                Ok((log_prob, back_off))
            })(),
        };
        let number = self.lines.number();
        let line = u32::try_from(number).map_err(|_| self.error("too many lines; prune the model"))?;
        parsed.map(|(log_prob, back_off)| Entry { log_prob, back_off, line }).map_err(|problem| self.error(problem))
    }

    /// The 1-grams, which are the words; they are listed by their ids.
    fn words(&mut self, count: usize, highest: usize) -> Result<Listed> {
        let mut words = Listed::new(1);
        let mut there = [false; RESERVED.len()];
        for _ in 0..count {
            let entry = self.entry(1, highest, |vocabulary, word| {
                let word = if word == "<UNK>" { RESERVED[UNKNOWN as usize] } else { word };
                let id = vocabulary.intern(word).ok_or("too many words; prune the model")?;
                if let Some(there) = there.get_mut(id as usize) {
                    *there = true;
                }
                words.words.push(id);
                Ok(())
            })?;
            words.push(entry.log_prob, entry.back_off, entry.line);
        }
        for id in [START, END] {
            if !there[id as usize] {
                return Err(self.error(format!("no {} among the 1-grams", RESERVED[id as usize])));
            }
        }
        if !there[UNKNOWN as usize] {
            words.words.push(UNKNOWN);
            words.push(LEAST_LOG10, f32::NAN, 0);
        }
        Ok(words)
    }

    fn ngrams(&mut self, order: usize, count: usize, highest: usize) -> Result<Listed> {
        let mut ngrams = Listed::new(order);
        for _ in 0..count {
            let entry = self.entry(order, highest, |vocabulary, word| {
                let word = if word == "<UNK>" { RESERVED[UNKNOWN as usize] } else { word };
                let id = vocabulary.id(word).ok_or_else(|| format!("{word:?} is not among the 1-grams"))?;
                ngrams.words.push(id);
                Ok(())
            })?;
            ngrams.push(entry.log_prob, entry.back_off, entry.line);
        }
        Ok(ngrams)
    }
}

/// A finite number.
fn number(field: Option<&str>) -> Result<f32, String> {
    let field = field.ok_or("a number is missing")?;
    let number = field.parse::<f32>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| format!("{field:?} is not a finite number"))
}
