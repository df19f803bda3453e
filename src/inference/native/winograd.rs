//! Dense convolutions with three neighbouring frequency taps, by Winograd's F(4, 3) along frequency.
//!
//! A row is transformed once, when it comes in; the stream keeps transformed rows. Plane `i` of a row is `[tiles,
//! channels]`, and the rows of a plane lie end to end, so the tiles of many rows are evenly spaced positions of one tap
//! product whose taps are the rows of the filter.

use super::Crew;
use super::convolution::Compiled;
use super::window::{RowWindow, RowWindowSettings, Rows};
use crate::kernels::winograd::{TAPS, TILE_IN, TILE_OUT, transform_filter};
use crate::kernels::{Aligned, TapProduct, pack_taps};
use crate::network::FrameShape;

/// Tiles whose products are made before their outputs: enough to use the weights well, few enough to stay in the cache.
const BLOCK_TILES: usize = 24;

pub struct Winograd {
    window: RowWindowSettings,
    input: FrameShape,
    output: FrameShape,
    low: usize,
    tiles: usize,
    /// Rows under a filter, and their distance.
    times: usize,
    dilation: usize,
    /// Packed weights of each plane.
    planes: [Aligned; TILE_IN],
    bias: Vec<f32>,
    relu: bool,
}

/// What a stream keeps: transformed rows, a window for each plane.
pub struct WinogradState {
    planes: [RowWindow; TILE_IN],
}

impl WinogradState {
    pub fn reset(&mut self) {
        self.planes.iter_mut().for_each(RowWindow::reset);
    }
}

impl Winograd {
    /// Whether the algorithm applies and pays.
    pub fn suits(convolution: &Compiled<'_>) -> bool {
        let settings = convolution.settings;
        settings.kernel[1] == TAPS
            && settings.stride == [1, 1]
            && settings.dilation[1] == 1
            && settings.groups == 1
            && convolution.input.channels >= 8
            && convolution.output.frequency >= TILE_OUT
    }

    pub fn new(convolution: Compiled<'_>) -> Self {
        let Compiled { settings, input, output, relu, .. } = convolution;
        let tiles = output.frequency.div_ceil(TILE_OUT);
        let times = settings.kernel[0];
        let planes = std::array::from_fn(|plane| {
            Aligned::new(&pack_taps(output.channels, input.channels, times, |out, channel, time| {
                let taps = std::array::from_fn(|tap| convolution.weight(out, channel, time, tap));
                transform_filter(taps, plane)
            }))
        });
        Self {
            window: convolution.window(tiles * input.channels, 0, tiles * input.channels, 0.0),
            input,
            output,
            low: settings.frequency_padding.low,
            tiles,
            times,
            dilation: settings.dilation[0],
            planes,
            bias: convolution.bias,
            relu,
        }
    }

    pub fn state(&self) -> WinogradState {
        WinogradState { planes: std::array::from_fn(|_| RowWindow::new(self.window)) }
    }

    pub fn step(&self, state: &mut WinogradState, rows: &[f32], end: bool, crew: &Crew, made: &mut Rows) {
        self.append(state, rows, crew);
        if end {
            state.planes.iter_mut().for_each(RowWindow::append_future);
        }
        let outputs = state.planes[0].ready();
        let made = made.resize(outputs * self.output.len());
        let planes = state.planes.each_ref().map(RowWindow::values);
        crew.share(made, self.output.len(), |first, made| {
            let block = (BLOCK_TILES / self.tiles).max(1);
            let mut products = vec![0.0; TILE_IN * block.min(outputs) * self.tiles * self.output.channels];
            for (index, made) in made.chunks_mut(block * self.output.len()).enumerate() {
                self.rows(&planes, first + index * block, &mut products, made, crew);
            }
        });
        for plane in &mut state.planes {
            plane.advance(outputs);
        }
    }

    /// Transforms `rows` and appends them to the planes.
    fn append(&self, state: &mut WinogradState, rows: &[f32], crew: &Crew) {
        let (width, channels) = (self.input.len(), self.input.channels);
        let count = rows.len() / width;
        let mut space = state.planes.each_mut().map(|plane| plane.space(count));
        // Tiles at the edges of a row reach into the padding.
        let mut edge = vec![0.0; TILE_IN * channels];
        for (index, row) in rows.chunks_exact(width).enumerate() {
            for tile in 0..self.tiles {
                let first = (tile * TILE_OUT) as isize - self.low as isize;
                let inside = first >= 0 && first as usize + TILE_IN <= self.input.frequency;
                let bins = if inside {
                    &row[first as usize * channels..][..TILE_IN * channels]
                } else {
                    for (bin, edge) in (first..).zip(edge.chunks_exact_mut(channels)) {
                        match usize::try_from(bin) {
                            Ok(bin) if bin < self.input.frequency => {
                                edge.copy_from_slice(&row[bin * channels..][..channels])
                            }
                            _ => edge.fill(0.0),
                        }
                    }
                    &edge
                };
                let at = (index * self.tiles + tile) * channels;
                let mut planes = space.each_mut().map(|plane| &mut plane[at..at + channels]);
                crew.kernels.winograd_input(bins, &mut planes);
            }
        }
    }

    /// The output rows from row `first` of the window on; `products` is scratch.
    fn rows(&self, planes: &[&[f32]; TILE_IN], first: usize, products: &mut [f32], made: &mut [f32], crew: &Crew) {
        let (width, channels) = (self.output.len(), self.output.channels);
        let positions = made.len() / width * self.tiles;
        let offsets: Vec<usize> = (0..self.times).map(|t| (first + t * self.dilation) * self.window.row).collect();
        let mut products = products.chunks_exact_mut(products.len() / TILE_IN);
        let mut products: [&mut [f32]; TILE_IN] = std::array::from_fn(|_| products.next().expect("one part a plane"));
        for ((input, weights), products) in planes.iter().zip(&self.planes).zip(&mut products) {
            let product = TapProduct {
                input,
                offsets: &offsets,
                step: self.input.channels,
                positions,
                depth: self.input.channels,
                weights,
                channels,
                bias: None,
                relu: false,
                out_step: channels,
            };
            crew.kernels.tap_product(&product, products);
        }
        for (index, row) in made.chunks_exact_mut(width).enumerate() {
            for (tile, bins) in row.chunks_mut(TILE_OUT * channels).enumerate() {
                let at = (index * self.tiles + tile) * channels;
                let planes = products.each_ref().map(|plane| &plane[at..at + channels]);
                crew.kernels.winograd_output(&planes, &self.bias, self.relu, bins);
            }
        }
    }
}
