//! Convolutions, a following ReLU included. Three plans share one walk over the batch: `winograd` and `direct` for dense
//! and grouped filters, `depthwise` for one filter per channel.
//!
//! The walk cuts utterances into *blocks* of rows whose working set fits the second-level cache; a plan copies what a
//! block needs into scratch, zero padding included, and multiplies there.

mod blocks;
mod depthwise;
mod direct;
mod winograd;

use super::crew::{Crew, Scratch};
use super::images::Images;
use super::sequence::{Flow, Pass, Source};
use crate::kernels::{Aligned, Kernels, PANEL, panels};
use crate::network::arithmetic::Window;
use crate::network::{self, FrameShape, Layer};

use blocks::{Block, Blocks, Cut};
use depthwise::Depthwise;
use direct::Direct;
use winograd::Winograd;

/// Most values that all parts' sums of weight gradients may hold together; few parts share a big layer.
const PARTIAL_VALUES: usize = 1 << 20;
/// Parts that a batch's gradient is made of.
const PARTS: [usize; 2] = [2, 32];

/// A convolution's shapes.
pub struct Geometry {
    pub settings: network::Convolution,
    pub windows: [Window; 2],
    pub input: FrameShape,
    pub output: FrameShape,
    pub relu: bool,
}

impl Geometry {
    /// Input channels that one filter sees.
    pub fn group_depth(&self) -> usize {
        self.input.channels / self.settings.groups
    }

    /// Filters of one group.
    pub fn filters(&self) -> usize {
        self.settings.out_channels / self.settings.groups
    }

    /// Where the weights file holds filter `out`'s weight for `channel` of its group at tap `[time, frequency]`.
    pub fn index(&self, out: usize, channel: usize, time: usize, frequency: usize) -> usize {
        let [times, frequencies] = self.settings.kernel;
        ((out * self.group_depth() + channel) * times + time) * frequencies + frequency
    }

    /// Frames from the first tap to the last.
    pub fn reach(&self) -> usize {
        self.windows[0].dilation * (self.windows[0].kernel - 1)
    }

    /// The output channels in whole panels.
    pub fn padded_channels(&self) -> usize {
        panels(self.output.channels) * PANEL
    }
}

/// How the products are made.
enum Plan {
    Direct(Direct),
    Depthwise(Depthwise),
    Winograd(Winograd),
}

macro_rules! each_plan {
    ($plan:expr, $inner:ident => $work:expr) => {
        match $plan {
            Plan::Direct($inner) => $work,
            Plan::Depthwise($inner) => $work,
            Plan::Winograd($inner) => $work,
        }
    };
}

/// A convolution.
pub struct Convolution {
    geometry: Geometry,
    plan: Plan,
    weight: usize,
    bias: Option<usize>,
    /// The bias in whole panels; zeros without one.
    padded_bias: Vec<f32>,
    /// Whether the weights are packed for the backward pass.
    ready: bool,
    blocks: Blocks,
    pub output: Images,
}

impl Convolution {
    pub fn new(
        settings: &network::Convolution,
        input: FrameShape,
        output: FrameShape,
        relu: bool,
        path: &str,
        source: &Source<'_>,
    ) -> Self {
        let windows = Layer::Convolution(settings.clone()).windows();
        let geometry = Geometry { settings: settings.clone(), windows, input, output, relu };
        let plan = if Depthwise::suits(&geometry) {
            Plan::Depthwise(Depthwise::new(&geometry))
        } else if Winograd::suits(&geometry) {
            Plan::Winograd(Winograd::new(&geometry))
        } else {
            Plan::Direct(Direct::new(&geometry))
        };
        Self {
            plan,
            weight: source.parameter(&format!("{path}.weight")).expect("the survey lists it"),
            bias: source.parameter(&format!("{path}.bias")),
            padded_bias: vec![0.0; geometry.padded_channels()],
            ready: false,
            blocks: Blocks::default(),
            output: Images::default(),
            geometry,
        }
    }

