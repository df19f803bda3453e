//! The library's one error type, split by what the user can do about it.

use std::path::{Path, PathBuf};

/// Why something could not be done. Each text names the file or layer and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or stream that the operating system would not let us read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file, or `-` for standard input.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file or stream that the operating system would not let us write.
    #[error("{}: cannot write: {source}", path.display())]
    Write {
        /// The file, or `-` for standard output.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Sound that cannot be decoded: not a sound file, damaged, or beyond our limits.
    #[error("{}: {problem}", path.display())]
    Audio {
        /// The file, or `-` for standard input.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A model bundle that cannot be used: a broken file, or parts that do not fit each other.
    #[error("{}: {problem}", path.display())]
    Model {
        /// The bundle's folder or the file in it.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A network that contradicts itself: shapes, kernels or parameters that do not fit.
    #[error("layer {layer:?}: {problem}")]
    Network {
        /// The layer's path, e.g. `t0.depthwise`; empty for the network as a whole.
        layer: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A manifest, dataset or checkpoint that cannot be used.
    #[error("{}{}: {problem}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Data {
        /// The file.
        path: PathBuf,
        /// The line in it, from 1, if it has lines.
        line: Option<usize>,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A microphone that is not there or cannot be used.
    #[error("{device}: {problem}")]
    Device {
        /// The microphone's name.
        device: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Settings (front-end, engine, decoder) that cannot be carried out.
    #[error("{setting}: {problem}")]
    Setting {
        /// The setting's name as the user writes it.
        setting: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A read error about `path`; meant for `map_err(Error::read(path))`.
    pub fn read(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Read { path, source }
    }

    /// A write error about `path`; meant for `map_err(Error::write(path))`.
    pub fn write(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Write { path, source }
    }

    /// Sound in `path` that cannot be decoded.
    pub fn audio(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Audio { path: path.as_ref().to_path_buf(), problem: problem.into() }
    }

    /// A model bundle in `path` that cannot be used.
    pub fn model(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Model { path: path.as_ref().to_path_buf(), problem: problem.into() }
    }

    /// A network whose `layer` does not fit.
    pub fn network(layer: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Network { layer: layer.into(), problem: problem.into() }
    }

    /// A manifest, dataset or checkpoint in `path` that cannot be used.
    pub fn data(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().to_path_buf(), line: None, problem: problem.into() }
    }

    /// A line of `path`, counted from 1, that cannot be used.
    pub fn line(path: impl AsRef<Path>, line: usize, problem: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().to_path_buf(), line: Some(line), problem: problem.into() }
    }

    /// A microphone that cannot be used.
    pub fn device(device: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Device { device: device.into(), problem: problem.into() }
    }

    /// A setting that cannot be carried out.
    pub fn setting(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Setting { setting: setting.into(), problem: problem.into() }
    }
}
