//! Dense convolutions with three neighbouring frequency taps, by Winograd's F(4, 3) along frequency.
//!
//! Forward, `y = A^T [(G g) ⊙ (B^T d)]`. The gradients are the transposed steps: with `m = A dy`, the inputs get
//! `B [(G g) ⊙ m]` and the filter `G^T [m ⊙ (B^T d)]`; so all three passes take half the products.
//!
//! A plane in scratch is `[row][tile][channels]`, so the tiles of many rows are evenly spaced positions of one tap product
//! whose taps are the rows of the filter.

use super::Geometry;
use super::blocks::{Block, Cut, row_at};
use crate::kernels::winograd::{FILTER_TRANSFORM, TAPS, TILE_IN, TILE_OUT, transform_filter};
use crate::kernels::{Aligned, Kernels, PANEL, TapGradient, TapProduct, TapWeights, TileRow, panels};
use crate::layers::crew::{Crew, Scratch};

/// Values of a block's planes, inputs or outputs: a quarter of a megabyte.
const BLOCK_VALUES: usize = 1 << 16;

/// How many rows ahead values are fetched: they come from memory, and a row is read panel by panel, which no processor
/// foresees.
const AHEAD: usize = 2;

/// Transformed filters for both directions.
pub struct Winograd {
    tiles: usize,
    /// Channels in whole panels.
    inputs: usize,
    outputs: usize,
    weights: [Aligned; TILE_IN],
    backward: [Aligned; TILE_IN],
}

/// A block's rows in scratch: values from plane to plane and from row to row, and the channels in whole panels.
#[derive(Clone, Copy)]
struct Planes {
    plane: usize,
    row: usize,
    channels: usize,
}

impl Planes {
    fn new(tiles: usize, rows: usize, channels: usize) -> Self {
        let row = tiles * channels;
        Self { plane: rows * row, row, channels }
    }
}

impl Winograd {
    /// Whether the algorithm applies and pays.
    pub fn suits(geometry: &Geometry) -> bool {
        let settings = &geometry.settings;
        settings.kernel[1] == TAPS
            && settings.stride == [1, 1]
            && settings.dilation[1] == 1
            && settings.groups == 1
            && geometry.input.channels >= 8
            && geometry.output.channels >= 8
            && geometry.output.frequency >= TILE_OUT
    }

    pub fn new(geometry: &Geometry) -> Self {
        let (inputs, outputs) = (panels(geometry.input.channels) * PANEL, panels(geometry.output.channels) * PANEL);
        let planes = || std::array::from_fn(|_| Aligned::zeros(geometry.settings.kernel[0] * inputs * outputs));
        let tiles = geometry.output.frequency.div_ceil(TILE_OUT);
        Self { tiles, inputs, outputs, weights: planes(), backward: planes() }
    }

    pub fn block_rows(&self, _: &Geometry) -> usize {
        (BLOCK_VALUES / (TILE_IN * self.tiles * self.inputs.max(self.outputs))).clamp(4, 256)
    }

    pub fn pack(&mut self, geometry: &Geometry, weights: &[f32], crew: &Crew) {
        let times = geometry.settings.kernel[0];
        let (outputs, inputs) = (geometry.output.channels, geometry.input.channels);
        let steps = [inputs * times, times].map(|step| step * TAPS);
        pack(&mut self.weights, weights, [outputs, inputs, times], steps, self.inputs, crew);
    }

    pub fn pack_backward(&mut self, geometry: &Geometry, weights: &[f32], crew: &Crew) {
        let times = geometry.settings.kernel[0];
        let (outputs, inputs) = (geometry.output.channels, geometry.input.channels);
        let steps = [times, inputs * times].map(|step| step * TAPS);
        pack(&mut self.backward, weights, [inputs, outputs, times], steps, self.outputs, crew);
    }

