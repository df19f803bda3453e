//! `dfcnn inspect`: what a network is made of, what it sees, how long it waits and what it costs.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use dfcnn::model::{Model, Recipe};
use dfcnn::network::{Architecture, LayerSummary, TimeExtent};
use dfcnn::time::FrameClock;
use serde::Serialize;

/// Show a model's layers: shapes, parameters, cost, receptive field and look-ahead.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A model's folder, or a model.toml on its own (no weights needed) [default: the model inside the program]
    model: Option<PathBuf>,
    /// Print JSON Lines: one object of type "layer" for each layer, then one of type "model"
    #[arg(long)]
    json: bool,
}

/// A line of type `layer`.
#[derive(Serialize)]
#[serde(tag = "type", rename = "layer")]
struct LayerLine<'a> {
    path: &'a str,
    kind: &'a str,
    depth: usize,
    frequency: usize,
    channels: usize,
    parameters: usize,
    multiply_adds_per_frame: usize,
    multiply_adds_per_second: f64,
    /// Whether these are of bytes.
    int8: bool,
    #[serde(flatten)]
    time: TimeLine,
}

/// The last line, of type `model`.
#[derive(Serialize)]
#[serde(tag = "type", rename = "model")]
struct ModelLine<'a> {
    name: &'a str,
    description: Option<&'a str>,
    licence: Option<&'a str>,
    sample_rate_hz: u32,
    bins: usize,
    frame_rate_hz: f64,
    window_ms: f64,
    classes: usize,
    parameters: usize,
    multiply_adds_per_second: f64,
    #[serde(flatten)]
    time: TimeLine,
}

#[derive(Serialize)]
struct TimeLine {
    stride_frames: usize,
    stride_ms: f64,
    receptive_field_frames: usize,
    receptive_field_ms: f64,
    history_frames: usize,
    history_ms: f64,
    lookahead_frames: usize,
    lookahead_ms: f64,
}

impl TimeLine {
    fn new(time: TimeExtent, clock: FrameClock) -> Self {
        Self {
            stride_frames: time.stride,
            stride_ms: clock.hops_ms(time.stride),
            receptive_field_frames: time.receptive_field(),
            receptive_field_ms: field_ms(time, clock),
            history_frames: time.history,
            history_ms: clock.hops_ms(time.history),
            lookahead_frames: time.lookahead,
            lookahead_ms: clock.hops_ms(time.lookahead),
        }
    }
}

/// The sound under the receptive field: its hops and the last frame's whole window.
fn field_ms(time: TimeExtent, clock: FrameClock) -> f64 {
    clock.hops_ms(time.receptive_field() - 1) + clock.window_ms()
}

/// Prints the table or the lines to `out`.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let recipe = match &arguments.model {
        None => Model::embedded()?.recipe(),
        Some(path) if path.is_file() => Recipe::load(path)?,
        Some(path) => Model::load(path)?.recipe(),
    };
    if arguments.json { write_json(&recipe, out) } else { write_table(&recipe, out) }
}

fn write_json(recipe: &Recipe, out: &mut impl Write) -> anyhow::Result<()> {
    let (network, clock) = (&recipe.architecture, recipe.spectrogram.clock());
    let frame_rate_hz = clock.frame_rate_hz();
    for layer in network.summary() {
        let line = LayerLine {
            path: &layer.path,
            kind: layer.kind,
            depth: layer.depth,
            frequency: layer.output.frequency,
            channels: layer.output.channels,
            parameters: layer.parameters,
            multiply_adds_per_frame: layer.multiply_adds,
            multiply_adds_per_second: layer.multiply_adds_per_second(frame_rate_hz),
            int8: layer.int8,
            time: TimeLine::new(layer.time, clock),
        };
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
    }
    let line = ModelLine {
        name: &recipe.name,
        description: recipe.description.as_deref(),
        licence: recipe.licence.as_deref(),
        sample_rate_hz: clock.sample_rate_hz,
        bins: recipe.spectrogram.bins(),
        frame_rate_hz,
        window_ms: clock.window_ms(),
        classes: network.output().channels,
        parameters: network.parameter_count(),
        multiply_adds_per_second: network.multiply_adds_per_second(frame_rate_hz),
        time: TimeLine::new(network.time(), clock),
    };
    writeln!(out, "{}", serde_json::to_string(&line)?)?;
    Ok(())
}

