//! AVX-512F: 32 registers of 16 floats.

use std::arch::x86_64::*;

use half::f16;

use super::winograd::{FILTER_SCALE, Form, TAPS, TILE_IN};
use super::{
    Depthwise, MaxPool, PANEL, Planes, PlanesMut, TapGradient, TapProduct, TapWeights, TileProduct, panels, scalar,
};

/// Values of depth whose weights, for one pass, stay in the first-level cache while all positions go by.
const DEPTH_CHUNK: usize = 128;

/// How far ahead the first pass over some weights fetches them, in steps of depth. Weights are most of the memory traffic, and
/// with few positions a call they come from the third-level cache: fetching ahead about doubles the speed there.
const PREFETCH: usize = 24;

/// A part of a product's sum: some taps, or some of the depth of one tap.
#[derive(Clone, Copy)]
struct Chunk {
    taps: (usize, usize),
    depth: (usize, usize),
    /// The part that starts from the bias instead of from what earlier parts stored.
    first: bool,
    last: bool,
    /// How far behind the start of a panel's weights what comes after this part begins.
    next: usize,
}

/// # Safety
/// AVX-512F is there, and every access that [`TapProduct`] describes lies within its slices and `out`.
#[target_feature(enable = "avx512f")]
pub unsafe fn tap_product(product: &TapProduct<'_>, out: *mut f32) {
    let all = panels(product.channels);
    let mut panel = 0;
    while panel < all {
        // Sums, weights and one input share 32 registers.
        let (width, most) = match (all - panel, product.weights) {
            (1, TapWeights::Floats(_)) => (1, 14),
            (2, TapWeights::Floats(_)) => (2, 14),
            (3, TapWeights::Floats(_)) => (3, 9),
            (1..4, TapWeights::Halves { .. }) => (1, 6),
            _ => (4, 6),
        };
        let passes = product.positions.div_ceil(most);
        let taps = product.offsets.len();
        let panel_len = taps * product.depth * PANEL;
        let (taps_step, depth_step) = match passes {
            1 => (taps, product.depth),
            _ => ((DEPTH_CHUNK / product.depth).max(1), product.depth.min(DEPTH_CHUNK)),
        };
        for tap in (0..taps).step_by(taps_step) {
            for k in (0..product.depth).step_by(depth_step) {
                let taps_end = (tap + taps_step).min(taps);
                let depth_end = (k + depth_step).min(product.depth);
                let last = taps_end == taps && depth_end == product.depth;
                let next = match (last, depth_end == product.depth) {
                    (true, _) => width * panel_len,
                    (false, true) => taps_end * product.depth * PANEL,
                    (false, false) => (tap * product.depth + depth_end) * PANEL,
                };
                let (taps, depth) = ((tap, taps_end), (k, depth_end));
                let chunk = Chunk { taps, depth, first: tap == 0 && k == 0, last, next };
                let mut position = 0;
                for pass in 0..passes {
                    let count = (product.positions - position).div_ceil(passes - pass);
                    // SAFETY: positions, panels and chunk stay within what `product` describes.
                    unsafe { pass_of(product, out, chunk, (panel, width), (position, count, pass)) };
                    position += count;
                }
            }
        }
        panel += width;
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn pass_of(
    product: &TapProduct<'_>,
    out: *mut f32,
    chunk: Chunk,
    (panel, width): (usize, usize),
    (position, count, pass): (usize, usize, usize),
) {
    macro_rules! choose {
        ($weights:expr, $width:literal: $($count:literal)*) => {
            match count {
                // SAFETY: as the caller promises.
                $($count => unsafe { micro::<$count, $width, _>(product, $weights, out, chunk, panel, (position, pass)) },)*
                _ => unreachable!("more positions than registers"),
            }
        };
    }
    match (width, product.weights) {
        (4, TapWeights::Floats(values)) => choose!((values, None), 4: 1 2 3 4 5 6),
        (3, TapWeights::Floats(values)) => choose!((values, None), 3: 1 2 3 4 5 6 7 8 9),
        (2, TapWeights::Floats(values)) => choose!((values, None), 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        (_, TapWeights::Floats(values)) => choose!((values, None), 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        (4, TapWeights::Halves { values, scale }) => choose!((values, Some(scale)), 4: 1 2 3 4 5 6),
        (_, TapWeights::Halves { values, scale }) => choose!((values, Some(scale)), 1: 1 2 3 4 5 6),
    }
}

/// What a weight is stored as.
trait Weight {
    /// # Safety
    /// AVX-512F is there, and [`PANEL`] weights can be read.
    unsafe fn load(weights: *const Self) -> __m512;
}

impl Weight for f32 {
    #[inline(always)]
    unsafe fn load(weights: *const Self) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe { _mm512_loadu_ps(weights) }
    }
}

impl Weight for f16 {
    #[inline(always)]
    unsafe fn load(weights: *const Self) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(weights.cast())) }
    }
}

