//! FLAC, MP3, AAC, Vorbis and Opus in their containers (symphonia; libopus for Opus).

use std::io::ErrorKind;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::codecs::registry::RegisterableAudioDecoder;
use symphonia::core::common::Limit;
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::well_known::{FORMAT_ID_ADTS, FORMAT_ID_MP3};
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, TimeBase, Timestamp};
use symphonia_adapter_libopus::OpusDecoder;

use super::mix::mix;
use super::{REMEDY, SourceFormat, check_format, truncated};
use crate::{Error, Result};

/// Damaged packets in a row after which a file is given up.
const MAX_DAMAGED_IN_A_ROW: u32 = 100;
/// The silence that may stand in for lost sound in all, so that a small file cannot claim days of it.
const MAX_SILENCE_S: f64 = 60.0;
/// A hole in the packets' times that counts as lost sound; smaller ones are rounding.
const MIN_GAP_S: f64 = 0.02;
/// How much sooner than promised a file may end before we say that it was cut off.
const END_TOLERANCE_S: f64 = 0.03;
/// The longest tag text kept; pictures are not kept at all.
const MAX_TAG_BYTES: usize = 64 << 10;

/// Whether a file with these first bytes is worth opening here.
pub fn is_known(magic: &[u8]) -> bool {
    // The sync words of MPEG-1, -2 and -2.5 layer III, and of AAC in ADTS.
    let mpeg_sync = matches!(magic, [0xff, 0xfa | 0xfb | 0xf2 | 0xf3 | 0xe2 | 0xe3 | 0xf0 | 0xf1 | 0xf8 | 0xf9, ..]);
    mpeg_sync
        || [&b"fLaC"[..], b"OggS", b"ID3"].iter().any(|start| magic.starts_with(start))
        || magic.get(4..8) == Some(b"ftyp")
}

/// A decoder of compressed sound.
pub struct Compressed {
    path: PathBuf,
    format: SourceFormat,
    demuxer: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: Track,
    interleaved: Vec<f32>,
    /// Decoded while opening.
    first: Vec<f32>,
    damage: u64,
    damaged_in_a_row: u32,
    /// What is left of [`MAX_SILENCE_S`].
    silence_left_s: f64,
    /// Whether `format` was confirmed by a decoded packet.
    settled: bool,
}

/// The track that is decoded, and where we are in it. Frames are at the decoder's rate.
struct Track {
    id: u32,
    time_base: Option<TimeBase>,
    /// How long it is, where that is exact and not an estimate.
    promised_s: Option<f64>,
    /// Frames the encoder put before the sound that are still to be dropped (Opus calls them pre-skip).
    lead_in: usize,
    /// Frames the encoder put behind the sound that may still be dropped.
    padding: usize,
    /// When the next packet should start.
    next: Option<Timestamp>,
    /// Frames given so far.
    frames: u64,
}

impl Compressed {
    /// Reads the headers and the first packet.
    pub fn open(path: &Path, source: Box<dyn MediaSource>) -> Result<Self> {
        let stream = MediaSourceStream::new(source, Default::default());
        let tags = MetadataOptions::default()
            .limit_tag_bytes(Limit::Maximum(MAX_TAG_BYTES))
            .limit_visual_bytes(Limit::Maximum(0));
        let demuxer =
            guarded(|| symphonia::default::get_probe().probe(&Hint::new(), stream, FormatOptions::default(), tags))
                .map_err(|error| open_error(path, error))?;
        let (track, decoder, format) = choose_track(path, demuxer.as_ref())?;
        let mut compressed = Self {
            path: path.to_path_buf(),
            format,
            demuxer,
            decoder,
            track,
            interleaved: Vec::new(),
            first: Vec::new(),
            damage: 0,
            damaged_in_a_row: 0,
            silence_left_s: MAX_SILENCE_S,
            settled: false,
        };
        let mut first = Vec::new();
        compressed.read(&mut first)?;
        compressed.first = first;
        Ok(compressed)
    }

    pub fn format(&self) -> &SourceFormat {
        &self.format
    }

    pub fn damage(&self) -> u64 {
        self.damage
    }