    /// Transforms the inputs under the block's outputs.
    fn load<'a>(
        &self,
        geometry: &Geometry,
        kernels: &Kernels,
        block: &Block,
        x: &[f32],
        inputs: &'a mut Aligned,
    ) -> (Planes, &'a [f32]) {
        let rows = if block.outputs.is_empty() { 0 } else { block.outputs.len() + geometry.reach() };
        let planes = Planes::new(self.tiles, rows, self.inputs);
        let made = &mut inputs.at_least(TILE_IN * planes.plane)[..TILE_IN * planes.plane];
        let tiles = TileRow {
            channels: geometry.input.channels,
            low: geometry.windows[1].padding[0],
            tiles: self.tiles,
            plane_step: planes.plane,
            tile_step: planes.channels,
        };
        let first = block.outputs.start as isize - geometry.windows[0].padding[0] as isize;
        for row in 0..rows {
            if let Some(later) = row_at(x, geometry.input.len(), first + (row + AHEAD) as isize) {
                kernels.prefetch(later);
            }
            match row_at(x, geometry.input.len(), first + row as isize) {
                Some(x) => kernels.tiles_from_input(&tiles, x, &mut made[row * planes.row..]),
                None => clear(planes, row, made),
            }
        }
        (planes, made)
    }

    #[allow(clippy::too_many_arguments, reason = "one call from one place, the same for every plan")]
    pub fn forward(
        &self,
        geometry: &Geometry,
        kernels: &Kernels,
        block: &Block,
        x: &[f32],
        bias: &[f32],
        y: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let rows = block.outputs.len();
        let (planes, inputs) = self.load(geometry, kernels, block, x, &mut scratch.inputs);
        let (times, dilation) = (geometry.settings.kernel[0], geometry.settings.dilation[0]);
        set(&mut scratch.offsets, (0..times).map(|time| time * dilation * planes.row));
        let products = scratch.products.at_least(TILE_IN * rows * self.tiles * self.outputs);
        self.multiply(kernels, (planes, inputs), &scratch.offsets, &self.weights, (rows, self.outputs), products);
        let tiles = self.product_tiles(geometry.output.channels, 0, rows, self.outputs);
        for (row, y) in y.chunks_exact_mut(geometry.output.len()).enumerate() {
            let products = &products[row * self.tiles * self.outputs..];
            kernels.tiles_to_output(&tiles, products, bias, geometry.relu, y);
        }
    }

    /// `[plane][row][tile][channels]` products for `rows` rows of `channels` channels.
    fn multiply(
        &self,
        kernels: &Kernels,
        (planes, inputs): (Planes, &[f32]),
        offsets: &[usize],
        weights: &[Aligned; TILE_IN],
        (rows, channels): (usize, usize),
        products: &mut [f32],
    ) {
        let len = rows * self.tiles * channels;
        for (plane, weights) in weights.iter().enumerate() {
            let product = TapProduct {
                input: &inputs[plane * planes.plane..][..planes.plane],
                offsets,
                step: planes.channels,
                positions: rows * self.tiles,
                depth: planes.channels,
                weights: TapWeights::Floats(weights),
                channels,
                bias: None,
                relu: false,
                out_step: channels,
            };
            kernels.tap_product(&product, &mut products[plane * len..][..len]);
        }
    }

    /// How a row's tiles lie in products of `rows` rows.
    fn product_tiles(&self, channels: usize, low: usize, rows: usize, padded: usize) -> TileRow {
        let plane_step = rows * self.tiles * padded;
        TileRow { channels, low, tiles: self.tiles, plane_step, tile_step: padded }
    }

    pub fn sums(&self, geometry: &Geometry) -> usize {
        TILE_IN * geometry.settings.kernel[0] * self.inputs * self.outputs
    }

    pub fn backward(
        &self,
        geometry: &Geometry,
        kernels: &Kernels,
        cut: &mut Cut<'_>,
        [sums, bias]: [&mut [f32]; 2],
        scratch: &mut Scratch,
    ) {
        let Block { outputs, inputs, .. } = cut.block;
        let (times, dilation) = (geometry.settings.kernel[0], geometry.settings.dilation[0]);
        let (reach, past) = (geometry.reach(), geometry.windows[0].padding[0]);
        // Input `i` meets outputs from `i + past − reach` to `i + past`.
        let before = reach - past;
        let first = outputs.start as isize - before as isize;
        let end = (inputs.end + past).max(outputs.end) as isize;
        let rows = (end - first) as usize;
        let planes = Planes::new(self.tiles, rows, self.outputs);
        let made = &mut scratch.gradients.at_least(TILE_IN * planes.plane)[..TILE_IN * planes.plane];
        let tiles = TileRow {
            channels: geometry.output.channels,
            low: 0,
            tiles: self.tiles,
            plane_step: planes.plane,
            tile_step: planes.channels,
        };
        for row in 0..rows {
            let index = first + row as isize;
            for values in [Some(cut.dy), cut.mask].into_iter().flatten() {
                if let Some(later) = row_at(values, geometry.output.len(), index + AHEAD as isize) {
                    kernels.prefetch(later);
                }
            }
            let mask = cut.mask.and_then(|mask| row_at(mask, geometry.output.len(), index));
            match row_at(cut.dy, geometry.output.len(), index) {
                Some(dy) => kernels.tiles_from_gradient(&tiles, dy, mask, &mut made[row * planes.row..]),
                None => clear(planes, row, made),
            }
        }
        // Plane 1 holds each tile's sum.
        let inside = before * planes.row..(before + outputs.len()) * planes.row;
        kernels.add_columns(&made[planes.plane..][inside], bias);

        let (input_planes, x) = self.load(geometry, kernels, cut.block, cut.x, &mut scratch.inputs);
        set(&mut scratch.offsets, (0..times).map(|time| time * dilation * input_planes.row));
        for (plane, sums) in sums.chunks_exact_mut(times * self.inputs * self.outputs).enumerate() {
            let gradient = TapGradient {
                input: &x[plane * input_planes.plane..][..input_planes.plane],
                offsets: &scratch.offsets,
                step: input_planes.channels,
                positions: outputs.len() * self.tiles,
                depth: input_planes.channels,
                dy: &made[plane * planes.plane..][..planes.plane][before * planes.row..],
                dy_step: planes.channels,
                panels: planes.channels / PANEL,
            };
            kernels.tap_gradient(&gradient, sums);
        }

        let Some(dx) = cut.dx.as_deref_mut() else { return };
        set(&mut scratch.offsets, (0..times).map(|time| (reach - time * dilation) * planes.row));
        let rows = inputs.len();
        let products = scratch.products.at_least(TILE_IN * rows * self.tiles * self.inputs);
        self.multiply(kernels, (planes, made), &scratch.offsets, &self.backward, (rows, self.inputs), products);
        let tiles = self.product_tiles(geometry.input.channels, geometry.windows[1].padding[0], rows, self.inputs);
        for (row, dx) in dx.chunks_exact_mut(geometry.input.len()).enumerate() {
            kernels.tiles_to_input(&tiles, &products[row * self.tiles * self.inputs..], dx);
        }
    }

    pub fn unpack(&self, geometry: &Geometry, sums: &[f32], gradients: &mut [f32], crew: &Crew) {
        let times = geometry.settings.kernel[0];
        let plane_len = times * self.inputs * self.outputs;
        let row = geometry.input.channels * times * TAPS;
        crew.rows(gradients, row, |first, gradients, _| {
            for (out, gradients) in (first / row..).zip(gradients.chunks_exact_mut(row)) {
                for (index, taps) in gradients.chunks_exact_mut(TAPS).enumerate() {
                    let (channel, time) = (index / times, index % times);
                    let at = ((out / PANEL * times + time) * self.inputs + channel) * PANEL + out % PANEL;
                    let mut all = [0.0; TAPS];
                    for (plane, row) in FILTER_TRANSFORM.iter().enumerate() {
                        let sum = f64::from(sums[plane * plane_len + at]);
                        all.iter_mut().zip(row).for_each(|(tap, g)| *tap += g * sum);
                    }
                    taps.iter_mut().zip(all).for_each(|(gradient, tap)| *gradient = tap as f32);
                }
            }
        });
    }
}

