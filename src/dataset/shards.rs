//! A spectrogram dataset on disk: image columns quantised to 8 or 16 bits, and what is said in them.
//!
//! ```text
//! dataset.toml         front-end settings, precision, and at the end the number of shards and the normalisation
//! shard-00000.bin      the columns of its utterances one after the other, `[frames, bins]` each, little endian
//! shard-00000.jsonl    a head (plan, sums for the normalisation, what could not be decoded), then a line per utterance
//! ```
//!
//! A value is `low + step · q`. The lines are written after the columns, and each file whole or not at all, so a shard
//! with lines is complete.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::lines::Lines;
use crate::spectrogram::{Normalization, Settings};
use crate::{Error, Result, atomic_file};

const FORMAT: u32 = 1;

/// How finely values are kept. Columns of log-mel span some 20 nats, so 8 bits err by less than 0.05 nats: far below the
/// noise that augmentation adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// 256 levels between an utterance's least and greatest value.
    #[serde(rename = "8 bit")]
    Bits8,
    /// 65,536 levels.
    #[serde(rename = "16 bit")]
    Bits16,
}

impl Precision {
    fn bytes(self) -> usize {
        match self {
            Self::Bits8 => 1,
            Self::Bits16 => 2,
        }
    }

    fn levels(self) -> f32 {
        match self {
            Self::Bits8 => 255.0,
            Self::Bits16 => 65_535.0,
        }
    }
}

/// `dataset.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    format: u32,
    pub(super) precision: Precision,
    pub(super) spectrogram: Settings,
    /// Absent until the dataset is complete.
    pub(super) complete: Option<Complete>,
}

/// What is known when all shards are there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Complete {
    pub(super) shards: usize,
    pub(super) mean: Vec<f32>,
    pub(super) std: Vec<f32>,
}

impl Description {
    pub(super) fn new(precision: Precision, spectrogram: &Settings) -> Self {
        Self { format: FORMAT, precision, spectrogram: spectrogram.clone(), complete: None }
    }

    pub(super) fn path(folder: &Path) -> PathBuf {
        folder.join("dataset.toml")
    }

    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = Self::path(folder);
        let mut text = String::new();
        let file = File::open(&path).map_err(Error::read(&path))?;
        file.take(1 << 20).read_to_string(&mut text).map_err(Error::read(&path))?;
        let description: Self = toml::from_str(&text).map_err(|error| Error::data(&path, error.to_string()))?;
        if description.format != FORMAT {
            let problem = format!("format {}, this program reads {FORMAT}; prepare it again", description.format);
            return Err(Error::data(path, problem));
        }
        description.spectrogram.validate().map_err(|error| Error::data(&path, error.to_string()))?;
        Ok(description)
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = Self::path(folder);
        let text = toml::to_string(self).map_err(|error| Error::data(&path, error.to_string()))?;
        atomic_file::write(&path, |file| file.write_all(text.as_bytes()))
    }
}

/// The first line of a shard's index.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// Checksum of the utterances that were to go into this shard.
    pub(super) plan: u32,
    /// Lines that follow.
    pub(super) utterances: usize,
    /// Columns of all of them.
    pub(super) frames: u64,
    /// Of the values before quantisation, `[bins]`.
    pub(super) sum: Vec<f64>,
    /// Of their squares, `[bins]`.
    pub(super) sum_of_squares: Vec<f64>,
    /// Utterances whose sound could not be used, and why.
    pub(super) failed: Vec<String>,
}

/// One utterance of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// As the manifest names it.
    pub id: String,
    /// What is said, as the manifest writes it.
    pub text: String,
    /// Who says it.
    pub speaker: Option<String>,
    /// The collection it comes from.
    pub source: Option<String>,
    /// Columns.
    pub frames: usize,
    /// Which shard holds them.
    #[serde(skip)]
    shard: usize,
    /// Where they begin in it.
    offset: u64,
    low: f32,
    step: f32,
    crc32: u32,
}

/// The two files of shard `number`: columns and index.
pub(super) fn shard_paths(folder: &Path, number: usize) -> [PathBuf; 2] {
    ["bin", "jsonl"].map(|extension| folder.join(format!("shard-{number:05}.{extension}")))
}

/// A shard being written.
pub(super) struct ShardWriter {
    precision: Precision,
    bins: usize,
    pub(super) head: Head,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    offset: u64,
}

impl ShardWriter {
    pub(super) fn new(precision: Precision, bins: usize, plan: u32) -> Self {
        let head = Head { plan, sum: vec![0.0; bins], sum_of_squares: vec![0.0; bins], ..Head::default() };
        Self { precision, bins, head, entries: Vec::new(), bytes: Vec::new(), offset: 0 }
    }

    /// Adds an utterance with its columns `[frames, bins]`; gives the bytes to append to the file of columns.
    pub(super) fn push(&mut self, utterance: &super::manifest::Utterance, columns: &[f32]) -> &[u8] {
        for column in columns.chunks_exact(self.bins) {
            for ((value, sum), square) in column.iter().zip(&mut self.head.sum).zip(&mut self.head.sum_of_squares) {
                *sum += f64::from(*value);
                *square += f64::from(*value).powi(2);
            }
        }
        let low = columns.iter().copied().fold(f32::INFINITY, f32::min);
        let high = columns.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let step = (high - low) / self.precision.levels();
        let level = |value: &f32| if step > 0.0 { ((value - low) / step).round() } else { 0.0 };
        self.bytes.clear();
        match self.precision {
            Precision::Bits8 => self.bytes.extend(columns.iter().map(|value| level(value) as u8)),
            Precision::Bits16 => self.bytes.extend(columns.iter().flat_map(|v| (level(v) as u16).to_le_bytes())),
        }
        let frames = columns.len() / self.bins;
        self.entries.push(Entry {
            id: utterance.id.clone(),
            text: utterance.text.clone(),
            speaker: utterance.speaker.clone(),
            source: utterance.source.clone(),
            frames,
            shard: 0,
            offset: self.offset,
            low,
            step,
            crc32: crc32fast::hash(&self.bytes),
        });
        self.offset += self.bytes.len() as u64;
        self.head.utterances += 1;
        self.head.frames += frames as u64;
        &self.bytes
    }

