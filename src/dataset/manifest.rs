//! Lists of utterances as they are found in the wild.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::lines::Lines;
use crate::{Error, Result};

/// One utterance: a stretch of sound and what is said in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Utterance {
    /// Unique within its manifest.
    pub id: String,
    /// The sound file.
    pub audio: PathBuf,
    /// Where the utterance begins in the file, in seconds.
    pub offset_s: f64,
    /// How long it is in seconds; `None` is up to the end of the file.
    pub duration_s: Option<f64>,
    /// What is said, as the manifest writes it.
    pub text: String,
    /// Who says it.
    pub speaker: Option<String>,
    /// The collection it comes from.
    pub source: Option<String>,
}

/// A way to list utterances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// JSON Lines as NeMo writes them: `audio_filepath`, `text`, and optionally `duration`, `offset`, `speaker`, `source`.
    Nemo,
    /// A folder with `wav.scp` and `text`, and optionally `segments` and `utt2spk`.
    Kaldi,
    /// `metadata.csv`: `id|text` or `id|text|normalised text`, with `wavs/id.wav` beside it.
    LjSpeech,
    /// A table with a head line, `path` and `sentence` among its columns, with the folder `clips` beside it.
    CommonVoice,
}

/// The utterances of one manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The manifest's kind.
    pub kind: Kind,
    /// Those whose sound file exists, in the manifest's order.
    pub utterances: Vec<Utterance>,
    /// Sound files that do not exist, in the manifest's order; their utterances are left out.
    pub missing: Vec<PathBuf>,
}

impl Manifest {
    /// Reads a manifest of any [`Kind`]. Relative sound files are relative to the manifest's folder.
    /// With `strict`, a missing sound file is an error.
    pub fn read(path: &Path, strict: bool) -> Result<Self> {
        let (kind, path) = recognize(path)?;
        let folder = if kind == Kind::Kaldi { path.as_path() } else { path.parent().unwrap_or(Path::new("")) };
        let mut utterances = match kind {
            Kind::Nemo => nemo(&path, folder)?,
            Kind::Kaldi => kaldi(folder)?,
            Kind::LjSpeech => lj_speech(&path, folder)?,
            Kind::CommonVoice => common_voice(&path, folder)?,
        };
        let mut exists: HashMap<PathBuf, bool> = HashMap::new();
        let mut missing = Vec::new();
        utterances.retain(|utterance| {
            *exists.entry(utterance.audio.clone()).or_insert_with_key(|audio| {
                let exists = audio.is_file();
                if !exists {
                    missing.push(audio.clone());
                }
                exists
            })
        });
        if strict && let Some(first) = missing.first() {
            let problem = format!("{} sound files are missing, the first is {}", missing.len(), first.display());
            return Err(Error::data(path, problem));
        }
        Ok(Self { kind, utterances, missing })
    }
}

/// The kind, and the file (or Kaldi folder) that holds it.
fn recognize(path: &Path) -> Result<(Kind, PathBuf)> {
    if path.is_dir() {
        return match ["wav.scp", "metadata.csv"].map(|name| path.join(name).is_file()) {
            [true, _] => Ok((Kind::Kaldi, path.to_path_buf())),
            [_, true] => Ok((Kind::LjSpeech, path.join("metadata.csv"))),
            _ => Err(Error::data(path, "the folder holds neither wav.scp nor metadata.csv; name the manifest file")),
        };
    }
    if path.file_name().is_some_and(|name| name == "wav.scp") {
        return Ok((Kind::Kaldi, path.parent().unwrap_or(Path::new("")).to_path_buf()));
    }
    let mut lines = Lines::open(path)?;
    let line = lines.next()?.unwrap_or_default();
    let columns: Vec<&str> = line.split('\t').collect();
    if line.trim_start().starts_with('{') {
        return Ok((Kind::Nemo, path.to_path_buf()));
    }
    if columns.contains(&"path") && columns.contains(&"sentence") {
        return Ok((Kind::CommonVoice, path.to_path_buf()));
    }
    if line.contains('|') {
        return Ok((Kind::LjSpeech, path.to_path_buf()));
    }
    let problem = "not a manifest: expected JSON Lines with audio_filepath and text, a Kaldi folder, LJSpeech's \
                   metadata.csv or a Common Voice table";
    Err(Error::data(path, problem))
}

