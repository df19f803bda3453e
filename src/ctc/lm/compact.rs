//! The compact form of a model: a few bytes an n-gram, loaded in milliseconds, scored where it lies.
//!
//! The trie of reversed n-grams (see `trie`) as columns of bits just wide enough: of each order the words, where the
//! children begin, and log-probabilities and back-offs as 8-bit steps between the least and the greatest of that order.
//! Even steps keep the error of every value below half a step (0.024 in log10 at worst, typically 0.013); steps that
//! follow the values' distribution would serve rare words better than `the`, which is said ten thousand times as often.
//!
//! ```text
//! "dfcnn-lm"  version u32  CRC-32 of what follows u32        all numbers little-endian
//! order u32  bytes of words u32  n-grams of each order u32…
//! for each order: log10 P least f32, step f32; back-off least f32, step f32
//! the words by id, each followed by \n; the first are <unk>, <s>, </s>
//! for each order, each column from a full byte on:
//!     first words (not of order 1, where they are the ids)    n × bits of the greatest id
//!     where the children begin (not of the highest)           (n + 1) × bits of their number
//!     log10 P                                                 n × 8 bits
//!     back-offs (not of the highest); 0 is none               n × 8 bits
//! 8 zero bytes, so that bits are read eight bytes at a time
//! ```
//!
//! The file is read into memory rather than mapped: that takes milliseconds too, and nobody can shorten it under us.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;

use super::ngrams::{Level, NGrams};
use super::trie::Trie;
use super::vocabulary::{RESERVED, START, Vocabulary};
use super::{LEAST_LOG10, MAX_ORDER};
use crate::{Error, Result, atomic_file};

pub(super) const MAGIC: &[u8; 8] = b"dfcnn-lm";
const VERSION: u32 = 1;
/// What the checksum covers begins here.
const CHECKED: usize = 16;
const PADDING: usize = 8;
/// Larger files are not ours.
const MOST_BYTES: u64 = 1 << 31;

/// An n-gram model in the compact form.
#[derive(Debug, Clone)]
pub struct Compact {
    bytes: Cow<'static, [u8]>,
    vocabulary: Vocabulary,
    /// By order; at least the words.
    levels: Vec<Columns>,
}

impl PartialEq for Compact {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

/// The n-grams of one order.
#[derive(Debug, Clone, Copy)]
struct Columns {
    count: u32,
    words: Column,
    children: Column,
    log_probs: Column,
    log_prob_grid: Grid,
    back_offs: Column,
    back_off_grid: Grid,
}

/// Numbers of the same width, one after the other.
#[derive(Debug, Clone, Copy, Default)]
struct Column {
    /// The byte where it starts.
    start: usize,
    /// How many each number has, at most 32. Without any all numbers are 0.
    bits: usize,
}

impl Column {
    fn get(self, bytes: &[u8], at: u32) -> u32 {
        let bit = at as usize * self.bits;
        let eight = &bytes[self.start + bit / 8..][..8];
        let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        ((word >> (bit % 8)) & ((1 << self.bits) - 1)) as u32
    }
}

/// Evenly spaced values.
#[derive(Debug, Clone, Copy, Default)]
struct Grid {
    least: f32,
    step: f32,
}

impl Grid {
    /// From the least to the greatest of `values` in `steps` steps; NaN counts as nothing.
    fn over(values: impl Iterator<Item = f32>, steps: u8) -> Self {
        let (least, greatest) = values
            .filter(|value| !value.is_nan())
            .map(bounded)
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(least, greatest), value| {
                (least.min(value), greatest.max(value))
            });
        if least > greatest { Self::default() } else { Self { least, step: (greatest - least) / f32::from(steps) } }
    }

    fn code(self, value: f32) -> u8 {
        if self.step > 0.0 { ((bounded(value) - self.least) / self.step).round() as u8 } else { 0 }
    }

    fn value(self, code: u32) -> f32 {
        self.least + self.step * code as f32
    }
}

/// Few models have values beyond; they would make all steps coarse.
fn bounded(log10: f32) -> f32 {
    log10.clamp(LEAST_LOG10, -LEAST_LOG10)
}

impl Trie for Compact {
    fn order(&self) -> usize {
        self.levels.len()
    }

    fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn word(&self, order: usize, node: u32) -> u32 {
        if order == 1 { node } else { self.levels[order - 1].words.get(&self.bytes, node) }
    }

    fn children(&self, order: usize, node: u32) -> Range<u32> {
        if order == self.levels.len() {
            return 0..0;
        }
        let children = self.levels[order - 1].children;
        children.get(&self.bytes, node)..children.get(&self.bytes, node + 1)
    }

