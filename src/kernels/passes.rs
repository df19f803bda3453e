//! Training's passes over rows of `[bins, channels]`: plain Rust that is compiled once per instruction set.
//!
//! Bodies work on [`PANEL`] channels at a time, which become one or a few vectors.

use super::scalar::multiply_add;
use super::winograd::{TILE_IN, TILE_OUT};
use super::{Kernels, PANEL};

/// [`PANEL`] channels of one bin.
type Lanes = [f32; PANEL];

/// How the tiles of one row lie in Winograd's planes: `plane · plane_step + tile · tile_step + channel`,
/// the channels in whole panels.
#[derive(Debug, Clone, Copy)]
pub struct TileRow {
    /// Channels of the row outside the planes.
    pub channels: usize,
    /// Padding bins below the row's first, when the row is the convolution's input.
    pub low: usize,
    /// Tiles in the row.
    pub tiles: usize,
    /// Distance between planes.
    pub plane_step: usize,
    /// Distance between tiles.
    pub tile_step: usize,
}

/// What a depthwise convolution's weights get:
/// `sums[tap · channels + c] += Σ_m input[offsets[tap] + m · step + c] · dy[m · dy_step + c]`.
#[derive(Debug, Clone, Copy)]
pub struct ChannelGradient<'a> {
    /// The input values.
    pub input: &'a [f32],
    /// Where each tap's `channels` values of position 0 start in `input`.
    pub offsets: &'a [usize],
    /// Distance between the inputs of neighbouring positions.
    pub step: usize,
    /// The gradient of the outputs.
    pub dy: &'a [f32],
    /// Distance between the gradients of neighbouring positions.
    pub dy_step: usize,
    /// Number of positions.
    pub positions: usize,
    /// Channels.
    pub channels: usize,
}

/// Makes of each body below its entry in a table per instruction set and a method of [`Kernels`].
macro_rules! passes {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*);)*) => {
        /// One instruction set's spelling of every pass.
        #[derive(Clone, Copy)]
        pub(super) struct Table {
            $($name: unsafe fn($($type),*),)*
        }

        /// The definition.
        pub(super) const SCALAR: Table = Table { $($name: body::$name::<false>,)* };

        passes!(@set avx2, "avx2,fma", $($name($($argument: $type),*);)*);
        passes!(@set avx512, "avx512f", $($name($($argument: $type),*);)*);

        impl Kernels {
            $($(#[$doc])* pub fn $name(&self, $($argument: $type),*) {
                // SAFETY: the table only holds kernels this processor can run; their slices are checked.
                unsafe { (self.passes.$name)($($argument),*) }
            })*
        }
    };
    (@set $set:ident, $features:literal, $($name:ident($($argument:ident: $type:ty),*);)*) => {
        #[cfg(target_arch = "x86_64")]
        pub(super) mod $set {
            use super::*;

            $(#[target_feature(enable = $features)]
            fn $name($($argument: $type),*) {
                body::$name::<true>($($argument),*);
            })*

            pub const TABLE: Table = Table { $($name,)* };
        }
    };
}

