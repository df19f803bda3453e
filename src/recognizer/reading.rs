//! The second half of the corridor: log-probabilities → tokens → words, segment by segment.

use crate::ctc::{Decoder, Emission, beam, best, words};
use crate::endpoint::Step;
use crate::time::StepClock;
use crate::tokens::Tokens;
use crate::transcript::{Alternative, Event, Segment, Word};

/// The best path as the end-pointer hears it.
pub struct BestPath {
    blank: u32,
    /// What the first step of each token is.
    steps: Vec<Step>,
    /// The token of the last step.
    last: u32,
}

impl BestPath {
    pub fn new(tokens: &Tokens) -> Self {
        let pieces: Vec<Option<String>> = (0..tokens.len() as u32).map(|token| tokens.piece(token)).collect();
        // Where nothing parts words, a segment may end after each token.
        let has_spaces = has_spaces(tokens);
        let step = |piece: &Option<String>| match piece {
            None => Step::Silence,
            Some(piece) if piece.trim().is_empty() => Step::Gap,
            Some(piece) if piece.starts_with(' ') || !has_spaces => Step::WordStart,
            Some(_) => Step::Speech,
        };
        Self { blank: tokens.blank(), steps: pieces.iter().map(step).collect(), last: tokens.blank() }
    }

    pub fn classes(&self) -> usize {
        self.steps.len()
    }

    /// Takes the next row of log-probabilities.
    pub fn push(&mut self, row: &[f32]) -> Step {
        let token = best(row).map_or(self.blank, |(token, _)| token);
        let begins = token != std::mem::replace(&mut self.last, token);
        match self.steps[token as usize] {
            Step::WordStart if !begins => Step::Speech,
            step => step,
        }
    }

    pub fn reset(&mut self) {
        self.last = self.blank;
    }
}

/// Whether the language parts words by spaces.
fn has_spaces(tokens: &Tokens) -> bool {
    (0..tokens.len() as u32).filter_map(|token| tokens.piece(token)).any(|piece| piece.contains(' '))
}

/// So many letters have to speak for a word before the least confidence is enough: noise gives short words, one or a few.
const ENOUGH_LETTERS: f32 = 6.0;
/// This probability of a letter, whichever, is enough for a tentative partial. Less makes first partials little sooner and
/// many more of them come to nothing (measured in benches/record/2026-11-24-noise-gate.md).
const LETTER_PROBABILITY: f32 = 0.93;

/// What has been heard since the last final.
pub struct Reading {
    has_spaces: bool,
    tokens: Tokens,
    /// Which classes are letters: neither the blank nor a space.
    letters: Vec<bool>,
    steps: StepClock,
    min_confidence: f32,
    tentative: bool,
    emissions: Vec<Emission>,
    /// Whether a word was sure enough, so that the segment will be told.
    is_speech: bool,
    /// Whether in some step it was sure that there is a letter, though not which.
    has_letter: bool,
    /// What the last partial said.
    told: String,
}

impl Reading {
    pub fn new(tokens: Tokens, steps: StepClock, min_confidence: f32, tentative: bool) -> Self {
        let piece = |token| tokens.piece(token).unwrap_or_default();
        let letters = (0..tokens.len() as u32).map(|token| !piece(token).trim().is_empty()).collect();
        let has_spaces = has_spaces(&tokens);
        let (emissions, has_letter, told) = Default::default();
        let is_speech = min_confidence == 0.0;
        Self { has_spaces, tokens, letters, steps, min_confidence, tentative, emissions, is_speech, has_letter, told }
    }

    /// Decodes `log_probs`, `[steps, classes]`; row by row until speech is found, so that it does not matter how many come
    /// at a time.
    pub fn push(&mut self, decoder: &mut Decoder, log_probs: &[f32]) {
        let mut rest = log_probs;
        while !self.is_speech && !rest.is_empty() {
            let (row, later) = rest.split_at(self.tokens.len());
            self.has_letter |= self.letter_probability(row) >= LETTER_PROBABILITY.max(self.min_confidence);
            decoder.push(row, &mut self.emissions);
            self.is_speech = self.has_sure_word(&decoder.open());
            rest = later;
        }
        decoder.push(rest, &mut self.emissions);
    }

    /// A partial, if it says something else than the last one.
    pub fn partial(&mut self, decoder: &Decoder) -> Option<Event> {
        if !self.is_speech && !self.tentative {
            return None;
        }
        let reading = [&self.emissions[..], &decoder.open()].concat();
        let words = self.words(&reading);
        let likely = |words: &[Word]| words.iter().any(|word| word.confidence >= self.min_confidence);
        if !self.is_speech && !self.has_letter && !likely(&words) {
            return None;
        }
        let stable = reading[..self.emissions.len() + decoder.agreed()].iter().map(|emission| emission.token);
        let stable_chars =
            if self.is_speech { self.tokens.text(&stable.collect::<Vec<_>>()).chars().count() } else { 0 };
        let segment = Segment::new(words).filter(|segment| segment.text != self.told)?;
        self.told.clone_from(&segment.text);
        Some(Event::Partial(Segment { stable_chars, ..segment }))
    }

