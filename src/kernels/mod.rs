//! **The hot loops.** `scalar` says what each kernel means; the other files are faster spellings for one instruction
//! set each. [`Kernels::detect`] picks the table once, by what the processor has.
//!
//! Images are rows of `[frequency, channels]` values, channels last.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod bytes;
mod pack;
mod passes;
mod scalar;
mod tap_gradient;
mod tap_product;
#[cfg(test)]
mod tests;
mod tile_product;
pub mod winograd;

pub use pack::{Aligned, PANEL, pack_taps, panels};
pub use passes::{ChannelGradient, TileRow};
pub use tap_gradient::TapGradient;
pub use tap_product::{TapProduct, TapWeights};
pub use tile_product::TileProduct;

use winograd::{Form, TILE_IN};

/// Tiles in Winograd's domain: `[tiles, channels]` of each plane.
type Planes<'a> = [&'a [f32]; TILE_IN];
/// The same to be written.
type PlanesMut<'a> = [&'a mut [f32]; TILE_IN];

/// `out[c] = bias[c] + Σ_tap input[offsets[tap] + c] · weights[tap · channels + c]`, `channels` being `out`'s length.
#[derive(Clone, Copy)]
pub struct Depthwise<'a> {
    /// The input values.
    pub input: &'a [f32],
    /// Where each tap's `channels` values start in `input`.
    pub offsets: &'a [usize],
    /// `[taps, channels]`.
    pub weights: &'a [f32],
    /// `[channels]`.
    pub bias: &'a [f32],
    /// Whether negative results become 0.
    pub relu: bool,
}

/// One row of a max pool, `[bins, channels]`: `out[b · channels + c]` is the greatest of
/// `input[t · row + (b · step + k) · channels + c]` for `t` below `rows` and `k` below `taps`.
#[derive(Clone, Copy)]
pub struct MaxPool<'a, T = f32> {
    /// The input values.
    pub input: &'a [T],
    /// Distance between the rows under the window.
    pub row: usize,
    /// Rows under the window.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
    /// Bins from one window to the next.
    pub step: usize,
    /// Bins under the window.
    pub taps: usize,
}

impl<T> MaxPool<'_, T> {
    /// Panics unless every read for so many values lies within the input.
    #[cfg(target_arch = "x86_64")]
    fn check(&self, out: usize) {
        assert!(self.rows > 0 && self.taps > 0, "a window of nothing");
        let last = (out / self.channels).saturating_sub(1);
        let reach = (self.rows - 1) * self.row + (last * self.step + self.taps) * self.channels;
        assert!(out == 0 || reach <= self.input.len(), "input too short");
    }
}

