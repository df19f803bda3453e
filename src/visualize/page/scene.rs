//! Everything that a page shows, computed.

use serde::Serialize;

use super::blob::{Blob, Levels, Place, Signed, level, range, short, signed_level};
use super::stages::{Filters, Stage, stages};
use super::{Clip, Options, tokens};
use crate::ctc::{Emission, words};
use crate::layers::{Images, OpenNetwork, Rule};
use crate::model::Model;
use crate::network::arithmetic::Window;
use crate::network::{Folded, Layer, Weights, fold_batch_norm};
use crate::spectrogram::Spectrogram;
use crate::time::StepClock;
use crate::transcript::Word;
use crate::visualize::activations::{Unit, activations};
use crate::visualize::deconvnet::project;
use crate::visualize::letters::{best_path, logits, surest_step};
use crate::visualize::occlusion::{Occlusion, Patch, Target, occlusion};
use crate::visualize::receptive_field::{Span, fields};
use crate::{Error, Result};

/// Letters that are explained; speech has some 15 a second.
const MOST_EXPLAINED: usize = 400;
/// Log-probabilities below this are shown as this.
const LEAST_LOG_PROB: f32 = -12.0;
/// What covers the spectrogram: 120 ms by about a fifth of the frequency axis, overlapping by half.
const PATCH_S: f64 = 0.12;
const PATCH_SHARE: usize = 5;
/// Of the time that a page takes, about the share that goes into what is sent back.
const PROJECTING: f64 = 0.3;

#[derive(Serialize)]
pub struct Scene {
    name: String,
    from_s: f64,
    model: About,
    rate_hz: u32,
    /// 16-bit samples.
    samples: Place,
    hop_s: f64,
    window_s: f64,
    step_s: f64,
    delay_s: f64,
    frames: usize,
    bins: usize,
    centres_hz: Vec<f64>,
    /// Levels `[bins, frames]` of the normalised image.
    image: Place,
    stages: Vec<StageLine>,
    /// What a token is, by class; the blank is empty.
    tokens: Vec<String>,
    /// Levels `[classes, steps]` from `least_log_prob` to 0.
    log_probs: Place,
    least_log_prob: f32,
    steps: usize,
    letters: Vec<Letter>,
    words: Vec<WordLine>,
    /// How the spectrogram was covered, if it was.
    patch: Option<PatchLine>,
}

#[derive(Serialize)]
struct About {
    name: String,
    description: Option<String>,
    parameters: usize,
}

#[derive(Serialize)]
struct StageLine {
    path: String,
    about: String,
    depth: usize,
    bins: usize,
    channels: usize,
    steps: usize,
    /// Input frames from one step to the next.
    stride: usize,
    field_s: f64,
    levels: Levels,
    filters: Option<Filters>,
    /// How it slides over its input along time and frequency, if it does.
    windows: Option<[WindowLine; 2]>,
    input: InputLine,
    /// What a unit sees of the input and then of each stage, along time and frequency: `[stride, before, after]`.
    sees: Vec<Option<[[i64; 3]; 2]>>,
}

/// The image that a stage looks at.
#[derive(Serialize)]
struct InputLine {
    /// In the order of `sees`: 0 for the spectrogram, `n + 1` for the stage `n`; none if that is not shown.
    line: Option<usize>,
    steps: usize,
    bins: usize,
}

/// In the terms of Dumoulin & Visin 2016.
#[derive(Serialize)]
struct WindowLine {
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: [usize; 2],
}

#[derive(Serialize)]
struct Letter {
    token: u32,
    /// The surest step of its run.
    step: usize,
    first_step: u64,
    end_step: u64,
    probability: f32,
    why: Option<Why>,
}

/// What spoke for a letter, by method.
#[derive(Serialize)]
struct Why {
    deconvnet: Signed,
    guided: Signed,
    gradient: Signed,
    occlusion: Option<Falls>,
}

/// Signed levels `[time places, frequency places]`.
#[derive(Serialize)]
struct Falls {
    place: Place,
    most: f32,
}

