//! Gradient clipping by global norm (Pascanu et al. 2013).

use rayon::prelude::*;

/// The Euclidean norm of all gradients together, before clipping; if it is above `greatest`, all are scaled down to it.
/// A norm that is not finite comes back as it is and nothing is changed: skip that step.
pub fn clip_global_norm(gradients: &mut [&mut [f32]], greatest: f32) -> f32 {
    // Collected in order, so that the sum does not depend on who was first.
    let squares: Vec<f64> = gradients.par_iter().with_max_len(1).map(|gradient| square(gradient)).collect();
    let norm = squares.iter().sum::<f64>().sqrt() as f32;
    if norm.is_finite() && norm > greatest {
        let scale = greatest / norm;
        gradients.par_iter_mut().with_max_len(1).for_each(|gradient| gradient.iter_mut().for_each(|g| *g *= scale));
    }
    norm
}

/// The sum of squares, in lanes that need not wait for one another.
fn square(gradient: &[f32]) -> f64 {
    let mut lanes = [0.0; 16];
    let chunks = gradient.chunks_exact(lanes.len());
    let rest = chunks.remainder();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(sum, &g)| *sum += f64::from(g) * f64::from(g));
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_only_what_is_too_great() {
        let (mut a, mut b) = ([3.0, 0.0], [-4.0]);
        assert_eq!(clip_global_norm(&mut [&mut a, &mut b], 5.0), 5.0);
        assert_eq!((a, b), ([3.0, 0.0], [-4.0]));
        assert_eq!(clip_global_norm(&mut [&mut a, &mut b], 2.5), 5.0);
        assert_eq!((a, b), ([1.5, 0.0], [-2.0]));
        b[0] = f32::NAN;
        assert!(clip_global_norm(&mut [&mut a, &mut b], 1.0).is_nan());
        assert_eq!(a, [1.5, 0.0]);
        assert!(clip_global_norm(&mut [&mut [1e30], &mut [1e30]], 1.0) > 1e30);
    }
}
