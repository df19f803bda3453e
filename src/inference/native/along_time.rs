//! Winograd's algorithm along time, for convolutions that have many outputs to make at once.
//!
//! By F(4, 3), four neighbouring output rows of three taps take 6 products instead of 12, by F(2, 5) two rows of five taps
//! 6 instead of 10; longer filters are sums of such. The transforms need the rows of a whole tile, so a row's last bits
//! depend on which rows came with it. A microphone's stream, which comes in pieces of less than a tile, never gets here.
//! Many positions read filters that were transformed beforehand, few transform them as they read them.

use std::sync::OnceLock;

use half::f16;

use crate::kernels::winograd::{Form, TAPS, TILE_IN};
use crate::kernels::{Aligned, Kernels, PANEL, TapProduct, TapWeights, TileProduct};
use crate::network::Convolution;

/// Positions of a product from which on filters transformed beforehand pay: fewer read more weights than they save products.
const FEWEST_POSITIONS: usize = 5;
/// Rows from which on it may run: a microphone makes fewer at a time, and its last bits are not to change.
const FEWEST_ROWS: usize = 4;

/// The filters of a convolution over rows of `[positions, depth]`, transformed.
pub struct AlongTime {
    form: Form,
    /// The first tap of each group of the form's taps. The last group ends with the filter; taps it shares with the one before
    /// are zero in it.
    groups: Vec<usize>,
    /// Positions up to which the filters are rather transformed on their way.
    on_the_way: usize,
    taps: usize,
    depth: usize,
    /// For each set of filters `[panel][group][depth][PANEL]` of each plane, made when first needed: a live stream does
    /// without.
    planes: Vec<OnceLock<Aligned>>,
}

/// Rows to convolve.
pub struct TimeTiles<'a> {
    /// Which set of filters.
    pub set: usize,
    /// `[rows, positions · depth]`, beginning under the first output.
    pub rows: &'a [f32],
    /// Positions in a row.
    pub positions: usize,
    /// The filters as they are, `[panel][tap][depth][PANEL]`.
    pub weights: TapWeights<'a>,
    pub channels: usize,
    /// `[positions · channels]`.
    pub bias: &'a [f32],
    pub relu: bool,
}

impl AlongTime {
    /// Whether the algorithm applies to a convolution whose rows come one after the other.
    pub fn suits(convolution: &Convolution) -> bool {
        let Convolution { kernel, stride, dilation, groups, .. } = *convolution;
        kernel[0] >= TAPS && stride[0] == 1 && dilation[0] == 1 && groups == 1
    }

    /// For so many `sets` of filters of so many `taps` over `depth` values each.
    pub fn new(sets: usize, taps: usize, depth: usize, kernels: &Kernels) -> Self {
        // Products for two outputs; of two that take as many, the form with fewer filters.
        let products = |form: Form| TILE_IN * taps.div_ceil(form.taps()) * 2 / form.outputs();
        let fits = |form: &Form| form.taps() <= taps;
        let form = [Form::Pair, Form::Four].into_iter().filter(fits).min_by_key(|&form| products(form));
        let form = form.unwrap_or(Form::Four);
        let groups = (0..taps.div_ceil(form.taps())).map(|group| (form.taps() * group).min(taps - form.taps()));
        let groups = groups.collect();
        let whole_groups = form == Form::Four && taps.is_multiple_of(TAPS);
        let on_the_way = if whole_groups { kernels.tile_positions() } else { 0 };
        Self { form, groups, on_the_way, taps, depth, planes: (0..sets).map(|_| OnceLock::new()).collect() }
    }

    /// How many of `rows` output rows of so many `positions` each it makes.
    pub fn share(&self, rows: usize, positions: usize) -> usize {
        let tiles = rows / self.form.outputs();
        let pays = tiles * positions <= self.on_the_way || tiles * positions >= FEWEST_POSITIONS;
        if rows >= FEWEST_ROWS && pays { tiles * self.form.outputs() } else { 0 }
    }

