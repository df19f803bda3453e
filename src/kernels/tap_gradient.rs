//! What training asks of a [`TapProduct`](super::TapProduct): the gradient with respect to its weights.

use super::{Kernels, PANEL};

/// With `dy` the gradient of the outputs, for each panel, tap, value of depth and lane:
///
/// `sums[panel][tap][k][lane] += Σ_m input[offsets[tap] + m · step + k] · dy[m · dy_step + panel · PANEL + lane]`,
///
/// the layout of [`super::pack_taps`].
pub struct TapGradient<'a> {
    /// The input values.
    pub input: &'a [f32],
    /// Where each tap of position 0 starts in `input`.
    pub offsets: &'a [usize],
    /// Distance between the inputs of neighbouring positions.
    pub step: usize,
    /// Number of positions.
    pub positions: usize,
    /// Values under one tap.
    pub depth: usize,
    /// The gradient of the outputs, whole panels of [`PANEL`] lanes.
    pub dy: &'a [f32],
    /// Distance between the gradients of neighbouring positions.
    pub dy_step: usize,
    /// Panels of output channels.
    pub panels: usize,
}

impl TapGradient<'_> {
    /// Panics unless every read and write lies within its slices.
    fn check(&self, sums: &[f32]) {
        let last = self.positions - 1;
        let reach = last * self.step + self.depth;
        assert!(self.offsets.iter().all(|offset| offset + reach <= self.input.len()), "input too short");
        let reach = last * self.dy_step + self.panels * PANEL;
        assert!(reach <= self.dy.len(), "gradient too short");
        assert!(sums.len() >= self.panels * self.offsets.len() * self.depth * PANEL, "sums too short");
    }
}

impl Kernels {
    /// Adds `gradient` to `sums`.
    ///
    /// # Panics
    /// When a slice is too short for what is read or written.
    pub fn tap_gradient(&self, gradient: &TapGradient<'_>, sums: &mut [f32]) {
        if gradient.positions == 0 || gradient.panels == 0 || gradient.depth == 0 {
            return;
        }
        gradient.check(sums);
        // SAFETY: `check` has bounded every access, and the table only holds kernels this processor can run.
        unsafe { (self.tap_gradient)(gradient, sums.as_mut_ptr()) }
    }
}
