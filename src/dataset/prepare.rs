//! `dfcnn prepare`: from manifests to a spectrogram dataset, in parallel, resuming where it was interrupted.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::manifest::Utterance;
use super::shards::{Complete, Description, Precision, ShardWriter, read_head, shard_paths};
use super::sound::SoundReader;
use crate::spectrogram::{Settings, Spectrogram};
use crate::{Error, Result, atomic_file};

/// Utterances in one shard: what an interruption costs, and one thread's piece of work.
const UTTERANCES_PER_SHARD: usize = 256;

/// How a dataset is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The front-end, which must be that of the model to be trained.
    pub settings: Settings,
    /// How finely values are kept.
    pub precision: Precision,
    /// Threads that decode and transform.
    pub threads: usize,
    /// Longer utterances are left out, so that memory is bounded.
    pub longest_s: f64,
    /// Whether sound that cannot be decoded stops everything.
    pub strict: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Utterances in the dataset.
    pub utterances: usize,
    /// Columns in the dataset.
    pub frames: u64,
    /// Shards that an earlier run had finished.
    pub resumed: usize,
    /// Utterances left out, with the reason.
    pub failed: Vec<String>,
    /// False if `progress` asked to stop; running again goes on from here.
    pub complete: bool,
}

/// Makes the dataset `out` of these utterances. The result does not depend on the number of threads, nor on
/// interruptions. `progress` hears how many more utterances were dealt with, and says whether to go on.
///
/// # Errors
/// When `out` holds another dataset or cannot be written, or with [`Options::strict`] at sound that cannot be decoded.
pub fn prepare(
    utterances: &[Utterance],
    out: &Path,
    options: &Options,
    progress: &(dyn Fn(usize) -> bool + Sync),
) -> Result<Summary> {
    options.settings.validate()?;
    fs::create_dir_all(out).map_err(Error::write(out))?;
    let mut description = Description::new(options.precision, &options.settings);
    if Description::path(out).exists() {
        let found = Description::read(out)?;
        if (found.precision, &found.spectrogram) != (options.precision, &options.settings) {
            let problem = "holds a dataset with another front-end or precision; name another folder or delete it";
            return Err(Error::data(out, problem));
        }
    }
    description.write(out)?;

    let shards: Vec<&[Utterance]> = utterances.chunks(UTTERANCES_PER_SHARD).collect();
    let (next, stop, resumed) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    let failure = Mutex::new(None);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(utterances) = shards.get(number) else { return };
            match shard(utterances, out, number, options, &|count| progress(count) && !stop.load(Ordering::Relaxed)) {
                Ok(Outcome::Written) => {}
                Ok(Outcome::Found) => drop(resumed.fetch_add(1, Ordering::Relaxed)),
                Ok(Outcome::Stopped) => stop.store(true, Ordering::Relaxed),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| (0..options.threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    if let Some(error) = failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        return Err(error);
    }

    let mut summary = Summary {
        utterances: 0,
        frames: 0,
        resumed: resumed.into_inner(),
        failed: Vec::new(),
        complete: !stop.into_inner(),
    };
    if summary.complete {
        description.complete = Some(total(out, shards.len(), options.settings.bins(), &mut summary)?);
        description.write(out)?;
    }
    Ok(summary)
}

enum Outcome {
    Written,
    Found,
    Stopped,
}

/// Makes shard `number`, unless it is there.
fn shard(
    utterances: &[Utterance],
    out: &Path,
    number: usize,
    options: &Options,
    progress: &dyn Fn(usize) -> bool,
) -> Result<Outcome> {
    let [columns_file, index] = shard_paths(out, number);
    let plan = crc32fast::hash(format!("{:?} {utterances:?}", options.longest_s).as_bytes());
    if index.exists() {
        if read_head(&index)?.plan != plan {
            let problem = "made from other manifests or limits; name another folder for the dataset, or delete it";
            return Err(Error::data(index, problem));
        }
        return Ok(if progress(utterances.len()) { Outcome::Found } else { Outcome::Stopped });
    }
    let mut writer = ShardWriter::new(options.precision, options.settings.bins(), plan);
    let mut reader = Reader::new(options)?;
    let mut columns = Vec::new();
    let (mut failure, mut stopped) = (None, false);
    let written = atomic_file::write(&columns_file, |file| {
        for utterance in utterances {
            columns.clear();
            match reader.columns(utterance, &mut columns) {
                Ok(()) => io::Write::write_all(file, writer.push(utterance, &columns))?,
                Err(error) if options.strict => failure = Some(error),
                Err(error) => writer.head.failed.push(format!("{}: {error}", utterance.id)),
            }
            stopped = failure.is_some() || !progress(1);
            if stopped {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        Ok(())
    });
    match (failure, stopped) {
        (Some(error), _) => Err(error),
        (None, true) => Ok(Outcome::Stopped),
        (None, false) => written.and_then(|()| writer.finish(&index)).map(|()| Outcome::Written),
    }
}

/// Adds up the shards' heads, in their order: mean and standard deviation of each bin.
fn total(out: &Path, shards: usize, bins: usize, summary: &mut Summary) -> Result<Complete> {
    let (mut sum, mut sum_of_squares) = (vec![0.0; bins], vec![0.0; bins]);
    for number in 0..shards {
        let [_, index] = shard_paths(out, number);
        let head = read_head(&index)?;
        summary.utterances += head.utterances;
        summary.frames += head.frames;
        summary.failed.extend(head.failed);
        sum.iter_mut().zip(&head.sum).for_each(|(total, part)| *total += part);
        sum_of_squares.iter_mut().zip(&head.sum_of_squares).for_each(|(total, part)| *total += part);
    }
    if summary.frames == 0 {
        let reason = summary.failed.first().map(|first| format!("; the first that failed: {first}"));
        return Err(Error::data(out, format!("no usable utterance{}", reason.unwrap_or_default())));
    }
    let count = summary.frames as f64;
    let mean: Vec<f64> = sum.iter().map(|sum| sum / count).collect();
    let variance = sum_of_squares.iter().zip(&mean).map(|(squares, mean)| squares / count - mean * mean);
    // A bin that never changes must not be blown up.
    let std = variance.map(|variance| variance.max(1e-6).sqrt() as f32).collect();
    Ok(Complete { shards, mean: mean.into_iter().map(|mean| mean as f32).collect(), std })
}

/// Turns utterances into columns.
struct Reader<'a> {
    options: &'a Options,
    sound: SoundReader,
    spectrogram: Spectrogram,
}

impl<'a> Reader<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let sound = SoundReader::new(options.settings.clock());
        Ok(Self { options, sound, spectrogram: Spectrogram::new(&options.settings, None)? })
    }

    /// Appends the utterance's columns `[frames, bins]`.
    fn columns(&mut self, utterance: &Utterance, columns: &mut Vec<f32>) -> Result<()> {
        let problem = |text: String| Error::audio(&utterance.audio, text);
        let longest_s = self.options.longest_s;
        let too_long = || problem(format!("longer than {longest_s} s; cut it up, or raise the limit"));
        if utterance.duration_s.is_some_and(|s| s > longest_s) {
            return Err(too_long());
        }
        self.spectrogram.reset();
        let mut left = self.options.settings.clock().samples(longest_s);
        self.sound.read(utterance, |piece| {
            left = left.checked_sub(piece.len() as u64).ok_or_else(too_long)?;
            self.spectrogram.push(piece, columns);
            Ok(())
        })?;
        self.spectrogram.finish(columns);
        if columns.is_empty() { Err(problem("shorter than one frame".into())) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::shards::Dataset;
    use super::*;
    use crate::audio::AudioStream;
    use crate::random::Random;
    use crate::spectrogram::{Scale, Spectrum, Window};
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    fn options(precision: Precision, threads: usize) -> Options {
        let settings = Settings {
            sample_rate_hz: 8000,
            window_samples: 200,
            hop_samples: 80,
            window: Window::Hann,
            fft_size: 256,
            spectrum: Spectrum::Power,
            scale: Scale::Mel { bins: 8, low_hz: 20.0, high_hz: 3800.0 },
            log_floor: 1e-6,
        };
        Options { settings, precision, threads, longest_s: 2.0, strict: false }
    }

    /// 6 seconds of noise that grows, and utterances all over it.
    fn recording(folder: &Path, count: usize) -> Vec<Utterance> {
        let path = folder.join("a.wav");
        let format = hound::WavSpec {
            channels: 1,
            sample_rate: 8000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut wav = hound::WavWriter::create(&path, format).unwrap();
        let mut random = Random::new(1);
        (0..48_000).for_each(|i| wav.write_sample((random.uniform(-1.0..1.0) * (i / 2) as f32) as i16).unwrap());
        wav.finalize().unwrap();
        let utterance = |i: usize| Utterance {
            id: format!("u{i}"),
            audio: path.clone(),
            offset_s: (i % 50) as f64 * 0.1,
            duration_s: Some(0.2 + (i % 5) as f64 * 0.1),
            text: format!("text {i}"),
            speaker: i.is_multiple_of(2).then(|| "s".to_owned()),
            source: None,
        };
        (0..count).map(utterance).collect()
    }

    fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap())).collect()
    }

    #[test]
    fn columns_come_back_within_half_a_step() {
        let folder = tempfile::tempdir().unwrap();
        let utterances = recording(folder.path(), 10);
        for (precision, tolerance) in [(Precision::Bits8, 0.05), (Precision::Bits16, 2e-4)] {
            let options = options(precision, 1);
            let out = folder.path().join(format!("{precision:?}"));
            let summary = prepare(&utterances, &out, &options, &|_| true).unwrap();
            assert!(summary.complete && summary.failed.is_empty() && summary.utterances == 10, "{summary:?}");
            let dataset = Dataset::open(&out).unwrap();
            dataset.require(&options.settings).unwrap();
            let mut samples = Vec::new();
            let mut stream = AudioStream::open(&utterances[0].audio, 8000).unwrap();
            while stream.read(&mut samples).unwrap() > 0 {}
            let (mut sum, mut frames) = ([0.0; 8], 0);
            for (index, utterance) in utterances.iter().enumerate() {
                let start = (utterance.offset_s * 8000.0).round() as usize;
                let length = (utterance.duration_s.unwrap() * 8000.0).round() as usize;
                let mut expected = Vec::new();
                Spectrogram::new(&options.settings, None).unwrap().push(&samples[start..start + length], &mut expected);
                let mut columns = Vec::new();
                dataset.read(index, &mut columns).unwrap();
                let entry = &dataset.entries()[index];
                assert_eq!((entry.frames * 8, &entry.text), (expected.len(), &utterance.text));
                assert!(columns.iter().zip(&expected).all(|(a, b)| (a - b).abs() < tolerance));
                expected.iter().enumerate().for_each(|(i, value)| sum[i % 8] += value);
                frames += entry.frames;
            }
            assert_eq!(summary.frames, frames as u64);
            for (mean, sum) in dataset.normalization().mean.iter().zip(sum) {
                assert!((mean - sum / frames as f32).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn threads_and_interruptions_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let utterances = recording(folder.path(), 2 * UTTERANCES_PER_SHARD + 30);
        let [one, three, resumed] = ["one", "three", "resumed"].map(|name| folder.path().join(name));
        prepare(&utterances, &one, &options(Precision::Bits8, 1), &|_| true).unwrap();
        prepare(&utterances, &three, &options(Precision::Bits8, 3), &|_| true).unwrap();
        assert_eq!(files(&one).len(), 7);
        assert!(files(&one) == files(&three));

        let left = AtomicUsize::new(UTTERANCES_PER_SHARD + 20);
        let some = |_| left.fetch_sub(1, Ordering::Relaxed) > 0;
        let summary = prepare(&utterances, &resumed, &options(Precision::Bits8, 1), &some).unwrap();
        assert!(!summary.complete);
        let error = Dataset::open(&resumed).unwrap_err().to_string();
        assert!(error.contains("run the same dfcnn prepare again"), "{error}");
        let summary = prepare(&utterances, &resumed, &options(Precision::Bits8, 1), &|_| true).unwrap();
        assert_eq!((summary.complete, summary.resumed), (true, 1));
        assert!(files(&one) == files(&resumed));

        let error = prepare(&utterances[1..], &one, &options(Precision::Bits8, 1), &|_| true).unwrap_err().to_string();
        assert!(error.contains("made from other manifests"), "{error}");
        let error = prepare(&utterances, &one, &options(Precision::Bits16, 1), &|_| true).unwrap_err().to_string();
        assert!(error.contains("another front-end or precision"), "{error}");
    }

    #[test]
    fn unusable_sound_is_named_and_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut utterances = recording(folder.path(), 6);
        fs::write(folder.path().join("text.wav"), "no sound").unwrap();
        utterances[0].audio = folder.path().join("text.wav");
        utterances[1].duration_s = Some(5.9); // longer than the limit
        utterances[2].duration_s = None; // the rest of the file, longer too
        utterances[3].offset_s = 5.9; // ends too early
        utterances[4].duration_s = Some(0.01); // less than one frame
        let out = folder.path().join("out");
        let summary = prepare(&utterances, &out, &options(Precision::Bits8, 2), &|_| true).unwrap();
        assert_eq!((summary.utterances, summary.failed.len()), (1, 5));
        let reasons =
            ["not a sound file", "longer than 2 s", "longer than 2 s", "ends before 6.00 s", "shorter than one"];
        for (failed, reason) in summary.failed.iter().zip(reasons) {
            assert!(failed.contains(reason), "{failed:?} without {reason:?}");
        }
        let strict = Options { strict: true, ..options(Precision::Bits8, 2) };
        assert!(prepare(&utterances, &folder.path().join("strict"), &strict, &|_| true).is_err());
        let error = prepare(&utterances[..1], &folder.path().join("none"), &options(Precision::Bits8, 1), &|_| true);
        assert!(error.unwrap_err().to_string().contains("no usable utterance; the first that failed: u0: "));
    }

    #[test]
    fn damage_is_noticed_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        prepare(&recording(folder.path(), 9), &out, &options(Precision::Bits8, 1), &|_| true).unwrap();
        let [columns, index] = shard_paths(&out, 0);
        let toml = out.join("dataset.toml");
        type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
        let cut: Damage = &|bytes| bytes.truncate(bytes.len() - 3);
        let cases: [(&Path, Damage, &str); 6] = [
            (&columns, cut, "shard-00000.bin: "),
            (&index, cut, "shard-00000.jsonl:10: EOF while parsing"),
            (&index, &|bytes| bytes.truncate(bytes.iter().rposition(|&b| b == b'{').unwrap()), "8 of 9 lines"),
            (&index, &|bytes| bytes.clear(), "shard-00000.jsonl:1: EOF while parsing"),
            (&toml, &|bytes| bytes.truncate(20), "dataset.toml: "),
            (&columns, &|bytes| bytes[5] ^= 1, "the checksum of u0 differs; delete both files of this shard"),
        ];
        for (path, damage, reason) in cases {
            let whole = fs::read(path).unwrap();
            let mut bytes = whole.clone();
            damage(&mut bytes);
            fs::write(path, bytes).unwrap();
            let opened = Dataset::open(&out).and_then(|dataset| dataset.read(0, &mut Vec::new()));
            let error = opened.unwrap_err().to_string();
            assert!(error.contains(reason), "{error:?} without {reason:?}");
            fs::write(path, whole).unwrap();
        }
        let dataset = Dataset::open(&out).unwrap();
        let other = Settings { hop_samples: 81, ..dataset.settings().clone() };
        assert!(dataset.require(&other).unwrap_err().to_string().contains("another front-end than the model's"));
    }
}
