//! The loops of 8-bit layers. A byte `q` stands for the number `scale · (q − zero)`; sums of products are exact whole
//! numbers and what is rounded is rounded in the same order everywhere, so that every instruction set gives the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;

use super::{Kernels, MaxPool, PANEL, panels, scalar};

/// Values of depth that are multiplied at once.
pub const QUAD: usize = 4;

/// The most products in a sum that is sure not to overflow: 255 · 128 · 65,536 < 2³¹.
pub const MAX_PRODUCTS: usize = 1 << 16;

/// The weights of [`PANEL`] output channels for [`QUAD`] values of depth, `[PANEL][QUAD]`: one cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct WeightLine(pub [i8; PANEL * QUAD]);

/// For each position `m` and output channel `n`:
///
/// `y = scale[n] · (starts[n] + Σ_tap Σ_k input[offsets[tap] + m · step + k] · w(n, tap, k)) + bias[n]`,
///
/// the sum in whole numbers, then a product and a sum in f32, rounded one after the other.
pub struct ByteProduct<'a> {
    /// The input values.
    pub input: &'a [u8],
    /// Where each tap of position 0 starts in `input`.
    pub offsets: &'a [usize],
    /// Distance between the inputs of neighbouring positions.
    pub step: usize,
    /// Number of output positions.
    pub positions: usize,
    /// Values under one tap.
    pub depth: usize,
    /// `[panel][tap][depth / QUAD]`, see [`pack_bytes`].
    pub weights: &'a [WeightLine],
    /// Output channels; the last panel may be only partly used.
    pub channels: usize,
    /// `[panels · PANEL]`
    pub starts: &'a [i32],
    /// `[panels · PANEL]`
    pub scale: &'a [f32],
    /// `[panels · PANEL]`
    pub bias: &'a [f32],
    /// Whether negative results become 0.
    pub relu: bool,
    /// Distance between the outputs of neighbouring positions, at least `channels`.
    pub out_step: usize,
}

impl ByteProduct<'_> {
    /// Panics unless every read and write of the product lies within its slices.
    fn check(&self, out_len: usize) {
        assert!(self.depth > 0, "a product of nothing");
        let last_position = self.positions - 1;
        let reach = last_position * self.step + self.depth;
        assert!(self.offsets.iter().all(|offset| offset + reach <= self.input.len()), "input too short");
        let all = panels(self.channels);
        assert!(self.weights.len() >= all * self.offsets.len() * self.depth.div_ceil(QUAD));
        assert!([self.starts.len(), self.scale.len(), self.bias.len()].iter().all(|&len| len >= all * PANEL));
        assert!(self.out_step >= self.channels);
        assert!(last_position * self.out_step + self.channels <= out_len, "output too short");
    }
}

/// A sum of two images of bytes, `a` and `b`, as bytes: `zero + scales[0] · (a − zeros[0]) + scales[1] · (b − zeros[1])`,
/// at least `zero` if `relu`.
#[derive(Debug, Clone, Copy)]
pub struct ByteSum {
    /// Steps of the output for one step of each input.
    pub scales: [f32; 2],
    /// What stands for 0 in each input.
    pub zeros: [u8; 2],
    /// What stands for 0 in the output.
    pub zero: u8,
    /// Whether negative results become 0.
    pub relu: bool,
}

/// Packs `[out_channels, taps, depth]` weights, asked for one by one as `weight(out, k, tap)`, the way [`ByteProduct`]
/// reads them. What is missing in the last panel and the last quad is zero.
pub fn pack_bytes(
    out_channels: usize,
    depth: usize,
    taps: usize,
    weight: impl Fn(usize, usize, usize) -> i8,
) -> Vec<WeightLine> {
    let quads = depth.div_ceil(QUAD);
    let line = |index: usize| {
        let (quad, tap, panel) = (index % quads, index / quads % taps, index / quads / taps);
        WeightLine(std::array::from_fn(|place| {
            let (out, k) = (panel * PANEL + place / QUAD, quad * QUAD + place % QUAD);
            if out < out_channels && k < depth { weight(out, k, tap) } else { 0 }
        }))
    };
    (0..panels(out_channels) * taps * quads).map(line).collect()
}

/// The last `rest` < [`QUAD`] bytes of a tap as one number, zeros behind them.
///
/// # Safety
/// `rest` bytes can be read at `input`.
#[cfg(target_arch = "x86_64")]
unsafe fn last_quad(input: *const u8, rest: usize) -> i32 {
    // Byte by byte: a copy of a length that varies is a call, around which every sum would be spilled, rest or not.
    // SAFETY: as the caller promises.
    let byte = |at: usize| if at < rest { i32::from(unsafe { *input.add(at) }) << (8 * at) } else { 0 };
    byte(0) | byte(1) | byte(2)
}

