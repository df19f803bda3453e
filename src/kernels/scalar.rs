//! What every kernel means, in plain Rust: the definition the faster spellings are tested against, and what runs on a
//! processor without AVX2.
//!
//! Bodies are `#[inline(always)]` and generic over `FMA`, so that the files of the instruction sets compile the same
//! text again with wider vectors; only the product is written by hand there.

use half::f16;

use super::bytes::{ByteProduct, ByteSum, QUAD};
use super::winograd::{FILTER_TRANSFORM, Form, OUTPUT_TRANSFORM, TAPS, TILE_IN, TILE_OUT};
use super::{Depthwise, MaxPool, PANEL, Planes, PlanesMut, TapGradient, TapProduct, TapWeights, TileProduct};

/// `a · b + c`, rounded once when `FMA`: a fused multiply-add is only fast where the processor has one.
#[inline(always)]
pub fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// See [`TapProduct`].
///
/// # Safety
/// Every access that [`TapProduct`] describes lies within its slices and `out`.
pub unsafe fn tap_product(product: &TapProduct<'_>, out: *mut f32) {
    let TapProduct { input, offsets, step, depth, channels, .. } = *product;
    for first in (0..channels).step_by(PANEL) {
        let lanes = PANEL.min(channels - first);
        let panel = first * offsets.len() * depth;
        for position in 0..product.positions {
            let bias = product.bias.map_or([0.0; PANEL], |bias| std::array::from_fn(|lane| bias[first + lane]));
            let inputs = offsets.iter().flat_map(|offset| &input[offset + position * step..][..depth]);
            let sums = match product.weights {
                TapWeights::Floats(values) => weighted_sums(bias, inputs, &values[panel..], |w| w),
                TapWeights::Halves { values, scale } => {
                    let sums = weighted_sums([0.0; PANEL], inputs, &values[panel..], f16::to_f32);
                    std::array::from_fn(|lane| bias[lane] + scale[first + lane] * sums[lane])
                }
            };
            // SAFETY: the caller promises that these `lanes` values lie within `out`.
            let out = unsafe { std::slice::from_raw_parts_mut(out.add(position * product.out_step + first), lanes) };
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if product.relu { sum.max(0.0) } else { sum };
            }
        }
    }
}

/// `sums` and what the `inputs` add to them, each times a panel's row of `weights`.
fn weighted_sums<'a, W: Copy>(
    mut sums: [f32; PANEL],
    inputs: impl Iterator<Item = &'a f32>,
    weights: &[W],
    float: impl Fn(W) -> f32,
) -> [f32; PANEL] {
    for (x, weights) in inputs.zip(weights.chunks_exact(PANEL)) {
        for (sum, &w) in sums.iter_mut().zip(weights) {
            *sum += x * float(w);
        }
    }
    sums
}

/// See [`TileProduct`].
///
/// # Safety
/// Every access that [`TileProduct`] describes lies within its slices and the planes of `out`.
pub unsafe fn tile_product(product: &TileProduct<'_>, out: &[*mut f32; TILE_IN]) {
    let TileProduct { planes, groups, positions, depth, weights, channels } = *product;
    for (plane, out) in out.iter().enumerate() {
        let g = FILTER_TRANSFORM[plane].map(|g| g as f32);
        for n in 0..channels {
            let weight = |group: usize, tap: usize, k: usize| {
                let at = (((n / PANEL * groups + group) * TAPS + tap) * depth + k) * PANEL + n % PANEL;
                match weights {
                    TapWeights::Floats(values) => values[at],
                    TapWeights::Halves { values, scale } => values[at].to_f32() * scale[n],
                }
            };
            for m in 0..positions {
                let mut sum = 0.0;
                for group in 0..groups {
                    let inputs = &planes[plane][(group * positions + m) * depth..][..depth];
                    for (k, x) in inputs.iter().enumerate() {
                        sum += x * (0..TAPS).map(|tap| g[tap] * weight(group, tap, k)).sum::<f32>();
                    }
                }
                // SAFETY: the caller promises that this value lies within the plane.
                unsafe { *out.add(m * channels + n) = sum };
            }
        }
    }
}