passes! {
    /// Winograd's `B^T d` of every tile of `row`, `[bins, channels]`; lanes beyond the channels get zeros.
    tiles_from_input(tiles: &TileRow, row: &[f32], planes: &mut [f32]);

    /// Winograd's `A dy` of every tile of `row`, `[bins, channels]`: the gradient of the outputs, taken back to where the
    /// products were. It counts as zero where the output `mask` is not positive; lanes beyond the channels get zeros.
    tiles_from_gradient(tiles: &TileRow, row: &[f32], mask: Option<&[f32]>, planes: &mut [f32]);

    /// Winograd's `A^T m` of every tile plus `bias`, `[panels · PANEL]`, into `row`, `[bins, channels]`.
    tiles_to_output(tiles: &TileRow, planes: &[f32], bias: &[f32], relu: bool, row: &mut [f32]);

    /// Winograd's `B m` of every tile, overlaps added, into `row`, `[bins, channels]`: the gradient of the inputs.
    tiles_to_input(tiles: &TileRow, planes: &[f32], row: &mut [f32]);

    /// See [`ChannelGradient`].
    channel_gradient(gradient: &ChannelGradient<'_>, sums: &mut [f32]);

    /// Adds `rows`, `[n, channels]`, over `n` to `sums`, `[channels]`.
    add_columns(rows: &[f32], sums: &mut [f32]);

    /// Adds `rows` and their squares over `n` to `sums`, `[2, channels]`.
    add_moments(rows: &[f32], sums: &mut [f32]);

    /// `out = x · scale + shift` per channel, then negative values become 0 if `relu`.
    normalize(x: &[f32], affine: [&[f32]; 2], relu: bool, out: &mut [f32]);

    /// With `g` the gradient `dy` where [`Self::normalize`] of `x` passed (where it was positive, if `relu`): adds
    /// `[Σ g, Σ g · (x − mean)]` per channel to `sums`, `[2, channels]`.
    add_normalize_sums(x: &[f32], dy: &[f32], affine: [&[f32]; 2], relu: bool, mean: &[f32], sums: &mut [f32]);

    /// `dy = a · g + b · x + c` per channel with `[a, b, c] = coefficients` and `g` as in [`Self::add_normalize_sums`].
    normalize_gradient(x: &[f32], affine: [&[f32]; 2], relu: bool, coefficients: [&[f32]; 3], dy: &mut [f32]);

    /// `dy = 0` where `y` is not positive: the gradient of max(x, 0).
    mask_gradient(y: &[f32], dy: &mut [f32]);

    /// Where `x` equals the maximum `y`, what `rest` still holds of its gradient moves to `dx`, which is taken for zero if
    /// it is `fresh`.
    deliver_maximum(x: &[f32], y: &[f32], rest: &mut [f32], fresh: bool, dx: &mut [f32]);

    /// `values[i] += factor · others[i]`.
    add_scaled(values: &mut [f32], factor: f32, others: &[f32]);
}

/// Every pass is generic over `FMA`, whether a fused multiply-add is fast, used or not: one macro makes them all.
#[allow(clippy::extra_unused_type_parameters, reason = "the macro passes FMA to every body")]
mod body {
    use super::*;

    /// The whole panel is a case of its own: a copy of a length that varies is a call of `memcpy`.
    #[inline(always)]
    fn load(values: &[f32], at: usize, lanes: usize) -> Lanes {
        if lanes == PANEL {
            let whole: &Lanes = values[at..at + PANEL].try_into().expect("a panel");
            return *whole;
        }
        let mut loaded = [0.0; PANEL];
        for (loaded, &value) in loaded.iter_mut().zip(&values[at..at + lanes]) {
            *loaded = value;
        }
        loaded
    }

    #[inline(always)]
    fn store(values: &mut [f32], at: usize, lanes: usize, stored: &Lanes) {
        if lanes == PANEL {
            let whole: &mut Lanes = (&mut values[at..at + PANEL]).try_into().expect("a panel");
            *whole = *stored;
            return;
        }
        for (value, &stored) in values[at..at + lanes].iter_mut().zip(stored) {
            *value = stored;
        }
    }

    #[inline(always)]
    fn add_to(values: &mut [f32], at: usize, lanes: usize, added: &Lanes) {
        let mut sum = load(values, at, lanes);
        for i in 0..PANEL {
            sum[i] += added[i];
        }
        store(values, at, lanes, &sum);
    }

    /// The first channel of each panel, and its channels.
    #[inline(always)]
    fn panels_of(channels: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..channels).step_by(PANEL).map(move |first| (first, PANEL.min(channels - first)))
    }

    #[inline(always)]
    pub fn tiles_from_input<const FMA: bool>(tiles: &TileRow, row: &[f32], planes: &mut [f32]) {
        let bins = row.len() / tiles.channels;
        for (first, lanes) in panels_of(tiles.channels) {
            for tile in 0..tiles.tiles {
                let bin = |index: usize| -> Lanes {
                    match (tile * TILE_OUT + index).checked_sub(tiles.low) {
                        Some(bin) if bin < bins => load(row, bin * tiles.channels + first, lanes),
                        _ => [0.0; PANEL],
                    }
                };
                let (d0, d1, d2, d3, d4, d5) = (bin(0), bin(1), bin(2), bin(3), bin(4), bin(5));
                let mut p = [[0.0; PANEL]; TILE_IN];
                for i in 0..PANEL {
                    let even = multiply_add::<FMA>(-4.0, d2[i], d4[i]);
                    let odd = multiply_add::<FMA>(-4.0, d1[i], d3[i]);
                    p[1][i] = even + odd;
                    p[2][i] = even - odd;
                    let even = d4[i] - d2[i];
                    let odd = 2.0 * (d3[i] - d1[i]);
                    p[3][i] = even + odd;
                    p[4][i] = even - odd;
                    p[0][i] = multiply_add::<FMA>(4.0, d0[i], multiply_add::<FMA>(-5.0, d2[i], d4[i]));
                    p[5][i] = multiply_add::<FMA>(4.0, d1[i], multiply_add::<FMA>(-5.0, d3[i], d5[i]));
                }
                let at = tile * tiles.tile_step + first;
                for (plane, p) in p.iter().enumerate() {
                    store(planes, plane * tiles.plane_step + at, PANEL, p);
                }
            }
        }
    }

    /// The gradient of one bin where `mask` is positive. A function, because a closure is not compiled for the caller's
    /// instruction set.
    #[inline(always)]
    fn passed_bin(row: &[f32], mask: Option<&[f32]>, channels: usize, bin: usize, first: usize, lanes: usize) -> Lanes {
        let at = bin * channels + first;
        if at >= row.len() {
            return [0.0; PANEL];
        }
        let dy = load(row, at, lanes);
        let Some(mask) = mask else { return dy };
        let y = load(mask, at, lanes);
        let mut passed = [0.0; PANEL];
        for i in 0..PANEL {
            passed[i] = if y[i] > 0.0 { dy[i] } else { 0.0 };
        }
        passed
    }

    #[inline(always)]
    pub fn tiles_from_gradient<const FMA: bool>(
        tiles: &TileRow,
        row: &[f32],
        mask: Option<&[f32]>,
        planes: &mut [f32],
    ) {
        for (first, lanes) in panels_of(tiles.channels) {
            for tile in 0..tiles.tiles {
                let bin = tile * TILE_OUT;
                let y0 = passed_bin(row, mask, tiles.channels, bin, first, lanes);
                let y1 = passed_bin(row, mask, tiles.channels, bin + 1, first, lanes);
                let y2 = passed_bin(row, mask, tiles.channels, bin + 2, first, lanes);
                let y3 = passed_bin(row, mask, tiles.channels, bin + 3, first, lanes);
                let mut p = [[0.0; PANEL]; TILE_IN];
                for i in 0..PANEL {
                    let (even, odd) = (y0[i] + y2[i], y1[i] + y3[i]);
                    p[0][i] = y0[i];
                    p[1][i] = even + odd;
                    p[2][i] = even - odd;
                    let even = multiply_add::<FMA>(4.0, y2[i], y0[i]);
                    let odd = multiply_add::<FMA>(8.0, y3[i], 2.0 * y1[i]);
                    p[3][i] = even + odd;
                    p[4][i] = even - odd;
                    p[5][i] = y3[i];
                }
                let at = tile * tiles.tile_step + first;
                for (plane, p) in p.iter().enumerate() {
                    store(planes, plane * tiles.plane_step + at, PANEL, p);
                }
            }
        }
    }

    #[inline(always)]
    pub fn tiles_to_output<const FMA: bool>(
        tiles: &TileRow,
        planes: &[f32],
        bias: &[f32],
        relu: bool,
        row: &mut [f32],
    ) {
        let bins = row.len() / tiles.channels;
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        for (first, lanes) in panels_of(tiles.channels) {
            let bias = load(bias, first, PANEL);
            for tile in 0..tiles.tiles {
                let at = tile * tiles.tile_step + first;
                let plane = |index: usize| load(planes, index * tiles.plane_step + at, PANEL);
                let (m0, m1, m2, m3, m4, m5) = (plane(0), plane(1), plane(2), plane(3), plane(4), plane(5));
                let mut y = [[0.0; PANEL]; TILE_OUT];
                for i in 0..PANEL {
                    let (sum12, difference12) = (m1[i] + m2[i], m1[i] - m2[i]);
                    let (sum34, difference34) = (m3[i] + m4[i], m3[i] - m4[i]);
                    y[0][i] = (m0[i] + sum12 + sum34 + bias[i]).max(floor);
                    y[1][i] = (multiply_add::<FMA>(2.0, difference34, difference12) + bias[i]).max(floor);
                    y[2][i] = (multiply_add::<FMA>(4.0, sum34, sum12) + bias[i]).max(floor);
                    y[3][i] = (multiply_add::<FMA>(8.0, difference34, difference12) + m5[i] + bias[i]).max(floor);
                }
                for (bin, y) in (tile * TILE_OUT..bins).zip(&y) {
                    store(row, bin * tiles.channels + first, lanes, y);
                }
            }
        }
    }

    #[inline(always)]
    pub fn tiles_to_input<const FMA: bool>(tiles: &TileRow, planes: &[f32], row: &mut [f32]) {
        let bins = row.len() / tiles.channels;
        for (first, lanes) in panels_of(tiles.channels) {
            let mut put = |bin: usize, d: &Lanes| match bin.checked_sub(tiles.low) {
                Some(bin) if bin < bins => store(row, bin * tiles.channels + first, lanes, d),
                _ => {}
            };
            // What the tile before adds to the first two bins of this one.
            let (mut carry0, mut carry1) = ([0.0; PANEL], [0.0; PANEL]);
            for tile in 0..tiles.tiles {
                let at = tile * tiles.tile_step + first;
                let plane = |index: usize| load(planes, index * tiles.plane_step + at, PANEL);
                let (m0, m1, m2, m3, m4, m5) = (plane(0), plane(1), plane(2), plane(3), plane(4), plane(5));
                let mut d = [[0.0; PANEL]; TILE_OUT];
                for i in 0..PANEL {
                    let (sum12, difference12) = (m1[i] + m2[i], m1[i] - m2[i]);
                    let (sum34, difference34) = (m3[i] + m4[i], m3[i] - m4[i]);
                    d[0][i] = multiply_add::<FMA>(4.0, m0[i], carry0[i]);
                    let odd = multiply_add::<FMA>(4.0, m5[i] - difference12, carry1[i]);
                    d[1][i] = multiply_add::<FMA>(-2.0, difference34, odd);
                    d[2][i] = multiply_add::<FMA>(-5.0, m0[i], multiply_add::<FMA>(-4.0, sum12, -sum34));
                    d[3][i] = multiply_add::<FMA>(2.0, difference34, multiply_add::<FMA>(-5.0, m5[i], difference12));
                    carry0[i] = m0[i] + sum12 + sum34;
                    carry1[i] = m5[i];
                }
                for (index, d) in d.iter().enumerate() {
                    put(tile * TILE_OUT + index, d);
                }
            }
            put(tiles.tiles * TILE_OUT, &carry0);
            put(tiles.tiles * TILE_OUT + 1, &carry1);
            for bin in (tiles.tiles * TILE_OUT + 2).saturating_sub(tiles.low)..bins {
                store(row, bin * tiles.channels + first, lanes, &[0.0; PANEL]);
            }
        }
    }

    #[inline(always)]
    pub fn channel_gradient<const FMA: bool>(gradient: &ChannelGradient<'_>, sums: &mut [f32]) {
        /// Taps whose sums stay in registers.
        const TAPS: usize = 4;
        let ChannelGradient { input, offsets, step, dy, dy_step, positions, channels } = *gradient;
        for (first, lanes) in panels_of(channels) {
            for (group, offsets) in offsets.chunks(TAPS).enumerate() {
                let mut all = [[0.0; PANEL]; TAPS];
                if let (&[t0, t1, t2, t3], PANEL) = (offsets, lanes) {
                    let [mut s0, mut s1, mut s2, mut s3] = all;
                    for m in 0..positions {
                        let g = load(dy, m * dy_step + first, PANEL);
                        let x = |tap: usize| load(input, tap + m * step + first, PANEL);
                        let (x0, x1, x2, x3) = (x(t0), x(t1), x(t2), x(t3));
                        for i in 0..PANEL {
                            s0[i] = multiply_add::<FMA>(x0[i], g[i], s0[i]);
                            s1[i] = multiply_add::<FMA>(x1[i], g[i], s1[i]);
                            s2[i] = multiply_add::<FMA>(x2[i], g[i], s2[i]);
                            s3[i] = multiply_add::<FMA>(x3[i], g[i], s3[i]);
                        }
                    }
                    all = [s0, s1, s2, s3];
                } else {
                    for (offset, sum) in offsets.iter().zip(&mut all) {
                        for m in 0..positions {
                            let g = load(dy, m * dy_step + first, lanes);
                            let x = load(input, offset + m * step + first, lanes);
                            for i in 0..PANEL {
                                sum[i] = multiply_add::<FMA>(x[i], g[i], sum[i]);
                            }
                        }
                    }
                }
                for (tap, sum) in (group * TAPS..).zip(&all[..offsets.len()]) {
                    add_to(sums, tap * channels + first, lanes, sum);
                }
            }
        }
    }

    #[inline(always)]
    pub fn add_columns<const FMA: bool>(rows: &[f32], sums: &mut [f32]) {
        let channels = sums.len();
        for (first, lanes) in panels_of(channels) {
            let mut sum = [0.0; PANEL];
            for row in rows.chunks_exact(channels) {
                let x = load(row, first, lanes);
                for i in 0..PANEL {
                    sum[i] += x[i];
                }
            }
            add_to(sums, first, lanes, &sum);
        }
    }

    #[inline(always)]
    pub fn add_moments<const FMA: bool>(rows: &[f32], sums: &mut [f32]) {
        let channels = sums.len() / 2;
        for (first, lanes) in panels_of(channels) {
            let (mut sum, mut squares) = ([0.0; PANEL], [0.0; PANEL]);
            for row in rows.chunks_exact(channels) {
                let x = load(row, first, lanes);
                for i in 0..PANEL {
                    sum[i] += x[i];
                    squares[i] = multiply_add::<FMA>(x[i], x[i], squares[i]);
                }
            }
            add_to(sums, first, lanes, &sum);
            add_to(sums, channels + first, lanes, &squares);
        }
    }

    #[inline(always)]
    pub fn normalize<const FMA: bool>(x: &[f32], affine: [&[f32]; 2], relu: bool, out: &mut [f32]) {
        let channels = affine[0].len();
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        for (first, lanes) in panels_of(channels) {
            let [scale, shift] = affine.map(|values| load(values, first, lanes));
            for (x, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
                let mut y = load(x, first, lanes);
                for i in 0..PANEL {
                    y[i] = multiply_add::<FMA>(y[i], scale[i], shift[i]).max(floor);
                }
                store(out, first, lanes, &y);
            }
        }
    }

    /// `dy` where the normalised value passed.
    #[inline(always)]
    fn passed<const FMA: bool>(x: f32, dy: f32, scale: f32, shift: f32, floor: f32) -> f32 {
        if multiply_add::<FMA>(x, scale, shift) > floor { dy } else { 0.0 }
    }

    #[inline(always)]
    pub fn add_normalize_sums<const FMA: bool>(
        x: &[f32],
        dy: &[f32],
        affine: [&[f32]; 2],
        relu: bool,
        mean: &[f32],
        sums: &mut [f32],
    ) {
        let channels = mean.len();
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        for (first, lanes) in panels_of(channels) {
            let [scale, shift] = affine.map(|values| load(values, first, lanes));
            let mean = load(mean, first, lanes);
            let (mut sum, mut products) = ([0.0; PANEL], [0.0; PANEL]);
            for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact(channels)) {
                let (x, dy) = (load(x, first, lanes), load(dy, first, lanes));
                for i in 0..PANEL {
                    let g = passed::<FMA>(x[i], dy[i], scale[i], shift[i], floor);
                    sum[i] += g;
                    products[i] = multiply_add::<FMA>(g, x[i] - mean[i], products[i]);
                }
            }
            add_to(sums, first, lanes, &sum);
            add_to(sums, channels + first, lanes, &products);
        }
    }

    #[inline(always)]
    pub fn normalize_gradient<const FMA: bool>(
        x: &[f32],
        affine: [&[f32]; 2],
        relu: bool,
        coefficients: [&[f32]; 3],
        dy: &mut [f32],
    ) {
        let channels = affine[0].len();
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        for (first, lanes) in panels_of(channels) {
            let [scale, shift] = affine.map(|values| load(values, first, lanes));
            let [a, b, c] = coefficients.map(|values| load(values, first, lanes));
            for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact_mut(channels)) {
                let (x, mut g) = (load(x, first, lanes), load(dy, first, lanes));
                for i in 0..PANEL {
                    let passed = passed::<FMA>(x[i], g[i], scale[i], shift[i], floor);
                    g[i] = multiply_add::<FMA>(a[i], passed, multiply_add::<FMA>(b[i], x[i], c[i]));
                }
                store(dy, first, lanes, &g);
            }
        }
    }

    #[inline(always)]
    pub fn mask_gradient<const FMA: bool>(y: &[f32], dy: &mut [f32]) {
        for (dy, &y) in dy.iter_mut().zip(y) {
            *dy = if y > 0.0 { *dy } else { 0.0 };
        }
    }

    #[inline(always)]
    pub fn deliver_maximum<const FMA: bool>(x: &[f32], y: &[f32], rest: &mut [f32], fresh: bool, dx: &mut [f32]) {
        for (((&x, &y), rest), dx) in x.iter().zip(y).zip(rest).zip(dx) {
            let before = if fresh { 0.0 } else { *dx };
            let hit = x == y;
            *dx = before + if hit { *rest } else { 0.0 };
            *rest = if hit { 0.0 } else { *rest };
        }
    }

    #[inline(always)]
    pub fn add_scaled<const FMA: bool>(values: &mut [f32], factor: f32, others: &[f32]) {
        for (value, &other) in values.iter_mut().zip(others) {
            *value = multiply_add::<FMA>(factor, other, *value);
        }
    }
}
