//! A run on disk, from which it resumes bit for bit.
//!
//! A checkpoint is one safetensors file: `weights.…`, `ema.…`, `first_moment.…`, `second_moment.…`, and in the metadata
//! the [`State`] with a checksum over everything. A folder holds `last` and `previous`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, View};
use serde::{Deserialize, Serialize};

use crate::network::{MAX_FILE_BYTES, Tensor, Weights};
use crate::{Error, Result, atomic_file};

/// Where a run stands, apart from its tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The run's settings as TOML; they say what the tensors belong to.
    pub config: String,
    /// Optimiser steps done.
    pub steps: u64,
    /// The epoch under way, from 0.
    pub epoch: u64,
    /// Batches of it that are done.
    pub batch: u64,
    /// Minutes of training.
    pub minutes: f64,
    /// Seconds of sound that went through the network.
    pub audio_s: f64,
    /// Steps left out because something was not finite.
    pub skipped_steps: u64,
    /// The smoothed loss per label, in nats.
    pub loss: Option<f64>,
    /// The lowest smoothed loss so far, or since the last alarm about it.
    pub lowest_loss: Option<f64>,
    /// The batch, counted from 0 over all epochs, from which on there is augmentation.
    pub augment_from: Option<u64>,
    /// Steps without a break in which the network said next to nothing.
    pub blank_steps: u64,
    /// The best validation result so far.
    pub best: Option<f64>,
}

/// All of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    /// What is being trained, running statistics included.
    pub weights: Weights,
    /// The average that is evaluated and shipped.
    pub ema: Weights,
    /// AdamW's `m` of what is trained.
    pub first_moment: Weights,
    /// AdamW's `v` of what is trained.
    pub second_moment: Weights,
    /// The rest.
    pub state: State,
}

const METADATA: &str = "checkpoint";

/// The metadata: the state as text, and a CRC-32 of that and of the tensors.
#[derive(Serialize, Deserialize)]
struct Sealed {
    crc32: u32,
    state: String,
}

impl Checkpoint {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written, e.g. for want of space; an older file stays as it was.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = self.to_bytes().map_err(|problem| Error::data(path, problem))?;
        atomic_file::write(path, |file| file.write_all(&bytes))
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or is not exactly what was written.
    pub fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(Error::read(path))?;
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(Error::read(path))?;
        Self::from_bytes(&bytes).map_err(|problem| Error::data(path, format!("not a whole checkpoint: {problem}")))
    }

    fn parts(&self) -> [(&'static str, &Weights); 4] {
        let Self { weights, ema, first_moment, second_moment, state: _ } = self;
        [("weights", weights), ("ema", ema), ("first_moment", first_moment), ("second_moment", second_moment)]
    }

    fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let state = serde_json::to_string(&self.state).map_err(|error| error.to_string())?;
        let sealed = Sealed { crc32: self.checksum(&state), state };
        let sealed = serde_json::to_string(&sealed).map_err(|error| error.to_string())?;
        let tensors = self.parts().into_iter().flat_map(|(part, weights)| {
            weights.iter().map(move |(name, tensor)| (format!("{part}.{name}"), Stored(tensor)))
        });
        let metadata = HashMap::from([(METADATA.to_owned(), sealed)]);
        safetensors::serialize(tensors, Some(metadata)).map_err(|error| error.to_string())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let sealed = metadata.metadata().as_ref().and_then(|map| map.get(METADATA)).ok_or("no training state in it")?;
        let Sealed { crc32, state } = serde_json::from_str(sealed).map_err(|error| error.to_string())?;
        let mut checkpoint =
            Self { state: serde_json::from_str(&state).map_err(|e| e.to_string())?, ..Self::default() };
        for (name, tensor) in Weights::from_bytes(bytes)?.iter() {
            let (part, name) = name.split_once('.').unwrap_or(("", name));
            let weights = match part {
                "weights" => &mut checkpoint.weights,
                "ema" => &mut checkpoint.ema,
                "first_moment" => &mut checkpoint.first_moment,
                "second_moment" => &mut checkpoint.second_moment,
                _ => return Err(format!("unknown tensor {part}.{name}")),
            };
            weights.insert(name, tensor.clone());
        }
        if checkpoint.checksum(&state) == crc32 { Ok(checkpoint) } else { Err("the checksum differs".into()) }
    }

    /// Of names, shapes and values of all tensors and of the state's text.
    fn checksum(&self, state: &str) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for (part, weights) in self.parts() {
            for (name, tensor) in weights.iter() {
                hasher.update(format!("{part}.{name}{:?}", tensor.shape).as_bytes());
                hasher.update(&Stored(tensor).data());
            }
        }
        hasher.update(state.as_bytes());
        hasher.finalize()
    }
}