/// Transforms filters into the `[panel][time][depth][PANEL]` of each plane. `steps` are the distances between the
/// weights of neighbouring outputs and depths; lanes and depths beyond these channels stay zero.
fn pack(
    planes: &mut [Aligned; TILE_IN],
    weights: &[f32],
    [outputs, depths, times]: [usize; 3],
    steps: [usize; 2],
    padded_depths: usize,
    crew: &Crew,
) {
    crew.each(planes.iter_mut().enumerate().collect(), |(plane, packed): (usize, &mut Aligned), _| {
        let panels = packed.chunks_exact_mut(times * padded_depths * PANEL);
        for (panel, packed) in panels.enumerate() {
            let first = panel * PANEL;
            let lanes = PANEL.min(outputs - first);
            for time in 0..times {
                for depth in 0..depths {
                    let packed = &mut packed[(time * padded_depths + depth) * PANEL..][..lanes];
                    let weights = &weights[first * steps[0] + depth * steps[1] + time * TAPS..];
                    for (lane, packed) in packed.iter_mut().enumerate() {
                        let at = lane * steps[0];
                        *packed = transform_filter([weights[at], weights[at + 1], weights[at + 2]], plane);
                    }
                }
            }
        }
    });
}

fn set(offsets: &mut Vec<usize>, new: impl Iterator<Item = usize>) {
    offsets.clear();
    offsets.extend(new);
}

/// Makes a row of all planes zero.
fn clear(planes: Planes, row: usize, made: &mut [f32]) {
    for plane in made.chunks_exact_mut(planes.plane) {
        plane[row * planes.row..][..planes.row].fill(0.0);
    }
}
