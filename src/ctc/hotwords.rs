//! Hot words: phrases that the beam search is to expect, names for example.
//!
//! Their characters are an automaton that finds all of them at once (Aho & Corasick 1975). Each character of a phrase
//! earns its part of the boost in advance, and what was advanced is taken back when the phrase breaks off.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io::Read;
use std::ops::Bound;
use std::path::Path;
use std::str::FromStr;

use crate::tokens::Tokens;
use crate::{Error, Result};

const MAX_PHRASES: usize = 10_000;
const MAX_PHRASE_CHARS: usize = 200;
const MAX_BOOST: f64 = 100.0;
const MAX_FILE_BYTES: usize = 1 << 20;

/// A phrase to expect.
#[derive(Debug, Clone, PartialEq)]
pub struct HotWord {
    /// One word or several.
    pub phrase: String,
    /// What a hypothesis gains by it, as a difference of natural logarithms; above 0, at most 100.
    pub boost: f64,
}

impl HotWord {
    /// The boost where none is given.
    pub const DEFAULT_BOOST: f64 = 5.0;

    /// Reads a file with a phrase on each line, in UTF-8, as [`HotWord::from_str`] does; empty lines are skipped.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is no phrase.
    pub fn load(path: impl AsRef<Path>) -> Result<Vec<Self>> {
        let path = path.as_ref();
        let file = std::fs::File::open(path).map_err(Error::read(path))?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(Error::read(path))?;
        if bytes.len() > MAX_FILE_BYTES {
            return Err(Error::data(path, format!("more than {MAX_FILE_BYTES} bytes; this is no list of hot words")));
        }
        let text = String::from_utf8(bytes).map_err(|_| Error::data(path, "not UTF-8; save it as UTF-8"))?;
        let lines = text.strip_prefix('\u{feff}').unwrap_or(&text).lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(index, line)| line.parse().map_err(|error| Error::line(path, index + 1, format!("{error}"))))
            .collect()
    }
}

impl FromStr for HotWord {
    type Err = Error;

    /// `phrase` or `phrase:boost`.
    fn from_str(text: &str) -> Result<Self> {
        let (phrase, boost) = match text.rsplit_once(':') {
            None => (text, Self::DEFAULT_BOOST),
            Some((phrase, boost)) => match boost.trim().parse() {
                Ok(boost) => (phrase, boost),
                Err(_) => {
                    return Err(Error::setting(named(text), format!("{boost:?} is no number; write phrase:boost")));
                }
            },
        };
        let phrase = phrase.trim().to_owned();
        if phrase.is_empty() {
            return Err(Error::setting(named(text), "no phrase; write phrase or phrase:boost"));
        }
        if !(boost > 0.0 && boost <= MAX_BOOST) {
            let problem = format!("the boost {boost} is not above 0 and at most {MAX_BOOST}; try 3 to 10");
            return Err(Error::setting(named(text), problem));
        }
        Ok(Self { phrase, boost })
    }
}

fn named(phrase: &str) -> String {
    format!("hot word {phrase:?}")
}

/// Hot words in the spelling of a vocabulary. Where it has spaces, only whole words are found.
#[derive(Debug, Clone)]
pub struct HotWords {
    states: Vec<State>,
    arcs: HashMap<(u32, char), u32>,
    /// The single words of all phrases, sorted.
    words: BTreeSet<String>,
    /// The state before the first character.
    start: u32,
    separated: bool,
}

/// What has been read: the longest end of it that a phrase begins with.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The next shorter one.
    fail: u32,
    /// In advance for the phrases that may still complete.
    advance: f64,
    /// For the phrases that complete here.
    granted: f64,
}

impl HotWords {
    const ROOT: u32 = 0;

    /// Of these phrases, which must be spelled with the characters of `tokens`. Of equal phrases the highest boost counts.
    ///
    /// # Errors
    /// When a phrase has other characters, more than 200 of them, a boost outside (0, 100], or there are more than 10,000.
    pub fn new(phrases: &[HotWord], tokens: &Tokens) -> Result<Self> {
        if phrases.len() > MAX_PHRASES {
            return Err(Error::setting("hot words", format!("{} phrases; at most {MAX_PHRASES}", phrases.len())));
        }
        let characters: HashSet<char> = (0..tokens.len() as u32)
            .filter_map(|id| tokens.piece(id))
            .flat_map(|piece| piece.chars().collect::<Vec<_>>())
            .collect();
        let separated = characters.contains(&' ');
        let mut hot = Self {
            states: vec![State::default()],
            arcs: HashMap::new(),
            words: BTreeSet::new(),
            start: Self::ROOT,
            separated,
        };
        let mut boosts: HashMap<u32, f64> = HashMap::new();
        let mut paths = Vec::new();
        for HotWord { phrase, boost } in phrases {
            let words: Vec<&str> = phrase.split_whitespace().collect();
            let path = hot.spell(&words, &characters).map_err(|problem| Error::setting(named(phrase), problem))?;
            if !(*boost > 0.0 && *boost <= MAX_BOOST) {
                return Err(Error::setting(
                    named(phrase),
                    format!("the boost {boost} is not above 0 and at most {MAX_BOOST}"),
                ));
            }
            if let Some(&end) = path.last() {
                boosts.entry(end).and_modify(|old| *old = old.max(*boost)).or_insert(*boost);
                paths.push((path, *boost));
            }
        }
        for (path, boost) in paths {
            // The space that begins a word is no part of the way: every word has it.
            let skipped = usize::from(separated);
            let steps = path.len() - skipped;
            for (done, &state) in path[..path.len() - 1].iter().enumerate().skip(skipped) {
                let advance = &mut hot.states[state as usize].advance;
                *advance = advance.max(boost * (done + 1 - skipped) as f64 / steps as f64);
            }
        }
        boosts.into_iter().for_each(|(end, boost)| hot.states[end as usize].granted = boost);
        hot.link();
        if separated {
            hot.start = hot.next(Self::ROOT, ' ');
        }
        Ok(hot)
    }

