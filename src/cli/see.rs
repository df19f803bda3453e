//! `dfcnn see`: what the network makes of a recording, or what its filters love, as a page to look at.

mod filters;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use dfcnn::model::Model;
use dfcnn::visualize::page::{self, Clip, MOST_SECONDS};
use dfcnn::visualize::{arrays, pictures};
use dfcnn::{Error, atomic_file};

use super::progress::Progress;
use super::sources::Source;
use super::{ModelChoice, Report, Verbosity, interrupt, threads};
use filters::FilterChoice;

/// Write a page that shows what the network makes of a recording, layer by layer, and why it heard each letter; or, with
/// --filters, what each filter answers to most in a data set.
///
/// The page is one HTML file that needs no network. Of a recording it holds at most 20 s.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A recording
    #[arg(value_name = "AUDIO", required_unless_present = "filters", conflicts_with = "filters")]
    file: Option<PathBuf>,
    /// The page
    #[arg(long, value_name = "FILE", required_unless_present_any = ["npz", "png"])]
    out: Option<PathBuf>,
    /// The numbers behind it for NumPy: spectrogram, activations, weights, posteriors, and what spoke for each letter
    #[arg(long, value_name = "FILE", conflicts_with = "filters")]
    npz: Option<PathBuf>,
    /// The same as pictures, a pixel a number, into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "filters")]
    png: Option<PathBuf>,
    /// Where the piece to look at starts, in seconds
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = seconds, conflicts_with = "filters")]
    from: f64,
    /// Where it ends, in seconds [default: the recording's end]
    #[arg(long, value_name = "S", value_parser = seconds, conflicts_with = "filters")]
    to: Option<f64>,
    /// Do not cover the spectrogram patch by patch, which is most of the work
    #[arg(long, conflicts_with = "filters")]
    no_occlusion: bool,
    /// Another recording, to be shown at its side
    #[arg(long, value_name = "AUDIO", conflicts_with = "filters", requires = "out")]
    beside: Option<PathBuf>,
    /// Another model, to be shown at its side
    #[arg(long, value_name = "DIR", conflicts_with = "filters", requires = "out")]
    beside_model: Option<PathBuf>,
    /// Threads that compute [default: as many as there are cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    #[command(flatten)]
    model: ModelChoice,
    #[command(flatten)]
    filters: FilterChoice,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(seconds),
        _ => Err("a number of seconds, 0 or more, is wanted".to_owned()),
    }
}

/// Reads what there is to look at, looks at it, writes the page.
pub fn run(arguments: &Arguments, verbosity: Verbosity, report: Report) -> anyhow::Result<()> {
    let model = arguments.model.load()?;
    let page = match &arguments.file {
        Some(file) => {
            arguments.numbers(&model, file, verbosity)?;
            match arguments.out {
                Some(_) => arguments.page(&model, file, verbosity)?,
                None => return Ok(()),
            }
        }
        None => {
            let stop = interrupt::flag()?;
            arguments.filters.page(&model, threads(arguments.threads), verbosity, report, &stop)?
        }
    };
    if let Some(out) = &arguments.out {
        atomic_file::write(out, |file| file.write_all(page.as_bytes()))?;
        verbosity.warn(format_args!("wrote {} ({:.1} MB)", out.display(), page.len() as f64 / 1e6));
    }
    Ok(())
}

impl Arguments {
    /// The page about a recording, and at its side another or the same by another model.
    fn page(&self, model: &Model, file: &Path, verbosity: Verbosity) -> anyhow::Result<String> {
        let first = self.half(model, file, self.model.folder.as_deref(), verbosity)?;
        if self.beside.is_none() && self.beside_model.is_none() {
            return Ok(first);
        }
        let other = self.beside_model.as_deref().map(Model::load).transpose()?;
        let file = self.beside.as_deref().unwrap_or(file);
        let folder = self.beside_model.as_deref().or(self.model.folder.as_deref());
        let second = self.half(other.as_ref().unwrap_or(model), file, folder, verbosity)?;
        Ok(page::beside(&first, &second)?)
    }

    /// The page about one recording by the model in `folder`, which is named where there are two.
    fn half(&self, model: &Model, file: &Path, folder: Option<&Path>, verbosity: Verbosity) -> anyhow::Result<String> {
        let samples = self.samples(file, model.spectrogram.sample_rate_hz)?;
        let mut name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        if self.beside_model.is_some() {
            let folder = folder.map_or_else(|| model.name.clone(), |folder| folder.display().to_string());
            name = format!("{name} ({folder})");
        }
        let clip = Clip { name: &name, samples: &samples, from_s: self.from };
        let options = page::Options { threads: threads(self.threads), occlusion: !self.no_occlusion };
        let progress = Progress::share(&name, verbosity.quiet);
        Ok(page::page(model, clip, options, |share| progress.set(share))?)
    }

    /// The numbers behind the page and their pictures, as far as they are wanted.
    fn numbers(&self, model: &Model, file: &Path, verbosity: Verbosity) -> anyhow::Result<()> {
        if self.npz.is_none() && self.png.is_none() {
            return Ok(());
        }
        let samples = self.samples(file, model.spectrogram.sample_rate_hz)?;
        let progress = Progress::share("numbers", verbosity.quiet);
        let arrays = arrays::arrays(model, &samples, threads(self.threads), |share| progress.set(share))?;
        drop(progress);
        if let Some(path) = &self.npz {
            atomic_file::write(path, |file| arrays::write_npz(&arrays, file))?;
            verbosity.warn(format_args!("wrote {}", path.display()));
        }
        if let Some(folder) = &self.png {
            fs::create_dir_all(folder).map_err(Error::write(folder))?;
            let pictures = pictures::pictures(&arrays);
            for picture in &pictures {
                let path = folder.join(format!("{}.png", picture.name));
                atomic_file::write(&path, |file| picture.write(file))?;
            }
            verbosity.warn(format_args!("wrote {} pictures into {}", pictures.len(), folder.display()));
        }
        Ok(())
    }

    /// The samples from `from` to `to`; what lies before is read and dropped.
    fn samples(&self, file: &Path, rate_hz: u32) -> anyhow::Result<Vec<f32>> {
        let at = |seconds: f64| (seconds * f64::from(rate_hz)).round() as u64;
        let (first, last) = (at(self.from), self.to.map(at));
        let most = at(self.from + MOST_SECONDS);
        let mut sound = Source::file(file).open(rate_hz)?;
        let (mut piece, mut samples, mut heard) = (Vec::new(), Vec::new(), 0u64);
        while last.is_none_or(|last| heard < last) && sound.read(&mut piece)? > 0 {
            let end = heard + piece.len() as u64;
            let wanted = |sample: u64| sample.clamp(heard, end) - heard;
            let range = wanted(first) as usize..wanted(last.unwrap_or(end)) as usize;
            samples.extend(piece.get(range).unwrap_or_default());
            heard = end;
            piece.clear();
            if heard.min(last.unwrap_or(heard)) > most {
                let problem = format!(
                    "lasts longer than the {MOST_SECONDS} s that a page can show; choose a piece with --from and --to"
                );
                return Err(Error::audio(file, problem).into());
            }
        }
        if samples.is_empty() {
            let problem = format!("there is no sound from {} s on; change --from or --to", self.from);
            return Err(Error::audio(file, problem).into());
        }
        Ok(samples)
    }
}