    fn planes(&self, set: usize, weights: TapWeights<'_>) -> &[f32] {
        self.planes[set].get_or_init(|| {
            let tap_len = self.depth * PANEL;
            let floats;
            let weights = match weights {
                TapWeights::Floats(values) => values,
                TapWeights::Halves { values, scale } => {
                    let panels = values.chunks_exact(self.taps * tap_len).zip(scale.chunks_exact(PANEL));
                    let scaled = |(value, scale): (&f16, &f32)| value.to_f32() * scale;
                    floats = panels
                        .flat_map(|(panel, scale)| panel.iter().zip(scale.iter().cycle()).map(scaled))
                        .collect::<Vec<_>>();
                    &floats
                }
            };
            let plane_len = weights.len() / self.taps * self.groups.len();
            let mut planes = Aligned::zeros(TILE_IN * plane_len);
            for (plane, transformed) in planes.chunks_exact_mut(plane_len).enumerate() {
                let panels = transformed.chunks_exact_mut(self.groups.len() * tap_len);
                for (panel, weights) in panels.zip(weights.chunks_exact(self.taps * tap_len)) {
                    let mut fresh = 0;
                    for (&start, sums) in self.groups.iter().zip(panel.chunks_exact_mut(tap_len)) {
                        for tap in fresh..start + self.form.taps() {
                            let factor = self.form.filter_factor(plane, tap - start);
                            for (sum, weight) in sums.iter_mut().zip(&weights[tap * tap_len..]) {
                                *sum += factor * weight;
                            }
                        }
                        fresh = start + self.form.taps();
                    }
                }
            }
            planes
        })
    }

    /// Makes the rows of `made`, as many as fill tiles; `scratch` grows as needed.
    pub fn run(&self, kernels: &Kernels, tiles: &TimeTiles<'_>, made: &mut [f32], scratch: &mut Vec<f32>) {
        let TimeTiles { set, rows, positions, weights, channels, bias, relu } = *tiles;
        let (row, width) = (positions * self.depth, positions * channels);
        let outputs = self.form.outputs();
        let count = made.len() / (outputs * width);
        let group = count * row;
        let plane = self.groups.len() * group;
        let needed = TILE_IN * (plane + count * width);
        let (transformed, products) = at_least(scratch, needed).split_at_mut(TILE_IN * plane);
        let mut inputs = parts(transformed, plane);
        for (index, start) in self.groups.iter().enumerate() {
            let mut inputs = inputs.each_mut().map(|plane| &mut plane[index * group..][..group]);
            kernels.winograd_input(&rows[start * row..], row, outputs, &mut inputs);
        }
        let inputs = inputs.each_ref().map(|plane| &**plane);
        let mut products = parts(products, count * width);
        let (groups, positions, depth) = (self.groups.len(), count * positions, self.depth);
        if positions <= self.on_the_way {
            let product = TileProduct { planes: inputs, groups, positions, depth, weights, channels };
            kernels.tile_product(&product, &mut products);
        } else {
            let offsets: Vec<usize> = (0..groups).map(|index| index * group).collect();
            let planes = self.planes(set, weights);
            let planes = planes.chunks_exact(planes.len() / TILE_IN);
            for ((input, weights), made) in inputs.into_iter().zip(planes).zip(&mut products) {
                let product = TapProduct {
                    input,
                    offsets: &offsets,
                    step: depth,
                    positions,
                    depth,
                    weights: TapWeights::Floats(weights),
                    channels,
                    bias: None,
                    relu: false,
                    out_step: channels,
                };
                kernels.tap_product(&product, made);
            }
        }
        kernels.winograd_output(self.form, &products.each_ref().map(|plane| &**plane), &bias[..width], relu, made);
    }
}

/// The first `len` values of `scratch`, which grows as needed.
pub fn at_least(scratch: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if scratch.len() < len {
        scratch.resize(len, 0.0);
    }
    &mut scratch[..len]
}

/// `values` as [`TILE_IN`] parts of `len` values.
pub fn parts(values: &mut [f32], len: usize) -> [&mut [f32]; TILE_IN] {
    let mut parts = values.chunks_exact_mut(len);
    std::array::from_fn(|_| parts.next().expect("one part a plane"))
}