    /// Appends the next packet's sound, or nothing at the end.
    pub fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        let start = mono.len();
        mono.append(&mut self.first);
        while mono.len() == start {
            let packet = match guarded(|| self.demuxer.next_packet()) {
                Ok(Some(packet)) => packet,
                Ok(None) => return self.end(),
                Err(SymphoniaError::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(self.truncated());
                }
                Err(SymphoniaError::IoError(error)) => return Err(Error::read(&self.path)(error)),
                Err(SymphoniaError::ResetRequired) => {
                    // Another recording follows in the same Ogg file.
                    (self.track, self.decoder, _) = choose_track(&self.path, self.demuxer.as_ref())?;
                    continue;
                }
                Err(error) => {
                    self.count_damage(error)?;
                    continue;
                }
            };
            if packet.track_id == self.track.id {
                self.decode(packet, mono)?;
            }
        }
        Ok(())
    }

    fn decode(&mut self, mut packet: Packet, mono: &mut Vec<f32>) -> Result<()> {
        self.fill_gap(&packet, mono);
        let block = packet.block_dur();
        self.track.next = packet.pts.checked_add(block);
        // The decoders differ in what they trim, so none gets anything to trim.
        let trim_start = self.frames(std::mem::take(&mut packet.trim_start));
        let trim_end = self.frames(std::mem::take(&mut packet.trim_end));
        // Opus would invent sound for an empty packet.
        let decoded = match packet.data.is_empty() {
            true => Err(SymphoniaError::DecodeError("empty packet")),
            false => guarded(|| self.decoder.decode(&packet)),
        };
        let decoded = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                self.count_damage(error)?;
                self.silence(self.seconds(block), mono);
                return Ok(());
            }
        };
        self.damaged_in_a_row = 0;
        let (rate_hz, channels) = (decoded.spec().rate(), decoded.spec().channels().count());
        decoded.copy_to_vec_interleaved(&mut self.interleaved);
        self.settle(rate_hz, channels)?;
        let frames = self.interleaved.len() / channels;
        let end = frames - trim_end.min(self.track.padding).min(frames);
        self.track.padding -= frames - end;
        let lead_in = self.track.lead_in.min(end);
        self.track.lead_in -= lead_in;
        let start = (lead_in + trim_start).min(end);
        self.damage += mix(&self.interleaved[start * channels..end * channels], channels, mono);
        self.track.frames += (end - start) as u64;
        Ok(())
    }

    /// Learns the rate and channels from the first packet (only its decoder knows them for certain), and insists on
    /// the rate ever after.
    fn settle(&mut self, rate_hz: u32, channels: usize) -> Result<()> {
        check_format(&self.path, rate_hz, channels)?;
        if !self.settled {
            self.settled = true;
            (self.format.sample_rate_hz, self.format.channels) = (rate_hz, channels);
        }
        if self.format.sample_rate_hz != rate_hz {
            let before_hz = self.format.sample_rate_hz;
            let problem = format!("its sample rate changes from {before_hz} to {rate_hz} Hz on the way; {REMEDY}");
            return Err(Error::audio(&self.path, problem));
        }
        Ok(())
    }

    /// Puts silence where packets are missing before this one.
    fn fill_gap(&mut self, packet: &Packet, mono: &mut Vec<f32>) {
        let Some(gap) = self.track.next.and_then(|next| packet.pts.duration_from(next)) else { return };
        let gap_s = self.seconds(gap);
        if gap_s < MIN_GAP_S {
            return;
        }
        self.damage += 1;
        // A longer hole is rather a jump of the clock.
        if gap_s <= self.silence_left_s {
            self.silence(gap_s, mono);
        }
    }

    fn silence(&mut self, seconds: f64, mono: &mut Vec<f32>) {
        let seconds = seconds.min(self.silence_left_s);
        self.silence_left_s -= seconds;
        let frames = (seconds * f64::from(self.format.sample_rate_hz)).round() as usize;
        mono.resize(mono.len() + frames, 0.0);
        self.track.frames += frames as u64;
    }

    fn count_damage(&mut self, error: SymphoniaError) -> Result<()> {
        self.damage += 1;
        self.damaged_in_a_row += 1;
        if self.damaged_in_a_row < MAX_DAMAGED_IN_A_ROW {
            return Ok(());
        }
        let (at_s, number) = (self.position_s(), self.damaged_in_a_row);
        let problem = format!(
            "too damaged to go on: {number} packets in a row cannot be decoded after {at_s:.2} s ({error}); what came \
             before was used, get an intact copy for the rest"
        );
        Err(Error::audio(&self.path, problem))
    }

    fn end(&self) -> Result<()> {
        match self.track.promised_s {
            Some(promised_s) if self.position_s() + END_TOLERANCE_S < promised_s => Err(self.truncated()),
            _ => Ok(()),
        }
    }

    fn truncated(&self) -> Error {
        truncated(&self.path, self.position_s(), self.track.promised_s)
    }

    /// How much of the track was given, in seconds.
    fn position_s(&self) -> f64 {
        self.track.frames as f64 / f64::from(self.format.sample_rate_hz)
    }

    fn seconds(&self, duration: Duration) -> f64 {
        let time = self.track.time_base.and_then(|base| base.calc_duration(duration));
        time.map_or(0.0, |time| time.as_secs_f64())
    }

    fn frames(&self, duration: Duration) -> usize {
        (self.seconds(duration) * f64::from(self.format.sample_rate_hz)).round() as usize
    }
}

