//! AVX2 with FMA: 16 registers of 8 floats.

use std::arch::x86_64::*;

use half::f16;

use super::winograd::Form;
use super::{Depthwise, MaxPool, PANEL, Planes, PlanesMut, TapGradient, TapProduct, TapWeights, panels, scalar};

/// Positions in one pass: 6 × 2 sums, 2 weights and 1 input fill 15 registers.
const MOST_POSITIONS: usize = 6;

/// # Safety
/// AVX2, FMA and F16C are there, and every access that [`TapProduct`] describes lies within its slices and `out`.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn tap_product(product: &TapProduct<'_>, out: *mut f32) {
    let passes = product.positions.div_ceil(MOST_POSITIONS);
    for panel in 0..panels(product.channels) {
        let mut position = 0;
        for pass in 0..passes {
            let count = (product.positions - position).div_ceil(passes - pass);
            macro_rules! choose {
                ($($count:literal)*) => {
                    match count {
                        // SAFETY: positions and panels stay within what `product` describes.
                        $($count => unsafe {
                            match product.weights {
                                TapWeights::Floats(values) => micro::<$count, _>(product, (values, None), out, panel, position),
                                TapWeights::Halves { values, scale } => {
                                    micro::<$count, _>(product, (values, Some(scale)), out, panel, position);
                                }
                            }
                        },)*
                        _ => unreachable!("more positions than registers"),
                    }
                };
            }
            choose!(1 2 3 4 5 6);
            position += count;
        }
    }
}

const LANES: usize = 8;

/// How far ahead the first pass over some weights fetches them, in steps of depth: with few positions they come from the
/// third-level cache or from memory. Where a pass is one position, the processor's own fetching keeps up.
const PREFETCH: usize = 48;

/// What a weight is stored as.
trait Weight {
    /// # Safety
    /// AVX and F16C are there, and [`LANES`] weights can be read.
    unsafe fn load(weights: *const Self) -> __m256;
}

impl Weight for f32 {
    #[inline(always)]
    unsafe fn load(weights: *const Self) -> __m256 {
        // SAFETY: as the caller promises.
        unsafe { _mm256_loadu_ps(weights) }
    }
}

impl Weight for f16 {
    #[inline(always)]
    unsafe fn load(weights: *const Self) -> __m256 {
        // SAFETY: as the caller promises.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(weights.cast())) }
    }
}

/// `M` positions × 1 panel.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn micro<const M: usize, W: Weight>(
    product: &TapProduct<'_>,
    (weights, scale): (&[W], Option<&[f32]>),
    out: *mut f32,
    panel: usize,
    position: usize,
) {
    // SAFETY: every pointer below stays within the slices of `product` and `out`, as the caller promises.
    unsafe {
        let lanes_of = |values: &[f32]| {
            let values = values.as_ptr().add(panel * PANEL);
            [_mm256_loadu_ps(values), _mm256_loadu_ps(values.add(LANES))]
        };
        let bias = product.bias.map_or([_mm256_setzero_ps(); 2], lanes_of);
        let scale = scale.map(lanes_of);
        let mut sums = [if scale.is_none() { bias } else { [_mm256_setzero_ps(); 2] }; M];
        let step = product.step;
        let mut weights = weights.as_ptr().add(panel * product.offsets.len() * product.depth * PANEL);
        for &offset in product.offsets {
            let mut input = product.input.as_ptr().add(offset + position * step);
            for _ in 0..product.depth {
                let w = [W::load(weights), W::load(weights.add(LANES))];
                if position == 0 && M > 1 {
                    _mm_prefetch::<_MM_HINT_T0>(weights.cast::<f32>().wrapping_add(PREFETCH * PANEL).cast());
                }
                for (m, row) in sums.iter_mut().enumerate() {
                    let x = _mm256_broadcast_ss(&*input.add(m * step));
                    for (sum, w) in row.iter_mut().zip(w) {
                        *sum = _mm256_fmadd_ps(x, w, *sum);
                    }
                }
                weights = weights.add(PANEL);
                input = input.add(1);
            }
        }
        let lanes = (product.channels - panel * PANEL).min(PANEL);
        for (m, row) in sums.iter_mut().enumerate() {
            if let Some(scale) = scale {
                *row = std::array::from_fn(|half| _mm256_fmadd_ps(scale[half], row[half], bias[half]));
            }
            if product.relu {
                *row = row.map(|sum| _mm256_max_ps(sum, _mm256_setzero_ps()));
            }
            let out = out.add((position + m) * product.out_step + panel * PANEL);
            if lanes == PANEL {
                _mm256_storeu_ps(out, row[0]);
                _mm256_storeu_ps(out.add(LANES), row[1]);
            } else {
                let mut whole = [0.0; PANEL];
                _mm256_storeu_ps(whole.as_mut_ptr(), row[0]);
                _mm256_storeu_ps(whole.as_mut_ptr().add(LANES), row[1]);
                std::ptr::copy_nonoverlapping(whole.as_ptr(), out, lanes);
            }
        }
    }
}