fn write_table(recipe: &Recipe, out: &mut impl Write) -> anyhow::Result<()> {
    let (network, clock) = (&recipe.architecture, recipe.spectrogram.clock());
    writeln!(out, "{}{}", recipe.name, recipe.description.iter().map(|text| format!(": {text}")).collect::<String>())?;
    writeln!(out)?;
    let header = ["layer", "kind", "bins", "channels", "parameters", "MFLOP/s", "step ms", "field ms", "look-ahead ms"];
    let input = network.input();
    let first =
        ["(input)", "spectrogram", &input.frequency.to_string(), &input.channels.to_string(), "", "", "", "", ""];
    let mut rows = vec![header.map(String::from), first.map(String::from)];
    rows.extend(network.summary().iter().map(|layer| row(layer, clock)));
    let widths: [usize; 9] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    for row in &rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    let time = network.time();
    let gflop = 2e-9 * network.multiply_adds_per_second(clock.frame_rate_hz());
    writeln!(out)?;
    writeln!(out, "parameters       {}", grouped(network.parameter_count()))?;
    writeln!(out, "cost             {gflop:.3} GFLOP per second of sound (convolutions; 2 per multiply-add)")?;
    writeln!(out, "arithmetic       {}", arithmetic(network))?;
    let [step, field] = [clock.hops_ms(time.stride), field_ms(time, clock)].map(ms);
    let [history, lookahead, window] =
        [clock.hops_ms(time.history), clock.hops_ms(time.lookahead), clock.window_ms()].map(ms);
    writeln!(out, "output           {} classes every {step} ms", network.output().channels)?;
    writeln!(out, "receptive field  {} frames, {field} ms of sound", time.receptive_field())?;
    writeln!(out, "history          {} frames, {history} ms", time.history)?;
    writeln!(out, "look-ahead       {} frames, {lookahead} ms, plus the window of {window} ms", time.lookahead)?;
    Ok(())
}

/// What convolutions compute with.
fn arithmetic(network: &Architecture) -> String {
    let int8 = network.int8_convolutions();
    if int8 == 0 {
        return "32-bit floating point".into();
    }
    let cost = |layer: &&LayerSummary| layer.multiply_adds_per_second(1.0);
    let (all, bytes): (f64, f64) = (
        network.summary().iter().map(|layer| cost(&layer)).sum(),
        network.summary().iter().filter(|layer| layer.int8).map(|layer| cost(&layer)).sum(),
    );
    let convolutions = network.summary().iter().filter(|layer| layer.kind == "convolution").count();
    let part = 100.0 * bytes / all;
    format!(
        "{int8} of {convolutions} convolutions in 8 bits, {part:.1} % of the cost; the rest in 32-bit floating point"
    )
}

fn row(layer: &LayerSummary, clock: FrameClock) -> [String; 9] {
    // Layers inside a residual are indented under it by their own name.
    let name = layer.path.rsplit('.').next().unwrap_or_default();
    let or_blank = |is_zero: bool, text: String| if is_zero { String::new() } else { text };
    let mflop = 2e-6 * layer.multiply_adds_per_second(clock.frame_rate_hz());
    [
        format!("{:indent$}{name}", "", indent = 2 * layer.depth),
        if layer.int8 { format!("{}, int8", layer.kind) } else { layer.kind.into() },
        layer.output.frequency.to_string(),
        layer.output.channels.to_string(),
        or_blank(layer.parameters == 0, grouped(layer.parameters)),
        or_blank(layer.multiply_adds == 0, format!("{mflop:.1}")),
        ms(clock.hops_ms(layer.time.stride)),
        ms(field_ms(layer.time, clock)),
        ms(clock.hops_ms(layer.time.lookahead)),
    ]
}

/// Milliseconds to a tenth, whole ones without a point.
fn ms(value: f64) -> String {
    format!("{}", (10.0 * value).round() / 10.0)
}

/// 1730141 as `4,843,677`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(json: bool) -> String {
        let mut out = Vec::new();
        run(&Arguments { model: None, json }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_table_is_aligned_and_adds_up() {
        let text = printed(false);
        assert!(text.contains("\nparameters       4,843,677\n"), "{text}");
        assert!(text.contains("0.359 GFLOP") && text.contains("35 frames, 350 ms, plus the window of 25 ms"), "{text}");
        let lines: Vec<_> = text.lines().skip(2).take_while(|line| !line.is_empty()).collect();
        let width = lines[0].chars().count();
        assert!(lines[0].starts_with("layer") && lines[0].ends_with("look-ahead ms"), "{text}");
        assert!(lines[2..].iter().all(|line| line.chars().count() == width), "{text}");
        assert!(lines.iter().any(|line| line.starts_with("  a ")), "{text}");
    }

    #[test]
    fn the_json_lines_add_up() {
        let lines: Vec<serde_json::Value> =
            printed(true).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (model, layers) = lines.split_last().unwrap();
        assert_eq!((&model["type"], &model["lookahead_ms"]), (&"model".into(), &350.0.into()));
        assert!(layers.iter().all(|layer| layer["type"] == "layer"));
        let parameters: u64 = layers.iter().map(|layer| layer["parameters"].as_u64().unwrap()).sum();
        assert_eq!(model["parameters"], parameters);
    }

    #[test]
    fn digits_are_grouped_in_threes() {
        assert_eq!([0, 999, 1_000, 4_843_677].map(grouped), ["0", "999", "1,000", "4,843,677"]);
    }
}