fn nemo(path: &Path, folder: &Path) -> Result<Vec<Utterance>> {
    #[derive(Deserialize)]
    struct Entry {
        audio_filepath: PathBuf,
        text: String,
        duration: Option<f64>,
        offset: Option<f64>,
        speaker: Option<serde_json::Value>,
        source: Option<String>,
    }
    let mut utterances = Vec::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let entry: Entry = serde_json::from_str(&line).map_err(|error| lines.error(error.to_string()))?;
        let offset_s = lines.seconds("offset", entry.offset.unwrap_or(0.0))?;
        let name = entry.audio_filepath.display();
        utterances.push(Utterance {
            id: if entry.offset.is_some() { format!("{name}@{offset_s}") } else { name.to_string() },
            audio: folder.join(&entry.audio_filepath),
            offset_s,
            duration_s: entry.duration.map(|s| lines.seconds("duration", s)).transpose()?,
            text: entry.text,
            speaker: entry.speaker.and_then(|speaker| match speaker {
                serde_json::Value::String(name) => Some(name),
                serde_json::Value::Number(number) => Some(number.to_string()),
                _ => None,
            }),
            source: entry.source,
        });
    }
    Ok(utterances)
}

/// Kaldi's data folder (kaldi-asr.org, "Data preparation"). Utterances that `text` does not list are left out.
fn kaldi(folder: &Path) -> Result<Vec<Utterance>> {
    let recordings = table(&folder.join("wav.scp"), |lines, path| {
        if path.ends_with('|') || path.starts_with('|') {
            return Err(lines.error("a command instead of a file; run it, and name the file it made"));
        }
        Ok(folder.join(path))
    })?;
    let segments_file = folder.join("segments");
    let segments = if segments_file.is_file() {
        Some(table(&segments_file, |lines, rest| {
            let problem = || lines.error("expected: utterance recording start-seconds end-seconds");
            let [recording, start, end] = rest.split_whitespace().collect::<Vec<_>>()[..] else {
                return Err(problem());
            };
            let audio = recordings.get(recording).ok_or_else(|| lines.error(not_in(recording, "wav.scp")))?;
            let start = lines.seconds("start", start.parse().map_err(|_| problem())?)?;
            let end: f64 = end.parse().map_err(|_| problem())?;
            // Kaldi writes -1 for "to the end".
            let duration = if end == -1.0 { None } else { Some(lines.seconds("end − start", end - start)?) };
            Ok((audio.clone(), start, duration))
        })?)
    } else {
        None
    };
    let speakers_file = folder.join("utt2spk");
    let mut speakers =
        if speakers_file.is_file() { table(&speakers_file, |_, name| Ok(name.to_owned()))? } else { HashMap::new() };

    let mut utterances = Vec::new();
    let mut seen = HashSet::new();
    let mut lines = Lines::open(&folder.join("text"))?;
    while let Some(line) = lines.next()? {
        let (id, text) = key_and_rest(&line);
        if !seen.insert(id.to_owned()) {
            return Err(lines.error(format!("{id} is listed twice")));
        }
        let (audio, offset_s, duration_s) = match &segments {
            Some(segments) => segments.get(id).cloned().ok_or_else(|| lines.error(not_in(id, "segments")))?,
            None => (recordings.get(id).cloned().ok_or_else(|| lines.error(not_in(id, "wav.scp")))?, 0.0, None),
        };
        let (id, text) = (id.to_owned(), text.to_owned());
        let speaker = speakers.remove(&id);
        utterances.push(Utterance { id, audio, offset_s, duration_s, text, speaker, source: None });
    }
    Ok(utterances)
}

fn lj_speech(path: &Path, folder: &Path) -> Result<Vec<Utterance>> {
    let mut utterances = Vec::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let columns: Vec<&str> = line.split('|').collect();
        let (id, text) = match columns[..] {
            [id, _, normalized] if !normalized.trim().is_empty() => (id, normalized),
            [id, text] | [id, text, _] => (id, text),
            _ => return Err(lines.error("expected: id|text or id|text|normalised text")),
        };
        let audio = folder.join("wavs").join(format!("{id}.wav"));
        utterances.push(whole_file(id.to_owned(), audio, text, None));
    }
    Ok(utterances)
}