/// Values of depth in one pass: 6 × 2 sums, 2 gradients and 1 input fill 15 registers.
const MOST_DEPTH: usize = 6;

/// Positions whose gradients and inputs stay in the first-level cache while the depth goes by.
const POSITION_CHUNK: usize = 128;

/// # Safety
/// AVX2 and FMA are there, and every access that [`TapGradient`] describes lies within its slices and `sums`.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn tap_gradient(gradient: &TapGradient<'_>, sums: *mut f32) {
    let taps = gradient.offsets.len();
    let passes = gradient.depth.div_ceil(MOST_DEPTH);
    for first in (0..gradient.positions).step_by(POSITION_CHUNK) {
        let positions = (first, POSITION_CHUNK.min(gradient.positions - first));
        for panel in 0..gradient.panels {
            for tap in 0..taps {
                let mut k = 0;
                for pass in 0..passes {
                    let count = (gradient.depth - k).div_ceil(passes - pass);
                    macro_rules! choose {
                        ($($count:literal)*) => {
                            match count {
                                // SAFETY: positions, panel, tap and depth stay within what `gradient` describes.
                                $($count => unsafe { depths::<$count>(gradient, sums, positions, panel, (tap, k)) },)*
                                _ => unreachable!("more depth than registers"),
                            }
                        };
                    }
                    choose!(1 2 3 4 5 6);
                    k += count;
                }
            }
        }
    }
}

/// `R` values of depth × 1 panel over a chunk of positions.
#[target_feature(enable = "avx2,fma")]
unsafe fn depths<const R: usize>(
    gradient: &TapGradient<'_>,
    sums: *mut f32,
    (first, positions): (usize, usize),
    panel: usize,
    (tap, k): (usize, usize),
) {
    // SAFETY: every pointer below stays within the slices of `gradient` and `sums`, as the caller promises.
    unsafe {
        let sums = sums.add(((panel * gradient.offsets.len() + tap) * gradient.depth + k) * PANEL);
        let mut rows = [[_mm256_setzero_ps(); 2]; R];
        for (r, row) in rows.iter_mut().enumerate() {
            let sums = sums.add(r * PANEL);
            *row = [_mm256_loadu_ps(sums), _mm256_loadu_ps(sums.add(LANES))];
        }
        let mut input = gradient.input.as_ptr().add(gradient.offsets[tap] + first * gradient.step + k);
        let mut dy = gradient.dy.as_ptr().add(panel * PANEL + first * gradient.dy_step);
        for _ in 0..positions {
            let g = [_mm256_loadu_ps(dy), _mm256_loadu_ps(dy.add(LANES))];
            for (r, row) in rows.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*input.add(r));
                for (sum, g) in row.iter_mut().zip(g) {
                    *sum = _mm256_fmadd_ps(x, g, *sum);
                }
            }
            input = input.wrapping_add(gradient.step);
            dy = dy.wrapping_add(gradient.dy_step);
        }
        for (r, row) in rows.iter().enumerate() {
            let sums = sums.add(r * PANEL);
            _mm256_storeu_ps(sums, row[0]);
            _mm256_storeu_ps(sums.add(LANES), row[1]);
        }
    }
}

super::compile_again!("avx2,fma");
super::compile_transforms_again!("avx2,fma");