    pub fn forward(&mut self, input: &Images, pass: &mut Pass<'_>) {
        let Self { geometry, plan, blocks, .. } = self;
        if pass.changed {
            each_plan!(plan, plan => plan.pack(geometry, &pass.parameters[self.weight].values, pass.crew));
            self.ready = false;
            if let Some(bias) = self.bias {
                self.padded_bias[..geometry.output.channels].copy_from_slice(&pass.parameters[bias].values);
            }
        }
        let time = geometry.windows[0];
        self.output.resize(geometry.output, input.lengths.iter().map(|&frames| time.output_size(frames).unwrap_or(0)));
        let rows = each_plan!(plan, plan => plan.block_rows(geometry));
        blocks.cut(&input.lengths, &self.output.lengths, time.stride, rows);
        let tasks = blocks.outputs(input, &mut self.output);
        let (plan, kernels, bias) = (&*plan, pass.crew.kernels, &self.padded_bias);
        pass.crew.each(tasks, |(block, x, y): (&Block, &[f32], &mut [f32]), scratch| {
            each_plan!(plan, plan => plan.forward(geometry, &kernels, block, x, bias, y, scratch));
        });
    }

    pub fn backward(&mut self, input: &Images, flow: &mut Flow, wanted: bool, pass: &mut Pass<'_>) {
        let Self { geometry, plan, blocks, .. } = self;
        if wanted && !self.ready {
            each_plan!(plan, plan => plan.pack_backward(geometry, &pass.parameters[self.weight].values, pass.crew));
            self.ready = true;
        }
        let (plan, kernels) = (&*plan, pass.crew.kernels);
        // With no room for them, the plan leaves the weights' gradients out.
        let weights = if pass.learning { each_plan!(plan, plan => plan.sums(geometry)) } else { 0 };
        let len = weights + geometry.padded_channels();
        let [least, most] = PARTS;
        let parts = (PARTIAL_VALUES / len).clamp(least, most).min(blocks.len()).max(1);
        // The crew lends its memory while it works.
        let mut partial_sums = std::mem::take(&mut pass.crew.partial_sums);
        partial_sums.resize_with(parts.max(partial_sums.len()), Aligned::default);
        {
            let Flow { gradient, spare } = flow;
            if wanted {
                spare.resize_like(input);
            }
            let cuts = blocks.inputs(input, &self.output, geometry.relu, gradient, wanted.then_some(spare), parts);
            let tasks = cuts.into_iter().zip(&mut partial_sums).collect();
            pass.crew.each(tasks, |(cuts, sums): (Vec<Cut<'_>>, &mut Aligned), scratch: &mut Scratch| {
                let sums = &mut sums.at_least(len)[..len];
                sums.fill(0.0);
                let (sums, bias) = sums.split_at_mut(weights);
                for mut cut in cuts {
                    each_plan!(plan, plan => plan.backward(geometry, &kernels, &mut cut, [&mut *sums, &mut *bias], scratch));
                }
            });
        }
        add_up(&mut partial_sums[..parts], len, pass.crew, &kernels);
        let sums = &partial_sums[0][..len];
        if pass.learning {
            let gradients = &mut pass.parameters[self.weight].gradients;
            each_plan!(plan, plan => plan.unpack(geometry, &sums[..weights], gradients, pass.crew));
            if let Some(bias) = self.bias {
                pass.parameters[bias].gradients.copy_from_slice(&sums[weights..][..geometry.output.channels]);
            }
        }
        pass.crew.partial_sums = partial_sums;
        if wanted {
            flow.turn();
        }
    }
}

/// Adds the first `len` values of all parts to the first part's, in order.
fn add_up(parts: &mut [Aligned], len: usize, crew: &Crew, kernels: &Kernels) {
    let (first, others) = parts.split_at_mut(1);
    crew.rows(&mut first[0][..len], 1, |start, sums, _| {
        for part in others.iter() {
            kernels.add(sums, &part[start..start + sums.len()], false);
        }
    });
}