/// See [`TapGradient`].
///
/// # Safety
/// Every access that [`TapGradient`] describes lies within its slices and `sums`.
pub unsafe fn tap_gradient(gradient: &TapGradient<'_>, sums: *mut f32) {
    let TapGradient { input, offsets, step, depth, dy, dy_step, .. } = *gradient;
    for panel in 0..gradient.panels {
        for (tap, offset) in offsets.iter().enumerate() {
            for k in 0..depth {
                let at = ((panel * offsets.len() + tap) * depth + k) * PANEL;
                // SAFETY: the caller promises that this panel's row lies within `sums`.
                let sums = unsafe { std::slice::from_raw_parts_mut(sums.add(at), PANEL) };
                for m in 0..gradient.positions {
                    let x = input[offset + m * step + k];
                    for (sum, &dy) in sums.iter_mut().zip(&dy[panel * PANEL + m * dy_step..]) {
                        *sum += x * dy;
                    }
                }
            }
        }
    }
}

/// See [`Depthwise`].
#[inline(always)]
pub fn depthwise<const FMA: bool>(convolution: &Depthwise<'_>, out: &mut [f32]) {
    /// Channels whose sums stay in registers.
    const BLOCK: usize = 64;
    let channels = out.len();
    let Depthwise { input, offsets, weights, bias, relu } = *convolution;
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let first = block * BLOCK;
        let mut sums = [0.0; BLOCK];
        sums[..out.len()].copy_from_slice(&bias[first..first + out.len()]);
        if out.len() == BLOCK {
            for (tap, &offset) in offsets.iter().enumerate() {
                let input: &[f32; BLOCK] = input[offset + first..][..BLOCK].try_into().expect("BLOCK values");
                let weights: &[f32; BLOCK] =
                    weights[tap * channels + first..][..BLOCK].try_into().expect("BLOCK values");
                for c in 0..BLOCK {
                    sums[c] = multiply_add::<FMA>(input[c], weights[c], sums[c]);
                }
            }
        } else {
            for (tap, &offset) in offsets.iter().enumerate() {
                let input = &input[offset + first..][..out.len()];
                let weights = &weights[tap * channels + first..][..out.len()];
                for ((sum, &x), &w) in sums.iter_mut().zip(input).zip(weights) {
                    *sum = multiply_add::<FMA>(x, w, *sum);
                }
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = if relu { sum.max(0.0) } else { sum };
        }
    }
}

/// See [`super::Kernels::winograd_input`].
#[inline(always)]
pub fn winograd_input<const FMA: bool>(tiles: &[f32], (channels, step): (usize, usize), planes: &mut PlanesMut<'_>) {
    for tile in 0..planes[0].len() / channels {
        let bins = &tiles[tile * step * channels..];
        let bin = |j: usize| &bins[j * channels..][..channels];
        let [d0, d1, d2, d3, d4, d5] = std::array::from_fn(bin);
        let [p0, p1, p2, p3, p4, p5] = planes.each_mut().map(|plane| &mut plane[tile * channels..][..channels]);
        // What neighbouring rows of B^T share is computed once.
        for c in 0..channels {
            let even = multiply_add::<FMA>(-4.0, d2[c], d4[c]);
            let odd = multiply_add::<FMA>(-4.0, d1[c], d3[c]);
            p1[c] = even + odd;
            p2[c] = even - odd;
            let even = d4[c] - d2[c];
            let odd = 2.0 * (d3[c] - d1[c]);
            p3[c] = even + odd;
            p4[c] = even - odd;
            p0[c] = multiply_add::<FMA>(4.0, d0[c], multiply_add::<FMA>(-5.0, d2[c], d4[c]));
            p5[c] = multiply_add::<FMA>(4.0, d1[c], multiply_add::<FMA>(-5.0, d3[c], d5[c]));
        }
    }
}

