//! Sound files of every format, whole and broken, through `AudioStream`.

use std::f64::consts::TAU;
use std::fs;
use std::io::{Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use dfcnn::Error;
use dfcnn::audio::AudioStream;
use proptest::prelude::*;

/// Level of the tone in tests/data/audio, and its frequency.
const TONE: (f64, f64) = (0.5, 440.0);

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/audio").join(name)
}

/// All samples, and the error after them.
fn drain(stream: &mut AudioStream) -> (Vec<f32>, Option<Error>) {
    let mut samples = Vec::new();
    let error = loop {
        match stream.read(&mut samples) {
            Ok(0) => break None,
            Ok(_) => {}
            Err(error) => break Some(error),
        }
    };
    assert!(matches!(stream.read(&mut samples), Ok(0)), "nothing follows the end");
    assert!(samples.iter().all(|sample| (-1.0..=1.0).contains(sample)));
    (samples, error)
}

fn read_all(path: &Path, rate_hz: u32) -> Vec<f32> {
    let (samples, error) = drain(&mut AudioStream::open(path, rate_hz).unwrap());
    assert!(error.is_none(), "{}", error.unwrap());
    samples
}

/// Amplitude of the tone, how late it is in seconds, and the amplitude of everything else, in the middle half of
/// `samples` at 16 kHz.
fn analyse(samples: &[f32]) -> (f64, f64, f64) {
    let (from, to) = (samples.len() / 4, samples.len() * 3 / 4);
    let (mut re, mut im, mut power) = (0.0, 0.0, 0.0);
    for (n, &sample) in samples.iter().enumerate().take(to).skip(from) {
        let angle = TAU * TONE.1 * n as f64 / 16_000.0;
        (re, im) = (re + f64::from(sample) * angle.cos(), im + f64::from(sample) * angle.sin());
        power += f64::from(sample).powi(2);
    }
    let count = (to - from) as f64;
    let amplitude = 2.0 * re.hypot(im) / count;
    let late_s = -re.atan2(im) / (TAU * TONE.1);
    (amplitude, late_s, (2.0 * power / count - amplitude.powi(2)).max(0.0).sqrt())
}

/// What the fixtures hold: file, codec, rate, channels, seconds, and how far the seconds may be off.
const TONES: [(&str, &str, u32, usize, f64, f64); 10] = [
    ("extensible-s24.wav", "pcm_s24", 8_000, 1, 0.25, 0.0),
    ("mono-8000.flac", "flac", 8_000, 1, 0.25, 0.0),
    ("stereo-44100.ogg", "vorbis", 44_100, 2, 1.0, 0.0),
    ("stereo-44100.mp3", "mp3", 44_100, 2, 1.0, 0.0),
    ("mono.opus", "opus", 48_000, 1, 1.0, 0.0),
    ("stereo.opus", "opus", 48_000, 2, 1.0, 0.0),
    // These say nothing of their encoder's lead-in and padding, or symphonia does not read it (edit lists).
    ("mono-16000-no-info.mp3", "mp3", 16_000, 1, 1.08, 0.04),
    ("mono-16000.aac", "aac", 16_000, 1, 1.088, 0.07),
    ("stereo-44100.m4a", "aac", 44_100, 2, 1.0, 0.05),
    ("chirp-s16.wav", "pcm_s16", 16_000, 1, 0.1, 0.0),
];

