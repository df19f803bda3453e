//! The products of Winograd's F(4, 3) with filters that are transformed on their way to the registers.
//!
//! Filters transformed beforehand take twice the memory. Where few tiles share a reading of them, as in a live stream, reading
//! takes longer than transforming three taps anew: that is six operations.

use super::winograd::{TAPS, TILE_IN};
use super::{Kernels, Planes, PlanesMut, TapWeights};

/// For each plane `i`, position `m` and output channel `n`, with `G` the filter transform:
///
/// `out[i][m · channels + n] = Σ_group Σ_k planes[i][(group · positions + m) · depth + k] · Σ_t G[i][t] · w(n, 3 · group + t, k)`,
///
/// the sum taken in this order.
pub struct TileProduct<'a> {
    /// The transformed inputs, `[groups, positions, depth]` of each plane.
    pub planes: Planes<'a>,
    /// Groups of three taps.
    pub groups: usize,
    /// Number of output positions.
    pub positions: usize,
    /// Values under one tap.
    pub depth: usize,
    /// What the inputs are multiplied by once transformed, `[panel][3 · groups][depth][PANEL]`.
    pub weights: TapWeights<'a>,
    /// Output channels; the last panel may be only partly used.
    pub channels: usize,
}

impl TileProduct<'_> {
    /// Panics unless every read and write of the product lies within its slices.
    fn check(&self, out: &PlanesMut<'_>) {
        let inputs = self.groups * self.positions * self.depth;
        assert!(self.planes.iter().all(|plane| plane.len() >= inputs), "input too short");
        assert!(self.weights.hold(self.channels, TAPS * self.groups * self.depth), "weights too short");
        assert!(out.iter().all(|plane| plane.len() >= self.positions * self.channels), "output too short");
    }
}

impl Kernels {
    /// Computes `product` into the planes of `out`, `[positions, channels]`.
    ///
    /// # Panics
    /// When a slice is too short for what the product reads or writes.
    pub fn tile_product(&self, product: &TileProduct<'_>, out: &mut [&mut [f32]; TILE_IN]) {
        product.check(out);
        // SAFETY: `check` has bounded every access, and the table only holds kernels this processor can run.
        unsafe { (self.tile_product)(product, &out.each_mut().map(|plane| plane.as_mut_ptr())) }
    }
}