/// See [`super::Kernels::winograd_output`].
#[inline(always)]
pub fn winograd_output<const FMA: bool>(form: Form, planes: &Planes<'_>, bias: &[f32], relu: bool, out: &mut [f32]) {
    let channels = bias.len();
    let finish = |value: f32| if relu { value.max(0.0) } else { value };
    for (tile, out) in out.chunks_mut(form.outputs() * channels).enumerate() {
        let [m0, m1, m2, m3, m4, m5] = planes.map(|plane| &plane[tile * channels..][..channels]);
        let bins = out.len() / channels;
        if form == Form::Pair {
            let (y0, y1) = out.split_at_mut(channels);
            let y1 = &mut y1[..channels];
            for c in 0..channels {
                y0[c] = finish(m0[c] + (m1[c] + m2[c]) + (m3[c] + m4[c]) + bias[c]);
                y1[c] = finish(multiply_add::<FMA>(2.0, m3[c] - m4[c], m1[c] - m2[c]) + m5[c] + bias[c]);
            }
        } else if bins == TILE_OUT {
            let (y0, rest) = out.split_at_mut(channels);
            let (y1, rest) = rest.split_at_mut(channels);
            let (y2, y3) = rest.split_at_mut(channels);
            let y3 = &mut y3[..channels];
            for c in 0..channels {
                let (sum12, difference12) = (m1[c] + m2[c], m1[c] - m2[c]);
                let (sum34, difference34) = (m3[c] + m4[c], m3[c] - m4[c]);
                y0[c] = finish(m0[c] + sum12 + sum34 + bias[c]);
                y1[c] = finish(multiply_add::<FMA>(2.0, difference34, difference12) + bias[c]);
                y2[c] = finish(multiply_add::<FMA>(4.0, sum34, sum12) + bias[c]);
                y3[c] = finish(multiply_add::<FMA>(8.0, difference34, difference12) + m5[c] + bias[c]);
            }
        } else {
            for (row, out) in OUTPUT_TRANSFORM.iter().zip(out.chunks_exact_mut(channels)) {
                for c in 0..channels {
                    let value = [m0, m1, m2, m3, m4, m5].iter().zip(row).fold(0.0, |sum, (m, a)| sum + a * m[c]);
                    out[c] = finish(value + bias[c]);
                }
            }
        }
    }
}

/// See [`MaxPool`].
#[inline(always)]
pub fn max_pool<T: Copy + PartialOrd>(pool: &MaxPool<'_, T>, out: &mut [T]) {
    let MaxPool { input, row, rows, channels, step, taps } = *pool;
    for (bin, out) in out.chunks_exact_mut(channels).enumerate() {
        out.copy_from_slice(&input[bin * step * channels..][..channels]);
        for index in 1..rows * taps {
            let others = &input[index / taps * row + (bin * step + index % taps) * channels..][..channels];
            for (value, &other) in out.iter_mut().zip(others) {
                *value = if other > *value { other } else { *value };
            }
        }
    }
}

/// `values[i] = max(values[i], others[i])`.
#[inline(always)]
pub fn maximum(values: &mut [f32], others: &[f32]) {
    for (value, &other) in values.iter_mut().zip(others) {
        *value = if other > *value { other } else { *value };
    }
}

/// `values[i] += others[i]`, then negative values become 0 if `relu`.
#[inline(always)]
pub fn add(values: &mut [f32], others: &[f32], relu: bool) {
    for (value, &other) in values.iter_mut().zip(others) {
        let sum = *value + other;
        *value = if relu { sum.max(0.0) } else { sum };
    }
}

