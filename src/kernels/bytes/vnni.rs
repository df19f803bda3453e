//! AVX-512 VNNI: one instruction multiplies 64 pairs of bytes and adds them up by fours.

use std::arch::x86_64::*;

use super::{ByteProduct, MaxPool, PANEL, QUAD, panels};

/// How far ahead weights are fetched, in quads.
const PREFETCH: usize = 40;

/// Lines of weights that stay in the first-level cache from one pass to the next, and need not be fetched again.
const KEPT_LINES: usize = 640;

/// # Safety
/// AVX-512F and VNNI are there, and every access that [`ByteProduct`] describes lies within its slices and `out`, which
/// holds bytes where `to_bytes` is given and f32 elsewhere.
#[target_feature(enable = "avx512f,avx512vnni")]
pub unsafe fn byte_product(product: &ByteProduct<'_>, to_bytes: Option<u8>, out: *mut u8) {
    let all = panels(product.channels);
    let panel_len = product.offsets.len() * product.depth.div_ceil(QUAD);
    let mut panel = 0;
    while panel < all {
        // Sums, weights and one input share 32 registers. The more panels, the fewer loads; but where weights come from the
        // second-level cache, the more positions a pass has, the fewer passes read them.
        let (width, most) = match all - panel {
            1 => (1, 14),
            2 => (2, 14),
            3 => (3, 9),
            _ if product.positions > 6 && 4 * panel_len > KEPT_LINES => (2, 14),
            _ => (4, 6),
        };
        let passes = product.positions.div_ceil(most);
        let kept = width * panel_len <= KEPT_LINES;
        let mut position = 0;
        for pass in 0..passes {
            let count = (product.positions - position).div_ceil(passes - pass);
            // SAFETY: positions and panels stay within what `product` describes.
            unsafe { pass_of(product, to_bytes, out, (panel, width), (position, count), pass == 0 || !kept) };
            position += count;
        }
        panel += width;
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn pass_of(
    product: &ByteProduct<'_>,
    to_bytes: Option<u8>,
    out: *mut u8,
    (panel, width): (usize, usize),
    (position, count): (usize, usize),
    fetch: bool,
) {
    macro_rules! choose {
        ($width:literal: $($count:literal)*) => {
            match count {
                // SAFETY: as the caller promises.
                $($count => unsafe { micro::<$count, $width>(product, to_bytes, out, panel, position, fetch) },)*
                _ => unreachable!("more positions than registers"),
            }
        };
    }
    match width {
        4 => choose!(4: 1 2 3 4 5 6),
        3 => choose!(3: 1 2 3 4 5 6 7 8 9),
        2 => choose!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        _ => choose!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    }
}

/// `M` positions × `N` panels.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn micro<const M: usize, const N: usize>(
    product: &ByteProduct<'_>,
    to_bytes: Option<u8>,
    out: *mut u8,
    panel: usize,
    position: usize,
    fetch: bool,
) {
    // SAFETY: every pointer below stays within the slices of `product` and `out`, as the caller promises.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); N]; M];
        for n in 0..N {
            let start = _mm512_loadu_si512(product.starts.as_ptr().add((panel + n) * PANEL).cast());
            for row in &mut sums {
                row[n] = start;
            }
        }
        let (step, quads) = (product.step, product.depth.div_ceil(QUAD));
        let (whole, rest) = (product.depth / QUAD, product.depth % QUAD);
        let panel_len = product.offsets.len() * quads;
        let mut weights = product.weights.as_ptr().add(panel * panel_len);
        for &offset in product.offsets {
            let mut input = product.input.as_ptr().add(offset + position * step);
            for _ in 0..whole {
                let mut w = [_mm512_setzero_si512(); N];
                for (n, w) in w.iter_mut().enumerate() {
                    let weights = weights.add(n * panel_len);
                    *w = _mm512_load_si512(weights.cast());
                    if fetch {
                        _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(PREFETCH).cast());
                    }
                }
                for (m, row) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_epi32(input.add(m * step).cast::<i32>().read_unaligned());
                    for (sum, w) in row.iter_mut().zip(w) {
                        *sum = _mm512_dpbusd_epi32(*sum, x, w);
                    }
                }
                weights = weights.add(1);
                input = input.add(QUAD);
            }
            if rest > 0 {
                for (m, row) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_epi32(super::last_quad(input.add(m * step), rest));
                    for (n, sum) in row.iter_mut().enumerate() {
                        *sum = _mm512_dpbusd_epi32(*sum, x, _mm512_load_si512(weights.add(n * panel_len).cast()));
                    }
                }
                weights = weights.add(1);
            }
        }
        for n in 0..N {
            let first = (panel + n) * PANEL;
            let mask = ((1_u32 << (product.channels - first).min(PANEL)) - 1) as __mmask16;
            let scale = _mm512_loadu_ps(product.scale.as_ptr().add(first));
            let bias = _mm512_loadu_ps(product.bias.as_ptr().add(first));
            for (m, row) in sums.iter().enumerate() {
                let value = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(row[n]), scale), bias);
                let at = (position + m) * product.out_step + first;
                let Some(zero) = to_bytes else {
                    let value = if product.relu { _mm512_max_ps(value, _mm512_setzero_ps()) } else { value };
                    _mm512_mask_storeu_ps(out.cast::<f32>().add(at), mask, value);
                    continue;
                };
                let least = if product.relu { 0.0 } else { -f32::from(zero) };
                let value = _mm512_max_ps(value, _mm512_set1_ps(least));
                let steps = _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(value);
                let bytes = _mm512_add_epi32(steps, _mm512_set1_epi32(i32::from(zero)));
                // What is too great, even for 32 bits, counts as unsigned and ends as 255.
                _mm512_mask_cvtusepi32_storeu_epi8(out.add(at).cast(), mask, bytes);
            }
        }
    }
}

/// Bytes in a register.
const BYTES: usize = 64;

#[target_feature(enable = "avx512f,avx512bw")]
pub fn max_pool(pool: &MaxPool<'_, u8>, out: &mut [u8]) {
    pool.check(out.len());
    let MaxPool { input, row, rows, channels, step, taps } = *pool;
    for (bin, out) in out.chunks_exact_mut(channels).enumerate() {
        for first in (0..channels).step_by(BYTES) {
            let mask = u64::MAX >> (BYTES - (channels - first).min(BYTES));
            // SAFETY: the masked bytes of every bin under a window lie within the input, as checked, and within `out`.
            unsafe {
                let input = input.as_ptr().add(bin * step * channels + first).cast::<i8>();
                let load = |index: usize| {
                    _mm512_maskz_loadu_epi8(mask, input.add(index / taps * row + index % taps * channels))
                };
                let greatest = (1..rows * taps).fold(load(0), |value, index| _mm512_max_epu8(load(index), value));
                _mm512_mask_storeu_epi8(out.as_mut_ptr().add(first).cast(), mask, greatest);
            }
        }
    }
}