    fn log_prob(&self, order: usize, node: u32) -> f32 {
        let level = &self.levels[order - 1];
        level.log_prob_grid.value(level.log_probs.get(&self.bytes, node))
    }

    fn back_off(&self, order: usize, node: u32) -> Option<f32> {
        let level = &self.levels[order - 1];
        let code = level.back_offs.get(&self.bytes, node);
        (code > 0).then(|| level.back_off_grid.value(code - 1))
    }
}

impl Compact {
    /// Loads a model and checks all of it.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged or no such model.
    pub fn load(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(Error::read(path))?;
        let expected = file.metadata().map_err(Error::read(path))?.len().min(MOST_BYTES);
        bytes.reserve_exact(expected as usize + 1);
        file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(Error::read(path))?;
        Self::from_bytes(bytes).map_err(|problem| Error::model(path, problem))
    }

    /// A model from the bytes of a file, or from those that are part of the program, which stay where they are.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, String> {
        let bytes = bytes.into();
        if !bytes.starts_with(MAGIC) {
            return Err("not a compact language model; make one with `dfcnn lm convert`".to_owned());
        }
        let damaged = || "the language model is damaged; copy or make it again".to_owned();
        let mut head = Head { bytes: &bytes, at: MAGIC.len() };
        let version = head.number().ok_or_else(damaged)?;
        if version != VERSION {
            let problem = format!("language model of version {version}, this program reads {VERSION}");
            return Err(format!("{problem}; make it again with `dfcnn lm convert`"));
        }
        if head.number() != bytes.get(CHECKED..).map(crc32fast::hash) {
            return Err(damaged());
        }
        let (vocabulary, levels) = head.content().ok_or_else(damaged)?;
        Ok(Self { bytes, vocabulary, levels })
    }

    /// The compact form of a model, as bytes.
    ///
    /// # Errors
    /// When it would have two gigabytes or more.
    pub fn encode(model: &NGrams) -> Result<Vec<u8>, String> {
        let too_large = |_| "the language model is too large for the compact form; prune it".to_owned();
        let text: usize = model.vocabulary.iter().map(|word| word.len() + 1).sum();
        let mut bytes = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &[0; 4]].concat();
        for number in [model.levels.len(), text].into_iter().chain(model.counts()) {
            bytes.extend(u32::try_from(number).map_err(too_large)?.to_le_bytes());
        }
        let grids: Vec<_> = (1..).zip(&model.levels).map(|(order, level)| grids(order, level)).collect();
        for (log_probs, back_offs) in &grids {
            for value in [log_probs.least, log_probs.step, back_offs.least, back_offs.step] {
                bytes.extend(value.to_le_bytes());
            }
        }
        for word in model.vocabulary.iter() {
            bytes.extend(word.as_bytes());
            bytes.push(b'\n');
        }
        for (order, (level, (log_probs, back_offs))) in (1..).zip(model.levels.iter().zip(&grids)) {
            if order > 1 {
                append(&mut bytes, &level.words, width(model.vocabulary.len() as u32 - 1));
            }
            if order < model.levels.len() {
                append(&mut bytes, &level.children, width(model.levels[order].words.len() as u32));
            }
            bytes.extend(level.log_probs.iter().map(|&value| log_probs.code(value)));
            if order < model.levels.len() {
                let code = |&value: &f32| if value.is_nan() { 0 } else { 1 + back_offs.code(value) };
                bytes.extend(level.back_offs.iter().map(code));
            }
        }
        bytes.extend([0; PADDING]);
        if bytes.len() as u64 >= MOST_BYTES {
            return Err("the language model is too large for the compact form; prune it".to_owned());
        }
        let crc = crc32fast::hash(&bytes[CHECKED..]);
        bytes[CHECKED - 4..CHECKED].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    /// Writes the compact form of a model and returns its size in bytes.
    ///
    /// # Errors
    /// When it would be too large or cannot be written.
    pub fn write(model: &NGrams, path: &Path) -> Result<usize> {
        let bytes = Self::encode(model).map_err(|problem| Error::model(path, problem))?;
        atomic_file::write(path, |file| -> io::Result<()> { file.write_all(&bytes) })?;
        Ok(bytes.len())
    }

    /// What [`write`](Self::write) wrote.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many n-grams there are of each order; those of order 1 are the words with `<unk>`, `<s>` and `</s>`.
    pub fn counts(&self) -> Vec<usize> {
        self.levels.iter().map(|level| level.count as usize).collect()
    }

    /// By how much each n-gram's log10 probability, and each back-off, may differ from the model that was encoded, for each
    /// order; less than 10⁻¹² counts as 10⁻¹².
    pub fn error_bounds(&self) -> Vec<(f32, f32)> {
        // Half a step and the rounding of f32.
        let half = |grid: Grid| grid.step / 2.0 + 1e-5;
        self.levels.iter().map(|level| (half(level.log_prob_grid), half(level.back_off_grid))).collect()
    }
}