#[derive(Serialize)]
struct PatchLine {
    size: [usize; 2],
    stride: [usize; 2],
    places: [usize; 2],
}

#[derive(Serialize)]
struct WordLine {
    text: String,
    start_s: f64,
    end_s: f64,
    confidence: f32,
}

/// What the page shows of `clip`, and the numbers that go with it.
pub fn scene(model: &Model, clip: Clip<'_>, options: Options, mut progress: impl FnMut(f64)) -> Result<(Scene, Blob)> {
    let Folded { architecture, weights, .. } = fold_batch_norm(&model.architecture, &model.weights)?;
    let mut network = OpenNetwork::new(&architecture, &weights, options.threads)?;
    let (clock, bins) = (model.spectrogram.clock(), model.spectrogram.bins());
    let mut spectrogram = Spectrogram::new(&model.spectrogram, Some(model.normalization.clone()))?;
    let mut frames = Vec::new();
    spectrogram.push(clip.samples, &mut frames);
    let image = Images::new(architecture.input(), vec![frames.len() / bins], frames);
    let log_probs = network.forward(&image).values.clone();
    if log_probs.is_empty() {
        return Err(Error::setting("clip", "is too short for a single output of the network; choose a longer piece"));
    }

    let mut blob = Blob::default();
    let stages = stage_lines(&network, &weights, (image.lengths[0], clock.hops_ms(1) / 1e3), &mut blob);
    let classes = model.tokens.len();
    let emissions = best_path(&log_probs, &model.tokens);
    let mut letters: Vec<Letter> =
        emissions.iter().map(|emission| Letter::new(emission, &log_probs, classes)).collect();
    let explained = &mut letters[..emissions.len().min(MOST_EXPLAINED)];
    let share = if options.occlusion { PROJECTING } else { 1.0 };
    explain(&mut network, explained, bins, &mut blob, |done| progress(share * done));
    let mut patch = None;
    if options.occlusion {
        let frames = (PATCH_S / clock.hops_ms(1) * 1e3).round().max(2.0) as usize;
        let size = [frames, bins.div_ceil(PATCH_SHARE).max(2)];
        let stride = size.map(|extent| extent / 2);
        let targets: Vec<Target> =
            explained.iter().map(|letter| Target { step: letter.step, class: letter.token as usize }).collect();
        let found = occlusion(&mut network, &image, &targets, Patch { size, stride }, |done| {
            progress(share + (1.0 - share) * done);
        });
        add_falls(explained, &found, &mut blob);
        patch = Some(PatchLine { size, stride, places: found.places });
    }
    progress(1.0);

    let step_s = clock.frame_start_s(architecture.time_stride() as u64);
    let steps = StepClock { step_s, delay_s: model.emission_delay_s };
    let words = words(&emissions, &model.tokens, |step| steps.start_s(step));
    let (low, high) = range(&image.values);
    let by_bin = |bin: usize| image.values.iter().skip(bin).step_by(bins).map(move |&value| level(value, low, high));
    let by_class = |class: usize| {
        let log_probs = log_probs.iter().skip(class).step_by(classes);
        log_probs.map(|&value| level(value.max(LEAST_LOG_PROB), LEAST_LOG_PROB, 0.0))
    };
    let scene = Scene {
        name: clip.name.to_owned(),
        from_s: clip.from_s,
        model: About {
            name: model.name.clone(),
            description: model.description.clone(),
            parameters: model.architecture.parameter_count(),
        },
        rate_hz: clock.sample_rate_hz,
        samples: blob.add_words(clip.samples.iter().map(|sample| (sample.clamp(-1.0, 1.0) * 32767.0) as i16 as u16)),
        hop_s: clock.hops_ms(1) / 1e3,
        window_s: clock.window_ms() / 1e3,
        step_s,
        delay_s: steps.delay_s,
        frames: image.lengths[0],
        bins,
        centres_hz: model.spectrogram.centres_hz().iter().map(|hz| hz.round()).collect(),
        image: blob.add((0..bins).flat_map(by_bin)),
        stages,
        tokens: tokens(model),
        log_probs: blob.add((0..classes).flat_map(by_class)),
        least_log_prob: LEAST_LOG_PROB,
        steps: log_probs.len() / classes,
        letters,
        words: words
            .into_iter()
            .map(|Word { text, start_s, end_s, confidence }| WordLine { text, start_s, end_s, confidence })
            .collect(),
        patch,
    };
    Ok((scene, blob))
}

