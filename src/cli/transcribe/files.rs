//! A file of results for each recording, several recordings at the same time.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dfcnn::recognizer::{Engine, Options, Recognizer};
use dfcnn::{Error, Result, atomic_file};
use indicatif::{ProgressBar, ProgressStyle};

use super::hear::Hearing;
use super::usage;
use crate::cli::interrupt::{self, Interrupted};
use crate::cli::output::{Format, Output};
use crate::cli::sources::Source;
use crate::cli::{Report, Verbosity, parallel};

/// Where and how to write.
pub struct Files<'a> {
    pub folder: &'a Path,
    pub format: Format,
    pub jobs: usize,
    pub engine: &'a Engine,
    pub options: &'a Options,
}

impl Files<'_> {
    /// Transcribes every source into a file of its own, which is there whole or not at all.
    pub fn write(&self, sources: &[Source], verbosity: Verbosity, report: Report) -> anyhow::Result<()> {
        let tasks = self.tasks(sources)?;
        fs::create_dir_all(self.folder).map_err(Error::write(self.folder))?;
        let stop = interrupt::flag()?;
        let worker = || {
            let recognizer = Recognizer::with_engine(self.engine, self.options)?;
            let mut hearing = Hearing::beside_others(recognizer, verbosity, Arc::clone(&stop));
            let stop = Arc::clone(&stop);
            Ok(move |(source, path): &(&Source, PathBuf)| self.transcribe(&mut hearing, source, path, &stop))
        };
        let workers = (0..self.jobs.min(tasks.len())).map(|_| worker()).collect::<Result<Vec<_>>>()?;
        let bar = if verbosity.quiet { ProgressBar::hidden() } else { ProgressBar::new(tasks.len() as u64) };
        let template = "{wide_bar} {human_pos} of {human_len} recordings, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
        let mut done = 0;
        parallel::all(&tasks, workers, &stop, |outcome| {
            bar.inc(1);
            match outcome {
                Ok(()) => done += 1,
                Err(_) if stop.load(Ordering::Relaxed) => {}
                Err(error) => bar.suspend(|| report(anyhow::Error::msg(error.to_string()))),
            }
            true
        });
        bar.finish_and_clear();
        if stop.load(Ordering::Relaxed) {
            let folder = self.folder.display();
            return Err(Interrupted(format!("{folder} has the results of {done} of {} recordings", tasks.len())).into());
        }
        Ok(())
    }

    /// Each source with the file for its results.
    fn tasks<'s>(&self, sources: &'s [Source]) -> Result<Vec<(&'s Source, PathBuf)>, clap::Error> {
        let mut taken: HashMap<PathBuf, &Source> = HashMap::new();
        let mut tasks = Vec::new();
        for source in sources {
            let path = source.result(self.folder, self.format.form.extension());
            if let Some(other) = taken.insert(path.clone(), source) {
                let (one, two) = (other.name(), source.name());
                let problem = format!("{one} and {two} would both be written to {}", path.display());
                return Err(usage(format!("{problem}; transcribe them into different folders")));
            }
            tasks.push((source, path));
        }
        Ok(tasks)
    }

    /// What was heard before an error is kept.
    fn transcribe(&self, hearing: &mut Hearing, source: &Source, path: &Path, stop: &AtomicBool) -> Result<()> {
        let mut sound = hearing.open(source)?; // no file of results for what is no sound
        let folder = path.parent().unwrap_or(self.folder);
        fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let mut outcome = Ok(());
        atomic_file::write(path, |file| {
            let written = Output::new(file, path, self.format).and_then(|mut output| {
                outcome = hearing.transcribe(source, &mut sound, &mut output);
                match &outcome {
                    Ok(()) | Err(Error::Write { .. }) => Ok(()),
                    Err(error) => output.error(&source.name(), error),
                }
            });
            match (written, std::mem::replace(&mut outcome, Ok(()))) {
                (Err(Error::Write { source, .. }), _) | (_, Err(Error::Write { source, .. })) => Err(source),
                _ if stop.load(Ordering::Relaxed) => Err(ErrorKind::Interrupted.into()),
                (written, heard) => {
                    outcome = written.and(heard);
                    Ok(())
                }
            }
        })?;
        outcome
    }
}