fn common_voice(path: &Path, folder: &Path) -> Result<Vec<Utterance>> {
    let mut lines = Lines::open(path)?;
    let head: Vec<String> = lines.next()?.unwrap_or_default().split('\t').map(str::to_owned).collect();
    let column = |name: &str| head.iter().position(|column| column == name);
    let (Some(clip), Some(sentence)) = (column("path"), column("sentence")) else {
        return Err(lines.error("the columns path and sentence are needed"));
    };
    let client = column("client_id");
    let mut utterances = Vec::new();
    while let Some(line) = lines.next()? {
        let columns: Vec<&str> = line.split('\t').collect();
        if columns.len() != head.len() {
            return Err(lines.error(format!("{} columns, the head line has {}", columns.len(), head.len())));
        }
        let mut audio = folder.join("clips").join(columns[clip]);
        if audio.extension().is_none() {
            audio.set_extension("mp3"); // The first releases left it out.
        }
        let speaker = client.map(|client| columns[client].to_owned());
        utterances.push(whole_file(columns[clip].to_owned(), audio, columns[sentence], speaker));
    }
    Ok(utterances)
}

fn whole_file(id: String, audio: PathBuf, text: &str, speaker: Option<String>) -> Utterance {
    Utterance { id, audio, offset_s: 0.0, duration_s: None, text: text.to_owned(), speaker, source: None }
}

fn not_in(name: &str, file: &str) -> String {
    format!("{name} is not in {file}")
}

/// The first word of a line and the rest without the space around it.
fn key_and_rest(line: &str) -> (&str, &str) {
    let line = line.trim();
    line.split_once(char::is_whitespace).map_or((line, ""), |(key, rest)| (key, rest.trim_start()))
}

