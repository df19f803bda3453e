//! AVX2 with FMA: 16 registers of 8 floats.

use std::arch::x86_64::*;

use super::winograd::TILE_IN;
use super::{Depthwise, PANEL, TapProduct, panels, scalar};

/// Positions in one pass: 6 × 2 sums, 2 weights and 1 input fill 15 registers.
const MOST_POSITIONS: usize = 6;

/// # Safety
/// AVX2 and FMA are there, and every access that [`TapProduct`] describes lies within its slices and `out`.
#[target_feature(enable = "avx2,fma")]
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
                        $($count => unsafe { micro::<$count>(product, out, panel, position) },)*
                        _ => unreachable!("more positions than registers"),
                    }
                };
            }
            choose!(1 2 3 4 5 6);
            position += count;
        }
    }
}

/// `M` positions × 1 panel.
#[target_feature(enable = "avx2,fma")]
unsafe fn micro<const M: usize>(product: &TapProduct<'_>, out: *mut f32, panel: usize, position: usize) {
    const LANES: usize = 8;
    // SAFETY: every pointer below stays within the slices of `product` and `out`, as the caller promises.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); 2]; M];
        if let Some(bias) = product.bias {
            let bias = bias.as_ptr().add(panel * PANEL);
            for row in &mut sums {
                *row = [_mm256_loadu_ps(bias), _mm256_loadu_ps(bias.add(LANES))];
            }
        }
        let step = product.step;
        let mut weights = product.weights.as_ptr().add(panel * product.offsets.len() * product.depth * PANEL);
        for &offset in product.offsets {
            let mut input = product.input.as_ptr().add(offset + position * step);
            for _ in 0..product.depth {
                let w = [_mm256_loadu_ps(weights), _mm256_loadu_ps(weights.add(LANES))];
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

super::compile_again!("avx2,fma");
