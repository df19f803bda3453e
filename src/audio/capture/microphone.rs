//! Microphones through cpal: which there are, and a stream from one of them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, FromSample, SampleFormat, SizedSample, StreamConfig, SupportedStreamConfig};

use super::ring::{Reader, Writer, ring};
use super::{BLOCK_S, RING_S};
use crate::{Error, Result};

/// How long the system may take to open a device.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sound that a device says is older than this when it comes is not believed.
const OLDEST: Duration = Duration::from_secs(1);
/// Names this unlike what was asked for are not suggested.
const LEAST_SIMILARITY: f64 = 0.8;
/// ALSA's device that hears nothing, ever.
const NULL_DEVICE: &str = "null";

/// A microphone, or whatever the system has sound from.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// What it is called; not always the only one of this name.
    pub name: String,
    /// What names it alone, also tomorrow.
    pub id: String,
    /// Whether it is taken when none is asked for.
    pub is_default: bool,
    /// The rate and channels that it is used with.
    pub sample_rate_hz: u32,
    /// Channels, before they are mixed down.
    pub channels: usize,
    /// The lowest and the highest rate that it offers.
    pub rates_hz: (u32, u32),
}

/// The microphones of this machine, as the system orders them; those that cannot be opened are left out.
///
/// # Errors
/// [`Error::Device`] when there is no sound system.
pub fn devices() -> Result<Vec<Device>> {
    quiet();
    let host = cpal::default_host();
    let default = host.default_input_device();
    let default_id = default.as_ref().and_then(|device| device.id().ok());
    let listed = host.devices().map_err(|error| explained("microphones", &error))?;
    let mut found: Vec<Device> = listed
        .filter(|device| device.id().is_ok_and(|id| id.id() != NULL_DEVICE))
        .filter_map(|device| describe(&device, default_id.as_ref()))
        .collect();
    // Where ALSA is set up by hand, the default has no entry in the list.
    if !found.iter().any(|device| device.is_default) {
        let default = default.and_then(|device| describe(&device, default_id.as_ref()));
        found.splice(..0, default);
    }
    Ok(found)
}

fn describe(device: &cpal::Device, default: Option<&cpal::DeviceId>) -> Option<Device> {
    let usual = device.default_input_config().ok()?;
    let ranges = device.supported_input_configs().ok()?;
    let rates = ranges.map(|range| (range.min_sample_rate(), range.max_sample_rate()));
    let id = device.id().ok();
    Some(Device {
        name: name(device),
        is_default: id.is_some() && id.as_ref() == default,
        id: id.map_or_else(|| name(device), |id| id.to_string()),
        sample_rate_hz: usual.sample_rate(),
        channels: usual.channels().into(),
        rates_hz: rates.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?,
    })
}

fn name(device: &cpal::Device) -> String {
    device.description().map_or_else(|_| "nameless".to_owned(), |description| description.name().to_owned())
}

/// Which microphone, and how.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Its name or id; the system's default if none.
    pub device: Option<String>,
    /// Samples per second; what the device prefers if none.
    pub rate_hz: Option<u32>,
}

/// An open microphone. Sound comes until it is dropped or has a problem.
pub struct Microphone {
    /// Keeps the sound coming.
    _stream: cpal::Stream,
    /// What it is called.
    pub name: String,
    /// Samples per second that the ring gets.
    pub rate_hz: u32,
    /// Channels, before they are mixed down.
    pub channels: usize,
    problems: Receiver<cpal::Error>,
}

