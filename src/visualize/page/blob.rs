//! The numbers behind the pictures: bytes, one after the other, compressed as a whole.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde::Serialize;

use crate::visualize::activations::Map;

/// Where in the bytes something lies: offset and length.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Place(usize, usize);

/// Bytes that grow.
#[derive(Default)]
pub struct Blob {
    bytes: Vec<u8>,
}

impl Blob {
    /// Adds bytes.
    pub fn add(&mut self, bytes: impl IntoIterator<Item = u8>) -> Place {
        let start = self.bytes.len();
        self.bytes.extend(bytes);
        Place(start, self.bytes.len() - start)
    }

    /// Adds numbers of two bytes, the lower first.
    pub fn add_words(&mut self, words: impl IntoIterator<Item = u16>) -> Place {
        self.add(words.into_iter().flat_map(u16::to_le_bytes))
    }

    /// Everything, in zlib's format.
    pub fn compressed(self) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        // A vector takes everything.
        let _ = encoder.write_all(&self.bytes);
        encoder.finish().unwrap_or_default()
    }
}

/// A layer's output, each channel in 256 levels between its least and its greatest value.
#[derive(Serialize)]
pub struct Levels {
    /// `[channels, frequency, steps]`: along time neighbours are alike, which compresses.
    place: Place,
    least: Vec<f32>,
    greatest: Vec<f32>,
}

impl Levels {
    pub fn new(map: &Map<'_>, blob: &mut Blob) -> Self {
        let (bins, channels) = (map.layer.output.frequency, map.layer.output.channels);
        let (mut bytes, mut least, mut greatest) = (Vec::with_capacity(map.values.len()), Vec::new(), Vec::new());
        for channel in 0..channels {
            let values: Vec<f32> = map.channel(channel).collect();
            let (low, high) = range(&values);
            for bin in 0..bins {
                bytes.extend(values.iter().skip(bin).step_by(bins).map(|&value| level(value, low, high)));
            }
            least.push(short(low));
            greatest.push(short(high));
        }
        Self { place: blob.add(bytes), least, greatest }
    }
}

/// The least and the greatest of `values`; 0 if there are none.
pub fn range(values: &[f32]) -> (f32, f32) {
    let range = |(low, high): (f32, f32), &value: &f32| (low.min(value), high.max(value));
    let (low, high) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), range);
    if low <= high { (low, high) } else { (0.0, 0.0) }
}

/// `value` in 256 levels from `low` to `high`.
pub fn level(value: f32, low: f32, high: f32) -> u8 {
    if high > low { (255.0 * (value - low) / (high - low)).round() as u8 } else { 0 }
}

/// `value` in ±127 levels around 128, which is zero; beyond `most` there is nothing.
pub fn signed_level(value: f32, most: f32) -> u8 {
    let share = if most > 0.0 { (value / most).clamp(-1.0, 1.0) } else { 0.0 };
    (128.0 + 127.0 * share).round() as u8
}

/// Four digits are enough for people.
pub fn short(value: f32) -> f32 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// A signed image in which most is nothing: only the frames that hold something are kept.
#[derive(Debug, Serialize)]
pub struct Signed {
    /// `[bins, frames]`
    place: Place,
    first_frame: usize,
    frames: usize,
    /// What the levels 1 and 255 stand for.
    most: f32,
}

impl Signed {
    /// Of `values`, `[frames, bins]`.
    pub fn new(values: &[f32], bins: usize, blob: &mut Blob) -> Self {
        let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        // Every fourth level is enough for colours, and compresses; fainter than one of them is not seen.
        let coarse = |value: f32| (signed_level(value, most).saturating_add(2) / 4 * 4).max(4);
        let levels: Vec<u8> = values.iter().map(|&value| coarse(value)).collect();
        let holds = |column: &[u8]| column.iter().any(|&level| level != 128);
        let columns = || levels.chunks_exact(bins);
        let first_frame = columns().position(holds).unwrap_or(0);
        let frames = columns().rposition(holds).map_or(0, |last| last + 1 - first_frame);
        let kept = &levels[first_frame * bins..(first_frame + frames) * bins];
        let bytes = (0..bins).flat_map(|bin| kept.iter().skip(bin).step_by(bins).copied());
        Self { place: blob.add(bytes), first_frame, frames, most: short(most) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn unpacked(blob: Blob) -> Vec<u8> {
        let mut bytes = Vec::new();
        flate2::read::ZlibDecoder::new(&blob.compressed()[..]).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn bytes_come_back_from_their_places() {
        let mut blob = Blob::default();
        let (a, b) = (blob.add([1, 2, 3]), blob.add_words([0x0504, 0xff06]));
        assert_eq!((a.0, a.1, b.0, b.1), (0, 3, 3, 4));
        assert_eq!(unpacked(blob), [1, 2, 3, 4, 5, 6, 0xff]);
    }

    #[test]
    fn levels_span_what_there_is() {
        assert_eq!([-1.0, 0.0, 1.0].map(|value| level(value, -1.0, 1.0)), [0, 128, 255]);
        assert_eq!((level(3.0, 3.0, 3.0), level(f32::NAN, 0.0, 1.0), range(&[])), (0, 0, (0.0, 0.0)));
        assert_eq!([-9.0, -2.0, 0.0, 2.0].map(|value| signed_level(value, 2.0)), [1, 1, 128, 255]);
        assert_eq!((signed_level(1.0, 0.0), short(1234.56)), (128, 1235.0));
    }

    /// Of six frames of two bins only the third and fourth hold something.
    #[test]
    fn signed_images_are_cut_to_what_they_hold() {
        let mut blob = Blob::default();
        let values = [0.0, 0.0, 0.0, 0.001, 2.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0];
        let image = Signed::new(&values, 2, &mut blob);
        assert_eq!((image.first_frame, image.frames, image.most), (2, 2, 2.0));
        assert_eq!(unpacked(blob), [252, 128, 128, 64]);
        let nothing = Signed::new(&[0.0; 8], 2, &mut Blob::default());
        assert_eq!((nothing.first_frame, nothing.frames), (0, 0));
    }
}
