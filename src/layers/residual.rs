//! Two paths over the same images, added (He et al. 2015), a following ReLU included.

use super::images::Images;
use super::sequence::{Flow, Pass, Sequence, Source};
use crate::network::{self, FrameShape};

/// `branch(x) + shortcut(x)`.
pub struct Residual {
    branch: Sequence,
    shortcut: Sequence,
    relu: bool,
    /// The branch's gradient on its way back.
    flow: Flow,
    pub output: Images,
}

impl Residual {
    pub fn new(
        settings: &network::Residual,
        input: FrameShape,
        relu: bool,
        path: &str,
        source: &mut Source<'_>,
    ) -> Self {
        let prefix = format!("{path}.");
        Self {
            branch: Sequence::new(&settings.branch, input, &prefix, source),
            shortcut: Sequence::new(&settings.shortcut, input, &prefix, source),
            relu,
            flow: Flow::default(),
            output: Images::default(),
        }
    }

    pub fn has_parameters(&self) -> bool {
        self.branch.has_parameters() || self.shortcut.has_parameters()
    }

    pub fn forward(&mut self, input: &Images, pass: &mut Pass<'_>) {
        self.branch.forward(input, pass);
        self.shortcut.forward(input, pass);
        let kernels = pass.crew.kernels;
        let (branch, shortcut) = (self.branch.output(input), self.shortcut.output(input));
        self.output.resize_like(branch);
        pass.crew.rows(&mut self.output.values, 1, |first, out, _| {
            out.copy_from_slice(&branch.values[first..][..out.len()]);
            kernels.add(out, &shortcut.values[first..][..out.len()], self.relu);
        });
    }

    pub fn backward(&mut self, input: &Images, flow: &mut Flow, wanted: bool, pass: &mut Pass<'_>) {
        let kernels = pass.crew.kernels;
        if self.relu {
            let output = &self.output.values;
            pass.crew.rows(&mut flow.gradient.values, 1, |first, dy, _| {
                kernels.mask_gradient(&output[first..][..dy.len()], dy);
            });
        }
        self.flow.gradient.copy_from(&flow.gradient);
        self.branch.backward(input, &mut self.flow, wanted, 0, pass);
        self.shortcut.backward(input, flow, wanted, 0, pass);
        if wanted {
            let branch = &self.flow.gradient.values;
            pass.crew.rows(&mut flow.gradient.values, 1, |first, dx, _| {
                kernels.add(dx, &branch[first..][..dx.len()], false);
            });
        }
    }
    /// As [`Sequence::backward_from`], for a layer of the branch or the shortcut.
    pub fn backward_from(&mut self, path: &str, input: &Images, flow: &mut Flow, pass: &mut Pass<'_>) {
        let side = if self.branch.holds(path) { &mut self.branch } else { &mut self.shortcut };
        side.backward_from(path, input, flow, pass);
    }

    /// As [`Sequence::outputs`].
    pub fn outputs<'a>(&'a self, outputs: &mut Vec<(&'a str, &'a Images)>) {
        self.branch.outputs(outputs);
        self.shortcut.outputs(outputs);
    }
}