impl Microphone {
    /// Opens the microphone that is wanted; the sound comes through the ring.
    ///
    /// # Errors
    /// [`Error::Device`] when it is not there, or cannot be used so; the text says what is there.
    pub fn open(wanted: &Wanted) -> Result<(Self, Reader)> {
        quiet();
        let host = cpal::default_host();
        let device = match &wanted.device {
            None => host.default_input_device().ok_or_else(no_default)?,
            Some(asked) => find(&host, asked)?,
        };
        let name = name(&device);
        let usual = device.default_input_config().map_err(|error| match error.kind() {
            ErrorKind::DeviceNotAvailable if wanted.device.is_none() => no_default(),
            _ => explained(&name, &error),
        })?;
        let usual = match wanted.rate_hz {
            Some(rate_hz) => at_rate(&device, &name, rate_hz, &usual)?,
            None => usual,
        };
        let rate_hz = usual.sample_rate();
        let channels = usual.channels();
        let short = BufferSize::Fixed((BLOCK_S * f64::from(rate_hz)) as u32);
        let (sender, problems) = sync_channel(8);
        let start = |buffer_size| {
            let (writer, ring) = ring(rate_hz, RING_S);
            let config = StreamConfig { channels, sample_rate: rate_hz, buffer_size };
            let stream = stream(&device, config, usual.sample_format(), writer, sender.clone())?;
            stream.play()?;
            Ok((stream, ring))
        };
        let started = start(short).or_else(|_| start(BufferSize::Default));
        let (stream, ring) = started.map_err(|error: cpal::Error| explained(&name, &error))?;
        Ok((Self { _stream: stream, name, rate_hz, channels: channels.into(), problems }, ring))
    }

    /// Stops the sound. In a thread of its own, for the system may never come back from it when the device is gone.
    pub fn close(self) {
        let _ = thread::Builder::new().name("close".to_owned()).spawn(move || drop(self));
    }

    /// What ended the stream, if anything did.
    pub fn problem(&self) -> Option<String> {
        let ends = |error: &cpal::Error| {
            !matches!(error.kind(), ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied | ErrorKind::Xrun)
        };
        self.problems.try_iter().find(ends).map(|error| error.to_string().trim_end_matches('.').to_lowercase())
    }
}

/// The device of this id or name.
fn find(host: &cpal::Host, asked: &str) -> Result<cpal::Device> {
    let mut names = Vec::new();
    // All devices: to ask each whether it has sound would open it.
    let listed = host.devices().map_err(|error| explained(asked, &error))?;
    for device in listed.chain(host.default_input_device()) {
        if name(&device) == asked || device.id().is_ok_and(|id| id.to_string() == asked || id.id() == asked) {
            return Ok(device);
        }
        names.push(name(&device));
    }
    Err(Error::device(asked, unknown(asked, names)))
}

fn unknown(asked: &str, names: Vec<String>) -> String {
    let asked = asked.to_lowercase();
    let likeness = |name: &String| {
        let name = name.to_lowercase();
        strsim::jaro_winkler(&asked, &name) + f64::from(u8::from(name.contains(&asked)))
    };
    let nearest = names.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|name| likeness(name) >= LEAST_SIMILARITY) {
        Some(name) => format!("there is no such microphone; did you mean {name:?}? `dfcnn devices` lists them"),
        None => "there is no such microphone; `dfcnn devices` lists them".to_owned(),
    }
}

fn no_default() -> Error {
    let remedy = "there is none; plug one in, or take a file: dfcnn listen --input FILE, dfcnn transcribe FILE";
    Error::device("microphone", remedy)
}

/// What the device offers at this rate, with its usual channels if it can.
fn at_rate(
    device: &cpal::Device,
    name: &str,
    rate_hz: u32,
    usual: &SupportedStreamConfig,
) -> Result<SupportedStreamConfig> {
    let ranges = device.supported_input_configs().map_err(|error| explained(name, &error))?;
    let mut offers: Vec<_> = ranges.collect();
    offers.sort_by_key(|range| {
        let usual_format = range.sample_format() == usual.sample_format();
        (range.channels().abs_diff(usual.channels()), !usual_format)
    });
    offers.iter().find_map(|range| range.try_with_sample_rate(rate_hz)).ok_or_else(|| {
        let lowest = offers.iter().map(cpal::SupportedStreamConfigRange::min_sample_rate).min().unwrap_or(0);
        let highest = offers.iter().map(cpal::SupportedStreamConfigRange::max_sample_rate).max().unwrap_or(0);
        let problem = format!(
            "does not record {rate_hz} samples a second (it offers {lowest} to {highest}); leave --rate away, any rate \
             will do"
        );
        Error::device(name, problem)
    })
}

