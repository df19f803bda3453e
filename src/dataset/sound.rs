//! The sound of utterances: stretches of files, piece by piece in constant memory.

use std::path::PathBuf;

use super::manifest::Utterance;
use crate::audio::AudioStream;
use crate::time::FrameClock;
use crate::{Error, Result};

/// Sound that is kept behind, for utterances that overlap the one before.
const KEPT_S: f64 = 30.0;

/// Reads utterances one after the other, going on in the same file where it can: manifests list long recordings in order.
pub struct SoundReader {
    clock: FrameClock,
    open: Option<OpenFile>,
}

struct OpenFile {
    path: PathBuf,
    stream: AudioStream,
    /// The last samples that were decoded; the first of them is sample `start` of the file.
    samples: Vec<f32>,
    start: u64,
}

impl SoundReader {
    /// A reader that resamples to the clock's rate.
    pub fn new(clock: FrameClock) -> Self {
        Self { clock, open: None }
    }

    /// Gives the utterance's samples to `take`, piece by piece, and says how many they were.
    ///
    /// # Errors
    /// As [`AudioStream::open`], [`AudioStream::read`] and `take`, or [`Error::Audio`] when the file ends well before the
    /// utterance does.
    pub fn read(&mut self, utterance: &Utterance, mut take: impl FnMut(&[f32]) -> Result<()>) -> Result<u64> {
        let clock = self.clock;
        let start = clock.samples(utterance.offset_s);
        let end = utterance.duration_s.map_or(u64::MAX, |duration_s| start.saturating_add(clock.samples(duration_s)));
        let reusable = |open: &OpenFile| open.path == utterance.audio && open.start <= start;
        let mut open = match self.open.take().filter(reusable) {
            Some(open) => open,
            None => OpenFile {
                path: utterance.audio.clone(),
                stream: AudioStream::open(&utterance.audio, clock.sample_rate_hz)?,
                samples: Vec::new(),
                start: 0,
            },
        };
        let mut at = start;
        loop {
            let decoded = open.start + open.samples.len() as u64;
            if at < decoded.min(end) {
                take(&open.samples[(at - open.start) as usize..(decoded.min(end) - open.start) as usize])?;
                at = decoded.min(end);
            }
            open.forget(clock.samples(KEPT_S) as usize);
            if at == end || open.stream.read(&mut open.samples)? == 0 {
                break;
            }
        }
        self.open = Some(open);
        match utterance.duration_s {
            // Manifests round; beyond that the text would say more than the sound.
            Some(duration_s) if clock.seconds(at - start) < 0.95 * duration_s - 0.1 => {
                let (ends_s, offset_s) = (clock.seconds(at), utterance.offset_s);
                let problem = format!("ends before {ends_s:.2} s; the manifest wants {duration_s} s from {offset_s}");
                Err(Error::audio(&utterance.audio, problem))
            }
            _ => Ok(at - start),
        }
    }
}

impl OpenFile {
    /// Keeps the last samples only; so seldom that moving them costs little.
    fn forget(&mut self, kept: usize) {
        if self.samples.len() > 2 * kept {
            let gone = self.samples.len() - kept;
            self.samples.drain(..gone);
            self.start += gone as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const CLOCK: FrameClock = FrameClock { sample_rate_hz: 1_000, window_samples: 25, hop_samples: 10 };

    /// A WAV of `seconds`, whose sample `i` is `i / 2^18`.
    fn ramp(path: &Path, seconds: u32) {
        let format = hound::WavSpec {
            channels: 1,
            sample_rate: CLOCK.sample_rate_hz,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Float,
        };
        let mut wav = hound::WavWriter::create(path, format).unwrap();
        (0..seconds * CLOCK.sample_rate_hz).for_each(|i| wav.write_sample(i as f32 / 262_144.0).unwrap());
        wav.finalize().unwrap();
    }

    #[test]
    fn utterances_anywhere_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ramp.wav");
        ramp(&path, 200);
        let mut reader = SoundReader::new(CLOCK);
        let mut read = |offset_s: f64, duration_s| {
            let audio = path.clone();
            let text = String::new();
            let utterance =
                Utterance { id: "u".into(), audio, offset_s, duration_s, text, speaker: None, source: None };
            let mut indices: Vec<u64> = Vec::new();
            let count = reader.read(&utterance, |piece| {
                indices.extend(piece.iter().map(|sample| (sample * 262_144.0).round() as u64));
                Ok(())
            });
            count.inspect(|count| assert_eq!(*count, indices.len() as u64)).map(|_| indices)
        };
        // Forward, overlapping, far forward, back to the start, and to the end of the file.
        for (offset_s, duration_s) in [(0.0, 1.5), (1.5, 0.25), (1.0, 90.0), (150.0, 2.0), (0.001, 0.002), (5.0, 0.0)] {
            let start = (offset_s * 1e3) as u64;
            let expected: Vec<u64> = (start..start + (duration_s * 1e3) as u64).collect();
            assert_eq!(read(offset_s, Some(duration_s)).unwrap(), expected, "{offset_s} {duration_s}");
        }
        assert_eq!(read(198.0, None).unwrap(), (198_000..200_000).collect::<Vec<_>>());
        assert_eq!(read(199.0, Some(1.02)).unwrap().len(), 1_000);
        let error = read(199.0, Some(2.0)).unwrap_err().to_string();
        assert!(error.contains("ends before 200.00 s; the manifest wants 2 s from 199"), "{error}");
        assert!(read(500.0, None).unwrap().is_empty());
        assert!(read(1e300, Some(1e300)).is_err());
    }
}
