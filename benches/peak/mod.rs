//! How many products and sums a core can do at best.

use std::hint::black_box;

use cpu_time::ThreadTime;

/// GFLOP per CPU second of fused multiply-adds that wait for nothing, on one core while `threads` of them do it: the best
/// of several tries. `None` where nobody has written the loop for this machine.
pub fn fma_peak(threads: usize) -> Option<f64> {
    const TRIES: usize = 20;
    const ROUNDS: usize = 1_000_000;
    let flop = fused::loop_for_this_machine()?;
    let best = || {
        let tries = (0..TRIES).map(|_| {
            let start = ThreadTime::now();
            let flop = flop(black_box(ROUNDS));
            flop / start.elapsed().as_secs_f64() * 1e-9
        });
        tries.fold(0.0, f64::max)
    };
    let all: Vec<f64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(best)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    Some(all.iter().sum::<f64>() / threads as f64)
}

#[cfg(target_arch = "x86_64")]
mod fused {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Sums that wait for nothing: more than latency times units.
    const SUMS: usize = 12;

    pub fn loop_for_this_machine() -> Option<fn(usize) -> f64> {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512.
            Some(|rounds| unsafe { avx512(rounds) })
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has AVX2 and FMA.
            Some(|rounds| unsafe { avx2(rounds) })
        } else {
            None
        }
    }

    #[target_feature(enable = "avx512f")]
    fn avx512(rounds: usize) -> f64 {
        let [factor, summand] = [0.999, 0.001].map(|x| _mm512_set1_ps(black_box(x)));
        let mut sums = [factor; SUMS];
        for _ in 0..rounds {
            sums.iter_mut().for_each(|sum| *sum = _mm512_fmadd_ps(*sum, factor, summand));
        }
        black_box(sums.map(|sum| _mm512_reduce_add_ps(sum)));
        (2 * 16 * SUMS * rounds) as f64
    }

    #[target_feature(enable = "avx2,fma")]
    fn avx2(rounds: usize) -> f64 {
        let [factor, summand] = [0.999, 0.001].map(|x| _mm256_set1_ps(black_box(x)));
        let mut sums = [factor; SUMS];
        for _ in 0..rounds {
            sums.iter_mut().for_each(|sum| *sum = _mm256_fmadd_ps(*sum, factor, summand));
        }
        black_box(sums.map(|sum| _mm256_cvtss_f32(sum)));
        (2 * 8 * SUMS * rounds) as f64
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod fused {
    pub fn loop_for_this_machine() -> Option<fn(usize) -> f64> {
        None
    }
}