/// A Kaldi table: `key value` lines.
fn table<V>(path: &Path, value: impl Fn(&Lines, &str) -> Result<V>) -> Result<HashMap<String, V>> {
    let mut entries = HashMap::new();
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next()? {
        let (key, rest) = key_and_rest(&line);
        if rest.is_empty() {
            return Err(lines.error(format!("{key} stands alone")));
        }
        if entries.insert(key.to_owned(), value(&lines, rest)?).is_some() {
            return Err(lines.error(format!("{key} is listed twice")));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder with these text files; sound files are empty, only their being there counts.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn problem(files: &[(&str, &str)], name: &str) -> String {
        let folder = folder(files);
        let error = Manifest::read(&folder.path().join(name), false).unwrap_err().to_string();
        error.replace(folder.path().to_str().unwrap(), "…")
    }

    #[test]
    fn nemo_json_lines() {
        let lines = "\u{feff}{\"audio_filepath\": \"a.wav\", \"duration\": 1.5, \"text\": \"one\", \"speaker\": 7, \"licence\": 0}\r\n\n\
                     {\"audio_filepath\": \"a.wav\", \"duration\": 2, \"offset\": 1.5, \"text\": \"two\", \"source\": \"x\"}\n\
                     {\"audio_filepath\": \"gone.wav\", \"duration\": 1, \"text\": \"gone\"}";
        let folder = folder(&[("m.jsonl", lines), ("a.wav", "")]);
        let manifest = Manifest::read(&folder.path().join("m.jsonl"), false).unwrap();
        assert_eq!(manifest.kind, Kind::Nemo);
        let [one, two] = &manifest.utterances[..] else { panic!("{manifest:?}") };
        assert_eq!((one.id.as_str(), one.text.as_str(), one.speaker.as_deref()), ("a.wav", "one", Some("7")));
        assert_eq!((one.offset_s, one.duration_s, &one.audio), (0.0, Some(1.5), &folder.path().join("a.wav")));
        assert_eq!((two.id.as_str(), two.offset_s, two.source.as_deref()), ("a.wav@1.5", 1.5, Some("x")));
        assert_eq!(manifest.missing, [folder.path().join("gone.wav")]);
        let error = Manifest::read(&folder.path().join("m.jsonl"), true).unwrap_err().to_string();
        assert!(error.contains("1 sound files are missing") && error.contains("gone.wav"), "{error}");
    }

    #[test]
    fn kaldi_folders() {
        let files =
            [("wav.scp", "r1 a.wav\nr2 /gone.wav\n"), ("text", "u2  two  words\nu1 one\nu3\nu4 x\n"), ("a.wav", "")];
        let segments = ("segments", "u1 r1 0 1.5\nu2 r1 1.5 -1\nu3 r1 2 3\nu4 r2 0 1\n");
        let folder_with_segments = folder(&[&files[..], &[segments, ("utt2spk", "u1 ann\nu2 bob\n")]].concat());
        for name in ["", "wav.scp"] {
            let manifest = Manifest::read(&folder_with_segments.path().join(name), false).unwrap();
            assert_eq!(manifest.kind, Kind::Kaldi);
            let rows: Vec<_> =
                manifest.utterances.iter().map(|u| (&u.id[..], &u.text[..], u.offset_s, u.duration_s)).collect();
            let expected = [("u2", "two  words", 1.5, None), ("u1", "one", 0.0, Some(1.5)), ("u3", "", 2.0, Some(1.0))];
            assert_eq!(rows, expected);
            assert_eq!(manifest.utterances[0].speaker.as_deref(), Some("bob"));
            assert_eq!(manifest.missing, [Path::new("/gone.wav")]);
        }
        let whole = folder(&[("wav.scp", "u1 a.wav"), ("text", "u1 one"), ("a.wav", "")]);
        assert_eq!(Manifest::read(whole.path(), true).unwrap().utterances[0].duration_s, None);
    }

    #[test]
    fn lj_speech_and_common_voice() {
        let folder = folder(&[
            ("metadata.csv", "LJ1|Dr. \"X\"|Doctor X\nLJ2|plain|\n"),
            ("wavs/LJ1.wav", ""),
            ("wavs/LJ2.wav", ""),
            ("train.tsv", "client_id\tpath\tsentence\tage\nc1\tx.mp3\tHello.\t\nc2\ty\tBye\told\n"),
            ("clips/x.mp3", ""),
            ("clips/y.mp3", ""),
        ]);
        let texts = |name: &str| {
            let manifest = Manifest::read(&folder.path().join(name), true).unwrap();
            let texts = manifest.utterances.into_iter().map(|u| (u.id, u.text, u.speaker.unwrap_or_default()));
            (manifest.kind, texts.collect::<Vec<_>>())
        };
        let row = |id: &str, text: &str, speaker: &str| (id.to_owned(), text.to_owned(), speaker.to_owned());
        let lj = (Kind::LjSpeech, vec![row("LJ1", "Doctor X", ""), row("LJ2", "plain", "")]);
        assert_eq!(texts("metadata.csv"), lj);
        assert_eq!(texts(""), lj);
        assert_eq!(texts("train.tsv"), (Kind::CommonVoice, vec![row("x.mp3", "Hello.", "c1"), row("y", "Bye", "c2")]));
    }

    #[test]
    fn hostile_manifests_name_file_and_line() {
        type Files<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Files, &str, &str); 12] = [
            (&[("m", "{\"audio_filepath\": \"a\"}")], "m", "…/m:1: missing field `text`"),
            (&[("m", "{\"audio_filepath\": \"a\", \"text\": \"\"}\n\n{oops")], "m", "…/m:3: key must be"),
            (
                &[("m", "{\"audio_filepath\": \"a\", \"text\": \"\", \"duration\": -1}")],
                "m",
                "…/m:1: duration is -1 seconds",
            ),
            (
                &[("m", "{\"audio_filepath\": \"a\", \"text\": \"\", \"offset\": 1e999}")],
                "m",
                "…/m:1: number out of range",
            ),
            (&[("m", "hello")], "m", "…/m: not a manifest"),
            (&[("m", "")], "m", "…/m: not a manifest"),
            (&[("x", "")], "", "…/: the folder holds neither"),
            (&[("x", "")], "gone", "…/gone: cannot read"),
            (&[("wav.scp", "r sox x |")], "", "…/wav.scp:1: a command instead of a file"),
            (&[("wav.scp", "r a.wav\nr b.wav")], "", "…/wav.scp:2: r is listed twice"),
            (&[("wav.scp", "r a.wav"), ("text", "u one")], "", "…/text:1: u is not in wav.scp"),
            (&[("m", "path\tsentence\na\tb\tc")], "m", "…/m:2: 3 columns, the head line has 2"),
        ];
        for (files, name, expected) in cases {
            let problem = problem(files, name);
            assert!(problem.starts_with(expected), "{problem:?} instead of {expected:?}");
        }
        let folder = folder(&[]);
        for (bytes, expected) in [(b"{\xff".to_vec(), "m:1: not UTF-8"), (vec![b'{'; 3 << 20], "m:1: longer than")] {
            fs::write(folder.path().join("m"), bytes).unwrap();
            let error = Manifest::read(&folder.path().join("m"), false).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