/// `M` positions × `N` panels.
#[target_feature(enable = "avx512f")]
unsafe fn micro<const M: usize, const N: usize, W: Weight>(
    product: &TapProduct<'_>,
    (weights, scale): (&[W], Option<&[f32]>),
    out: *mut f32,
    chunk: Chunk,
    panel: usize,
    (position, pass): (usize, usize),
) {
    // SAFETY: every pointer below stays within the slices of `product` and `out`, as the caller promises.
    unsafe {
        let zero = _mm512_setzero_ps();
        let mut sums = [[zero; N]; M];
        let out = out.add(position * product.out_step + panel * PANEL);
        let mask = |n: usize| {
            let lanes = (product.channels - (panel + n) * PANEL).min(PANEL);
            ((1u32 << lanes) - 1) as __mmask16
        };
        if !chunk.first {
            for n in 0..N {
                for (m, row) in sums.iter_mut().enumerate() {
                    row[n] = _mm512_maskz_loadu_ps(mask(n), out.add(m * product.out_step + n * PANEL));
                }
            }
        } else if let (Some(bias), None) = (product.bias, scale) {
            for n in 0..N {
                let bias = _mm512_loadu_ps(bias.as_ptr().add((panel + n) * PANEL));
                for row in &mut sums {
                    row[n] = bias;
                }
            }
        }
        let step = product.step;
        let (first, last) = chunk.depth;
        let panel_len = product.offsets.len() * product.depth * PANEL;
        let panel_weights = weights.as_ptr().add(panel * panel_len);
        // The first pass fetches its weights a little ahead. The others find them in the first-level cache, and each of them
        // fetches a panel of what comes after this part.
        let mut later = panel_weights.wrapping_add(chunk.next + pass.saturating_sub(1) * panel_len);
        let fetches_later = (1..=N).contains(&pass);
        for tap in chunk.taps.0..chunk.taps.1 {
            let offset = *product.offsets.get_unchecked(tap);
            let mut input = product.input.as_ptr().add(offset + position * step + first);
            let mut weights = panel_weights.add((tap * product.depth + first) * PANEL);
            for _ in first..last {
                let mut w = [zero; N];
                for (n, w) in w.iter_mut().enumerate() {
                    let weights = weights.add(n * panel_len);
                    *w = W::load(weights);
                    if pass == 0 {
                        _mm_prefetch::<_MM_HINT_T0>(weights.cast::<f32>().wrapping_add(PREFETCH * PANEL).cast());
                    }
                }
                if fetches_later {
                    _mm_prefetch::<_MM_HINT_T1>(later.cast());
                    later = later.wrapping_add(PANEL);
                }
                for (m, row) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*input.add(m * step));
                    for (sum, w) in row.iter_mut().zip(w) {
                        *sum = _mm512_fmadd_ps(x, w, *sum);
                    }
                }
                weights = weights.add(PANEL);
                input = input.add(1);
            }
        }
        let relu = product.relu && chunk.last;
        for n in 0..N {
            let lanes_of = |values: &[f32]| _mm512_loadu_ps(values.as_ptr().add((panel + n) * PANEL));
            let scale = scale.filter(|_| chunk.last).map(lanes_of);
            let bias = product.bias.map_or(zero, lanes_of);
            for (m, row) in sums.iter().enumerate() {
                let sum = scale.map_or(row[n], |scale| _mm512_fmadd_ps(scale, row[n], bias));
                let sum = if relu { _mm512_max_ps(sum, zero) } else { sum };
                _mm512_mask_storeu_ps(out.add(m * product.out_step + n * PANEL), mask(n), sum);
            }
        }
    }
}

/// The most positions of a [`TileProduct`] whose sums in half of the planes fit 32 registers. Up to half as many fit in all.
pub const TILE_POSITIONS: usize = 8;

/// How far ahead filters are fetched that are transformed on their way, in steps of depth.
const TILE_PREFETCH: usize = 32;

