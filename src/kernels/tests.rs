//! Every instruction set this processor has against the definition.

use half::f16;
use proptest::prelude::*;

use super::winograd::{FILTER_TRANSFORM, TAPS};
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
        let halves: Vec<f16> = noise(channels * depth * taps, 2).into_iter().map(f16::from_f32).collect();
        let half = |n: usize, k: usize, tap: usize| halves[(n * depth + k) * taps + tap];
        let weights = pack_taps(channels, depth, taps, |n, k, tap| half(n, k, tap).to_f32());
        let packed_halves = pack_taps(channels, depth, taps, half);
        let (bias, scale) = (noise(panels(channels) * PANEL, 3), noise(panels(channels) * PANEL, 9));
        let ones = vec![1.0; scale.len()];
        let out_step = channels + spread;
        let product = |weights| TapProduct {
            input: &input, offsets: &offsets, step, positions, depth, weights, channels,
            bias: with_bias.then_some(&bias[..]), relu, out_step,
        };
        let products = [
            (product(TapWeights::Floats(&weights)), &ones),
            (product(TapWeights::Halves { values: &packed_halves, scale: &scale }), &scale),
        ];
        for (kernels, (product, scale)) in Kernels::available().iter().flat_map(|kernels| products.iter().map(move |product| (kernels, product))) {
            // Dirty memory: what is not an output must stay as it was.
            let mut out = vec![f32::NAN; (positions - 1) * out_step + channels];
            kernels.tap_product(product, &mut out);
            for m in 0..positions {
                for n in 0..channels {
                    let mut sum = if with_bias { f64::from(bias[n]) } else { 0.0 };
                    for (tap, offset) in offsets.iter().enumerate() {
                        for k in 0..depth {
                            let w = f64::from(half(n, k, tap)) * f64::from(scale[n]);
                            sum += f64::from(input[offset + m * step + k]) * w;
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
        let halves: Vec<f16> = noise(channels * depth * 2, 5).into_iter().map(f16::from_f32).collect();
        let half = |n: usize, k: usize, tap: usize| halves[(n * depth + k) * 2 + tap];
        let weights = pack_taps(channels, depth, 2, |n, k, tap| half(n, k, tap).to_f32());
        let (halves, scale) = (pack_taps(channels, depth, 2, half), noise(panels(channels) * PANEL, 9));
        let kinds = [TapWeights::Floats(&weights), TapWeights::Halves { values: &halves, scale: &scale }];
        for (kernels, weights) in Kernels::available().iter().flat_map(|kernels| kinds.map(|kind| (kernels, kind))) {
            let run = |first: usize, count: usize, out: &mut [f32]| {
                let offsets = [first * depth, (first + 1) * depth];
                kernels.tap_product(&TapProduct {
                    input: &input, offsets: &offsets, step: depth, positions: count, depth, weights,
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
    fn tile_product_equals_its_definition(
        positions in 1usize..20,
        depth in 1usize..100,
        groups in 1usize..4,
        channels in 1usize..70,
    ) {
        let taps = TAPS * groups;
        let inputs: [Vec<f32>; TILE_IN] = std::array::from_fn(|i| noise(groups * positions * depth, i as u32));
        let halves: Vec<f16> = noise(channels * depth * taps, 7).into_iter().map(f16::from_f32).collect();
        let half = |n: usize, k: usize, tap: usize| halves[(n * depth + k) * taps + tap];
        let floats = pack_taps(channels, depth, taps, |n, k, tap| half(n, k, tap).to_f32());
        let packed_halves = pack_taps(channels, depth, taps, half);
        let scale = noise(panels(channels) * PANEL, 8);
        let ones = vec![1.0; scale.len()];
        let weights = [
            (TapWeights::Floats(&floats), &ones),
            (TapWeights::Halves { values: &packed_halves, scale: &scale }, &scale),
        ];
        let planes = inputs.each_ref().map(|plane| &plane[..]);
        for (kernels, (weights, scale)) in Kernels::available().iter().flat_map(|kernels| weights.map(|weights| (kernels, weights))) {
            // Dirty memory, and some behind the outputs.
            let mut out: [Vec<f32>; TILE_IN] = std::array::from_fn(|_| vec![f32::NAN; positions * channels + PANEL]);
            let product = TileProduct { planes, groups, positions, depth, weights, channels };
            kernels.tile_product(&product, &mut out.each_mut().map(|plane| &mut plane[..]));
            for (i, out) in out.iter().enumerate() {
                for (m, out) in out.chunks_exact(channels).take(positions).enumerate() {
                    let wanted: Vec<f32> = (0..channels).map(|n| {
                        let filter = |group: usize, k: usize| -> f64 {
                            let tap = |t: usize| f64::from(half(n, k, TAPS * group + t)) * f64::from(scale[n]);
                            (0..TAPS).map(|t| FILTER_TRANSFORM[i][t] * tap(t)).sum()
                        };
                        let product = |index: usize| {
                            let (group, k) = (index / depth, index % depth);
                            f64::from(inputs[i][(group * positions + m) * depth + k]) * filter(group, k)
                        };
                        (0..groups * depth).map(product).sum::<f64>() as f32
                    }).collect();
                    assert_close(kernels.name(), out, &wanted, (taps * depth) as f32);
                }
                prop_assert!(out[positions * channels..].iter().all(|x| x.is_nan()), "wrote behind the outputs");
            }
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
    fn max_pool_keeps_the_greatest_under_each_window(
        channels in 1usize..140,
        bins in 1usize..5,
        rows in 1usize..4,
        taps in 1usize..4,
        step in 1usize..4,
    ) {
        let row = ((bins - 1) * step + taps) * channels;
        let input = noise(rows * row, 12);
        let bytes: Vec<u8> = input.iter().map(|value| (value * 100.0 + 128.0) as u8).collect();
        for kernels in Kernels::available() {
            let (mut out, mut out_bytes) = (vec![f32::NAN; bins * channels], vec![1; bins * channels]);
            kernels.max_pool(&MaxPool { input: &input, row, rows, channels, step, taps }, &mut out);
            kernels.max_pool_bytes(&MaxPool { input: &bytes, row, rows, channels, step, taps }, &mut out_bytes);
            for at in 0..out.len() {
                let (bin, c) = (at / channels, at % channels);
                let window = (0..rows * taps).map(|i| i / taps * row + (bin * step + i % taps) * channels + c);
                prop_assert_eq!(out[at], window.clone().map(|i| input[i]).fold(f32::NEG_INFINITY, f32::max));
                prop_assert_eq!(Some(out_bytes[at]), window.map(|i| bytes[i]).max(), "{}", kernels.bytes_name());
            }
        }
    }

    #[test]
    fn winograd_transforms_equal_their_matrices(
        channels in 1usize..70,
        tiles in 1usize..4,
        step in 1usize..6,
        short in 0usize..4,
        pair: bool,
        relu: bool,
    ) {
        let bins = noise(((tiles - 1) * step + TILE_IN) * channels, 9);
        let (products, bias) = (noise(TILE_IN * tiles * channels, 11), noise(channels, 10));
        let (form, transform) = match pair {
            true => (winograd::Form::Pair, &winograd::PAIR_TRANSFORM[..]),
            false => (winograd::Form::Four, &winograd::OUTPUT_TRANSFORM[..]),
        };
        let short = if pair { 0 } else { short };
        for kernels in Kernels::available() {
            let mut values = vec![f32::NAN; TILE_IN * tiles * channels];
            let mut rest = values.chunks_exact_mut(tiles * channels);
            let mut planes = std::array::from_fn(|_| rest.next().expect("six planes"));
            kernels.winograd_input(&bins, channels, step, &mut planes);
            for (index, &value) in values.iter().enumerate() {
                let (c, tile, plane) = (index % channels, index / channels % tiles, index / channels / tiles);
                let bin = |j: usize| bins[(tile * step + j) * channels + c];
                let wanted: f32 = winograd::INPUT_TRANSFORM[plane].iter().enumerate().map(|(j, b)| b * bin(j)).sum();
                assert_close(kernels.name(), &[value], &[wanted], 20.0);
            }
            let planes = std::array::from_fn(|plane| &products[plane * tiles * channels..][..tiles * channels]);
            let mut out = vec![f32::NAN; (tiles * form.outputs() - short) * channels];
            kernels.winograd_output(form, &planes, &bias, relu, &mut out);
            for (index, &value) in out.iter().enumerate() {
                let (c, bin) = (index % channels, index / channels);
                let at = bin / form.outputs() * channels + c;
                let row = transform[bin % form.outputs()];
                let sum = bias[c] + planes.iter().zip(row).map(|(plane, a)| a * plane[at]).sum::<f32>();
                assert_close(kernels.name(), &[value], &[if relu { sum.max(0.0) } else { sum }], 30.0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn tap_gradient_equals_its_definition(
        positions in 1usize..300,
        depth in 1usize..40,
        taps in 1usize..4,
        panels in 1usize..6,
        spread in 0usize..3,
    ) {
        let step = depth + spread;
        let offsets: Vec<usize> = (0..taps).map(|tap| tap * (step * 2 + 3)).collect();
        let input = noise(offsets[taps - 1] + (positions - 1) * step + depth, 1);
        let dy_step = panels * PANEL + spread;
        let dy = noise((positions - 1) * dy_step + panels * PANEL, 2);
        let gradient = TapGradient { input: &input, offsets: &offsets, step, positions, depth, dy: &dy, dy_step, panels };
        let before = noise(panels * taps * depth * PANEL, 3);
        for kernels in Kernels::available() {
            let mut sums = before.clone();
            kernels.tap_gradient(&gradient, &mut sums);
            for (index, (&found, &before)) in sums.iter().zip(&before).enumerate() {
                let (lane, k) = (index % PANEL, index / PANEL % depth);
                let (tap, panel) = (index / PANEL / depth % taps, index / PANEL / depth / taps);
                let mut wanted = f64::from(before);
                for m in 0..positions {
                    let x = f64::from(input[offsets[tap] + m * step + k]);
                    wanted += x * f64::from(dy[m * dy_step + panel * PANEL + lane]);
                }
                assert_close(kernels.name(), &[found], &[wanted as f32], 1.0 + positions as f32);
            }
        }
    }

    #[test]
    fn channel_gradient_equals_its_definition(
        channels in 1usize..70,
        taps in 1usize..11,
        positions in 1usize..50,
        spread in 0usize..3,
    ) {
        let (step, dy_step) = (channels + spread, channels + 2 * spread);
        let offsets: Vec<usize> = (0..taps).map(|tap| tap * step + tap % 2).collect();
        let input = noise((positions + taps) * step + 1, 4);
        let dy = noise(positions * dy_step, 5);
        let gradient = ChannelGradient { input: &input, offsets: &offsets, step, dy: &dy, dy_step, positions, channels };
        for kernels in Kernels::available() {
            let mut sums = vec![1.0; taps * channels];
            kernels.channel_gradient(&gradient, &mut sums);
            for (index, &found) in sums.iter().enumerate() {
                let (tap, c) = (index / channels, index % channels);
                let terms = (0..positions).map(|m| input[offsets[tap] + m * step + c] * dy[m * dy_step + c]);
                assert_close(kernels.name(), &[found], &[1.0 + terms.sum::<f32>()], 1.0 + positions as f32);
            }
        }
    }

    /// Every pass over tiles against the matrices, in layouts with gaps, for rows that end within a tile.
    #[test]
    fn tile_passes_equal_their_matrices(
        channels in 1usize..40,
        bins in 1usize..14,
        low in 0usize..3,
        relu: bool,
        masked: bool,
    ) {
        let mask = noise(bins * channels, 5);
        let panels = panels(channels);
        let count = (bins + 2).div_ceil(winograd::TILE_OUT);
        let tile_step = panels * PANEL + 5;
        let tiles = TileRow { channels, low, tiles: count, plane_step: count * tile_step + 7, tile_step };
        let at = |plane: usize, tile: usize, c: usize| plane * tiles.plane_step + tile * tile_step + c;
        let row = noise(bins * channels, 6);
        let bin = |bin: isize, c: usize| match usize::try_from(bin) {
            Ok(bin) if bin < bins => row[bin * channels + c],
            _ => 0.0,
        };
        let dy = |index: isize, c: usize| match mask.get(index as usize * channels + c) {
            Some(&mask) if masked && mask <= 0.0 => 0.0,
            _ => bin(index, c),
        };
        let (products, bias) = (noise(TILE_IN * tiles.plane_step, 7), noise(panels * PANEL, 8));
        for kernels in Kernels::available() {
            let mut planes = [(); 2].map(|()| vec![f32::NAN; TILE_IN * tiles.plane_step]);
            kernels.tiles_from_input(&tiles, &row, &mut planes[0]);
            kernels.tiles_from_gradient(&tiles, &row, masked.then_some(&mask[..]), &mut planes[1]);
            let (mut y, mut dx) = (vec![f32::NAN; bins * channels], vec![f32::NAN; bins * channels]);
            kernels.tiles_to_output(&tiles, &products, &bias, relu, &mut y);
            kernels.tiles_to_input(&tiles, &products, &mut dx);
            for c in 0..channels {
                let mut wanted_dx = vec![0.0; 4 * count + 6];
                for tile in 0..count {
                    let start = (tile * winograd::TILE_OUT) as isize;
                    for plane in 0..TILE_IN {
                        let b = winograd::INPUT_TRANSFORM[plane];
                        let sum: f32 = (0..6).map(|j| b[j] * bin(start + j as isize - low as isize, c)).sum();
                        assert_close(kernels.name(), &[planes[0][at(plane, tile, c)]], &[sum], 20.0);
                        let a = winograd::OUTPUT_TRANSFORM;
                        let sum: f32 = (0..4).map(|j| a[j][plane] * dy(start + j as isize, c)).sum();
                        assert_close(kernels.name(), &[planes[1][at(plane, tile, c)]], &[sum], 20.0);
                        for (j, b) in b.iter().enumerate() {
                            wanted_dx[4 * tile + j] += b * products[at(plane, tile, c)];
                        }
                    }
                    for (j, a) in winograd::OUTPUT_TRANSFORM.iter().enumerate().filter(|(j, _)| 4 * tile + j < bins) {
                        let sum: f32 = (0..TILE_IN).map(|plane| a[plane] * products[at(plane, tile, c)]).sum();
                        let wanted = if relu { (sum + bias[c]).max(0.0) } else { sum + bias[c] };
                        assert_close(kernels.name(), &[y[(4 * tile + j) * channels + c]], &[wanted], 30.0);
                    }
                }
                for bin in 0..bins {
                    assert_close(kernels.name(), &[dx[bin * channels + c]], &[wanted_dx[bin + low]], 30.0);
                }
            }
            for c in channels..panels * PANEL {
                prop_assert!(planes.iter().all(|planes| planes[at(5, count - 1, c)] == 0.0), "lanes beyond are zero");
            }
        }
    }

    #[test]
    fn passes_equal_the_scalar_ones(channels in 1usize..70, rows in 1usize..20, relu: bool) {
        let len = channels * rows;
        let (x, dy) = (noise(len, 1), noise(len, 2));
        let affine = [&noise(channels, 3)[..], &noise(channels, 4)[..]];
        let coefficients = [&noise(channels, 5)[..], &noise(channels, 6)[..], &noise(channels, 7)[..]];
        let mean = noise(channels, 8);
        let run = |kernels: Kernels| {
            let sums = || noise(2 * channels, 9);
            let [mut normal, mut gradient, mut masked, mut rest, mut dx, mut scaled] = [(); 6].map(|()| dy.clone());
            let [mut moments, mut normalize_sums] = [sums(), sums()];
            let mut columns = noise(channels, 9);
            kernels.normalize(&x, affine, relu, &mut normal);
            kernels.normalize_gradient(&x, affine, relu, coefficients, &mut gradient);
            kernels.mask_gradient(&x, &mut masked);
            let y: Vec<f32> = x.iter().enumerate().map(|(i, &x)| if i % 3 == 0 { x } else { 2.0 }).collect();
            kernels.deliver_maximum(&x, &y, &mut rest, relu, &mut dx);
            kernels.add_scaled(&mut scaled, 0.3, &x);
            kernels.add_moments(&x, &mut moments);
            kernels.add_normalize_sums(&x, &dy, affine, relu, &mean, &mut normalize_sums);
            kernels.add_columns(&x, &mut columns);
            [normal, gradient, masked, rest, dx, scaled, moments, normalize_sums, columns]
        };
        let wanted = run(Kernels::scalar());
        for kernels in Kernels::available() {
            for (found, wanted) in run(kernels).iter().zip(&wanted) {
                assert_close(kernels.name(), found, wanted, 3.0 * rows as f32);
            }
        }
    }
}

#[test]
#[should_panic(expected = "gradient too short")]
fn a_gradient_beyond_its_slice_is_refused() {
    let gradient = TapGradient {
        input: &[0.0; 8],
        offsets: &[0],
        step: 4,
        positions: 2,
        depth: 4,
        dy: &[0.0; 2 * PANEL - 1],
        dy_step: PANEL,
        panels: 1,
    };
    Kernels::detect().tap_gradient(&gradient, &mut [0.0; 4 * PANEL]);
}

#[test]
#[should_panic(expected = "weights too short")]
fn a_tile_product_beyond_its_weights_is_refused() {
    let weights = pack_taps(1, 4, TAPS, |_, _, _| 1.0);
    let product = TileProduct {
        planes: [&[0.0; 8]; TILE_IN],
        groups: 2,
        positions: 1,
        depth: 4,
        weights: TapWeights::Floats(&weights),
        channels: 1,
    };
    let mut out = [[0.0; 1]; TILE_IN];
    Kernels::detect().tile_product(&product, &mut out.each_mut().map(|plane| &mut plane[..]));
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
        weights: TapWeights::Floats(&weights),
        channels: 1,
        bias: None,
        relu: false,
        out_step: 1,
    };
    Kernels::detect().tap_product(&product, &mut [0.0; 2]);
}