/// One instruction set's spelling of every kernel.
#[derive(Clone, Copy)]
pub struct Kernels {
    name: &'static str,
    halves: bool,
    tile_positions: usize,
    tap_product: unsafe fn(&TapProduct<'_>, *mut f32),
    tile_product: unsafe fn(&TileProduct<'_>, &[*mut f32; TILE_IN]),
    tap_gradient: unsafe fn(&TapGradient<'_>, *mut f32),
    passes: passes::Table,
    depthwise: unsafe fn(&Depthwise<'_>, &mut [f32]),
    winograd_input: unsafe fn(&[f32], (usize, usize), &mut PlanesMut<'_>),
    winograd_output: unsafe fn(Form, &Planes<'_>, &[f32], bool, &mut [f32]),
    maximum: unsafe fn(&mut [f32], &[f32]),
    max_pool: unsafe fn(&MaxPool<'_>, &mut [f32]),
    add: unsafe fn(&mut [f32], &[f32], bool),
    bytes: bytes::Table,
}

/// Compiles the bodies of `scalar` once more, with the vectors of an instruction set that has fused multiply-add.
macro_rules! compile_again {
    ($features:literal) => {
        #[target_feature(enable = $features)]
        pub fn depthwise(convolution: &Depthwise<'_>, out: &mut [f32]) {
            scalar::depthwise::<true>(convolution, out);
        }

        #[target_feature(enable = $features)]
        pub fn maximum(values: &mut [f32], others: &[f32]) {
            scalar::maximum(values, others);
        }

        #[target_feature(enable = $features)]
        pub fn add(values: &mut [f32], others: &[f32], relu: bool) {
            scalar::add(values, others, relu);
        }
    };
}
use compile_again;

/// The same for the transforms and the max pool, which AVX-512 spells by hand.
macro_rules! compile_transforms_again {
    ($features:literal) => {
        #[target_feature(enable = $features)]
        pub fn max_pool(pool: &MaxPool<'_>, out: &mut [f32]) {
            scalar::max_pool(pool, out);
        }

        #[target_feature(enable = $features)]
        pub fn winograd_input(tiles: &[f32], shape: (usize, usize), planes: &mut PlanesMut<'_>) {
            scalar::winograd_input::<true>(tiles, shape, planes);
        }

        #[target_feature(enable = $features)]
        pub fn winograd_output(form: Form, planes: &Planes<'_>, bias: &[f32], relu: bool, out: &mut [f32]) {
            scalar::winograd_output::<true>(form, planes, bias, relu, out);
        }
    };
}
use compile_transforms_again;

macro_rules! table {
    ($name:literal, $set:ident, ($tile_positions:expr, $tile_product:path), $bytes:expr) => {
        Kernels {
            name: $name,
            halves: true,
            tile_positions: $tile_positions,
            tap_product: $set::tap_product,
            tile_product: $tile_product,
            tap_gradient: $set::tap_gradient,
            passes: passes::$set::TABLE,
            depthwise: $set::depthwise,
            winograd_input: $set::winograd_input,
            winograd_output: $set::winograd_output,
            maximum: $set::maximum,
            max_pool: $set::max_pool,
            add: $set::add,
            bytes: $bytes,
        }
    };
}

impl Kernels {
    /// The definition, for any processor.
    pub fn scalar() -> Self {
        Self {
            name: "scalar",
            halves: false,
            tile_positions: 0,
            tap_product: scalar::tap_product,
            tile_product: scalar::tile_product,
            tap_gradient: scalar::tap_gradient,
            passes: passes::SCALAR,
            depthwise: scalar::depthwise::<false>,
            winograd_input: scalar::winograd_input::<false>,
            winograd_output: scalar::winograd_output::<false>,
            maximum: scalar::maximum,
            max_pool: scalar::max_pool,
            add: scalar::add,
            bytes: bytes::SCALAR,
        }
    }

    /// Every table this processor can run, the fastest first.
    pub fn available() -> Vec<Self> {
        let mut tables = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            if is_x86_feature_detected!("avx512f") && avx2 {
                let vnni = is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw");
                let bytes = if vnni { bytes::VNNI } else { bytes::AVX2 };
                tables.push(table!("AVX-512", avx512, (avx512::TILE_POSITIONS, avx512::tile_product), bytes));
            }
            if avx2 {
                tables.push(table!("AVX2+FMA", avx2, (0, scalar::tile_product), bytes::AVX2));
            }
        }
        tables.push(Self::scalar());
        tables
    }

    /// The fastest table this processor can run.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// The instruction set's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether weights in half precision are read as fast as others.
    pub fn reads_halves(&self) -> bool {
        self.halves
    }

    /// Positions up to which [`Self::tile_product`] pays; none where 16 registers are too few for it.
    pub fn tile_positions(&self) -> usize {
        self.tile_positions
    }

    /// See [`Depthwise`].
    pub fn depthwise(&self, convolution: &Depthwise<'_>, out: &mut [f32]) {
        // SAFETY: the table only holds kernels this processor can run; their slices are checked.
        unsafe { (self.depthwise)(convolution, out) }
    }

    /// Winograd's input transform: tile `t` are the [`TILE_IN`] bins of `channels` values from bin `t · step` of `tiles` on, and
    /// `planes[i]`, `[tiles, channels]`, get row `i` of `B^T d`.
    ///
    /// # Panics
    /// When the planes differ in length, or `tiles` is too short for them.
    pub fn winograd_input(&self, tiles: &[f32], channels: usize, step: usize, planes: &mut [&mut [f32]; TILE_IN]) {
        // SAFETY: the table only holds kernels this processor can run; their slices are checked.
        unsafe { (self.winograd_input)(tiles, (channels, step), planes) }
    }

    /// Winograd's output transform: `planes[i]`, `[tiles, channels]`, hold the products of plane `i`, `out`, `[bins, channels]`,
    /// gets `bias`, `[channels]`, `+ A^T m`, and where `relu`, nothing negative. The last tile of [`Form::Four`] may have fewer
    /// bins.
    ///
    /// # Panics
    /// When a plane is too short.
    pub fn winograd_output(&self, form: Form, planes: &[&[f32]; TILE_IN], bias: &[f32], relu: bool, out: &mut [f32]) {
        // SAFETY: the table only holds kernels this processor can run; their slices are checked.
        unsafe { (self.winograd_output)(form, planes, bias, relu, out) }
    }

    /// Asks for `values` to be fetched into the second-level cache, where the processor knows how.
    pub fn prefetch(&self, values: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        for line in values.chunks(PANEL) {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: every x86-64 processor has SSE, and a prefetch has no effect that a program could see.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
        }
    }

    /// `values[i] = max(values[i], others[i])`.
    pub fn maximum(&self, values: &mut [f32], others: &[f32]) {
        // SAFETY: the table only holds kernels this processor can run; their slices are checked.
        unsafe { (self.maximum)(values, others) }
    }

    /// See [`MaxPool`].
    ///
    /// # Panics
    /// When the input is too short for what the pool reads.
    pub fn max_pool(&self, pool: &MaxPool<'_>, out: &mut [f32]) {
        // SAFETY: the table only holds kernels this processor can run; their slices are checked.
        unsafe { (self.max_pool)(pool, out) }
    }

    /// `values[i] += others[i]`, then negative values become 0 if `relu`.
    pub fn add(&self, values: &mut [f32], others: &[f32], relu: bool) {
        // SAFETY: the table only holds kernels this processor can run; their slices are checked.
        unsafe { (self.add)(values, others, relu) }
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernels({})", self.name)
    }
}
