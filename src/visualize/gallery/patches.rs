//! Patches of the data set, and the pieces of sound that they lie in.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::adpcm;
use crate::ctc::Emission;
use crate::layers::{Images, OpenNetwork, Rule};
use crate::model::Model;
use crate::time::FrameClock;
use crate::visualize::activations::Unit;
use crate::visualize::deconvnet::project;
use crate::visualize::letters::best_path;
use crate::visualize::page::blob::{self, Blob, Signed, level, short};
use crate::visualize::receptive_field::Field;
use crate::visualize::strongest::{Hit, window};

/// What is shorter than this many frames can hardly be heard; a piece is at least as long.
const LEAST_FRAMES: usize = 30;
/// Frames between two patches that are not worth a new piece.
const GAP: usize = 5;
/// Letters shown before and after that of a moment.
const LETTERS: usize = 14;

/// A piece of a clip: its image and its sound.
#[derive(Debug, Serialize)]
pub struct Piece {
    /// The clip.
    name: String,
    /// What is said in the clip.
    said: String,
    /// Where the piece starts in the clip.
    start_s: f64,
    frames: usize,
    /// Levels `[bins, frames]`, from the piece's least value to its greatest.
    image: blob::Place,
    /// IMA ADPCM, samples in all.
    sound: blob::Place,
    samples: usize,
}

impl Piece {
    /// The `frames` of a clip.
    pub fn new(
        [name, said]: [&str; 2],
        frames: RangeInclusive<usize>,
        image: &Images,
        samples: &[f32],
        clock: FrameClock,
        blob: &mut Blob,
    ) -> Self {
        let bins = image.shape.len();
        let values = &image.values[frames.start() * bins..(frames.end() + 1) * bins];
        let (low, high) = blob::range(values);
        // Every fourth level is enough for the eye, and compresses.
        let by_bin = |bin| values.iter().skip(bin).step_by(bins).map(move |&value| level(value, low, high) & !3);
        let first = frames.start() * clock.hop_samples;
        let sound = &samples[first..samples.len().min(frames.end() * clock.hop_samples + clock.window_samples)];
        Self {
            name: name.to_owned(),
            said: said.to_owned(),
            start_s: clock.frame_start_s(*frames.start() as u64),
            frames: frames.end() + 1 - frames.start(),
            image: blob.add((0..bins).flat_map(by_bin)),
            sound: blob.add(adpcm::encode(sound.iter().map(|sample| (sample.clamp(-1.0, 1.0) * 32767.0) as i16))),
            samples: sound.len(),
        }
    }
}

/// The fewest pieces of a clip of `frames` frames that hold all `patches`, in order.
pub fn pieces(patches: &[RangeInclusive<usize>], frames: usize) -> Vec<RangeInclusive<usize>> {
    let widened = |patch: &RangeInclusive<usize>| {
        let more = LEAST_FRAMES.saturating_sub(patch.end() + 1 - patch.start()).div_ceil(2);
        patch.start().saturating_sub(more)..=(patch.end() + more).min(frames - 1)
    };
    let mut wide: Vec<_> = patches.iter().map(widened).collect();
    wide.sort_by_key(|patch| *patch.start());
    let mut pieces: Vec<RangeInclusive<usize>> = Vec::new();
    for patch in wide {
        match pieces.last_mut() {
            Some(piece) if *patch.start() <= piece.end() + GAP => {
                *piece = *piece.start()..=*piece.end().max(patch.end());
            }
            _ => pieces.push(patch),
        }
    }
    pieces
}

/// What a filter answered to.
#[derive(Debug, Serialize)]
pub struct Patch {
    piece: usize,
    /// In the piece.
    first_frame: usize,
    frames: usize,
    first_bin: usize,
    bins: usize,
    /// What the filter answered.
    pub value: f32,
    /// Letters heard before, at and after the moment.
    heard: [String; 3],
    /// What of the patch it answered to: the deconvnet's projection.
    back: Signed,
}

