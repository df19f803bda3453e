//! The one product behind every dense layer.
//!
//! A convolution at one output position is a sum of matrix–vector products, one per *tap* of its filter; neighbouring
//! positions read the same weights at equally spaced inputs. So a row of a convolution, a 1×1 or fully connected layer
//! and the products inside Winograd's algorithm are the same loop with other offsets.

use half::f16;

use super::{Kernels, PANEL, panels};

/// The weights of a [`TapProduct`], `[panel][tap][depth][PANEL]`, see [`super::pack_taps`].
#[derive(Clone, Copy)]
pub enum TapWeights<'a> {
    /// As they are.
    Floats(&'a [f32]),
    /// In half the memory: few positions a call are made as fast as weights can be read.
    Halves {
        /// What is multiplied with the inputs.
        values: &'a [f16],
        /// What the sum of each output channel is multiplied by, `[panels · PANEL]`.
        scale: &'a [f32],
    },
}

impl TapWeights<'_> {
    /// Whether there are so many for each of the `channels`.
    pub(super) fn hold(&self, channels: usize, each: usize) -> bool {
        let lanes = panels(channels) * PANEL;
        match self {
            Self::Floats(values) => values.len() >= lanes * each,
            Self::Halves { values, scale } => values.len() >= lanes * each && scale.len() >= lanes,
        }
    }
}

/// For each position `m` and output channel `n`:
///
/// `out[m · out_step + n] = bias[n] + Σ_tap Σ_k input[offsets[tap] + m · step + k] · w(n, tap, k)`,
///
/// [halves](TapWeights::Halves) as `bias[n] + scale[n] · Σ_tap Σ_k …`; the sum taken in this order, so a position's result depends on nothing but its own inputs: however positions are
/// grouped into calls, the bits are the same.
pub struct TapProduct<'a> {
    /// The input values.
    pub input: &'a [f32],
    /// Where each tap of position 0 starts in `input`.
    pub offsets: &'a [usize],
    /// Distance between the inputs of neighbouring positions.
    pub step: usize,
    /// Number of output positions.
    pub positions: usize,
    /// Values under one tap, usually the input channels.
    pub depth: usize,
    /// What the inputs are multiplied by.
    pub weights: TapWeights<'a>,
    /// Output channels; the last panel may be only partly used.
    pub channels: usize,
    /// `[panels · PANEL]`; zeros when absent.
    pub bias: Option<&'a [f32]>,
    /// Whether negative results become 0.
    pub relu: bool,
    /// Distance between the outputs of neighbouring positions, at least `channels`.
    pub out_step: usize,
}

impl TapProduct<'_> {
    /// Panics unless every read and write of the product lies within its slices.
    fn check(&self, out: &[f32]) {
        assert!(self.depth > 0, "a product of nothing");
        let last_position = self.positions - 1;
        let reach = last_position * self.step + self.depth;
        assert!(self.offsets.iter().all(|offset| offset + reach <= self.input.len()), "input too short");
        assert!(self.weights.hold(self.channels, self.offsets.len() * self.depth), "weights too short");
        assert!(self.bias.is_none_or(|bias| bias.len() >= panels(self.channels) * PANEL));
        assert!(self.out_step >= self.channels);
        assert!(last_position * self.out_step + self.channels <= out.len(), "output too short");
    }
}

impl Kernels {
    /// Computes `product` into `out`.
    ///
    /// # Panics
    /// When a slice is too short for what the product reads or writes.
    pub fn tap_product(&self, product: &TapProduct<'_>, out: &mut [f32]) {
        if product.positions == 0 || product.channels == 0 {
            return;
        }
        product.check(out);
        // SAFETY: `check` has bounded every access, and the table only holds kernels this processor can run.
        unsafe { (self.tap_product)(product, out.as_mut_ptr()) }
    }
}