#[test]
fn every_format_gives_its_tone_and_length() {
    for (name, codec, rate_hz, channels, seconds, tolerance_s) in TONES {
        let mut stream = AudioStream::open(&data(name), 16_000).unwrap();
        let source = stream.source().clone();
        let claimed_s = stream.duration_s();
        let (samples, error) = drain(&mut stream);
        assert!(error.is_none(), "{name}: {}", error.unwrap());
        let got_s = samples.len() as f64 / 16_000.0;
        let (tone, late_s, rest) = analyse(&samples);
        println!("{name}: {got_s} s, tone {tone:.4}, late {:.1} µs, rest {rest:.4}", late_s * 1e6);
        assert_eq!(
            (source.codec.as_str(), source.sample_rate_hz, source.channels),
            (codec, rate_hz, channels),
            "{name}"
        );
        assert!((got_s - seconds).abs() <= tolerance_s + 1.0 / 16_000.0, "{name}: {got_s} s");
        assert!(claimed_s.is_some_and(|claimed_s| (claimed_s - seconds).abs() <= 0.1), "{name}: claims {claimed_s:?}");
        assert_eq!(stream.damage(), 0, "{name}");
        if !name.starts_with("chirp") {
            assert!((tone - TONE.0).abs() < 0.03 && rest < 0.03, "{name}: tone {tone:.4}, rest {rest:.4}");
            assert!(tolerance_s > 0.0 || late_s.abs() < 100e-6, "{name}: {late_s} s late");
        }
    }
}

#[test]
fn equal_rates_are_bit_exact() {
    let wav = fs::read(data("chirp-s16.wav")).unwrap();
    let expected: Vec<f32> =
        wav[44..].chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0).collect();
    assert_eq!(expected.len(), 1_600);
    assert_eq!(read_all(&data("chirp-s16.wav"), 16_000), expected);
    assert_eq!(read_all(&data("chirp-s16.flac"), 16_000), expected);
    let raw = AudioStream::raw("-", Cursor::new(wav[44..].to_vec()), 16_000, 16_000);
    assert_eq!(drain(&mut raw.unwrap()).0, expected);
}