/// See [`ByteProduct`]; `to_bytes` says where the zero is when the outputs are bytes.
///
/// # Safety
/// Every access that [`ByteProduct`] describes lies within its slices and `out`, which holds bytes where `to_bytes` is
/// given and f32 elsewhere.
pub unsafe fn byte_product(product: &ByteProduct<'_>, to_bytes: Option<u8>, out: *mut u8) {
    let ByteProduct { input, offsets, step, depth, weights, channels, .. } = *product;
    let quads = depth.div_ceil(QUAD);
    for first in (0..channels).step_by(PANEL) {
        let lanes = PANEL.min(channels - first);
        let panel = &weights[first / PANEL * offsets.len() * quads..][..offsets.len() * quads];
        for position in 0..product.positions {
            let mut sums = [0_i32; PANEL];
            sums.copy_from_slice(&product.starts[first..first + PANEL]);
            for (&offset, weights) in offsets.iter().zip(panel.chunks_exact(quads)) {
                let input = &input[offset + position * step..][..depth];
                for (input, weights) in input.chunks(QUAD).zip(weights) {
                    let x: [i32; QUAD] = std::array::from_fn(|k| input.get(k).map_or(0, |&x| x.into()));
                    for (sum, &[a, b, c, d]) in sums.iter_mut().zip(weights.0.as_chunks::<QUAD>().0) {
                        let [a, b, c, d] = [a, b, c, d].map(i32::from);
                        *sum = sum.wrapping_add(x[0] * a + x[1] * b + x[2] * c + x[3] * d);
                    }
                }
            }
            for (lane, sum) in sums.into_iter().take(lanes).enumerate() {
                let channel = first + lane;
                let value = sum as f32 * product.scale[channel] + product.bias[channel];
                let at = position * product.out_step + channel;
                match to_bytes {
                    // SAFETY: the caller promises that value `at` lies within `out`.
                    None => unsafe { *out.cast::<f32>().add(at) = if product.relu { value.max(0.0) } else { value } },
                    // SAFETY: the same.
                    Some(zero) => unsafe { *out.add(at) = byte(value, zero, product.relu) },
                }
            }
        }
    }
}

/// The byte nearest to `zero + value`, at least `zero` if `relu`. Of two that are equally near it is the even one that is
/// as far from `zero`.
#[inline(always)]
pub fn byte(value: f32, zero: u8, relu: bool) -> u8 {
    /// 1.5 · 2²³. Sums with it have no bits for a fraction: they are rounded to whole numbers, of two the even one, and
    /// their low bits are the number that was added.
    const WHOLE: f32 = 12_582_912.0;
    let (least, most) = (if relu { 0.0 } else { -f32::from(zero) }, 255.0 - f32::from(zero));
    let value = if value > least { value } else { least };
    let value = if value < most { value } else { most };
    ((value + WHOLE).to_bits() as u8).wrapping_add(zero)
}

/// `out[i]` is the byte nearest to `zero + values[i] / scale`, computed as `values[i] · inverse`.
#[inline(always)]
pub fn quantize(values: &[f32], inverse: f32, zero: u8, out: &mut [u8]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = byte(value * inverse, zero, false);
    }
}

/// `out[i] = scale · (bytes[i] − zero)`.
#[inline(always)]
pub fn dequantize(bytes: &[u8], scale: f32, zero: u8, out: &mut [f32]) {
    for (out, &byte) in out.iter_mut().zip(bytes) {
        *out = scale * (i32::from(byte) - i32::from(zero)) as f32;
    }
}

/// See [`ByteSum`].
#[inline(always)]
pub fn add_bytes(sum: &ByteSum, a: &[u8], b: &[u8], out: &mut [u8]) {
    let [zero_a, zero_b] = sum.zeros.map(i32::from);
    let [scale_a, scale_b] = sum.scales;
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        let a = scale_a * (i32::from(a) - zero_a) as f32;
        let b = scale_b * (i32::from(b) - zero_b) as f32;
        *out = byte(a + b, sum.zero, sum.relu);
    }
}