    /// Adds a phrase's states; gives them in order.
    fn spell(&mut self, words: &[&str], characters: &HashSet<char>) -> Result<Vec<u32>, String> {
        let joined = if self.separated { format!(" {} ", words.join(" ")) } else { words.concat() };
        if words.is_empty() {
            return Err("no phrase".into());
        }
        if joined.chars().count() > MAX_PHRASE_CHARS {
            return Err(format!("more than {MAX_PHRASE_CHARS} characters"));
        }
        if let Some(foreign) = joined.chars().find(|c| !characters.contains(c)) {
            return Err(format!(
                "the model's vocabulary has no {foreign:?}; spell the phrase as the model writes text"
            ));
        }
        if self.separated {
            self.words.extend(words.iter().map(|&word| word.to_owned()));
        } else {
            self.words.extend(joined.chars().map(String::from));
        }
        let mut state = Self::ROOT;
        let states = &mut self.states;
        let path = joined.chars().map(|c| {
            state = *self.arcs.entry((state, c)).or_insert_with(|| {
                states.push(State::default());
                states.len() as u32 - 1
            });
            state
        });
        Ok(path.collect())
    }

    /// Makes the failure links, breadth first, and passes on what shorter states earn.
    fn link(&mut self) {
        let mut children: Vec<Vec<(char, u32)>> = vec![Vec::new(); self.states.len()];
        for (&(state, c), &child) in &self.arcs {
            children[state as usize].push((c, child));
        }
        let mut waiting = VecDeque::from([Self::ROOT]);
        while let Some(state) = waiting.pop_front() {
            for &(c, child) in &children[state as usize] {
                let fail =
                    if state == Self::ROOT { Self::ROOT } else { self.next(self.states[state as usize].fail, c) };
                let shorter = self.states[fail as usize];
                let child_state = &mut self.states[child as usize];
                child_state.fail = fail;
                child_state.advance = child_state.advance.max(shorter.advance);
                child_state.granted += shorter.granted;
                waiting.push_back(child);
            }
        }
    }

    fn next(&self, mut state: u32, c: char) -> u32 {
        loop {
            match self.arcs.get(&(state, c)) {
                Some(&next) => return next,
                None if state == Self::ROOT => return Self::ROOT,
                None => state = self.states[state as usize].fail,
            }
        }
    }

    /// The state before the first character.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// The state after one more character, and what a hypothesis gains (or loses) by it. Words are parted by one space.
    pub fn advance(&self, state: u32, c: char) -> (u32, f64) {
        let next = self.next(state, c);
        let State { advance, granted, .. } = self.states[next as usize];
        (next, granted + advance - self.states[state as usize].advance)
    }

    /// What a hypothesis gains (or loses) when the text ends; `open`: in a word.
    pub fn finish(&self, state: u32, open: bool) -> f64 {
        let (state, gain) = if open && self.separated { self.advance(state, ' ') } else { (state, 0.0) };
        gain - self.states[state as usize].advance
    }

    /// The most that one character can gain.
    pub fn greatest_gain(&self) -> f64 {
        self.states.iter().map(|state| state.advance + state.granted).fold(0.0, f64::max)
    }

    /// Whether a phrase holds a word that begins with `start`.
    pub fn begins(&self, start: &str) -> bool {
        let from = (Bound::Included(start), Bound::Unbounded);
        self.words.range::<str, _>(from).next().is_some_and(|word| word.starts_with(start))
    }