/// A WAV header and `data`; `tag` 1 for integers, 3 for floats.
fn wav(tag: u16, channels: u16, rate_hz: u32, bits: u16, data: &[u8]) -> Vec<u8> {
    let block_align = channels * bits / 8;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0");
    bytes.extend([tag, channels].iter().flat_map(|value| value.to_le_bytes()));
    bytes.extend([rate_hz, rate_hz.wrapping_mul(block_align.into())].iter().flat_map(|value| value.to_le_bytes()));
    bytes.extend([block_align, bits].iter().flat_map(|value| value.to_le_bytes()));
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

fn s16(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// A WAV as a stream at its own rate of 16 kHz.
fn stream(bytes: Vec<u8>) -> AudioStream {
    AudioStream::wav_reader("test.wav", Cursor::new(bytes), 16_000).unwrap()
}

#[test]
fn every_sample_format_of_wav() {
    let floats: Vec<u8> = [0.5f32, -1.0, 0.25].iter().flat_map(|value| value.to_le_bytes()).collect();
    let s32: Vec<u8> = [1i32 << 30, i32::MIN, 1 << 29].iter().flat_map(|value| value.to_le_bytes()).collect();
    for (tag, bits, bytes) in [
        (1, 8, vec![192, 0, 160]),
        (1, 16, s16(&[1 << 14, i16::MIN, 1 << 13])),
        (1, 24, vec![0, 0, 0x40, 0, 0, 0x80, 0, 0, 0x20]),
        (1, 32, s32),
        (3, 32, floats),
    ] {
        assert_eq!(drain(&mut stream(wav(tag, 1, 16_000, bits, &bytes))).0, [0.5, -1.0, 0.25], "{tag} {bits}");
    }
}

#[test]
fn channels_become_their_mean() {
    let mut stream = stream(wav(1, 4, 16_000, 16, &s16(&[1_000, 3_000, 0, 0, -4_000, 0, 0, 0])));
    assert_eq!(stream.source().channels, 4);
    assert_eq!(drain(&mut stream).0, [1_000.0 / 32_768.0, -1_000.0 / 32_768.0]);
}

#[test]
fn chunks_around_the_samples_are_skipped() {
    let plain = wav(1, 1, 16_000, 16, &s16(&[1, 2, 3]));
    let mut bytes = [&plain[..36], b"LIST\x03\0\0\0abc\0", &plain[36..], b"LIST\x04\0\0\0abcd"].concat();
    assert_eq!(drain(&mut stream(bytes.clone())).0.len(), 3, "an odd chunk has a byte of padding");
    let length = bytes.len() as u32 - 8;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    assert_eq!(drain(&mut stream(bytes)).0.len(), 3);
}

#[test]
fn lengths_beyond_32_bits() {
    let plain = wav(1, 1, 16_000, 16, &s16(&[1, 2, 3]));
    let mut ds64 = b"ds64\x1c\0\0\0".to_vec();
    for value in [72u64, 6, 3] {
        ds64.extend(value.to_le_bytes());
    }
    ds64.extend([0; 4]);
    let mut bytes = [b"RF64\xff\xff\xff\xffWAVE", &ds64[..], &plain[12..], b"LIST\x02\0\0\0ab"].concat();
    let at = bytes.windows(4).position(|chunk| chunk == b"data").unwrap() + 4;
    bytes[at..at + 4].fill(0xff);
    let mut stream = stream(bytes);
    assert_eq!(stream.duration_s(), Some(3.0 / 16_000.0));
    assert_eq!(drain(&mut stream).0.len(), 3);
}

#[test]
fn headers_of_streaming_writers() {
    for placeholder in [0, u32::MAX, 0x7fff_f000] {
        let mut bytes = wav(1, 1, 16_000, 16, &s16(&[100; 1_000]));
        bytes[4..8].copy_from_slice(&placeholder.to_le_bytes());
        bytes[40..44].copy_from_slice(&placeholder.to_le_bytes());
        let mut stream = stream(bytes);
        assert_eq!(stream.duration_s(), None);
        let (samples, error) = drain(&mut stream);
        assert!(samples.len() == 1_000 && error.is_none(), "{placeholder:#x}: {} samples, {error:?}", samples.len());
    }
}

/// Hands out the given pieces one by one, like a pipe.
struct Pieces(std::vec::IntoIter<Vec<u8>>);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(piece) = self.0.next() else { return Ok(0) };
        if piece == b"interrupted" {
            return Err(ErrorKind::Interrupted.into());
        }
        if piece == b"broken" {
            return Err(ErrorKind::ConnectionReset.into());
        }
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

fn pieces(pieces: &[&[u8]]) -> Pieces {
    Pieces(pieces.iter().map(|piece| piece.to_vec()).collect::<Vec<_>>().into_iter())
}

#[test]
fn what_arrives_is_delivered_at_once() {
    let reader = pieces(&[&[1, 0, 2], b"interrupted", &[0, 3], &[0], &[4, 0, 5]]);
    let mut stream = AudioStream::raw("-", reader, 16_000, 16_000).unwrap();
    let mut samples = Vec::new();
    let lengths: Vec<usize> = std::iter::repeat_with(|| stream.read(&mut samples).unwrap()).take(5).collect();
    assert_eq!(lengths, [1, 1, 1, 1, 0]);
    assert_eq!(samples, [1.0, 2.0, 3.0, 4.0].map(|value| value / 32_768.0));
    assert_eq!(stream.damage(), 1, "half a sample at the end");
}

#[test]
fn a_broken_pipe_keeps_what_came_before() {
    for rate_hz in [16_000, 8_000] {
        let mut stream =
            AudioStream::raw("-", pieces(&[&[1; 4_000], b"broken", &[1; 4_000]]), 16_000, rate_hz).unwrap();
        let (samples, error) = drain(&mut stream);
        assert_eq!(samples.len() as u32, 2_000 * rate_hz / 16_000);
        assert!(matches!(error, Some(Error::Read { .. })), "{error:?}");
    }
}

#[test]
fn pieces_are_bounded() {
    let bytes = wav(1, 1, 16_000, 16, &s16(&vec![7; 100_000]));
    for rate_hz in [8_000, 16_000, 48_000] {
        let mut stream = AudioStream::wav_reader("test.wav", Cursor::new(bytes.clone()), rate_hz).unwrap();
        let mut samples = Vec::new();
        while let length @ 1.. = stream.read(&mut samples).unwrap() {
            assert!(length <= rate_hz as usize * 6 / 10, "{length} samples at {rate_hz} Hz");
        }
        assert_eq!(samples.len(), 100_000 * rate_hz as usize / 16_000);
    }
}

#[test]
fn a_file_comes_in_large_pieces() {
    for (name, codec) in
        [("train.opus", "opus"), ("market.mp3", "mp3"), ("garden.flac", "flac"), ("harbour.wav", "pcm_s16")]
    {
        let mut stream = AudioStream::open(&clip(name), 16_000).unwrap();
        assert_eq!(stream.source().codec, codec);
        let mut samples = Vec::new();
        let first = stream.read(&mut samples).unwrap();
        assert!(stream.read(&mut samples).unwrap() == 0 || first >= 4 * 16_000, "{name}: {first}");
    }
}

#[test]
fn few_samples_are_fine() {
    for rate_hz in [8_000, 16_000, 44_100] {
        for count in 0..3 {
            let bytes = wav(1, 1, 16_000, 16, &s16(&vec![16_384; count]));
            let mut stream = AudioStream::wav_reader("test.wav", Cursor::new(bytes), rate_hz).unwrap();
            let (samples, error) = drain(&mut stream);
            let expected = (count as f64 * f64::from(rate_hz) / 16_000.0).round() as usize;
            assert!(samples.len() == expected && error.is_none(), "{count} at {rate_hz}: {} {error:?}", samples.len());
        }
    }
}

#[test]
fn numbers_that_are_none_become_silence_and_are_counted() {
    let values = [0.5, f32::NAN, f32::INFINITY, -0.5, f32::NEG_INFINITY, 7.0];
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut stream = stream(wav(3, 1, 16_000, 32, &data));
    let (samples, error) = drain(&mut stream);
    assert_eq!(samples, [0.5, 0.0, 0.0, -0.5, 0.0, 1.0]);
    assert!(error.is_none() && stream.damage() == 3);
}

/// What opening and reading a file of these bytes says.
fn complaint(name: &str, bytes: &[u8]) -> (usize, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let (count, error) = match AudioStream::open(&path, 16_000) {
        Err(error) => (0, error),
        Ok(mut stream) => {
            let (samples, error) = drain(&mut stream);
            (samples.len(), error.expect("an error"))
        }
    };
    let text = error.to_string();
    let about = text.strip_prefix(&format!("{}: ", path.display())).expect("the error names the file");
    println!("{name}: {about}");
    (count, about.to_string())
}

#[test]
fn bad_files_get_a_clear_error() {
    let good = wav(1, 1, 16_000, 16, &s16(&[1; 1_000]));
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let cases: [(&str, Vec<u8>, &str); 16] = [
        ("empty.wav", vec![], "empty"),
        ("text.wav", b"This is not sound at all.\n".to_vec(), "ffmpeg"),
        ("utf16.mp3", b"\xff\xfeT\0e\0x\0t\0".to_vec(), "ffmpeg"),
        ("riff-only.wav", b"RIFF".to_vec(), "cut off within its WAV header"),
        ("header-cut.wav", good[..30].to_vec(), "cut off within its WAV header"),
        ("chunk-cut.wav", with(36, b"LIST\xff\xff\xff\xff"), "cut off within its WAV header"),
        ("no-format.wav", [&good[..12], &good[36..]].concat(), "missing fmt chunk"),
        ("avi.wav", with(8, b"AVI "), "not a WAV"),
        ("no-channels.wav", wav(1, 0, 16_000, 16, &[]), "zero channels"),
        ("many-channels.wav", wav(1, 65, 16_000, 16, &[0; 130]), "65 channels"),
        ("no-rate.wav", wav(1, 1, 0, 16, &[0; 2]), "0 samples per second"),
        ("absurd-rate.wav", wav(1, 1, 2_000_000_000, 16, &[0; 2]), "2000000000 samples per second"),
        ("twelve-bits.wav", with(34, &[12, 0]), "ffmpeg"),
        ("mu-law.wav", with(20, &[7, 0]), "ffmpeg"),
        ("flac-only.flac", b"fLaC".to_vec(), "cut off within its headers"),
        ("ogg-only.ogg", b"OggS\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(), ""),
    ];
    for (name, bytes, expected) in cases {
        let (count, text) = complaint(name, &bytes);
        assert!(count == 0 && text.contains(expected), "{name}: {text}");
    }
}

#[test]
fn a_cut_file_gives_what_it_has_and_then_says_so() {
    for (name, ..) in TONES {
        // Nothing in these says where they should end. An Ogg page lasts a second (see below).
        if name.ends_with(".aac") || name.contains("no-info") || name.ends_with(".ogg") || name.ends_with(".opus") {
            continue;
        }
        let whole = fs::read(data(name)).unwrap();
        let (count, text) = complaint(name, &whole[..whole.len() * 3 / 5]);
        if name.ends_with(".m4a") {
            assert!(text.contains("missing moov"), "{text}"); // Its index is at the end.
            continue;
        }
        let samples = read_all(&data(name), 16_000).len();
        assert!(text.contains("cut off"), "{name}: {text}");
        assert!((samples / 3..samples).contains(&count), "{name}: {count} of {samples} samples");
    }
}

#[test]
fn what_is_not_a_readable_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = AudioStream::open(folder.path(), 16_000).err().unwrap().to_string();
    assert!(error.contains("folder"), "{error}");
    let error = AudioStream::open(&folder.path().join("missing.wav"), 16_000).err().unwrap();
    assert!(matches!(&error, Error::Read { source, .. } if source.kind() == ErrorKind::NotFound), "{error}");
    assert!(error.to_string().contains("missing.wav"));
    let error = AudioStream::open(&data("chirp-s16.wav"), 0).err().unwrap().to_string();
    assert!(error.contains("sample rate"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_file_without_permission() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.wav");
    fs::copy(data("chirp-s16.wav"), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_ok() {
        println!("skipped: this user may read anything");
        return;
    }
    let error = AudioStream::open(&path, 16_000).err().unwrap();
    assert!(matches!(&error, Error::Read { source, .. } if source.kind() == ErrorKind::PermissionDenied), "{error}");
}

#[test]
fn a_wrong_name_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    for (name, codec, ..) in TONES {
        let path = folder.path().join(format!("{name}.txt"));
        fs::copy(data(name), &path).unwrap();
        assert_eq!(AudioStream::open(&path, 16_000).unwrap().source().codec, codec);
    }
}

/// Reads `bytes` to the end at 16 kHz: samples and damage.
fn read_damaged(bytes: &[u8]) -> (Vec<f32>, u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    fs::write(&path, bytes).unwrap();
    let mut stream = AudioStream::open(&path, 16_000).unwrap();
    let (samples, error) = drain(&mut stream);
    assert!(error.is_none(), "{}", error.unwrap());
    (samples, stream.damage())
}

#[test]
fn a_damaged_flac_frame_becomes_silence() {
    let whole = read_all(&data("chirp-s16.flac"), 16_000);
    let mut bytes = fs::read(data("chirp-s16.flac")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    let (samples, damage) = read_damaged(&bytes);
    assert!(damage > 0 && samples.len() == whole.len(), "damage {damage}, {} samples", samples.len());
    assert!(samples[..1_000].iter().all(|&sample| sample == 0.0));
    assert_eq!(samples[1_200..], whole[1_200..], "what follows is in its place");
}

/// Where the pages of an Ogg file start.
fn ogg_pages(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"OggS")).collect()
}

#[test]
fn a_lost_ogg_page_becomes_silence() {
    let path = clip("train.opus");
    let whole = read_all(&path, 16_000);
    let mut bytes = fs::read(&path).unwrap();
    let pages = ogg_pages(&bytes);
    bytes[pages[3] + 300] ^= 0xff;
    let (samples, damage) = read_damaged(&bytes);
    assert!(damage > 0 && samples.len() == whole.len(), "damage {damage}, {} of {}", samples.len(), whole.len());
    let silent = samples.split(|&sample| sample != 0.0).map(<[f32]>::len).max().unwrap();
    assert!((8_000..24_000).contains(&silent), "{silent} silent samples, a page holds a second");
    let last = samples.len() - 8_000;
    let error: f32 = samples[last..].iter().zip(&whole[last..]).map(|(a, b)| (a - b).abs()).sum::<f32>() / 8_000.0;
    let level: f32 = whole[last..].iter().map(|sample| sample.abs()).sum::<f32>() / 8_000.0;
    assert!(error < 0.05 * level, "what follows is in its place: off by {error} of {level}");
}

#[test]
fn a_cut_ogg_file_gives_its_whole_pages() {
    let whole = fs::read(clip("train.opus")).unwrap();
    let (count, text) = complaint("cut.opus", &whole[..whole.len() * 3 / 5]);
    assert!(text.contains("cut off") && (16_000..60_000).contains(&count), "{count} samples: {text}");
}

#[test]
fn joined_recordings_are_read_to_the_last() {
    let expected = |name: &str| 2 * read_all(&clip(name), 16_000).len();
    for name in ["train.opus", "market.mp3"] {
        let one = fs::read(clip(name)).unwrap();
        let (samples, _) = read_damaged(&[&one[..], &one].concat());
        // The second MP3's own lead-in and padding stay, a few frames.
        let more = samples.len() as i64 - expected(name) as i64;
        assert!((0..2_500).contains(&more), "{name}: {more} samples more than twice one");
    }
}

fn clip(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("audio").join(name)
}

#[test]
fn our_clips_open_as_their_readme_says() {
    let transcripts = fs::read_to_string(clip("transcripts.tsv")).unwrap();
    let seconds = [3.4, 4.12, 4.64, 5.12];
    assert_eq!(transcripts.lines().count(), seconds.len());
    for (line, seconds) in transcripts.lines().zip(seconds) {
        let (name, text) = line.split_once('\t').expect("file, tab, text");
        let got_s = read_all(&clip(name), 16_000).len() as f64 / 16_000.0;
        assert!((got_s - seconds).abs() < 0.05, "{name}: {got_s} s");
        assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b' '), "{name}: {text}");
    }
}

#[test]
fn recordings_of_the_corpus_last_as_long_as_its_manifest_says() {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(corpus) =
        manifest_dir.ancestors().map(|folder| folder.join("shared/corpus")).find(|corpus| corpus.is_dir())
    else {
        println!("skipped: no shared/corpus above {}", manifest_dir.display());
        return;
    };
    let manifest = fs::read_to_string(corpus.join("dev.jsonl")).unwrap();
    let mut worst_s = 0.0f64;
    for line in manifest.lines().step_by(12) {
        let item: serde_json::Value = serde_json::from_str(line).unwrap();
        let (name, duration_s) = (item["audio_filepath"].as_str().unwrap(), item["duration"].as_f64().unwrap());
        let mut stream = AudioStream::open(&corpus.join(name), 16_000).unwrap();
        let (samples, error) = drain(&mut stream);
        let difference_s = samples.len() as f64 / 16_000.0 - duration_s;
        assert!(error.is_none() && stream.damage() == 0, "{name}: {error:?}, damage {}", stream.damage());
        assert!(difference_s.abs() < 0.02, "{name}: {difference_s} s off");
        worst_s = worst_s.max(difference_s.abs());
    }
    println!("{} recordings, at most {worst_s:.4} s off", manifest.lines().count().div_ceil(12));
}

#[test]
fn crashes_of_the_past_stay_away() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/regressions");
    let scratch = tempfile::tempdir().unwrap();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("audio-") {
            assert_survives(&fs::read(entry.path()).unwrap(), &scratch.path().join("copy")).unwrap();
            count += 1;
        }
    }
    assert!(count > 0);
}

