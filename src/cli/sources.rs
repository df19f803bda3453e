//! What sound the command line asks for: files, folders, patterns, standard input.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dfcnn::audio::AudioStream;
use dfcnn::{Error, Result};
use glob::MatchOptions;

pub const STANDARD_INPUT: &str = "-";
/// How the names of sound files end, where a folder is searched for them.
const EXTENSIONS: [&str; 10] = ["wav", "flac", "mp3", "ogg", "oga", "opus", "m4a", "m4b", "mp4", "aac"];

/// Where sound comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `below`: where it lies in the folder that was asked for, or its name if it was asked for itself.
    File { path: PathBuf, below: PathBuf },
    /// A WAV file.
    StandardInput,
    /// Samples at this rate in Hz.
    RawStandardInput(u32),
}

impl Source {
    /// The file `path` itself.
    pub fn file(path: &Path) -> Self {
        Self::File { path: path.to_path_buf(), below: path.file_name().unwrap_or(path.as_os_str()).into() }
    }

    /// What `argument` stands for: a file, the sound files in a folder and the folders below it, or, if there is no such
    /// file, those that match it as a pattern. Where nothing is found, the name itself, whose opening will say why.
    pub fn expand(argument: &Path) -> Vec<Result<Self>> {
        let itself = || vec![Ok(Self::file(argument))];
        let mut found = Vec::new();
        if argument.is_dir() {
            walk(argument, Path::new(""), &mut found);
        } else if !argument.exists()
            && let Some(pattern) = argument.to_str().filter(|text| text.contains(['*', '?', '[']))
        {
            let hidden = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
            let Ok(paths) = glob::glob_with(pattern, hidden) else { return itself() };
            found.extend(paths.filter_map(|found| match found {
                Ok(path) => (!path.is_dir()).then(|| Ok(Self::file(&path))),
                Err(error) => Some(Err(Error::Read { path: error.path().to_path_buf(), source: error.into() })),
            }));
        }
        if found.is_empty() { itself() } else { found }
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::File { path, .. } => path,
            Self::StandardInput | Self::RawStandardInput(_) => Path::new(STANDARD_INPUT),
        }
    }

    pub fn name(&self) -> String {
        self.path().display().to_string()
    }

    /// The file in `folder` for results with names that end in `extension`.
    pub fn result(&self, folder: &Path, extension: &str) -> PathBuf {
        let below = match self {
            Self::File { below, .. } => below,
            Self::StandardInput | Self::RawStandardInput(_) => Path::new("stdin"),
        };
        folder.join(below).with_extension(extension)
    }

    /// Opens it, to be resampled to `rate_hz`.
    pub fn open(&self, rate_hz: u32) -> Result<AudioStream> {
        match self {
            Self::File { path, .. } => AudioStream::open(path, rate_hz),
            Self::StandardInput => AudioStream::wav_reader(STANDARD_INPUT, io::stdin(), rate_hz),
            Self::RawStandardInput(input_rate_hz) => {
                AudioStream::raw(STANDARD_INPUT, io::stdin(), *input_rate_hz, rate_hz)
            }
        }
    }
}

/// Finds the sound files in `folder` and below, by name, hidden ones apart. Links to folders are not followed: they may lead
/// in circles.
fn walk(folder: &Path, below: &Path, found: &mut Vec<Result<Source>>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return found.push(Err(Error::Read { path: folder.to_path_buf(), source: error })),
    };
    let mut entries: Vec<_> = entries.filter_map(io::Result::ok).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries.iter().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b".")) {
        let (path, below) = (entry.path(), below.join(entry.file_name()));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, &below, found);
        } else if has_sound_name(&path) && !path.is_dir() {
            found.push(Ok(Source::File { path, below }));
        }
    }
}

fn has_sound_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use glob::Pattern;

    use super::*;

    #[test]
    fn folders_and_patterns() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a [b]");
        fs::create_dir_all(root.join("deep/deeper.wav")).unwrap();
        for name in ["z.wav", "a.Flac", "notes.txt", ".hidden.wav", "deep/x.opus", "deep/deeper.wav/y.mp3"] {
            fs::write(root.join(name), "").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(&root, root.join("deep/loop")).unwrap();
        let found = |argument: PathBuf| -> Vec<(String, String)> {
            let names = |source: Source| {
                let result = source.result(Path::new("out"), "srt").display().to_string();
                (source.path().strip_prefix(&root).unwrap().display().to_string(), result)
            };
            Source::expand(&argument).into_iter().map(|source| names(source.unwrap())).collect()
        };
        let pair = |name: &str, result: &str| (name.to_owned(), result.to_owned());
        let all = [
            pair("a.Flac", "out/a.srt"),
            pair("deep/deeper.wav/y.mp3", "out/deep/deeper.wav/y.srt"),
            pair("deep/x.opus", "out/deep/x.srt"),
            pair("z.wav", "out/z.srt"),
        ];
        assert_eq!(found(root.clone()), all);
        assert_eq!(found(root.join("z.wav")), [pair("z.wav", "out/z.srt")]);
        let pattern = PathBuf::from(format!("{}/?.*", Pattern::escape(root.to_str().unwrap())));
        assert_eq!(found(pattern), [pair("a.Flac", "out/a.srt"), pair("z.wav", "out/z.srt")]);
        assert_eq!(found(root.join("*.aac")), [pair("*.aac", "out/*.srt")], "nothing: opening it will say so");
        fs::create_dir(root.join("empty")).unwrap();
        assert_eq!(found(root.join("empty")), [pair("empty", "out/empty.srt")]);
    }
}