/// One instruction set's spelling of every kernel on bytes.
#[derive(Clone, Copy)]
pub(super) struct Table {
    name: &'static str,
    product: unsafe fn(&ByteProduct<'_>, Option<u8>, *mut u8),
    quantize: unsafe fn(&[f32], f32, u8, &mut [u8]),
    dequantize: unsafe fn(&[u8], f32, u8, &mut [f32]),
    add: unsafe fn(&ByteSum, &[u8], &[u8], &mut [u8]),
    max_pool: unsafe fn(&MaxPool<'_, u8>, &mut [u8]),
}

/// The definition.
pub(super) const SCALAR: Table = Table {
    name: "scalar",
    product: scalar::byte_product,
    quantize: scalar::quantize,
    dequantize: scalar::dequantize,
    add: scalar::add_bytes,
    max_pool: scalar::max_pool,
};

/// Compiles the bodies of `scalar` once more, with the vectors of an instruction set.
macro_rules! compile_again {
    ($table:ident, $name:literal, $set:ident, $features:literal) => {
        #[cfg(target_arch = "x86_64")]
        pub(super) const $table: Table = {
            #[target_feature(enable = $features)]
            fn quantize(values: &[f32], inverse: f32, zero: u8, out: &mut [u8]) {
                scalar::quantize(values, inverse, zero, out);
            }

            #[target_feature(enable = $features)]
            fn dequantize(bytes: &[u8], scale: f32, zero: u8, out: &mut [f32]) {
                scalar::dequantize(bytes, scale, zero, out);
            }

            #[target_feature(enable = $features)]
            fn add(sum: &ByteSum, a: &[u8], b: &[u8], out: &mut [u8]) {
                scalar::add_bytes(sum, a, b, out);
            }

            Table { name: $name, product: $set::byte_product, quantize, dequantize, add, max_pool: $set::max_pool }
        };
    };
}

compile_again!(AVX2, "AVX2", avx2, "avx2");
compile_again!(VNNI, "AVX-512 VNNI", vnni, "avx512f,avx512bw,avx512vnni");

impl Kernels {
    /// The instruction set that runs 8-bit layers.
    pub fn bytes_name(&self) -> &'static str {
        self.bytes.name
    }

    /// Computes `product` into `out`.
    ///
    /// # Panics
    /// When a slice is too short for what the product reads or writes.
    pub fn byte_product(&self, product: &ByteProduct<'_>, out: &mut [f32]) {
        if product.positions == 0 || product.channels == 0 {
            return;
        }
        product.check(out.len());
        // SAFETY: `check` has bounded every access, and the table only holds kernels this processor can run.
        unsafe { (self.bytes.product)(product, None, out.as_mut_ptr().cast()) }
    }

    /// Computes `product` into bytes: `zero` plus the result, rounded and kept within 0 and 255.
    ///
    /// # Panics
    /// When a slice is too short for what the product reads or writes.
    pub fn byte_product_to_bytes(&self, product: &ByteProduct<'_>, zero: u8, out: &mut [u8]) {
        if product.positions == 0 || product.channels == 0 {
            return;
        }
        product.check(out.len());
        // SAFETY: `check` has bounded every access, and the table only holds kernels this processor can run.
        unsafe { (self.bytes.product)(product, Some(zero), out.as_mut_ptr()) }
    }

    /// `out[i]` is the byte nearest to `zero + values[i] · inverse`.
    pub fn quantize(&self, values: &[f32], inverse: f32, zero: u8, out: &mut [u8]) {
        // SAFETY: the table only holds kernels this processor can run; their slices are checked.
        unsafe { (self.bytes.quantize)(values, inverse, zero, out) }
    }

    /// `out[i] = scale · (bytes[i] − zero)`.
    pub fn dequantize(&self, bytes: &[u8], scale: f32, zero: u8, out: &mut [f32]) {
        // SAFETY: the table only holds kernels this processor can run; their slices are checked.
        unsafe { (self.bytes.dequantize)(bytes, scale, zero, out) }
    }

    /// See [`ByteSum`].
    pub fn add_bytes(&self, sum: &ByteSum, a: &[u8], b: &[u8], out: &mut [u8]) {
        // SAFETY: the table only holds kernels this processor can run; their slices are checked.
        unsafe { (self.bytes.add)(sum, a, b, out) }
    }

    /// See [`MaxPool`].
    ///
    /// # Panics
    /// When the input is too short for what the pool reads.
    pub fn max_pool_bytes(&self, pool: &MaxPool<'_, u8>, out: &mut [u8]) {
        // SAFETY: the table only holds kernels this processor can run; their slices are checked.
        unsafe { (self.bytes.max_pool)(pool, out) }
    }
}