impl Letter {
    fn new(emission: &Emission, log_probs: &[f32], classes: usize) -> Self {
        Self {
            token: emission.token,
            step: surest_step(emission, log_probs, classes),
            first_step: emission.start_step,
            end_step: emission.end_step,
            probability: short(emission.log_prob.exp()),
            why: None,
        }
    }
}

/// Every stage with its output in the last pass.
fn stage_lines(
    network: &OpenNetwork,
    weights: &Weights,
    (frames, hop_s): (usize, f64),
    blob: &mut Blob,
) -> Vec<StageLine> {
    let (architecture, maps) = (network.architecture(), activations(network));
    let stages = stages(architecture.layers());
    let input_line = |input: Option<usize>| match input {
        None => InputLine { line: Some(0), steps: frames, bins: architecture.input().frequency },
        Some(line) => InputLine {
            line: stages.iter().position(|seen| seen.line == line).map(|index| index + 1),
            steps: maps[line].steps(),
            bins: maps[line].layer.output.frequency,
        },
    };
    let line = |stage: &Stage<'_>| {
        let map = &maps[stage.line];
        let fields = fields(architecture, stage.line);
        let sees = |line: usize| fields[line].map(|field| [field.time, field.frequency].map(numbers));
        StageLine {
            path: stage.path.clone(),
            about: stage.about(),
            depth: stage.depth,
            bins: map.layer.output.frequency,
            channels: map.layer.output.channels,
            steps: map.steps(),
            stride: map.layer.time.stride,
            field_s: hop_s * map.layer.time.receptive_field() as f64,
            levels: Levels::new(map, blob),
            filters: Filters::new(stage, weights, blob),
            windows: window_lines(stage.layer),
            input: input_line(stage.input),
            sees: std::iter::once(sees(0)).chain(stages.iter().map(|seen| sees(seen.line + 1))).collect(),
        }
    };
    stages.iter().map(line).collect()
}

fn window_lines(layer: &Layer) -> Option<[WindowLine; 2]> {
    let slides = matches!(layer, Layer::Convolution(_) | Layer::MaxPool(_) | Layer::AveragePool(_));
    let line = |Window { kernel, stride, dilation, padding }| WindowLine { kernel, stride, dilation, padding };
    slides.then(|| layer.windows().map(line))
}

fn numbers(span: Span) -> [i64; 3] {
    [span.stride, span.before, span.after]
}

/// Sends each letter's logit back to the spectrogram in every way; the network's last pass was over the clip.
fn explain(
    network: &mut OpenNetwork,
    letters: &mut [Letter],
    bins: usize,
    blob: &mut Blob,
    mut progress: impl FnMut(f64),
) {
    let (logits, count) = (logits(network.architecture()).to_owned(), letters.len());
    for (index, letter) in letters.iter_mut().enumerate() {
        let unit = Unit { step: letter.step, bin: 0, channel: letter.token as usize };
        let mut back = |rule| Signed::new(&project(network, &logits, unit, rule), bins, blob);
        letter.why = Some(Why {
            deconvnet: back(Rule::Deconvnet),
            guided: back(Rule::Guided),
            gradient: back(Rule::Gradient),
            occlusion: None,
        });
        progress((index + 1) as f64 / count as f64);
    }
}

fn add_falls(letters: &mut [Letter], found: &Occlusion, blob: &mut Blob) {
    let places = found.places[0] * found.places[1];
    for (letter, falls) in letters.iter_mut().zip(found.falls.chunks_exact(places)) {
        let most = falls.iter().fold(0.0f32, |most, fall| most.max(fall.abs()));
        let place = blob.add(falls.iter().map(|&fall| signed_level(fall, most)));
        if let Some(why) = &mut letter.why {
            why.occlusion = Some(Falls { place, most: short(most) });
        }
    }
}