    /// Ends the segment: its final, if anything was said. The next one begins.
    pub fn end_segment(&mut self, decoder: &mut Decoder) -> Option<Event> {
        decoder.end_segment(&mut self.emissions);
        let words = self.words(&self.emissions);
        let segment = if self.is_speech || self.is_sure(&words) { Segment::new(words) } else { None };
        let alternatives = self.alternatives(decoder.readings());
        self.reset();
        segment.map(|segment| Event::Final(Segment { alternatives, ..segment }))
    }

    pub fn reset(&mut self) {
        self.emissions.clear();
        self.is_speech = self.min_confidence == 0.0;
        self.has_letter = false;
        self.told.clear();
    }

    /// How probable it is that there is a letter in this row of log-probabilities, whichever.
    fn letter_probability(&self, row: &[f32]) -> f32 {
        row.iter().zip(&self.letters).filter(|(_, is_letter)| **is_letter).map(|(log_prob, _)| log_prob.exp()).sum()
    }

    /// Whether a complete word is sure enough, which speech has and noise should not have. The last word is complete when a
    /// space follows: before that, what is less sure may still belong to it.
    fn has_sure_word(&self, open: &[Emission]) -> bool {
        let Some(last) = open.last().or(self.emissions.last()) else { return false };
        let last = self.tokens.piece(last.token).unwrap_or_default();
        if self.has_spaces && !last.contains(' ') {
            return false; // no word was completed
        }
        let mut words = self.words(&[&self.emissions[..], open].concat());
        if self.has_spaces && !last.ends_with(' ') {
            words.pop();
        }
        self.is_sure(&words)
    }

    /// Whether one of the words is as sure as it has to be. The doubt (−ln confidence) that it may leave is in proportion to
    /// the letters that speak for it, up to [`ENOUGH_LETTERS`]: the geometric mean of its own and all the text's.
    fn is_sure(&self, words: &[Word]) -> bool {
        let letters = |word: &Word| word.text.chars().count() as f32;
        let text: f32 = words.iter().map(letters).sum();
        words.iter().any(|word| {
            let part = (letters(word) * text).sqrt() / ENOUGH_LETTERS;
            word.confidence >= self.min_confidence.powf(part.min(1.0))
        })
    }

    /// The whole segment, which now ends with the first of `readings`, in all of them.
    fn alternatives(&self, readings: &[beam::Reading]) -> Vec<Alternative> {
        let last = readings.first().map_or(0, |best| best.emissions.len());
        let settled = self.emissions.len() - last;
        let alternative = |reading: &beam::Reading| {
            let heard = self.emissions[..settled].iter().chain(&reading.emissions);
            let text = self.tokens.text(&heard.map(|emission| emission.token).collect::<Vec<_>>());
            Alternative { text, acoustic: reading.acoustic, language: reading.language, score: reading.score }
        };
        readings.iter().map(alternative).collect()
    }

