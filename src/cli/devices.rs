//! `dfcnn devices`: the microphones of this machine.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use dfcnn::Error;
use dfcnn::audio::capture::{Capture, Captured, Device, Wanted, devices};
use serde_json::json;

use super::interrupt;

/// The rate that the meter listens at.
const METER_RATE_HZ: u32 = 16_000;
const WAIT: Duration = Duration::from_millis(100);

/// List the microphones, or show how loud one of them is.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Show the level of a microphone until Ctrl-C
    #[arg(long)]
    meter: bool,
    /// The microphone to measure, by name or id [default: the system's]
    #[arg(long, value_name = "NAME", requires = "meter", env = "DFCNN_DEVICE", hide_env_values = true)]
    device: Option<String>,
    /// Print JSON Lines
    #[arg(long, conflicts_with = "meter")]
    json: bool,
}

/// Lists or measures.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.meter {
        return meter(Wanted { device: arguments.device.clone(), rate_hz: None });
    }
    let devices = devices()?;
    if devices.is_empty() && !arguments.json {
        let remedy = "there is none; plug one in, or see whether other programs hear one";
        return Err(Error::device("microphone", remedy).into());
    }
    let mut out = io::stdout().lock();
    for device in &devices {
        let line = if arguments.json { json(device) } else { line(device) };
        writeln!(out, "{line}").map_err(Error::write(Path::new("-")))?;
    }
    Ok(())
}

fn line(device: &Device) -> String {
    let Device { name, id, is_default, sample_rate_hz, channels, rates_hz: (lowest, highest) } = device;
    let default = if *is_default { "  (default)" } else { "" };
    let rates = if lowest == highest { format!("{lowest} Hz") } else { format!("{lowest} to {highest} Hz") };
    let channels = format!("{channels} channel{}", if *channels == 1 { "" } else { "s" });
    format!("{name}{default}\n    {sample_rate_hz} Hz, {channels}; offers {rates}; id {id}")
}

fn json(device: &Device) -> String {
    let Device { name, id, is_default, sample_rate_hz, channels, rates_hz: (lowest, highest) } = device;
    json!({
        "type": "device", "name": name, "id": id, "default": is_default, "sample_rate_hz": sample_rate_hz,
        "channels": channels, "lowest_rate_hz": lowest, "highest_rate_hz": highest,
    })
    .to_string()
}

/// Shows the level ten times a second on a terminal, once a second elsewhere.
fn meter(wanted: Wanted) -> anyhow::Result<()> {
    let stop = interrupt::flag()?;
    let capture = Capture::microphone(wanted, METER_RATE_HZ)?;
    let on_terminal = io::stdout().is_terminal();
    let every = if on_terminal { WAIT } else { Duration::from_secs(1) };
    let mut out = io::stdout();
    let (mut loudest, mut power, mut count) = (0.0_f32, 0.0_f64, 0_usize);
    let mut shown_at = Instant::now();
    while let Ok(captured) = capture.next(WAIT) {
        match captured {
            Some(Captured::Sound(sound)) => {
                for sample in &sound.samples {
                    loudest = loudest.max(sample.abs());
                    power += f64::from(sample * sample);
                }
                count += sound.samples.len();
            }
            Some(Captured::Lost { problem }) => return Err(Error::device(capture.name(), problem).into()),
            Some(Captured::Failed(error)) => return Err(error.into()),
            Some(Captured::Resumed { .. }) | None => {}
        }
        if stop.load(Ordering::Relaxed) {
            capture.stop();
        }
        if shown_at.elapsed() >= every && count > 0 {
            let text = level(power / count as f64, loudest);
            let (before, after) = if on_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
            let name = capture.name();
            write!(out, "{before}{name}  {text}{after}")
                .and_then(|()| out.flush())
                .map_err(Error::write(Path::new("-")))?;
            (loudest, power, count) = (0.0, 0.0, 0);
            shown_at = Instant::now();
        }
    }
    if on_terminal {
        writeln!(out).map_err(Error::write(Path::new("-")))?;
    }
    Ok(())
}

/// Each mark is 3 dB.
fn level(power: f64, loudest: f32) -> String {
    const MARKS: usize = 20;
    let level_db = 10.0 * power.max(1e-10).log10();
    let marks = ((level_db + 60.0) / 3.0).round().clamp(0.0, MARKS as f64) as usize;
    let clipped = if loudest >= 0.999 { "  too loud: clipped" } else { "" };
    format!("{}{}  {level_db:>4.0} dB{clipped}", "▮".repeat(marks), "▯".repeat(MARKS - marks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_has_marks_and_decibels() {
        assert_eq!(level(1e-3, 0.5), format!("{}{}   -30 dB", "▮".repeat(10), "▯".repeat(10)));
        assert_eq!(level(1.0, 1.0), format!("{}     0 dB  too loud: clipped", "▮".repeat(20)));
        assert_eq!(level(0.0, 0.0), format!("{}  -100 dB", "▯".repeat(20)));
    }

    #[test]
    fn a_device_in_two_lines_and_as_json() {
        let device = Device {
            name: "USB Microphone".into(),
            id: "alsa:hw:1,0".into(),
            is_default: true,
            sample_rate_hz: 48_000,
            channels: 1,
            rates_hz: (8_000, 48_000),
        };
        let shown = "USB Microphone  (default)\n    48000 Hz, 1 channel; offers 8000 to 48000 Hz; id alsa:hw:1,0";
        assert_eq!(line(&device), shown);
        let value: serde_json::Value = serde_json::from_str(&json(&device)).unwrap();
        assert_eq!((&value["id"], &value["default"]), (&json!("alsa:hw:1,0"), &json!(true)));
    }
}
