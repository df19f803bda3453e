//! Output sizes of sliding windows along one axis (Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep
//! learning"), checked against overflow.

use super::layer::Layer;

/// How a layer slides along one axis, in the primer's terms: kernel `k`, stride `s`, dilation `d`, padding `p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Taps.
    pub kernel: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Step between taps.
    pub dilation: usize,
    /// Padding before the first and after the last value; the primer's `2p` is their sum.
    pub padding: [usize; 2],
}

impl Window {
    /// A layer that sees one value at a time.
    pub const POINT: Self = Self { kernel: 1, stride: 1, dilation: 1, padding: [0, 0] };

    /// Steps from the first tap to the last, `d · (k − 1)`.
    pub fn reach(&self) -> Option<usize> {
        self.dilation.checked_mul(self.kernel.checked_sub(1)?)
    }

    /// Outputs over `input` values, `⌊(i + 2p − d(k−1) − 1) / s⌋ + 1` (primer, relationship 15). `None` when not one
    /// window fits, the stride is zero or a number overflows.
    pub fn output_size(&self, input: usize) -> Option<usize> {
        let padded = input.checked_add(self.padding[0])?.checked_add(self.padding[1])?;
        padded.checked_sub(self.reach()?)?.checked_sub(1)?.checked_div(self.stride)?.checked_add(1)
    }

    /// Outputs of the transposed convolution over `input` values, `s(i − 1) + a + d(k−1) + 1 − 2p` (primer,
    /// relationship 14), where `a` says which of the `s` possible sizes is meant. `None` when nothing is left, `a ≥ s`
    /// or a number overflows.
    pub fn transposed_output_size(&self, input: usize, a: usize) -> Option<usize> {
        if a >= self.stride {
            return None;
        }
        let full = self.stride.checked_mul(input.checked_sub(1)?)?.checked_add(a)?;
        let full = full.checked_add(self.reach()?)?.checked_add(1)?;
        full.checked_sub(self.padding[0])?.checked_sub(self.padding[1]).filter(|&size| size > 0)
    }
}

impl Layer {
    /// How the layer slides along `[time, frequency]`. A residual only adds: its branch and shortcut slide.
    pub fn windows(&self) -> [Window; 2] {
        let window = |axis: usize, kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2], padding| Window {
            kernel: kernel[axis],
            stride: stride[axis],
            dilation: dilation[axis],
            padding,
        };
        match self {
            Layer::Convolution(c) => {
                let (time, frequency) = (c.time_padding, c.frequency_padding);
                [
                    window(0, c.kernel, c.stride, c.dilation, [time.past, time.future]),
                    window(1, c.kernel, c.stride, c.dilation, [frequency.low, frequency.high]),
                ]
            }
            Layer::MaxPool(p) | Layer::AveragePool(p) => {
                let (time, frequency) = (p.time_padding, p.frequency_padding);
                [
                    window(0, p.kernel, p.stride(), [1, 1], [time.past, time.future]),
                    window(1, p.kernel, p.stride(), [1, 1], [frequency.low, frequency.high]),
                ]
            }
            Layer::BatchNorm(_)
            | Layer::Activation(_)
            | Layer::LocalResponseNorm(_)
            | Layer::Dropout(_)
            | Layer::Residual(_)
            | Layer::FrequencyCollapse
            | Layer::LogSoftmax
            | Layer::Quantize(_) => [Window::POINT; 2],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: usize, stride: usize, dilation: usize, padding: usize) -> Window {
        Window { kernel, stride, dilation, padding: [padding; 2] }
    }

    #[test]
    fn the_primers_convolutions() {
        for (input, k, s, d, p, output) in [
            (32, 5, 1, 1, 0, 28),   // 32×32×3 under 5×5 filters
            (4, 3, 1, 1, 0, 2),     // figure 2.1: no padding, unit strides
            (5, 4, 1, 1, 2, 6),     // figure 2.2: arbitrary padding
            (5, 3, 1, 1, 1, 5),     // figure 2.3: half ("same") padding
            (5, 3, 1, 1, 2, 7),     // figure 2.4: full padding
            (5, 3, 2, 1, 0, 2),     // figure 2.5: strides
            (5, 3, 2, 1, 1, 3),     // figure 2.6: padding and strides
            (6, 3, 2, 1, 1, 3),     // figure 2.7: the same output from one more input
            (7, 3, 1, 2, 0, 3),     // figure 5.1: dilation
            (5, 3, 1, 1, 0, 3),     // figure 3.1: pooling
            (227, 11, 4, 1, 0, 55), // AlexNet's first layer
            (55, 3, 2, 1, 0, 27),   // and its overlapping pooling
        ] {
            assert_eq!(window(k, s, d, p).output_size(input), Some(output), "i={input} k={k} s={s} d={d} p={p}");
        }
        assert_eq!(Window { padding: [2, 0], ..window(3, 1, 1, 0) }.output_size(9), Some(9));
    }

    #[test]
    fn the_primers_transposed_convolutions() {
        for (input, k, s, p, a, output) in [
            (2, 3, 1, 0, 0, 4), // figure 4.1
            (6, 4, 1, 2, 0, 5), // figure 4.2
            (5, 3, 1, 1, 0, 5), // figure 4.3: half padding
            (7, 3, 1, 2, 0, 5), // figure 4.4: full padding
            (2, 3, 2, 0, 0, 5), // figure 4.5: strides
            (3, 3, 2, 1, 0, 5), // figure 4.6
            (3, 3, 2, 1, 1, 6), // figure 4.7: output padding
        ] {
            let window = window(k, s, 1, p);
            assert_eq!(window.transposed_output_size(input, a), Some(output), "i={input} k={k} s={s} p={p} a={a}");
            assert_eq!(window.output_size(output), Some(input), "the convolution leads back");
        }
    }

    #[test]
    fn nothing_overflows() {
        const HUGE: usize = usize::MAX;
        assert_eq!(window(5, 1, 1, 0).output_size(4), None);
        assert_eq!(window(0, 1, 1, 0).output_size(4), None);
        assert_eq!(window(3, 0, 1, 0).output_size(4), None);
        assert_eq!(window(HUGE, 1, HUGE, 0).output_size(4), None);
        assert_eq!(window(3, 1, 1, HUGE).output_size(4), None);
        assert_eq!(window(3, HUGE, 1, 0).transposed_output_size(4, 0), None);
        assert_eq!(window(3, 2, 1, 0).transposed_output_size(4, 2), None);
        assert_eq!(window(3, 2, 1, 0).transposed_output_size(0, 0), None);
        assert_eq!(window(1, 1, 1, 4).transposed_output_size(4, 0), None);
    }
}