    /// Writes the index; the file of columns must be there by now.
    pub(super) fn finish(self, index: &Path) -> Result<()> {
        atomic_file::write(index, |file| {
            serde_json::to_writer(&mut *file, &self.head)?;
            file.write_all(b"\n")?;
            for entry in &self.entries {
                serde_json::to_writer(&mut *file, entry)?;
                file.write_all(b"\n")?;
            }
            Ok(())
        })
    }
}

/// Reads the head of an index.
pub(super) fn read_head(index: &Path) -> Result<Head> {
    head(&mut Lines::open(index)?)
}

fn head(lines: &mut Lines) -> Result<Head> {
    let line = lines.next()?.unwrap_or_default();
    serde_json::from_str(&line).map_err(|error| lines.error(format!("{error}; {AGAIN}")))
}

/// The remedy for whatever happened to a shard.
const AGAIN: &str = "delete both files of this shard and prepare the dataset again";

/// A complete dataset, open for reading.
#[derive(Debug, Clone)]
pub struct Dataset {
    folder: PathBuf,
    description: Description,
    normalization: Normalization,
    entries: Vec<Entry>,
}

impl Dataset {
    /// Reads the index. Columns and their checksums are read when they are needed.
    ///
    /// # Errors
    /// When the dataset is not complete, was made by another version, or a shard's files do not fit each other.
    pub fn open(folder: &Path) -> Result<Self> {
        let description = Description::read(folder)?;
        let incomplete = || Error::data(folder, "not complete; run the same dfcnn prepare again, it will resume");
        let Complete { shards, mean, std } = description.complete.clone().ok_or_else(incomplete)?;
        let normalization = Normalization { mean, std };
        let bins = description.spectrogram.bins();
        let unusable = |error: Error| Error::data(Description::path(folder), error.to_string());
        normalization.validate(bins).map_err(unusable)?;
        let mut entries = Vec::new();
        for shard in 0..shards {
            let [columns, index] = shard_paths(folder, shard);
            let length = fs::metadata(&columns).map_err(Error::read(&columns))?.len();
            let mut lines = Lines::open(&index)?;
            let head = head(&mut lines)?;
            let first = entries.len();
            while let Some(line) = lines.next()? {
                let mut entry: Entry =
                    serde_json::from_str(&line).map_err(|error| lines.error(format!("{error}; {AGAIN}")))?;
                let bytes = entry.frames.checked_mul(bins * description.precision.bytes());
                let end = bytes.and_then(|bytes| entry.offset.checked_add(bytes as u64));
                if end.is_none_or(|end| end > length) {
                    let problem = format!("{} bytes long, too short for {}; {AGAIN}", length, entry.id);
                    return Err(Error::data(columns, problem));
                }
                entry.shard = shard;
                entries.push(entry);
            }
            if entries.len() - first != head.utterances {
                let problem = format!("{} of {} lines; {AGAIN}", entries.len() - first, head.utterances);
                return Err(Error::data(index, problem));
            }
        }
        Ok(Self { folder: folder.to_path_buf(), description, normalization, entries })
    }

    /// The front-end that made the columns.
    pub fn settings(&self) -> &Settings {
        &self.description.spectrogram
    }

    /// Refuses a dataset whose front-end is not the model's.
    ///
    /// # Errors
    /// When it is not.
    pub fn require(&self, settings: &Settings) -> Result<()> {
        if self.settings() == settings {
            return Ok(());
        }
        let problem = format!(
            "made with another front-end than the model's; prepare it again (dataset: {:?}; model: {settings:?})",
            self.settings()
        );
        Err(Error::data(&self.folder, problem))
    }

    /// Mean and standard deviation of each bin.
    pub fn normalization(&self) -> &Normalization {
        &self.normalization
    }

    /// The utterances, in the order of the manifests.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Appends the columns of utterance `index`, `[frames, bins]`, to `columns`; not normalised.
    ///
    /// # Errors
    /// When the shard cannot be read or is damaged.
    pub fn read(&self, index: usize, columns: &mut Vec<f32>) -> Result<()> {
        let entry = &self.entries[index];
        let [path, _] = shard_paths(&self.folder, entry.shard);
        let Description { precision, spectrogram, .. } = &self.description;
        let mut bytes = vec![0; entry.frames * spectrogram.bins() * precision.bytes()];
        let mut file = File::open(&path).map_err(Error::read(&path))?;
        file.seek(SeekFrom::Start(entry.offset)).map_err(Error::read(&path))?;
        file.read_exact(&mut bytes).map_err(Error::read(&path))?;
        if crc32fast::hash(&bytes) != entry.crc32 {
            return Err(Error::data(path, format!("damaged: the checksum of {} differs; {AGAIN}", entry.id)));
        }
        let value = |level: f32| entry.low + entry.step * level;
        match precision {
            Precision::Bits8 => columns.extend(bytes.iter().map(|&level| value(f32::from(level)))),
            Precision::Bits16 => columns
                .extend(bytes.chunks_exact(2).map(|level| value(f32::from(u16::from_le_bytes([level[0], level[1]]))))),
        }
        Ok(())
    }
}