/// The sound track of a file, its decoder and what its header says.
fn choose_track(path: &Path, demuxer: &dyn FormatReader) -> Result<(Track, Box<dyn AudioDecoder>, SourceFormat)> {
    let track = demuxer
        .default_track(TrackType::Audio)
        .ok_or_else(|| Error::audio(path, format!("there is no sound in it that I know; {REMEDY}")))?;
    let Some(CodecParameters::Audio(parameters)) = &track.codec_params else {
        return Err(Error::audio(path, format!("its sound track says nothing about itself; {REMEDY}")));
    };
    let decoder = guarded(|| make_decoder(parameters)).map_err(|error| open_error(path, error))?;
    let rate_hz = parameters.sample_rate.unwrap_or(0);
    let channels = parameters.channels.as_ref().map_or(1, |channels| channels.count());
    check_format(path, rate_hz, channels)?;

    let is_opus = parameters.codec == CODEC_ID_OPUS;
    let lead_in = if is_opus { track.delay.unwrap_or(0) } else { 0 };
    let claimed_s = match (track.time_base, track.duration) {
        // Ogg's duration is the time of its end.
        (Some(base), Some(duration)) => {
            let before = track.start_ts.duration_from(Timestamp::ZERO).unwrap_or(Duration::ZERO);
            let duration = duration.saturating_sub(before).saturating_sub(Duration::from(lead_in));
            base.calc_duration(duration).map(|time| time.as_secs_f64()).filter(|&seconds| seconds > 0.0)
        }
        _ => None,
    };
    // MPEG streams have no header: without the encoder's own note, symphonia guesses from the first frames.
    let format = demuxer.format_info().format;
    let is_guess = format == FORMAT_ID_ADTS || (format == FORMAT_ID_MP3 && track.padding.is_none());
    let codec = decoder.codec_info().short_name.to_string();
    let state = Track {
        id: track.id,
        time_base: track.time_base,
        promised_s: claimed_s.filter(|_| !is_guess),
        lead_in: lead_in as usize,
        // The packets of an MP3 that is longer than the guess, or two joined ones, look like padding.
        padding: if format == FORMAT_ID_MP3 { track.padding.unwrap_or(0) as usize } else { usize::MAX },
        next: Some(track.start_ts),
        frames: 0,
    };
    Ok((state, decoder, SourceFormat { codec, sample_rate_hz: rate_hz, channels, duration_s: claimed_s }))
}

fn make_decoder(parameters: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>, SymphoniaError> {
    let options = AudioDecoderOptions::default();
    if parameters.codec == CODEC_ID_OPUS {
        // Without the header, it leaves the lead-in to us; itself it drops no more than the first packet's.
        let parameters = AudioCodecParameters { extra_data: None, ..parameters.clone() };
        return OpusDecoder::try_registry_new(&parameters, &options);
    }
    symphonia::default::get_codecs().make_audio_decoder(parameters, &options)
}

/// Some damaged files make symphonia panic (tests/data/regressions has them). Its state is then of no use but does no
/// harm: an attempt or two more, and the file is given up like any other damaged one.
fn guarded<T>(attempt: impl FnOnce() -> Result<T, SymphoniaError>) -> Result<T, SymphoniaError> {
    panic::catch_unwind(AssertUnwindSafe(attempt)).unwrap_or(Err(SymphoniaError::DecodeError("the decoder crashed")))
}

fn open_error(path: &Path, error: SymphoniaError) -> Error {
    match error {
        SymphoniaError::IoError(error) if error.kind() != ErrorKind::UnexpectedEof => Error::read(path)(error),
        SymphoniaError::IoError(_) => {
            Error::audio(path, "the file is cut off within its headers; copy or download it again")
        }
        SymphoniaError::Unsupported(what) => Error::audio(path, format!("not supported ({what}); {REMEDY}")),
        error => Error::audio(path, format!("its headers are damaged ({error}); get an intact copy, or {REMEDY}")),
    }
}
