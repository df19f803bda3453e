//! Dense convolutions with three neighbouring frequency taps, by Winograd's F(4, 3) along frequency.
//!
//! A row is transformed once, when it comes in; the stream keeps transformed rows. Plane `i` of a row is `[tiles,
//! channels]`, and the rows of a plane lie end to end, so the tiles of many rows are evenly spaced positions of one tap
//! product whose taps are the rows of the filter.

use super::along_time::{AlongTime, TimeTiles, at_least, parts};
use super::convolution::Compiled;
use super::pipeline::Tools;
use super::window::{RowWindow, RowWindowSettings, Rows};
use crate::kernels::winograd::{Form, TAPS, TILE_IN, TILE_OUT, transform_filter};
use crate::kernels::{Aligned, Kernels, TapProduct, TapWeights, pack_taps};
use crate::network::FrameShape;

/// Tiles whose products are made before their outputs: enough to use the weights well, few enough to stay in the cache.
const BLOCK_TILES: usize = 24;
/// The same where four rows are one tile.
const BLOCK_TIME_TILES: usize = 60;

/// Input channels from which on tiles of four rows pay: with fewer, transforms take longer than the products they save.
const FEWEST_CHANNELS: usize = 64;

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
    /// What makes many rows of each plane at once.
    along_time: Option<AlongTime>,
    bias: Vec<f32>,
    /// `[tiles · channels]`, what the products of a plane begin with.
    zeros: Vec<f32>,
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

    /// With `along_time`, many rows at once are made by the same algorithm along time, too.
    pub fn new(convolution: Compiled<'_>, along_time: bool, kernels: &Kernels) -> Self {
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
            along_time: (along_time && input.channels >= FEWEST_CHANNELS && AlongTime::suits(settings))
                .then(|| AlongTime::new(TILE_IN, times, input.channels, kernels)),
            bias: convolution.bias,
            zeros: vec![0.0; tiles * output.channels],
            relu,
        }
    }

    pub fn state(&self) -> WinogradState {
        WinogradState { planes: std::array::from_fn(|_| RowWindow::new(self.window)) }
    }

    pub fn step(&self, state: &mut WinogradState, rows: &[f32], end: bool, tools: &mut Tools, made: &mut Rows) {
        let mut room = std::mem::take(&mut tools.scratch.planes);
        self.append(state, rows, &mut room, &tools.kernels);
        // Every plane is asked, for at the end each gets its padding so; all say the same.
        let ready = |(plane, room): (&RowWindow, &mut Rows)| plane.ready(end, room);
        let outputs = state.planes.iter().zip(&mut room).map(ready).min().unwrap_or(0);
        let width = self.output.len();
        let made = made.resize(outputs * width);
        let planes = room.each_ref().map(|room| &room[..]);
        let many = self.along_time.as_ref().map_or(0, |along_time| along_time.share(outputs, self.tiles));
        let (rows, few) = made.split_at_mut(many * width);
        let blocks = (many / TILE_OUT * self.tiles).div_ceil(BLOCK_TIME_TILES).max(1);
        let block = TILE_OUT * (many / TILE_OUT).div_ceil(blocks).max(1);
        for (index, made) in rows.chunks_mut(block * width).enumerate() {
            self.rows(&planes, index * block, true, made, tools);
        }
        let block = (BLOCK_TILES / self.tiles).max(1);
        for (index, made) in few.chunks_mut(block * width).enumerate() {
            self.rows(&planes, many + index * block, false, made, tools);
        }
        for (plane, room) in state.planes.iter_mut().zip(&room) {
            plane.keep(room, outputs);
        }
        tools.scratch.planes = room;
    }

    /// Transforms `rows` and appends them to the planes.
    fn append(&self, state: &mut WinogradState, rows: &[f32], room: &mut [Rows; TILE_IN], kernels: &Kernels) {
        let (width, channels) = (self.input.len(), self.input.channels);
        let mut planes = state.planes.iter_mut().zip(room);
        let mut space: [&mut [f32]; TILE_IN] = std::array::from_fn(|_| {
            let (plane, room) = planes.next().expect("room for each plane");
            plane.space(rows.len() / width, room)
        });
        // Tiles at the edges of a row reach into the padding.
        let end = (self.input.frequency + self.low).saturating_sub(TILE_IN - TILE_OUT) / TILE_OUT;
        let inner = self.low.div_ceil(TILE_OUT)..end.min(self.tiles);
        let mut edge = vec![0.0; TILE_IN * channels];
        for (index, row) in rows.chunks_exact(width).enumerate() {
            let at = |tile: usize| (index * self.tiles + tile) * channels;
            if !inner.is_empty() {
                let mut planes = space.each_mut().map(|plane| &mut plane[at(inner.start)..at(inner.end)]);
                let bins = &row[(inner.start * TILE_OUT - self.low) * channels..];
                kernels.winograd_input(bins, channels, TILE_OUT, &mut planes);
            }
            for tile in (0..self.tiles).filter(|tile| !inner.contains(tile)) {
                let first = (tile * TILE_OUT) as isize - self.low as isize;
                for (bin, edge) in (first..).zip(edge.chunks_exact_mut(channels)) {
                    match usize::try_from(bin) {
                        Ok(bin) if bin < self.input.frequency => {
                            edge.copy_from_slice(&row[bin * channels..][..channels])
                        }
                        _ => edge.fill(0.0),
                    }
                }
                let mut planes = space.each_mut().map(|plane| &mut plane[at(tile)..at(tile + 1)]);
                kernels.winograd_input(&edge, channels, TILE_OUT, &mut planes);
            }
        }
    }

    /// The output rows from row `first` of the window on, `many` of them as tiles of four.
    fn rows(&self, planes: &[&[f32]; TILE_IN], first: usize, many: bool, made: &mut [f32], tools: &mut Tools) {
        let Tools { kernels, scratch } = tools;
        let (width, channels) = (self.output.len(), self.output.channels);
        let positions = made.len() / width * self.tiles;
        let offsets: Vec<usize> = (0..self.times).map(|t| (first + t * self.dilation) * self.window.row).collect();
        let mut products = parts(at_least(&mut scratch.products, TILE_IN * positions * channels), positions * channels);
        for (plane, products) in products.iter_mut().enumerate() {
            let (input, weights) = (planes[plane], &self.planes[plane]);
            if let (true, Some(along_time)) = (many, &self.along_time) {
                let tiles = TimeTiles {
                    set: plane,
                    rows: &input[first * self.window.row..],
                    positions: self.tiles,
                    weights: TapWeights::Floats(weights),
                    channels,
                    bias: &self.zeros,
                    relu: false,
                };
                along_time.run(kernels, &tiles, products, &mut scratch.tiles);
                continue;
            }
            let product = TapProduct {
                input,
                offsets: &offsets,
                step: self.input.channels,
                positions,
                depth: self.input.channels,
                weights: TapWeights::Floats(weights),
                channels,
                bias: None,
                relu: false,
                out_step: channels,
            };
            kernels.tap_product(&product, products);
        }
        let row = self.tiles * channels;
        for (index, made) in made.chunks_exact_mut(width).enumerate() {
            let planes = products.each_ref().map(|plane| &plane[index * row..][..row]);
            kernels.winograd_output(Form::Four, &planes, &self.bias, self.relu, made);
        }
    }
}
