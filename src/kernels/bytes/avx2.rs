//! AVX2. Its product of bytes saturates at 16 bits, so bytes are widened first: slower, but exact.

use std::arch::x86_64::*;

use super::{ByteProduct, MaxPool, PANEL, QUAD, panels, scalar};

/// Positions whose sums share 16 registers with weights and inputs.
const POSITIONS: usize = 4;

/// # Safety
/// AVX2 is there, and every access that [`ByteProduct`] describes lies within its slices and `out`, which holds bytes where
/// `to_bytes` is given and f32 elsewhere.
#[target_feature(enable = "avx2")]
pub unsafe fn byte_product(product: &ByteProduct<'_>, to_bytes: Option<u8>, out: *mut u8) {
    for panel in 0..panels(product.channels) {
        let mut position = 0;
        while position < product.positions {
            let count = (product.positions - position).min(POSITIONS);
            // SAFETY: positions and panel stay within what `product` describes.
            unsafe {
                match count {
                    1 => micro::<1>(product, to_bytes, out, panel, position),
                    2 => micro::<2>(product, to_bytes, out, panel, position),
                    3 => micro::<3>(product, to_bytes, out, panel, position),
                    _ => micro::<POSITIONS>(product, to_bytes, out, panel, position),
                }
            }
            position += count;
        }
    }
}

/// Both halves of a panel.
type Halves = [__m256i; 2];

/// Bytes 0 and 2 of each quad, and 1 and 3, as 16-bit numbers.
#[target_feature(enable = "avx2")]
fn widen_weights(line: __m256i) -> [__m256i; 2] {
    [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(line)), _mm256_srai_epi16::<8>(line)]
}

/// Adds the products of one quad to `sums`.
#[target_feature(enable = "avx2")]
fn add_quad<const M: usize>(sums: &mut [Halves; M], inputs: [i32; M], lines: Halves) {
    let weights = lines.map(|line| widen_weights(line));
    for (sums, input) in sums.iter_mut().zip(inputs) {
        let x = _mm256_set1_epi32(input);
        let (even, odd) = (_mm256_and_si256(x, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(x));
        for (sum, [w_even, w_odd]) in sums.iter_mut().zip(weights) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(even, w_even));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(odd, w_odd));
        }
    }
}

/// `M` positions × one panel.
#[target_feature(enable = "avx2")]
unsafe fn micro<const M: usize>(
    product: &ByteProduct<'_>,
    to_bytes: Option<u8>,
    out: *mut u8,
    panel: usize,
    position: usize,
) {
    let first = panel * PANEL;
    let mut values = [[0.0_f32; PANEL]; M];
    // SAFETY: every pointer below stays within the slices of `product`, as the caller promises.
    unsafe {
        let halves = |from: *const __m256i| [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))];
        let mut sums = [halves(product.starts.as_ptr().add(first).cast()); M];
        let (step, quads) = (product.step, product.depth.div_ceil(QUAD));
        let (whole, rest) = (product.depth / QUAD, product.depth % QUAD);
        let mut weights = product.weights.as_ptr().add(panel * product.offsets.len() * quads);
        for &offset in product.offsets {
            let mut input = product.input.as_ptr().add(offset + position * step);
            for _ in 0..whole {
                let inputs = std::array::from_fn(|m| input.add(m * step).cast::<i32>().read_unaligned());
                add_quad(&mut sums, inputs, halves(weights.cast()));
                weights = weights.add(1);
                input = input.add(QUAD);
            }
            if rest > 0 {
                let inputs = std::array::from_fn(|m| super::last_quad(input.add(m * step), rest));
                add_quad(&mut sums, inputs, halves(weights.cast()));
                weights = weights.add(1);
            }
        }
        for (values, sums) in values.iter_mut().zip(sums) {
            for (half, sum) in sums.into_iter().enumerate() {
                let at = first + half * PANEL / 2;
                let scale = _mm256_loadu_ps(product.scale.as_ptr().add(at));
                let bias = _mm256_loadu_ps(product.bias.as_ptr().add(at));
                let value = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale), bias);
                _mm256_storeu_ps(values.as_mut_ptr().add(half * PANEL / 2), value);
            }
        }
    }
    let lanes = PANEL.min(product.channels - first);
    for (m, values) in values.iter().enumerate() {
        let at = (position + m) * product.out_step + first;
        match to_bytes {
            None => {
                // SAFETY: the caller promises that these `lanes` values lie within `out`.
                let out = unsafe { std::slice::from_raw_parts_mut(out.cast::<f32>().add(at), lanes) };
                for (out, value) in out.iter_mut().zip(values) {
                    *out = if product.relu { value.max(0.0) } else { *value };
                }
            }
            Some(zero) => {
                let bytes = values.map(|value| scalar::byte(value, zero, product.relu));
                // SAFETY: the caller promises that these `lanes` values lie within `out`.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), out.add(at), lanes) };
            }
        }
    }
}

#[target_feature(enable = "avx2")]
pub fn max_pool(pool: &MaxPool<'_, u8>, out: &mut [u8]) {
    scalar::max_pool(pool, out);
}