    /// Whether a phrase holds this word.
    pub fn contains(&self, word: &str) -> bool {
        self.words.contains(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters() -> Tokens {
        let lines: Vec<String> = ('a'..='z').map(String::from).collect();
        Tokens::parse("tokens.txt", &format!("<b>\n<space>\n{}\n", lines.join("\n"))).unwrap()
    }

    fn hot(phrases: &[&str], tokens: &Tokens) -> HotWords {
        let phrases: Vec<HotWord> = phrases.iter().map(|phrase| phrase.parse().unwrap()).collect();
        HotWords::new(&phrases, tokens).unwrap()
    }

    /// The gains of each character, and of the end.
    fn gains(hot: &HotWords, text: &str) -> Vec<f64> {
        let mut state = hot.start();
        let mut gains = Vec::new();
        for c in text.chars() {
            let (next, gain) = hot.advance(state, c);
            state = next;
            gains.push((gain * 1e6).round() / 1e6);
        }
        gains.push(hot.finish(state, !text.is_empty() && !text.ends_with(' ')));
        gains
    }

    fn total(hot: &HotWords, text: &str) -> f64 {
        gains(hot, text).iter().sum()
    }

    #[test]
    fn a_phrase_earns_its_boost_bit_by_bit_and_loses_it_when_it_breaks_off() {
        let hot = hot(&["abc:8"], &letters());
        assert_eq!(gains(&hot, "abc"), [2.0, 2.0, 2.0, 2.0]);
        assert_eq!(gains(&hot, "abc "), [2.0, 2.0, 2.0, 2.0, 0.0]);
        assert_eq!(gains(&hot, "abd"), [2.0, 2.0, -4.0, 0.0]);
        assert_eq!(gains(&hot, "ab"), [2.0, 2.0, -4.0]);
        assert_eq!(gains(&hot, "abcd"), [2.0, 2.0, 2.0, -6.0, 0.0]);
        assert_eq!(gains(&hot, "xabc"), [0.0; 5]);
        assert_eq!((total(&hot, "abc x abc abcd"), total(&hot, "")), (16.0, 0.0));
    }

    #[test]
    fn phrases_within_phrases() {
        let hot = hot(&["new york:4", "york city:2", "new:1", "new york city:6"], &letters());
        for (text, boost) in [
            ("new york", 5.0),
            ("new yorks", 1.0),
            ("york city", 2.0),
            ("new york city", 13.0),
            ("new york new york", 10.0),
            ("newyork", 0.0),
            ("new york cities", 5.0),
        ] {
            assert!((total(&hot, text) - boost).abs() < 1e-5, "{text}: {}", total(&hot, text));
            assert!(gains(&hot, text).iter().all(|&gain| gain <= hot.greatest_gain()));
        }
        assert!(hot.contains("york") && !hot.contains("new york"));
        assert!(
            hot.begins("cit") && hot.begins("york") && !hot.begins("yorks") && !hot.begins("a") && !hot.begins("z")
        );
        assert_eq!(total(&self::hot(&["a:2", "a:7", "a:3"], &letters()), "a"), 7.0);
    }

    #[test]
    fn without_spaces_a_phrase_is_found_anywhere() {
        let tokens = Tokens::parse("tokens.txt", "<b>\n中\n文\n国\n").unwrap();
        let hot = hot(&["中国:4"], &tokens);
        assert_eq!(gains(&hot, "文中国文"), [0.0, 2.0, 2.0, 0.0, 0.0]);
        assert_eq!(gains(&hot, "中文中"), [2.0, -2.0, 2.0, -2.0]);
    }

    #[test]
    fn what_is_no_hot_word_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "no phrase"),
            (" :3", "no phrase"),
            ("a:b", "\"b\" is no number"),
            ("a:0", "above 0"),
            ("a:nan", "above 0"),
            ("a:-3", "above 0"),
            ("a:1e9", "at most 100"),
        ] {
            let error = text.parse::<HotWord>().unwrap_err().to_string();
            assert!(error.starts_with("hot word ") && error.contains(reason), "{error}");
        }
        let phrase = |phrase: &str| [HotWord { phrase: phrase.into(), boost: 1.0 }];
        for (phrases, reason) in [
            (&phrase("naïve")[..], "has no 'ï'"),
            (&phrase(&"a".repeat(500)), "more than 200"),
            (&phrase(" "), "no phrase"),
            (&vec![phrase("a")[0].clone(); MAX_PHRASES + 1], "at most 10000"),
            (&[HotWord { phrase: "a".into(), boost: f64::NAN }], "above 0"),
        ] {
            let error = HotWords::new(phrases, &letters()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn files_of_hot_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hot.txt");
        std::fs::write(&path, "\u{feff}new york:4\r\n\n  siobhan \n").unwrap();
        let found: Vec<_> = HotWord::load(&path).unwrap().into_iter().map(|hot| (hot.phrase, hot.boost)).collect();
        assert_eq!(found, [("new york".to_owned(), 4.0), ("siobhan".to_owned(), HotWord::DEFAULT_BOOST)]);
        for (bytes, reason) in
            [(&b"a\n\nb:x\n"[..], "hot.txt:3: "), (b"\xff\n", "UTF-8"), (&vec![b'a'; MAX_FILE_BYTES + 1], "bytes")]
        {
            std::fs::write(&path, bytes).unwrap();
            assert!(HotWord::load(&path).unwrap_err().to_string().contains(reason));
        }
        assert!(matches!(HotWord::load(folder.path().join("none")), Err(Error::Read { .. })));
    }
}
