//! The arrays of a clip as pictures: frequency upwards, time to the right, a pixel a number.

use std::io::{self, Write};

use super::arrays::Array;
use super::page::blob::{level, range, signed_level};

/// Pixels between the tiles of a mosaic.
const GAP: usize = 1;

/// A picture to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The array that it shows, and which part of it.
    pub name: String,
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// Red, green and blue, row by row from above.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Writes a PNG.
    ///
    /// # Errors
    /// What writing said.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut encoder = png::Encoder::new(out, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(&self.rgb).map_err(io::Error::from)
    }

    /// `[columns, rows]` of colours side by side, in as square a mosaic as can be.
    fn mosaic(name: String, tiles: &[Tile]) -> Option<Self> {
        let (wide, high) = (tiles.iter().map(|tile| tile.columns).max()?, tiles.iter().map(Tile::rows).max()?);
        let wanted = (tiles.len() as f64 * high as f64 / wide as f64).sqrt().round() as usize;
        let across = wanted.clamp(1, tiles.len());
        let (width, height) = (across * (wide + GAP) - GAP, tiles.len().div_ceil(across) * (high + GAP) - GAP);
        let mut rgb = vec![255; width * height * 3];
        for (n, tile) in tiles.iter().enumerate() {
            let (left, top) = (n % across * (wide + GAP), n / across * (high + GAP));
            for (at, colour) in tile.colours.iter().enumerate() {
                let (column, row) = (at / tile.rows(), tile.rows() - 1 - at % tile.rows());
                let start = 3 * ((top + row) * width + left + column);
                rgb[start..start + 3].copy_from_slice(colour);
            }
        }
        Some(Self { name, width, height, rgb })
    }
}

/// `[columns, rows]`, the lowest row first.
struct Tile {
    columns: usize,
    colours: Vec<[u8; 3]>,
}

impl Tile {
    fn rows(&self) -> usize {
        self.colours.len() / self.columns.max(1)
    }

    /// Grey, the greatest value white.
    fn grey(columns: usize, values: &[f32]) -> Self {
        let (low, high) = range(values);
        Self { columns, colours: values.iter().map(|&value| [level(value, low, high); 3]).collect() }
    }

    /// Zero white, what is against blue, what is for it orange.
    fn signed(columns: usize, values: &[f32]) -> Self {
        const AGAINST: [f32; 3] = [32.0, 96.0, 176.0];
        const FOR: [f32; 3] = [200.0, 88.0, 0.0];
        let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let colour = |&value: &f32| {
            let share = (f32::from(signed_level(value, most)) - 128.0) / 127.0;
            let end = if share < 0.0 { AGAINST } else { FOR };
            end.map(|end| (255.0 + (end - 255.0) * share.abs().min(1.0)) as u8)
        };
        Self { columns, colours: values.iter().map(colour).collect() }
    }
}

/// The spectrogram, the posteriors, each layer's activation maps as a mosaic (every channel on a scale of its own), the
/// kernels of layers with one input channel, and what spoke for each letter.
pub fn pictures(arrays: &[Array]) -> Vec<Picture> {
    let one = |name: &str, tile: Tile| Picture::mosaic(name.to_owned(), &[tile]);
    let of = |array: &Array| -> Vec<Option<Picture>> {
        let Array { name, shape, values } = array;
        match (name.split('.').next().unwrap_or_default(), &shape[..]) {
            ("image", [frames, _]) => vec![one(name, Tile::grey(*frames, values))],
            ("log_probs", [steps, _]) => {
                let probabilities: Vec<f32> = values.iter().map(|value| value.exp()).collect();
                vec![one("posteriors", Tile::grey(*steps, &probabilities))]
            }
            // One bin: a row for each channel.
            ("activations", [steps, 1, _]) => vec![one(name, Tile::grey(*steps, values))],
            ("activations", [steps, _, channels]) => {
                let channel = |n| values.iter().skip(n).step_by(*channels).copied().collect::<Vec<f32>>();
                let tiles: Vec<Tile> = (0..*channels).map(|n| Tile::grey(*steps, &channel(n))).collect();
                vec![Picture::mosaic(name.clone(), &tiles)]
            }
            ("weights", [_, 1, times, frequencies]) => {
                let tiles = values.chunks_exact((times * frequencies).max(1)).map(|taps| Tile::signed(*times, taps));
                vec![Picture::mosaic(name.clone(), &tiles.collect::<Vec<_>>())]
            }
            ("letters", [_, frames, bins]) => {
                let letters = values.chunks_exact((frames * bins).max(1)).enumerate();
                letters.map(|(n, seen)| one(&format!("{name}.{n:03}"), Tile::signed(*frames, seen))).collect()
            }
            _ => Vec::new(),
        }
    };
    arrays.iter().flat_map(of).flatten().filter(|picture| !picture.rgb.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(name: &str, shape: &[usize], values: &[f32]) -> Array {
        Array { name: name.into(), shape: shape.to_vec(), values: values.to_vec() }
    }

    #[test]
    fn time_runs_to_the_right_and_frequency_upwards() {
        let pictures = pictures(&[array("image", &[3, 2], &[0.0, 1.0, 0.0, 0.0, 0.5, 0.0])]);
        let [picture] = &pictures[..] else { panic!("{pictures:?}") };
        assert_eq!((picture.width, picture.height), (3, 2));
        let greys: Vec<u8> = picture.rgb.iter().step_by(3).copied().collect();
        assert_eq!(greys, [255, 0, 0, 0, 0, 128]);
    }

    #[test]
    fn mosaics_are_square_and_signs_have_colours() {
        let taps: Vec<f32> = (0..4 * 4)
            .map(|n| {
                if n == 0 {
                    -1.0
                } else if n == 15 {
                    1.0
                } else {
                    0.0
                }
            })
            .collect();
        let pictures = pictures(&[array("weights.c", &[4, 1, 2, 2], &taps), array("weights.d", &[4, 4, 1, 1], &taps)]);
        let [picture] = &pictures[..] else { panic!("{pictures:?}") };
        assert_eq!((picture.width, picture.height), (5, 5));
        let at = |row: usize, column: usize| &picture.rgb[3 * (5 * row + column)..][..3];
        assert_eq!((at(1, 0), at(3, 4), at(0, 0)), (&[32, 96, 176][..], &[200, 88, 0][..], &[255, 255, 255][..]));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let pictures =
            pictures(&[array("letters.gradient", &[2, 3, 4], &[0.5; 24]), array("letters.step", &[2], &[1.0, 2.0])]);
        let names: Vec<&str> = pictures.iter().map(|picture| picture.name.as_str()).collect();
        assert_eq!(names, ["letters.gradient.000", "letters.gradient.001"]);
        let mut bytes = Vec::new();
        pictures[1].write(&mut bytes).unwrap();
        let mut reader = png::Decoder::new(io::Cursor::new(bytes)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut rgb).unwrap();
        assert_eq!(rgb, pictures[1].rgb);
    }
}