/// # Safety
/// AVX-512F is there, and every access that [`TileProduct`] describes lies within its slices and the planes of `out`.
#[target_feature(enable = "avx512f")]
pub unsafe fn tile_product(product: &TileProduct<'_>, out: &[*mut f32; TILE_IN]) {
    // SAFETY: as the caller promises.
    unsafe {
        match product.weights {
            TapWeights::Floats(values) => tile_panels(product, (values, None), out),
            TapWeights::Halves { values, scale } => tile_panels(product, (values, Some(scale)), out),
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn tile_panels<W: Weight>(
    product: &TileProduct<'_>,
    weights: (&[W], Option<&[f32]>),
    out: &[*mut f32; TILE_IN],
) {
    const HALF: usize = TILE_IN / 2;
    let passes = product.positions.div_ceil(TILE_POSITIONS);
    for panel in 0..panels(product.channels) {
        let mut position = 0;
        for pass in 0..passes {
            let count = (product.positions - position).div_ceil(passes - pass);
            let at = (panel, position);
            macro_rules! choose {
                (whole: $($whole:literal)*, halves: $($halves:literal)*) => {
                    match count {
                        // SAFETY: positions and panels stay within what `product` describes.
                        $($whole => unsafe { tile_micro::<$whole, 0, TILE_IN, W>(product, weights, out, at) },)*
                        $($halves => unsafe {
                            tile_micro::<$halves, 0, HALF, W>(product, weights, out, at);
                            tile_micro::<$halves, HALF, HALF, W>(product, weights, out, at);
                        },)*
                        _ => unreachable!("more positions than registers"),
                    }
                };
            }
            choose!(whole: 1 2 3 4, halves: 5 6 7 8);
            position += count;
        }
    }
}

/// `M` positions of the `N` planes from plane `I` on × 1 panel.
#[target_feature(enable = "avx512f")]
unsafe fn tile_micro<const M: usize, const I: usize, const N: usize, W: Weight>(
    product: &TileProduct<'_>,
    (weights, scale): (&[W], Option<&[f32]>),
    out: &[*mut f32; TILE_IN],
    (panel, position): (usize, usize),
) {
    // SAFETY: every pointer below stays within the slices of `product` and `out`, as the caller promises.
    unsafe {
        let TileProduct { planes, groups, positions, depth, channels, .. } = *product;
        let tap_len = depth * PANEL;
        let [two, four] = [2.0, 4.0].map(|factor| _mm512_set1_ps(factor));
        let mut sums = [[_mm512_setzero_ps(); M]; N];
        for group in 0..groups {
            let filters = weights.as_ptr().add((panel * groups + group) * TAPS * tap_len);
            let inputs: [*const f32; N] =
                std::array::from_fn(|i| planes[I + i].as_ptr().add((group * positions + position) * depth));
            for k in 0..depth {
                let taps: [*const W; TAPS] = std::array::from_fn(|tap| filters.add(tap * tap_len + k * PANEL));
                // Behind the last of these come the next three taps.
                let skipped = if k + TILE_PREFETCH < depth { 0 } else { (TAPS - 1) * tap_len };
                for tap in taps {
                    _mm_prefetch::<_MM_HINT_T0>(tap.wrapping_add(skipped + TILE_PREFETCH * PANEL).cast());
                }
                let [a, b, c] = taps.map(|tap| W::load(tap));
                let (near, far) = (_mm512_add_ps(a, c), _mm512_fmadd_ps(four, c, a));
                let filters = [
                    a,
                    _mm512_add_ps(near, b),
                    _mm512_sub_ps(near, b),
                    _mm512_fmadd_ps(two, b, far),
                    _mm512_fnmadd_ps(two, b, far),
                    c,
                ];
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (m, sum) in sums.iter_mut().enumerate() {
                        let x = _mm512_set1_ps(*inputs[i].add(m * depth + k));
                        *sum = _mm512_fmadd_ps(x, filters[I + i], *sum);
                    }
                }
            }
        }
        let lanes = (channels - panel * PANEL).min(PANEL);
        let mask = ((1u32 << lanes) - 1) as __mmask16;
        let scale = scale.map(|scale| _mm512_loadu_ps(scale.as_ptr().add(panel * PANEL)));
        for (i, sums) in sums.into_iter().enumerate() {
            let common = _mm512_set1_ps(FILTER_SCALE[I + i]);
            let scale = scale.map_or(common, |scale| _mm512_mul_ps(common, scale));
            for (m, sum) in sums.into_iter().enumerate() {
                let out = out[I + i].add((position + m) * channels + panel * PANEL);
                _mm512_mask_storeu_ps(out, mask, _mm512_mul_ps(scale, sum));
            }
        }
    }
}

/// Positions whose gradients and inputs stay in the first-level cache while the depth goes by.
const POSITION_CHUNK: usize = 128;

/// # Safety
/// AVX-512F is there, and every access that [`TapGradient`] describes lies within its slices and `sums`.
#[target_feature(enable = "avx512f")]
pub unsafe fn tap_gradient(gradient: &TapGradient<'_>, sums: *mut f32) {
    for first in (0..gradient.positions).step_by(POSITION_CHUNK) {
        let positions = (first, POSITION_CHUNK.min(gradient.positions - first));
        let mut panel = 0;
        while panel < gradient.panels {
            // Sums, gradients and one input share 32 registers.
            let (width, most) = match gradient.panels - panel {
                1 => (1, 8),
                2 | 3 => (2, 8),
                _ => (4, 6),
            };
            let passes = gradient.depth.div_ceil(most);
            for tap in 0..gradient.offsets.len() {
                let mut k = 0;
                for pass in 0..passes {
                    let count = (gradient.depth - k).div_ceil(passes - pass);
                    // SAFETY: positions, panels, tap and depth stay within what `gradient` describes.
                    unsafe { depths_of(gradient, sums, positions, (panel, width), (tap, k, count)) };
                    k += count;
                }
            }
            panel += width;
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn depths_of(
    gradient: &TapGradient<'_>,
    sums: *mut f32,
    positions: (usize, usize),
    (panel, width): (usize, usize),
    (tap, k, count): (usize, usize, usize),
) {
    macro_rules! choose {
        ($width:literal: $($count:literal)*) => {
            match count {
                // SAFETY: as the caller promises.
                $($count => unsafe { depths::<$count, $width>(gradient, sums, positions, panel, (tap, k)) },)*
                _ => unreachable!("more depth than registers"),
            }
        };
    }
    match width {
        4 => choose!(4: 1 2 3 4 5 6),
        2 => choose!(2: 1 2 3 4 5 6 7 8),
        _ => choose!(1: 1 2 3 4 5 6 7 8),
    }
}

/// `R` values of depth × `N` panels over a chunk of positions.
#[target_feature(enable = "avx512f")]
unsafe fn depths<const R: usize, const N: usize>(
    gradient: &TapGradient<'_>,
    sums: *mut f32,
    (first, positions): (usize, usize),
    panel: usize,
    (tap, k): (usize, usize),
) {
    // SAFETY: every pointer below stays within the slices of `gradient` and `sums`, as the caller promises.
    unsafe {
        let panel_len = gradient.offsets.len() * gradient.depth * PANEL;
        let sums = sums.add(panel * panel_len + (tap * gradient.depth + k) * PANEL);
        let mut rows = [[_mm512_setzero_ps(); N]; R];
        for (r, row) in rows.iter_mut().enumerate() {
            for (n, sum) in row.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(sums.add(n * panel_len + r * PANEL));
            }
        }
        let mut input = gradient.input.as_ptr().add(gradient.offsets[tap] + first * gradient.step + k);
        let mut dy = gradient.dy.as_ptr().add(panel * PANEL + first * gradient.dy_step);
        for _ in 0..positions {
            let mut g = [_mm512_setzero_ps(); N];
            for (n, g) in g.iter_mut().enumerate() {
                *g = _mm512_loadu_ps(dy.add(n * PANEL));
            }
            for (r, row) in rows.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*input.add(r));
                for (sum, g) in row.iter_mut().zip(g) {
                    *sum = _mm512_fmadd_ps(x, g, *sum);
                }
            }
            input = input.wrapping_add(gradient.step);
            dy = dy.wrapping_add(gradient.dy_step);
        }
        for (r, row) in rows.iter().enumerate() {
            for (n, sum) in row.iter().enumerate() {
                _mm512_storeu_ps(sums.add(n * panel_len + r * PANEL), *sum);
            }
        }
    }
}

super::compile_again!("avx512f");

/// Calls `work(first, mask)` for every 16 of so many channels. The transforms are written by hand because between slices the
/// compiler cannot rule out overlaps; with the few channels of a tile its checks would cost more than the work.
#[inline(always)]
fn for_lanes(channels: usize, mut work: impl FnMut(usize, __mmask16)) {
    for first in (0..channels).step_by(PANEL) {
        work(first, ((1_u32 << (channels - first).min(PANEL)) - 1) as __mmask16);
    }
}

#[target_feature(enable = "avx512f")]
pub fn winograd_input(tiles: &[f32], (channels, step): (usize, usize), planes: &mut PlanesMut<'_>) {
    let count = planes[0].len() / channels;
    assert!(count == 0 || tiles.len() >= ((count - 1) * step + TILE_IN) * channels);
    assert!(planes.iter().all(|plane| plane.len() == count * channels));
    let planes = planes.each_mut().map(|plane| plane.as_mut_ptr());
    let [four, five] = [4.0, 5.0].map(|factor| _mm512_set1_ps(factor));
    for tile in 0..count {
        for_lanes(channels, |first, mask| {
            // SAFETY: the masked lanes of every bin and plane lie within their slices, as asserted.
            unsafe {
                let bins = tiles.as_ptr().add(tile * step * channels + first);
                let d = |j: usize| _mm512_maskz_loadu_ps(mask, bins.add(j * channels));
                let at = tile * channels + first;
                let store = |i: usize, value: __m512| _mm512_mask_storeu_ps(planes[i].add(at), mask, value);
                let [d0, d1, d2, d3, d4, d5] = [d(0), d(1), d(2), d(3), d(4), d(5)];
                let (even, odd) = (_mm512_fnmadd_ps(four, d2, d4), _mm512_fnmadd_ps(four, d1, d3));
                store(1, _mm512_add_ps(even, odd));
                store(2, _mm512_sub_ps(even, odd));
                let (even, half_odd) = (_mm512_sub_ps(d4, d2), _mm512_sub_ps(d3, d1));
                let odd = _mm512_add_ps(half_odd, half_odd);
                store(3, _mm512_add_ps(even, odd));
                store(4, _mm512_sub_ps(even, odd));
                store(0, _mm512_fmadd_ps(four, d0, _mm512_fnmadd_ps(five, d2, d4)));
                store(5, _mm512_fmadd_ps(four, d1, _mm512_fnmadd_ps(five, d3, d5)));
            }
        });
    }
}

#[target_feature(enable = "avx512f")]
pub fn winograd_output(form: Form, planes: &Planes<'_>, bias: &[f32], relu: bool, out: &mut [f32]) {
    let channels = bias.len();
    let (bins, outputs) = (out.len() / channels, form.outputs());
    let tiles = bins.div_ceil(outputs);
    assert!(planes.iter().all(|plane| plane.len() >= tiles * channels));
    let out = out.as_mut_ptr();
    let [zero, two, four, eight] = [0.0, 2.0, 4.0, 8.0].map(|factor| _mm512_set1_ps(factor));
    for tile in 0..tiles {
        for_lanes(channels, |first, mask| {
            // SAFETY: the masked lanes of every plane, of the bias and of all `bins` lie within their slices, as asserted.
            unsafe {
                let load = |values: &[f32]| _mm512_maskz_loadu_ps(mask, values.as_ptr().add(tile * channels + first));
                let bias = _mm512_maskz_loadu_ps(mask, bias.as_ptr().add(first));
                let store = |bin: usize, value: __m512| {
                    let value = _mm512_add_ps(value, bias);
                    let value = if relu { _mm512_max_ps(value, zero) } else { value };
                    _mm512_mask_storeu_ps(out.add((tile * outputs + bin) * channels + first), mask, value);
                };
                let [m0, m1, m2, m3, m4, m5] = planes.map(load);
                let (sum12, difference12) = (_mm512_add_ps(m1, m2), _mm512_sub_ps(m1, m2));
                let (sum34, difference34) = (_mm512_add_ps(m3, m4), _mm512_sub_ps(m3, m4));
                let rest = bins - tile * outputs;
                store(0, _mm512_add_ps(_mm512_add_ps(m0, sum12), sum34));
                let second = _mm512_fmadd_ps(two, difference34, difference12);
                if rest > 1 {
                    store(1, if form == Form::Pair { _mm512_add_ps(second, m5) } else { second });
                }
                if form == Form::Four && rest > 2 {
                    store(2, _mm512_fmadd_ps(four, sum34, sum12));
                }
                if form == Form::Four && rest > 3 {
                    store(3, _mm512_add_ps(_mm512_fmadd_ps(eight, difference34, difference12), m5));
                }
            }
        });
    }
}

#[target_feature(enable = "avx512f")]
pub fn max_pool(pool: &MaxPool<'_>, out: &mut [f32]) {
    pool.check(out.len());
    let MaxPool { input, row, rows, channels, step, taps } = *pool;
    for (bin, out) in out.chunks_exact_mut(channels).enumerate() {
        for_lanes(channels, |first, mask| {
            // SAFETY: the masked lanes of every bin under a window lie within the input, as checked, and within `out`.
            unsafe {
                let input = input.as_ptr().add(bin * step * channels + first);
                let load =
                    |index: usize| _mm512_maskz_loadu_ps(mask, input.add(index / taps * row + index % taps * channels));
                let greatest = (1..rows * taps).fold(load(0), |value, index| _mm512_max_ps(load(index), value));
                _mm512_mask_storeu_ps(out.as_mut_ptr().add(first), mask, greatest);
            }
        });
    }
}
