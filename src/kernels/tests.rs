//! Every instruction set this processor has against the definition.

use proptest::prelude::*;

use super::*;

/// Difference allowed between two orders of rounding, relative to the sum of the products' magnitudes.
const RELATIVE: f32 = 2e-6;

/// Repeatable values in [-1, 1).
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn assert_close(name: &str, found: &[f32], wanted: &[f32], scale: f32) {
    for (i, (a, b)) in found.iter().zip(wanted).enumerate() {
        assert!((a - b).abs() <= RELATIVE * scale, "{name}: value {i} is {a} instead of {b}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn tap_product_equals_its_definition(
        positions in 1usize..40,
        depth in 1usize..200,
        taps in 1usize..6,
        channels in 1usize..150,
        spread in 0usize..3,
        with_bias: bool,
        relu: bool,
    ) {
        let step = depth + spread;
        let offsets: Vec<usize> = (0..taps).map(|tap| tap * (step * 2 + 3)).collect();
        let input = noise(offsets[taps - 1] + (positions - 1) * step + depth, 1);
        let raw = noise(channels * depth * taps, 2);
        let weights = pack_taps(channels, depth, taps, |n, k, tap| raw[(n * depth + k) * taps + tap]);
        let bias = noise(panels(channels) * PANEL, 3);
        let out_step = channels + spread;
        let product = TapProduct {
            input: &input, offsets: &offsets, step, positions, depth, weights: &weights, channels,
            bias: with_bias.then_some(&bias[..]), relu, out_step,
        };
        for kernels in Kernels::available() {
            // Dirty memory: what is not an output must stay as it was.
            let mut out = vec![f32::NAN; (positions - 1) * out_step + channels];
            kernels.tap_product(&product, &mut out);
            for m in 0..positions {
                for n in 0..channels {
                    let mut sum = if with_bias { f64::from(bias[n]) } else { 0.0 };
                    for (tap, offset) in offsets.iter().enumerate() {
                        for k in 0..depth {
                            let w = raw[(n * depth + k) * taps + tap];
                            sum += f64::from(input[offset + m * step + k]) * f64::from(w);
                        }
                    }
                    let wanted = if relu { sum.max(0.0) } else { sum } as f32;
                    assert_close(kernels.name(), &[out[m * out_step + n]], &[wanted], (depth * taps) as f32);
                }
                let gap = &out[m * out_step + channels..out.len().min((m + 1) * out_step)];
                prop_assert!(gap.iter().all(|x| x.is_nan()), "wrote between the outputs");
            }
        }
    }

    #[test]
    fn grouping_positions_changes_no_bit(cut in 1usize..30, depth in 1usize..300, channels in 1usize..100) {
        let positions = 30;
        let input = noise(positions * depth + depth, 4);
        let raw = noise(channels * depth * 2, 5);
        let weights = pack_taps(channels, depth, 2, |n, k, tap| raw[(n * depth + k) * 2 + tap]);
        for kernels in Kernels::available() {
            let run = |first: usize, count: usize, out: &mut [f32]| {
                let offsets = [first * depth, (first + 1) * depth];
                kernels.tap_product(&TapProduct {
                    input: &input, offsets: &offsets, step: depth, positions: count, depth, weights: &weights,
                    channels, bias: None, relu: false, out_step: channels,
                }, out);
            };
            let (mut whole, mut parts) = (vec![0.0; positions * channels], vec![0.0; positions * channels]);
            run(0, positions, &mut whole);
            let (head, tail) = parts.split_at_mut(cut * channels);
            run(0, cut, head);
            run(cut, positions - cut, tail);
            prop_assert_eq!(&whole, &parts, "{}", kernels.name());
        }
    }

    #[test]
    fn depthwise_equals_its_definition(channels in 1usize..200, taps in 1usize..12, relu: bool) {
        let input = noise(channels * (taps + 2), 6);
        let offsets: Vec<usize> = (0..taps).map(|tap| tap * channels + tap % 2).collect();
        let (weights, bias) = (noise(channels * taps, 7), noise(channels, 8));
        let convolution = Depthwise { input: &input, offsets: &offsets, weights: &weights, bias: &bias, relu };
        let mut wanted = vec![0.0; channels];
        Kernels::scalar().depthwise(&convolution, &mut wanted);
        for kernels in Kernels::available() {
            let mut out = vec![f32::NAN; channels];
            kernels.depthwise(&convolution, &mut out);
            assert_close(kernels.name(), &out, &wanted, taps as f32 + 1.0);
        }
    }

    #[test]
    fn winograd_transforms_equal_their_matrices(channels in 1usize..70, bins in 1usize..=4, relu: bool) {
        let (tile, bias) = (noise(TILE_IN * channels, 9), noise(channels, 10));
        for kernels in Kernels::available() {
            let mut values = vec![f32::NAN; TILE_IN * channels];
            let mut rest = values.chunks_exact_mut(channels);
            let mut planes = std::array::from_fn(|_| rest.next().expect("six planes"));
            kernels.winograd_input(&tile, &mut planes);
            for (i, row) in winograd::INPUT_TRANSFORM.iter().enumerate() {
                for c in 0..channels {
                    let wanted: f32 = row.iter().enumerate().map(|(j, b)| b * tile[j * channels + c]).sum();
                    assert_close(kernels.name(), &[values[i * channels + c]], &[wanted], 20.0);
                }
            }
            let planes = std::array::from_fn(|i| &tile[i * channels..][..channels]);
            let mut out = vec![f32::NAN; bins * channels];
            kernels.winograd_output(&planes, &bias, relu, &mut out);
            for (i, row) in winograd::OUTPUT_TRANSFORM.iter().take(bins).enumerate() {
                for c in 0..channels {
                    let sum: f32 = row.iter().enumerate().map(|(j, a)| a * tile[j * channels + c]).sum();
                    let wanted = if relu { (sum + bias[c]).max(0.0) } else { sum + bias[c] };
                    assert_close(kernels.name(), &[out[i * channels + c]], &[wanted], 30.0);
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "input too short")]
fn a_product_beyond_its_input_is_refused() {
    let weights = pack_taps(1, 4, 1, |_, _, _| 1.0);
    let product = TapProduct {
        input: &[0.0; 7],
        offsets: &[0],
        step: 4,
        positions: 2,
        depth: 4,
        weights: &weights,
        channels: 1,
        bias: None,
        relu: false,
        out_step: 1,
    };
    Kernels::detect().tap_product(&product, &mut [0.0; 2]);
}