fn grids(order: usize, level: &Level) -> (Grid, Grid) {
    // Nobody asks how probable a sentence's start is; tools write 0 or -99.
    let asked = level.log_probs.iter().enumerate().filter(|&(node, _)| order > 1 || node != START as usize);
    // One code of the back-offs is for none.
    (Grid::over(asked.map(|(_, &log_prob)| log_prob), 255), Grid::over(level.back_offs.iter().copied(), 254))
}

/// The bits that numbers up to `greatest` need.
fn width(greatest: u32) -> usize {
    (u32::BITS - greatest.leading_zeros()) as usize
}

/// The bytes of a column of `count` numbers.
fn column_bytes(count: usize, bits: usize) -> usize {
    (count * bits).div_ceil(8)
}

/// Appends a column of numbers of at most 32 bits each.
fn append(bytes: &mut Vec<u8>, numbers: &[u32], bits: usize) {
    let (mut waiting, mut count) = (0u64, 0);
    for &number in numbers {
        waiting |= u64::from(number) << count;
        count += bits;
        while count >= 8 {
            bytes.push(waiting as u8);
            waiting >>= 8;
            count -= 8;
        }
    }
    if count > 0 {
        bytes.push(waiting as u8);
    }
}

/// Reads what describes the columns. Nothing is what any damage gives.
struct Head<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Head<'_> {
    fn number(&mut self) -> Option<u32> {
        let four = self.bytes.get(self.at..)?.first_chunk()?;
        self.at += 4;
        Some(u32::from_le_bytes(*four))
    }

    /// Values of which all are reasonable and at most `greatest`.
    fn grid(&mut self, greatest: f32) -> Option<Grid> {
        let (least, step) = (f32::from_bits(self.number()?), f32::from_bits(self.number()?));
        let grid = Grid { least, step };
        (least >= 2.0 * LEAST_LOG10 && step >= 0.0 && grid.value(255) <= greatest).then_some(grid)
    }

    /// A column that lies wholly within the file.
    fn column(&mut self, count: usize, bits: usize) -> Option<Column> {
        let column = Column { start: self.at, bits };
        self.at += column_bytes(count, bits);
        (self.at + PADDING <= self.bytes.len()).then_some(column)
    }

    fn content(mut self) -> Option<(Vocabulary, Vec<Columns>)> {
        let order = self.number().filter(|order| (1..=MAX_ORDER as u32).contains(order))? as usize;
        let text = self.number()? as usize;
        let counts: Vec<u32> = (0..order).map(|_| self.number()).collect::<Option<_>>()?;
        let mut grids = Vec::new();
        for _ in 0..order {
            // Rounding may lift the greatest log-probability, 0, a little.
            grids.push((self.grid(1e-5)?, self.grid(-2.0 * LEAST_LOG10)?));
        }
        let vocabulary = words(self.bytes.get(self.at..)?.get(..text)?, counts[0] as usize)?;
        self.at += text;
        let mut levels = Vec::new();
        for (i, (&count, (log_prob_grid, back_off_grid))) in counts.iter().zip(grids).enumerate() {
            let n = count as usize;
            let next = counts.get(i + 1).copied();
            let words = if i == 0 { Column::default() } else { self.column(n, width(counts[0] - 1))? };
            let children = match next {
                Some(next) => self.column(n + 1, width(next))?,
                None => Column::default(),
            };
            let log_probs = self.column(n, 8)?;
            let back_offs = if next.is_some() { self.column(n, 8)? } else { Column::default() };
            if let Some(next) = next {
                let offsets = (0..=count).map(|node| children.get(self.bytes, node));
                if !offsets.is_sorted() || children.get(self.bytes, 0) != 0 || children.get(self.bytes, count) != next {
                    return None;
                }
            }
            levels.push(Columns { count, words, children, log_probs, log_prob_grid, back_offs, back_off_grid });
        }
        (self.at + PADDING == self.bytes.len()).then_some((vocabulary, levels))
    }
}

/// `count` different words, each followed by a newline, the reserved ones first.
fn words(text: &[u8], count: usize) -> Option<Vocabulary> {
    let text = std::str::from_utf8(text).ok()?;
    let lines = text.strip_suffix('\n')?;
    if count < RESERVED.len() || count > text.len() {
        return None;
    }
    let mut vocabulary = Vocabulary::new();
    vocabulary.reserve(count);
    for (id, word) in (0..).zip(lines.split('\n')) {
        if word.is_empty() || vocabulary.intern(word) != Some(id) {
            return None;
        }
    }
    (vocabulary.len() == count).then_some(vocabulary)
}
