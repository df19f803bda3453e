//! Gradient clipping by global norm (Pascanu et al. 2013).

/// The Euclidean norm of all gradients together, before clipping; if it is above `greatest`, all are scaled down to it.
/// A norm that is not finite comes back as it is and nothing is changed: skip that step.
pub fn clip_global_norm(gradients: &mut [&mut [f32]], greatest: f32) -> f32 {
    let square = |gradient: &[f32]| gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
    let norm = gradients.iter().map(|gradient| square(gradient)).sum::<f64>().sqrt() as f32;
    if norm.is_finite() && norm > greatest {
        let scale = greatest / norm;
        gradients.iter_mut().flat_map(|gradient| gradient.iter_mut()).for_each(|g| *g *= scale);
    }
    norm
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
