//! `dfcnn see --filters`: what each filter answers to most in a data set, as a page to look at.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use dfcnn::Error;
use dfcnn::dataset::manifest::{Manifest, Utterance};
use dfcnn::dataset::sound::SoundReader;
use dfcnn::model::Model;
use dfcnn::time::FrameClock;
use dfcnn::visualize::gallery::{MOST_SECONDS, Options, Search, Snapshot};

use crate::cli::interrupt::Interrupted;
use crate::cli::progress::Progress;
use crate::cli::{Report, Verbosity};

/// What of the filters to show.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterChoice {
    /// Show what each filter answers to most in these lists of utterances, or in the folders that hold them
    #[arg(long, value_name = "MANIFEST", num_args = 1..)]
    pub filters: Vec<PathBuf>,
    /// Layers to show, by their paths in `dfcnn inspect` [default: convolutions and residuals]
    #[arg(long, value_name = "LAYER", value_delimiter = ',', conflicts_with = "file")]
    layers: Vec<String>,
    /// Filters to show of each layer
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "file")]
    each: u16,
    /// Patches to show of each filter, each from another utterance
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=99), conflicts_with = "file")]
    patches: u16,
    /// Imagine for each filter what it would answer to most, and how that would sound; a second of work a filter
    #[arg(long, conflicts_with = "file")]
    imagine: bool,
    /// The same network at earlier times of its training, the earliest first: how a filter came to what it is
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with = "file")]
    evolution: Vec<PathBuf>,
}

impl FilterChoice {
    /// The page, and how many utterances had to be left out, which `report` was told of.
    pub fn page(
        &self,
        model: &Model,
        threads: usize,
        verbosity: Verbosity,
        report: Report,
        stop: &AtomicBool,
    ) -> anyhow::Result<String> {
        let mut utterances = Vec::new();
        for path in &self.filters {
            let manifest = Manifest::read(path, false)?;
            utterances.extend(manifest.utterances);
            for audio in manifest.missing {
                let problem = format!("the sound file {} does not exist; its utterances are left out", audio.display());
                report(Error::data(path, problem).into());
            }
        }
        let earlier = self.earlier()?;
        let snapshots: Vec<Snapshot<'_>> =
            earlier.iter().map(|(name, model)| Snapshot { name: name.as_str(), model }).collect();
        let options =
            Options { layers: self.layers.clone(), each: self.each.into(), patches: self.patches.into(), threads };
        let mut search = Search::new(model, &snapshots, options)?;
        let clock = model.spectrogram.clock();
        let progress = Progress::share("searching", verbosity.quiet);
        let mut reader = Reader::new(clock);
        // The utterances that were searched, by their number there.
        let mut clips: Vec<&Utterance> = Vec::new();
        for (index, utterance) in utterances.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Err(Interrupted("no page was written".into()).into());
            }
            progress.set(index as f64 / utterances.len() as f64);
            match reader.samples(utterance) {
                Ok(samples) => {
                    search.look(samples);
                    clips.push(utterance);
                }
                Err(error) => progress.suspend(|| report(error.into())),
            }
        }
        drop(progress);
        let mut gallery = search.gallery()?;
        let wanted = gallery.clips();
        let progress = Progress::share("cutting out", verbosity.quiet);
        for (index, &clip) in wanted.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Err(Interrupted("no page was written".into()).into());
            }
            progress.set(index as f64 / wanted.len() as f64);
            gallery.show(clip, &clips[clip].id, &clips[clip].text, reader.samples(clips[clip])?);
        }
        drop(progress);
        if self.imagine {
            let progress = Progress::share("imagining", verbosity.quiet);
            gallery.imagine(|share| progress.set(share))?;
        }
        Ok(gallery.page()?)
    }

    /// The earlier networks with their names: the ends of their paths, as far as they differ.
    fn earlier(&self) -> dfcnn::Result<Vec<(String, Model)>> {
        let names = names(&self.evolution);
        self.evolution.iter().zip(names).map(|(path, name)| Ok((name, Model::load(path)?))).collect()
    }
}

/// What the paths do not all begin or end with.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let parts = |path: &Path| -> Vec<String> {
        path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let whole = paths;
    let paths: Vec<Vec<String>> = paths.iter().map(|path| parts(path)).collect();
    let shared = |at: &dyn Fn(&[String], usize) -> Option<String>| {
        let same = |n: &usize| {
            paths.len() > 1 && paths.iter().all(|path| path.len() > n + 1 && at(path, *n) == at(&paths[0], *n))
        };
        (0..).take_while(same).count()
    };
    let front = shared(&|path, n| path.get(n).cloned());
    let back = shared(&|path, n| path.iter().nth_back(n).cloned());
    let name = |(path, whole): (&Vec<String>, &PathBuf)| match path.get(front..path.len().saturating_sub(back)) {
        Some(name) if !name.is_empty() && paths.len() > 1 => name.join("/"),
        _ => whole.display().to_string(),
    };
    paths.iter().zip(whole).map(name).collect()
}

/// Whole utterances.
struct Reader {
    clock: FrameClock,
    sound: SoundReader,
    samples: Vec<f32>,
}

impl Reader {
    fn new(clock: FrameClock) -> Self {
        Self { clock, sound: SoundReader::new(clock), samples: Vec::new() }
    }

    fn samples(&mut self, utterance: &Utterance) -> dfcnn::Result<&[f32]> {
        let most = self.clock.samples(MOST_SECONDS) as usize;
        self.samples.clear();
        self.sound.read(utterance, |piece| {
            self.samples.extend(piece);
            if self.samples.len() <= most {
                return Ok(());
            }
            let problem = format!("{} lasts longer than {MOST_SECONDS} s and is left out", utterance.id);
            Err(Error::audio(&utterance.audio, problem))
        })?;
        Ok(&self.samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_named_by_what_differs() {
        let names = |paths: &[&str]| names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["runs/a/last", "runs/b/last"]), ["a", "b"]);
        assert_eq!(names(&["run/000010", "run/000020"]), ["000010", "000020"]);
        assert_eq!(names(&["a/last", "b"]), ["a/last", "b"]);
        assert_eq!(names(&["some/where"]), ["some/where"]);
        assert_eq!(names(&["same", "same"]), ["same", "same"]);
    }
}