/// Where a patch lies.
pub struct Place {
    /// The number of the piece, and its first frame in the clip.
    pub piece: (usize, usize),
    /// In the clip.
    pub frames: RangeInclusive<usize>,
    pub bins: RangeInclusive<usize>,
}

impl Patch {
    /// The patch behind a `hit` of the layer in line `line` of the summary, with the projection through the network's pass
    /// over just what the unit sees, whose switches are those of the pass over the whole clip.
    pub fn new(
        network: &mut OpenNetwork,
        image: &Images,
        (line, field): (usize, &Field),
        hit: Hit,
        place: Place,
        heard: [String; 3],
        blob: &mut Blob,
    ) -> Self {
        let (architecture, bins) = (network.architecture().clone(), image.shape.len());
        let layer = &architecture.summary()[line];
        let Place { piece: (piece, start), frames, bins: seen } = place;
        let back = match window(field, hit.unit, image.lengths[0], architecture.time_stride()) {
            None => Vec::new(),
            Some(window) => {
                let first = *window.start();
                let values = image.values[first * bins..(window.end() + 1) * bins].to_vec();
                network.forward(&Images::new(image.shape, vec![values.len() / bins], values));
                let unit = Unit { step: hit.unit.step - first / layer.time.stride, ..hit.unit };
                let back = project(network, &layer.path, unit, Rule::Deconvnet);
                let rows = back.chunks_exact(bins).skip(frames.start() - first).take(frames.clone().count());
                rows.flat_map(|row| &row[seen.clone()]).copied().collect()
            }
        };
        Self {
            piece,
            first_frame: frames.start() - start,
            frames: frames.count(),
            first_bin: *seen.start(),
            bins: seen.clone().count(),
            value: short(hit.value),
            heard,
            back: Signed::new(&back, seen.count(), blob),
        }
    }
}

/// A letter and the frames that its run begins and ends at.
pub struct Letter {
    text: String,
    first_frame: usize,
    end_frame: usize,
}

/// The letters of the best path.
pub fn letters(model: &Model, log_probs: &Images) -> Vec<Letter> {
    let stride = model.architecture.time_stride();
    let letter = |emission: Emission| Letter {
        text: model.tokens.piece(emission.token).unwrap_or_default(),
        first_frame: emission.start_step as usize * stride,
        end_frame: emission.end_step as usize * stride,
    };
    best_path(&log_probs.values, &model.tokens).into_iter().map(letter).collect()
}

/// The letters before, at and after a frame; at it there may be none.
pub fn around(letters: &[Letter], frame: usize) -> [String; 3] {
    let before = letters.partition_point(|letter| letter.end_frame <= frame);
    let after = letters.partition_point(|letter| letter.first_frame <= frame);
    let text = |letters: &[Letter]| letters.iter().map(|letter| letter.text.as_str()).collect();
    let after = after.max(before);
    [
        text(&letters[before.saturating_sub(LETTERS)..before]),
        text(&letters[before..after]),
        text(&letters[after..letters.len().min(after + LETTERS)]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_their_patches_and_do_not_overlap() {
        assert_eq!(pieces(&[120..=121, 20..=60, 64..=70], 200), [20..=82, 106..=135]);
        assert_eq!(pieces(&[0..=0, 198..=199], 200), [0..=15, 184..=199]);
        assert_eq!(pieces(&[2..=3], 8), [0..=7]);
    }

    #[test]
    fn letters_are_split_at_a_frame() {
        let letters: Vec<Letter> = ["a", "b", "c"]
            .into_iter()
            .zip([0, 8, 20])
            .map(|(text, first)| Letter { text: text.into(), first_frame: first, end_frame: first + 4 })
            .collect();
        assert_eq!(around(&letters, 9), ["a", "b", "c"]);
        assert_eq!(around(&letters, 13), ["ab", "", "c"]);
        assert_eq!(around(&letters, 99), ["abc", "", ""]);
        assert_eq!(around(&[], 5), ["", "", ""]);
    }
}