/// A stream of samples of whatever format the device has.
fn stream(
    device: &cpal::Device,
    config: StreamConfig,
    format: SampleFormat,
    writer: Writer,
    problems: SyncSender<cpal::Error>,
) -> Result<cpal::Stream, cpal::Error> {
    match format {
        SampleFormat::I8 => build::<i8>(device, config, writer, problems),
        SampleFormat::I16 => build::<i16>(device, config, writer, problems),
        SampleFormat::I24 => build::<cpal::I24>(device, config, writer, problems),
        SampleFormat::I32 => build::<i32>(device, config, writer, problems),
        SampleFormat::U8 => build::<u8>(device, config, writer, problems),
        SampleFormat::U16 => build::<u16>(device, config, writer, problems),
        SampleFormat::F32 => build::<f32>(device, config, writer, problems),
        SampleFormat::F64 => build::<f64>(device, config, writer, problems),
        _ => Err(cpal::Error::with_message(ErrorKind::UnsupportedConfig, format!("samples as {format}"))),
    }
}

fn build<T>(
    device: &cpal::Device,
    config: StreamConfig,
    mut writer: Writer,
    problems: SyncSender<cpal::Error>,
) -> Result<cpal::Stream, cpal::Error>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let channels = usize::from(config.channels);
    let rate_hz = f64::from(config.sample_rate);
    let on_sound = move |data: &[T], info: &cpal::InputCallbackInfo| {
        let now = Instant::now();
        let frames = data.chunks_exact(channels);
        let times = info.timestamp();
        let age = times.callback.checked_duration_since(times.capture).unwrap_or_default();
        let age = age.min(OLDEST).saturating_sub(Duration::from_secs_f64(frames.len() as f64 / rate_hz));
        let mono = frames.map(|frame| {
            let sum: f32 = frame.iter().map(|&sample| f32::from_sample_(sample)).sum();
            let mean = sum / channels as f32;
            if mean.is_finite() { mean.clamp(-1.0, 1.0) } else { 0.0 }
        });
        writer.write(mono, now.checked_sub(age).unwrap_or(now));
    };
    let on_problem = move |error| {
        let _ = problems.try_send(error); // one is enough
    };
    device.build_input_stream::<T, _, _>(config, on_sound, on_problem, Some(PATIENCE))
}

/// What cpal says, with a remedy.
fn explained(name: &str, error: &cpal::Error) -> Error {
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => {
            "allow this program to use the microphone in the system's privacy settings; on Linux, the user must be in the \
             group `audio`"
        }
        ErrorKind::DeviceBusy => "another program has it; close that one, or choose another microphone with --device",
        ErrorKind::DeviceNotAvailable => "is it plugged in? `dfcnn devices` lists what is there",
        ErrorKind::HostUnavailable => {
            "this machine has no sound system that runs; take a file: dfcnn listen --input FILE"
        }
        ErrorKind::UnsupportedConfig => "choose another microphone with --device, or leave --rate away",
        _ => "`dfcnn devices` lists the microphones",
    };
    let error = error.to_string();
    Error::device(name, format!("{}; {remedy}", error.trim_end_matches('.')))
}

/// From now on, keeps ALSA's own messages in this thread away from standard error: they say less than our errors, at more
/// length.
#[cfg(target_os = "linux")]
fn quiet() {
    let _ = alsa::Output::local_error_handler(); // replaces the last one, and what that has gathered
}

#[cfg(not(target_os = "linux"))]
fn quiet() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        let names = || vec!["Built-in Audio".to_owned(), "USB Microphone".to_owned()];
        assert!(unknown("usb microfone", names()).contains("\"USB Microphone\""));
        assert!(unknown("built in", names()).contains("\"Built-in Audio\""));
        assert!(!unknown("zzz", names()).contains("did you mean"));
        assert!(!unknown("usb", Vec::new()).contains("did you mean"));
    }
}
