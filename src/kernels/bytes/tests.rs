//! Every instruction set this processor has against the definition, bit for bit.

use proptest::prelude::*;

use super::*;

/// Repeatable bytes.
fn bytes(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // The extremes often: they are what saturates.
            match state >> 29 {
                0 => 255,
                1 => 128,
                _ => (state >> 16) as u8,
            }
        })
        .collect()
}

fn floats(len: usize, seed: u32) -> Vec<f32> {
    bytes(len, seed).iter().map(|&byte| (f32::from(byte) - 127.5) / 100.0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn byte_product_equals_its_definition(
        positions in 1usize..40,
        depth in 1usize..200,
        taps in 1usize..6,
        channels in 1usize..150,
        spread in 0usize..3,
        zero: u8,
        relu: bool,
    ) {
        let step = depth + spread;
        let offsets: Vec<usize> = (0..taps).map(|tap| tap * (step * 2 + 3)).collect();
        // Not a byte more than is read.
        let input = bytes(offsets[taps - 1] + (positions - 1) * step + depth, 1);
        let raw = bytes(channels * depth * taps, 2);
        let weight = |n: usize, k: usize, tap: usize| raw[(n * depth + k) * taps + tap] as i8;
        let weights = pack_bytes(channels, depth, taps, weight);
        let lanes = panels(channels) * PANEL;
        let starts: Vec<i32> = bytes(lanes, 3).iter().map(|&byte| (i32::from(byte) - 99) * 1000).collect();
        let scale: Vec<f32> = bytes(lanes, 4).iter().map(|&byte| f32::from(byte) * 3e-6).collect();
        let bias = floats(lanes, 5).iter().map(|value| value * 40.0).collect::<Vec<_>>();
        let out_step = channels + spread;
        let product = ByteProduct {
            input: &input, offsets: &offsets, step, positions, depth, weights: &weights, channels,
            starts: &starts, scale: &scale, bias: &bias, relu, out_step,
        };
        for kernels in Kernels::available() {
            // Dirty memory: what is not an output must stay as it was.
            let len = (positions - 1) * out_step + channels;
            let (mut out, mut out_bytes) = (vec![f32::NAN; len], vec![77; len]);
            kernels.byte_product(&product, &mut out);
            kernels.byte_product_to_bytes(&product, zero, &mut out_bytes);
            for m in 0..positions {
                for n in 0..channels {
                    let mut sum = i64::from(starts[n]);
                    for (tap, offset) in offsets.iter().enumerate() {
                        for k in 0..depth {
                            sum += i64::from(input[offset + m * step + k]) * i64::from(weight(n, k, tap));
                        }
                    }
                    let value = sum as f32 * scale[n] + bias[n];
                    let least = if relu { 0.0 } else { f32::NEG_INFINITY };
                    let at = m * out_step + n;
                    prop_assert_eq!(out[at], value.max(least), "{}", kernels.bytes_name());
                    let steps = value.max(least).round_ties_even() as i64;
                    let wanted = (steps + i64::from(zero)).clamp(0, 255);
                    prop_assert_eq!(i64::from(out_bytes[at]), wanted, "{}: {}", kernels.bytes_name(), value);
                }
                let gap = m * out_step + channels..len.min((m + 1) * out_step);
                prop_assert!(out[gap.clone()].iter().all(|x| x.is_nan()), "wrote between the outputs");
                prop_assert!(out_bytes[gap].iter().all(|&x| x == 77), "wrote between the outputs");
            }
        }
    }

    #[test]
    fn passes_over_bytes_equal_their_definition(len in 0usize..200, zero: u8, other: u8, scale in 0.001f32..0.1, relu: bool) {
        let (a, b, values) = (bytes(len, 6), bytes(len, 7), floats(len, 8));
        let sum = ByteSum { scales: [0.3 * scale / 0.1, 1.7], zeros: [other, zero], zero, relu };
        for kernels in Kernels::available() {
            let name = kernels.bytes_name();
            let (mut out, mut wide) = (vec![1; len], vec![f32::NAN; len]);
            kernels.quantize(&values, 1.0 / scale, zero, &mut out);
            kernels.dequantize(&out, scale, zero, &mut wide);
            for ((&value, &byte), &back) in values.iter().zip(&out).zip(&wide) {
                let steps = (value * (1.0 / scale)).round_ties_even() as i64;
                prop_assert_eq!(i64::from(byte), (steps + i64::from(zero)).clamp(0, 255), "{}", name);
                prop_assert_eq!(back, scale * (f32::from(byte) - f32::from(zero)), "{}", name);
                if byte > 0 && byte < 255 {
                    prop_assert!((back - value).abs() <= 0.501 * scale, "{}: {} for {}", name, back, value);
                }
            }
            kernels.add_bytes(&sum, &a, &b, &mut out);
            let mut wanted = vec![0; len];
            Kernels::scalar().add_bytes(&sum, &a, &b, &mut wanted);
            prop_assert_eq!(&out, &wanted, "{}", name);
        }
    }
}

/// Steps that 32 bits do not hold, on either side.
#[test]
fn products_too_great_for_32_bits_are_cut() {
    let weights = pack_bytes(2, 4, 1, |out, _, _| if out == 0 { 127 } else { -128 });
    for (relu, zero) in [(false, 0), (false, 200), (true, 200)] {
        let product = ByteProduct {
            input: &[255; 4],
            offsets: &[0],
            step: 4,
            positions: 1,
            depth: 4,
            weights: &weights,
            channels: 2,
            starts: &[0; PANEL],
            scale: &[1e9; PANEL],
            bias: &[0.0; PANEL],
            relu,
            out_step: 2,
        };
        for kernels in Kernels::available() {
            let mut out = [77; 2];
            kernels.byte_product_to_bytes(&product, zero, &mut out);
            assert_eq!(out, [255, if relu { zero } else { 0 }], "{}", kernels.bytes_name());
        }
    }
}

#[test]
fn a_sum_of_bytes_is_rounded_and_cut() {
    let sum = |relu| ByteSum { scales: [1.0, 0.5], zeros: [10, 0], zero: 5, relu };
    for kernels in Kernels::available() {
        let mut out = [0; 5];
        kernels.add_bytes(&sum(false), &[10, 10, 255, 0, 4], &[0, 3, 255, 0, 0], &mut out);
        // −10 + 0 is below every byte; 1.5 rounds to the even 2.
        assert_eq!(out, [5, 7, 255, 0, 0], "{}", kernels.bytes_name());
        kernels.add_bytes(&sum(true), &[10, 10, 255, 0, 4], &[0, 3, 255, 0, 0], &mut out);
        assert_eq!(out, [5, 7, 255, 5, 5], "{}", kernels.bytes_name());
    }
}

#[test]
fn the_greatest_sum_does_not_overflow() {
    let input = vec![255; MAX_PRODUCTS];
    let weights = pack_bytes(1, MAX_PRODUCTS, 1, |_, _, _| -128);
    let (starts, scale, bias) = ([0; PANEL], [1.0; PANEL], [0.0; PANEL]);
    for kernels in Kernels::available() {
        let product = ByteProduct {
            input: &input,
            offsets: &[0],
            step: 0,
            positions: 1,
            depth: MAX_PRODUCTS,
            weights: &weights,
            channels: 1,
            starts: &starts,
            scale: &scale,
            bias: &bias,
            relu: false,
            out_step: 1,
        };
        let mut out = [0.0];
        kernels.byte_product(&product, &mut out);
        assert_eq!(out, [-255.0 * 128.0 * 65_536.0], "{}", kernels.bytes_name());
    }
}