fn assert_survives(bytes: &[u8], path: &Path) -> Result<(), TestCaseError> {
    fs::write(path, bytes).unwrap();
    let Ok(mut stream) = AudioStream::open(path, 16_000) else { return Ok(()) };
    let mut samples = Vec::new();
    let mut total = 0;
    while let Ok(length @ 1..) = stream.read(&mut samples) {
        prop_assert!(samples.iter().all(|sample| (-1.0..=1.0).contains(sample)));
        samples.clear();
        total += length;
        // A minute of silence for lost sound, and 120 ms for every byte, the longest packet of Opus.
        prop_assert!(total < 16_000 * 60 + 1_920 * bytes.len(), "{total} samples");
    }
    Ok(())
}

/// Makes the checksums of Ogg pages right again (RFC 3533), so that changes inside get past them.
fn mend_ogg(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(&segments) = bytes.get(at + 26) {
        if !bytes[at..].starts_with(b"OggS") {
            return;
        }
        let Some(table) = bytes.get(at + 27..at + 27 + usize::from(segments)) else { return };
        let end = at + 27 + table.len() + table.iter().map(|&length| usize::from(length)).sum::<usize>();
        let Some(page) = bytes.get_mut(at..end) else { return };
        page[22..26].fill(0);
        let checksum = page.iter().fold(0u32, |checksum, &byte| {
            (0..8).fold(checksum ^ u32::from(byte) << 24, |checksum, _| {
                (checksum << 1) ^ if checksum >> 31 == 1 { 0x04c1_1db7 } else { 0 }
            })
        });
        page[22..26].copy_from_slice(&checksum.to_le_bytes());
        at = end;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files_do_no_harm(
        file in prop::sample::select(TONES.map(|(name, ..)| name).to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), prop::bool::weighted(0.5)), 1..8),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = fs::read(data(file)).unwrap();
        for (at, value, in_header) in changes {
            let range = if in_header { bytes.len().min(200) } else { bytes.len() };
            bytes[at.index(range)] = value;
        }
        mend_ogg(&mut bytes);
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        assert_survives(&bytes, &folder.path().join(file))?;
    }

    #[test]
    fn random_bytes_do_no_harm(
        start in prop::sample::select(vec![&b""[..], b"RIFF\xff\xff\xff\xffWAVEfmt ", b"OggS\0\x02", b"fLaC\0", b"ID3", b"\xff\xfb", b"\xff\xf1", b"\0\0\0\x14ftypM4A "]),
        rest in prop::collection::vec(any::<u8>(), 0..4_000),
    ) {
        let folder = tempfile::tempdir().unwrap();
        assert_survives(&[start, &rest].concat(), &folder.path().join("random"))?;
    }

    #[test]
    fn pieces_of_the_source_change_nothing(
        samples in prop::collection::vec(any::<i16>(), 0..2_000),
        sizes in prop::collection::vec(1usize..900, 1..40),
        rate_hz in prop::sample::select(vec![8_000u32, 16_000, 44_100]),
    ) {
        let bytes = s16(&samples);
        let whole = drain(&mut AudioStream::raw("-", Cursor::new(bytes.clone()), 16_000, rate_hz).unwrap()).0;
        let mut rest = &bytes[..];
        let mut parts = Vec::new();
        for size in sizes {
            let (piece, later) = rest.split_at(size.min(rest.len()));
            parts.push(piece);
            rest = later;
        }
        parts.extend(rest.chunks(5_000));
        parts.retain(|part| !part.is_empty());
        let split = drain(&mut AudioStream::raw("-", pieces(&parts), 16_000, rate_hz).unwrap()).0;
        prop_assert_eq!(whole, split);
    }
}
