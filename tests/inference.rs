//! The streaming engine against the plain mathematics over a whole utterance, on random networks of every layer kind.

use std::sync::Arc;

use dfcnn::inference::Session;
use dfcnn::inference::native::{NativeNetwork, NativeSession};
use dfcnn::kernels::Kernels;
use proptest::prelude::*;

mod plain;
mod random_network;

use random_network::{Noise, int8_network, network, streamed};

/// Difference allowed from the plain f64 mathematics, and between two ways to split the input.
const TOLERANCE: f64 = 1e-4;
/// The same in 8 bits for one value, and for their mean.
const STEPS: f64 = 0.1;
const MEAN_STEPS: f64 = 5e-3;

/// Whether two streams made the same but for rounding, or to the last bit.
fn same(a: &[f32], b: &[f32], bits: bool) -> bool {
    let close = |(a, b): (&f32, &f32)| f64::from((a - b).abs()) < TOLERANCE;
    a.len() == b.len() && if bits { a == b } else { a.iter().zip(b).all(close) }
}

/// More frames in one push than walk through any stage together.
#[test]
fn a_long_push_is_the_same_as_short_ones() {
    for seed in 0..6 {
        for ((architecture, weights), bits) in [(network(seed), false), (int8_network(seed), true)] {
            let width = architecture.input().len();
            let input = Noise(seed ^ 1).values(2_500 * width);
            let network = Arc::new(NativeNetwork::new(&architecture, &weights).unwrap());
            let mut session = NativeSession::new(Arc::clone(&network), 1).unwrap();
            let short = streamed(&mut session, &input, width, &[17]);
            for threads in [1, 2] {
                let mut session = NativeSession::new(Arc::clone(&network), threads).unwrap();
                let long = streamed(&mut session, &input, width, &[2_500]);
                assert!(same(&long, &short, bits), "{seed}, {threads} threads");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Pushes long enough for several threads, and others in between.
    #[test]
    fn threads_change_nothing(
        seed: u64,
        threads in 2usize..6,
        pieces in prop::collection::vec(1usize..500, 1..5),
    ) {
        for ((architecture, weights), bits) in [(network(seed), false), (int8_network(seed), true)] {
            let width = architecture.input().len();
            let input = Noise(seed ^ 3).values(700 * width);
            let network = Arc::new(NativeNetwork::new(&architecture, &weights).unwrap());
            let alone = streamed(&mut NativeSession::new(Arc::clone(&network), 1).unwrap(), &input, width, &[17]);
            let mut session = NativeSession::new(network, threads).unwrap();
            prop_assert!(same(&streamed(&mut session, &input, width, &pieces), &alone, bits));
            // Poison before a reset must not show after it, whoever held it.
            session.push(&vec![f32::NAN; 300 * width], &mut Vec::new()).unwrap();
            session.reset();
            prop_assert!(same(&streamed(&mut session, &input, width, &pieces), &alone, bits));
        }
    }

    #[test]
    fn streaming_equals_the_plain_mathematics(
        seed: u64,
        frames in 0usize..150,
        pieces in prop::collection::vec(1usize..40, 1..6),
    ) {
        let (architecture, weights) = network(seed);
        let width = architecture.input().len();
        let input = Noise(seed ^ 1).values(frames * width);
        let wanted = plain::forward(&architecture, &weights, &input);
        prop_assert_eq!(wanted.len(), architecture.output_frames(frames) * architecture.output().len());
        for kernels in Kernels::available() {
            let network = Arc::new(NativeNetwork::with_kernels(&architecture, &weights, kernels).unwrap());
            let mut session = NativeSession::new(Arc::clone(&network), 1).unwrap();
            let whole = streamed(&mut session, &input, width, &[frames.max(1)]);
            prop_assert_eq!(whole.len(), wanted.len());
            for (a, b) in whole.iter().zip(&wanted) {
                prop_assert!((f64::from(*a) - b).abs() < TOLERANCE, "{} instead of {} ({:?})", a, b, kernels);
            }
            // The same session again, in pieces and with two threads.
            prop_assert!(same(&streamed(&mut session, &input, width, &pieces), &whole, false));
            let mut session = NativeSession::new(network, 2).unwrap();
            prop_assert!(same(&streamed(&mut session, &input, width, &pieces), &whole, false));
            // As little as a live stream pushes: not a bit may change.
            let single = streamed(&mut session, &input, width, &[1]);
            prop_assert_eq!(&streamed(&mut session, &input, width, &[3, 1, 2]), &single);
            prop_assert!(same(&single, &whole, false));
        }
    }

    #[test]
    fn eight_bits_are_the_plain_mathematics_but_for_a_step_here_and_there(
        seed: u64,
        frames in 1usize..100,
        pieces in prop::collection::vec(1usize..40, 1..6),
    ) {
        let (architecture, weights) = int8_network(seed);
        let width = architecture.input().len();
        let input = Noise(seed ^ 1).values(frames * width);
        let plain = plain::forward(&architecture, &weights, &input);
        for kernels in Kernels::available() {
            let network = Arc::new(NativeNetwork::with_kernels(&architecture, &weights, kernels).unwrap());
            let mut session = NativeSession::new(Arc::clone(&network), 1).unwrap();
            let whole = streamed(&mut session, &input, width, &[frames]);
            prop_assert_eq!(whole.len(), plain.len());
            // A value between two bytes may be rounded to either, which changes what follows by a step.
            let apart: Vec<f64> = whole.iter().zip(&plain).map(|(a, b)| (f64::from(*a) - b).abs()).collect();
            let (most, mean) = (apart.iter().copied().fold(0.0, f64::max), apart.iter().sum::<f64>());
            prop_assert!(most < STEPS && mean <= MEAN_STEPS * apart.len() as f64, "{} ({:?})", most, kernels);
            prop_assert_eq!(&streamed(&mut session, &input, width, &pieces), &whole);
            let mut session = NativeSession::new(network, 2).unwrap();
            prop_assert_eq!(&streamed(&mut session, &input, width, &pieces), &whole);
            // Poison before a reset must not show after it.
            session.push(&vec![f32::NAN; 50 * width], &mut Vec::new()).unwrap();
            session.reset();
            prop_assert_eq!(&streamed(&mut session, &input, width, &pieces), &whole);
        }
    }

    #[test]
    fn an_output_comes_as_soon_as_its_lookahead_allows(seed: u64, frames in 1usize..120) {
        let (architecture, weights) = network(seed);
        let width = architecture.input().len();
        let input = Noise(seed ^ 2).values(frames * width);
        let network = Arc::new(NativeNetwork::new(&architecture, &weights).unwrap());
        let mut session = NativeSession::new(network, 1).unwrap();
        let mut outputs = Vec::new();
        session.push(&input, &mut outputs).unwrap();
        // Output t needs the frames up to t · stride + lookahead.
        let ready = frames.checked_sub(architecture.lookahead() + 1).map_or(0, |rest| rest / architecture.time_stride() + 1);
        prop_assert_eq!(outputs.len() / architecture.output().len(), ready.min(architecture.output_frames(frames)));
        // A reset forgets: poison before it must not show after it.
        session.push(&vec![f32::NAN; 50 * width], &mut Vec::new()).unwrap();
        session.reset();
        let mut again = Vec::new();
        session.push(&input, &mut again).unwrap();
        prop_assert_eq!(outputs, again);
    }
}

#[test]
fn a_stream_runs_on_the_threads_of_others() {
    let (architecture, weights) = network(4);
    let width = architecture.input().len();
    let input = Noise(4).values(100 * width);
    let network = Arc::new(NativeNetwork::new(&architecture, &weights).unwrap());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for threads in [1, 2] {
        let heard = pool.broadcast(|_| {
            let mut session = NativeSession::new(Arc::clone(&network), threads).unwrap();
            streamed(&mut session, &input, width, &[100])
        });
        assert!(heard.iter().all(|outputs| same(outputs, &heard[0], true)), "{threads} threads");
    }
}

#[test]
fn half_a_frame_is_refused() {
    let (architecture, weights) = network(3);
    let network = Arc::new(NativeNetwork::new(&architecture, &weights).unwrap());
    let mut session = NativeSession::new(network, 1).unwrap();
    let error = session.push(&vec![0.0; architecture.input().len() + 1], &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("whole frames"), "{error}");
}
