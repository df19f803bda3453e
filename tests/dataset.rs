//! Real speech from its manifest to a spectrogram dataset and back.

mod golden;

use dfcnn::audio::AudioStream;
use dfcnn::dataset::manifest::{Kind, Manifest};
use dfcnn::dataset::prepare::{Options, prepare};
use dfcnn::dataset::shards::{Dataset, Precision};
use dfcnn::dataset::text::{Normalizer, Report, Selection};
use dfcnn::spectrogram::{Scale, Settings, Spectrogram, Spectrum, Window};
use dfcnn::tokens::Tokens;

/// How far 8 bits may be off, in nats.
const QUANTISATION: f32 = 0.06;

#[test]
fn real_speech_becomes_a_dataset() {
    let Some(path) = golden::shared("corpus/dev.jsonl") else { return };
    let manifest = Manifest::read(&path, true).unwrap();
    assert_eq!(manifest.kind, Kind::Nemo);

    let letters: String = ('a'..='z').map(|letter| format!("{letter}\n")).collect();
    let tokens = Tokens::parse("tokens.txt", &format!("<b>\n<space>\n'\n{letters}")).unwrap();
    let selection = Selection { normalizer: Normalizer::new(&tokens), shortest_s: 0.1, longest_s: 60.0 };
    let mut report = Report::default();
    for utterance in &manifest.utterances {
        let seconds = utterance.duration_s.unwrap();
        let ids = report.count(seconds, selection.admit(&utterance.text, seconds, (seconds * 25.0) as usize));
        assert!(ids.is_none_or(|ids| tokens.text(&ids) == utterance.text));
    }
    assert!(report.used.utterances > manifest.utterances.len() * 95 / 100, "{report}");

    let settings = Settings {
        sample_rate_hz: 16_000,
        window_samples: 400,
        hop_samples: 160,
        window: Window::Hann,
        fft_size: 512,
        spectrum: Spectrum::Power,
        scale: Scale::Mel { bins: 80, low_hz: 20.0, high_hz: 7600.0 },
        log_floor: 1e-6,
    };
    let options = Options { settings, precision: Precision::Bits8, threads: 2, longest_s: 60.0, strict: true };
    let folder = tempfile::tempdir().unwrap();
    let some: Vec<_> = manifest.utterances.into_iter().step_by(40).collect();
    prepare(&some, folder.path(), &options, &|_| true).unwrap();
    let dataset = Dataset::open(folder.path()).unwrap();
    for (index, utterance) in some.iter().enumerate() {
        let (mut samples, mut expected, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        let mut stream = AudioStream::open(&utterance.audio, 16_000).unwrap();
        while stream.read(&mut samples).unwrap() > 0 {}
        Spectrogram::new(&options.settings, None).unwrap().push(&samples, &mut expected);
        dataset.read(index, &mut columns).unwrap();
        assert_eq!(columns.len(), dataset.entries()[index].frames * 80);
        // The manifest rounds durations, so the last frame may be missing.
        assert!(expected.len() - columns.len() <= 80, "{}: {} {}", utterance.id, expected.len(), columns.len());
        let worst = golden::largest_difference(&columns, &expected[..columns.len()]);
        assert!(worst < QUANTISATION, "{}: off by {worst}", utterance.id);
    }
}