    fn words(&self, emissions: &[Emission]) -> Vec<Word> {
        words(emissions, &self.tokens, |step| self.steps.start_s(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctc::Decoding;

    const STEPS: StepClock = StepClock { step_s: 0.5, delay_s: 0.0 };

    /// Reads a best path, one class a step, each with this probability; finals and, after each step, partials.
    fn read(list: &str, path: &[u32], probability: f32, min_confidence: f32, tentative: bool) -> Vec<Event> {
        let rows: Vec<_> = path.iter().map(|&class| vec![(class, probability)]).collect();
        read_rows(list, &rows, min_confidence, tentative)
    }

    /// The same of steps in which these classes have these probabilities, and the others next to none.
    fn read_rows(list: &str, rows: &[Vec<(u32, f32)>], min_confidence: f32, tentative: bool) -> Vec<Event> {
        let tokens = Tokens::parse("tokens.txt", list).unwrap();
        let mut decoder = Decoder::new(&tokens, &Decoding::Greedy).unwrap();
        let mut reading = Reading::new(tokens.clone(), STEPS, min_confidence, tentative);
        let mut events = Vec::new();
        for probable in rows {
            let mut row = vec![-9.0; tokens.len()];
            probable.iter().for_each(|&(class, probability)| row[class as usize] = probability.ln());
            reading.push(&mut decoder, &row);
            events.extend(reading.partial(&decoder));
        }
        events.extend(reading.end_segment(&mut decoder));
        events
    }

    fn texts(events: &[Event]) -> Vec<(&str, usize)> {
        events.iter().map(|event| (event.segment().text.as_str(), event.segment().stable_chars)).collect()
    }

    const LETTERS: &str = "<b>\n<space>\na\nb\n";

    #[test]
    fn what_is_not_sure_is_not_told() {
        let path = [2, 0, 3, 3, 1, 2, 0];
        assert_eq!(texts(&read(LETTERS, &path, 0.9, 0.0, false)), [("a", 1), ("ab", 2), ("ab a", 4), ("ab a", 4)]);
        let sure = read(LETTERS, &path, 0.9, 0.5, false);
        assert_eq!(texts(&sure), [("ab", 2), ("ab a", 4), ("ab a", 4)], "told when the first word is complete");
        assert!(sure[2].is_final() && !sure[1].is_final());
        assert_eq!(read(LETTERS, &path, 0.6, 0.7, false), []);
        assert_eq!(texts(&read(LETTERS, &[2], 0.95, 0.5, false)), [("a", 1)], "the end completes a word");
        let tentative = read(LETTERS, &path, 0.9, 0.5, true);
        assert_eq!(texts(&tentative), [("a", 0), ("ab", 0), ("ab a", 4), ("ab a", 4)]);
        assert_eq!(read(LETTERS, &path, 0.6, 0.7, true), [], "not sure, not even tentatively");
        assert_eq!(read(LETTERS, &[1, 0, 1], 0.9, 0.0, false), [], "spaces are nothing");
    }

    #[test]
    fn short_words_have_to_be_surer() {
        // Words of these numbers of letters, all with this probability: whether 0.6 lets them through.
        let told = |lengths: &[usize], probability| {
            let word = |&length: &usize| [&[2, 3].repeat(length)[..length], &[1]].concat();
            let path: Vec<u32> = lengths.iter().flat_map(word).collect();
            !read(LETTERS, &path, probability, 0.6, false).is_empty()
        };
        for (lengths, least) in
            [(&[1][..], 0.918), (&[2], 0.843), (&[4], 0.711), (&[6], 0.600), (&[12], 0.600), (&[2, 2, 2, 2], 0.711)]
        {
            assert!(told(lengths, least + 0.001) && !told(lengths, least - 0.001), "{lengths:?} {least}");
        }
    }

    #[test]
    fn a_letter_is_shown_before_it_is_clear_which() {
        let rows = |a: f32, b: f32| [vec![(2, a), (3, b)], vec![(0, 0.9)]];
        let shown = |rows: &[Vec<(u32, f32)>], tentative| read_rows(LETTERS, rows, 0.6, tentative).len();
        assert_eq!(texts(&read_rows(LETTERS, &rows(0.5, 0.45), 0.6, true)), [("a", 0)], "and no final");
        assert_eq!([shown(&rows(0.5, 0.45), false), shown(&rows(0.5, 0.4), true)], [0, 0]);
        let space = [vec![(1, 0.95)], vec![(2, 0.5), (1, 0.45)]];
        assert_eq!(shown(&space, true), 0, "a space is no letter");
        let later = [&rows(0.5, 0.45)[..], &[vec![(1, 0.9)], vec![(3, 0.3)]]].concat();
        assert_eq!(texts(&read_rows(LETTERS, &later, 0.6, true)), [("a", 0), ("a b", 0)], "once and for all");
    }

    #[test]
    fn pieces_and_languages_without_spaces() {
        let pieces = "<b>\n▁a\nb\n";
        assert_eq!(texts(&read(pieces, &[1, 2, 1], 0.9, 0.5, false)), [("ab a", 4), ("ab a", 4)]);
        assert_eq!(texts(&read(pieces, &[1, 2, 1, 2], 0.9, 0.5, false)), [("ab a", 4), ("ab ab", 5), ("ab ab", 5)]);
        assert_eq!(texts(&read("<b>\n中\n文\n", &[1, 2, 0], 0.95, 0.5, false)), [("中", 1), ("中文", 2), ("中文", 2)]);
    }

    #[test]
    fn the_best_path_as_steps() {
        let steps = |list: &str, path: &[u32]| {
            let tokens = Tokens::parse("tokens.txt", list).unwrap();
            let mut best_path = BestPath::new(&tokens);
            let row = |class: u32| {
                (0..tokens.len() as u32).map(|c| if c == class { -0.1 } else { -3.0 }).collect::<Vec<f32>>()
            };
            path.iter().map(|&class| best_path.push(&row(class))).collect::<Vec<Step>>()
        };
        use Step::{Gap, Silence, Speech, WordStart};
        assert_eq!(steps(LETTERS, &[0, 2, 2, 1, 1, 3]), [Silence, Speech, Speech, Gap, Gap, Speech]);
        assert_eq!(steps("<b>\n▁a\nb\n", &[1, 1, 2, 0, 1]), [WordStart, Speech, Speech, Silence, WordStart]);
        assert_eq!(steps("<b>\n中\n文\n", &[1, 1, 2]), [WordStart, Speech, WordStart]);
        let tokens = Tokens::parse("tokens.txt", LETTERS).unwrap();
        assert_eq!(BestPath::new(&tokens).push(&[f32::NAN; 4]), Silence, "says nothing");
    }
}