struct Stored<'a>(&'a Tensor);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        self.0.values.len() * size_of::<f32>()
    }
}

/// The folder with a run's checkpoints.
#[derive(Debug, Clone)]
pub struct Folder {
    folder: PathBuf,
}

impl Folder {
    /// Makes the folder if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::write(folder))?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// The file of the checkpoint called `last` or `previous`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension("safetensors")
    }

    /// Saves the newest checkpoint as `last`; the one before it becomes `previous`. At every moment at least one of
    /// them is whole.
    ///
    /// # Errors
    /// When it cannot be written; both old ones are then still there, the newer possibly as `previous`.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        let (last, next) = (self.path("last"), self.path("next"));
        checkpoint.write(&next)?;
        if last.exists() {
            fs::rename(&last, self.path("previous")).map_err(Error::write(&last))?;
        }
        fs::rename(&next, &last).map_err(Error::write(&last))
    }

    /// The newest checkpoint that is whole, and a message for every newer one that is not. `None` if there never was
    /// one.
    ///
    /// # Errors
    /// When there are checkpoints and none of them is whole.
    pub fn load(&self) -> Result<Option<(Checkpoint, Vec<String>)>> {
        let mut problems = Vec::new();
        let mut failure = None;
        // `next` is there only if a run was killed between writing and renaming it.
        for path in ["next", "last", "previous"].map(|name| self.path(name)).into_iter().filter(|path| path.exists()) {
            match Checkpoint::read(&path) {
                Ok(checkpoint) => return Ok(Some((checkpoint, problems))),
                Err(error) => {
                    problems.push(format!("{error}; taking the one before"));
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(None), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(steps: u64) -> Checkpoint {
        let weights = |values: &[f32]| {
            let mut weights = Weights::default();
            weights.insert("c1.weight", Tensor { shape: vec![values.len(), 1], values: values.to_vec() });
            weights.insert("c1.bias", Tensor { shape: vec![1], values: vec![steps as f32] });
            weights
        };
        Checkpoint {
            weights: weights(&[1.5, -0.0, f32::MIN_POSITIVE / 8.0]),
            ema: weights(&[0.1]),
            first_moment: weights(&[1e-30]),
            second_moment: weights(&[3.0; 7]),
            state: State {
                config: "a = \"ü\"\n".into(),
                steps,
                minutes: 0.1 + 0.2,
                audio_s: 1.0 / 3.0,
                best: Some(2.0 / 3.0),
                loss: Some(1.0 / 7.0),
                augment_from: Some(u64::MAX),
                ..State::default()
            },
        }
    }

    #[test]
    fn every_bit_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.safetensors");
        checkpoint(3).write(&path).unwrap();
        let first = fs::read(&path).unwrap();
        let read = Checkpoint::read(&path).unwrap();
        assert_eq!(read, checkpoint(3));
        let bits =
            |c: &Checkpoint| c.weights.get("c1.weight").unwrap().values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read), bits(&checkpoint(3)));
        read.write(&path).unwrap();
        assert!(fs::read(&path).unwrap() == first);
    }

    #[test]
    fn any_damage_is_noticed() {
        let bytes = checkpoint(1).to_bytes().unwrap();
        assert!(Checkpoint::from_bytes(&bytes).is_ok());
        for at in 0..bytes.len() {
            assert!(Checkpoint::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            // The header's padding means nothing, nor whether a hexadecimal digit is written large.
            let read = Checkpoint::from_bytes(&flipped);
            assert!(read.is_err() || read == Ok(checkpoint(1)), "flip at {at} of {} unnoticed", bytes.len());
        }
    }

    #[test]
    fn falls_back_to_the_one_before() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::create(&temporary.path().join("run")).unwrap();
        assert!(folder.load().unwrap().is_none());
        (1..=3).for_each(|steps| folder.save(&checkpoint(steps)).unwrap());
        let load = || folder.load().unwrap().map(|(checkpoint, problems)| (checkpoint.state.steps, problems)).unwrap();
        assert_eq!(load(), (3, vec![]));
        let bytes = fs::read(folder.path("last")).unwrap();
        fs::write(folder.path("last"), &bytes[..bytes.len() / 2]).unwrap();
        let (steps, problems) = load();
        assert_eq!((steps, problems.len()), (2, 1));
        assert!(problems[0].contains("last.safetensors: not a whole checkpoint"), "{problems:?}");
        // Killed between the two renames: the new one is whole but not yet called `last`.
        fs::remove_file(folder.path("last")).unwrap();
        checkpoint(4).write(&folder.path("next")).unwrap();
        assert_eq!(load().0, 4);
        for name in ["next", "previous"] {
            fs::write(folder.path(name), "").unwrap();
        }
        assert!(folder.load().is_err());
    }
}
