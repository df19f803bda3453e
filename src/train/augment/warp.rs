//! Stretching the image: time as if spoken at another tempo, frequency as if by another vocal tract.

/// Columns `[frames, bins]` at `factor` times the tempo: `frames / factor` columns, interpolated linearly. The pitch stays.
pub fn tempo(columns: &[f32], bins: usize, factor: f32) -> Vec<f32> {
    let frames = columns.len() / bins;
    let stretched = (frames as f32 / factor).round() as usize;
    let mut result = Vec::with_capacity(stretched * bins);
    for t in 0..stretched {
        // Frame centres map to each other, so that both ends are kept.
        let position = ((t as f32 + 0.5) * factor - 0.5).clamp(0.0, frames.saturating_sub(1) as f32);
        let (left, part) = (position as usize, position.fract());
        let right = (left + 1).min(frames - 1);
        let [left, right] = [left, right].map(|t| &columns[t * bins..][..bins]);
        result.extend(left.iter().zip(right).map(|(a, b)| a + part * (b - a)));
    }
    result
}

/// Vocal tract length perturbation (Jaitly & Hinton 2013): formants at `scale` times their frequency.
#[derive(Debug, Clone)]
pub struct VocalTract {
    /// For each bin the bin below the place its value comes from, and how far above that the place is, in bins.
    sources: Vec<(usize, f32)>,
}

/// Where the warp bends so that the highest frequency stays in place: above the formants (the paper's `F_hi`).
const BEND_HZ: f64 = 4800.0;

impl VocalTract {
    /// For bins at `centres_hz`, which rise.
    pub fn new(centres_hz: &[f64], scale: f32) -> Self {
        let (scale, top) = (f64::from(scale), centres_hz.last().copied().unwrap_or(0.0));
        // The paper's map takes f to scale · f below the bend and to a line through (top, top) above; this is its inverse.
        let bend = BEND_HZ.min(0.8 * top) * scale.min(1.0);
        let source_hz = |hz: f64| {
            if hz <= bend { hz / scale } else { top - (top - bend / scale) / (top - bend) * (top - hz) }
        };
        let place = |hz: f64| {
            let above = centres_hz.partition_point(|&centre| centre <= hz).clamp(1, centres_hz.len().max(2) - 1);
            let [low, high] = [above - 1, above].map(|bin| centres_hz.get(bin).copied().unwrap_or(hz));
            (above - 1, if high > low { ((hz - low) / (high - low)).clamp(0.0, 1.0) as f32 } else { 0.0 })
        };
        Self { sources: centres_hz.iter().map(|&hz| place(source_hz(hz))).collect() }
    }

    /// Warps columns, `[frames, bins]`.
    pub fn apply(&self, columns: &mut [f32]) {
        let bins = self.sources.len();
        let mut old = vec![0.0; bins];
        for column in columns.chunks_exact_mut(bins) {
            old.copy_from_slice(column);
            for (value, &(bin, part)) in column.iter_mut().zip(&self.sources) {
                *value = old[bin] + part * (old[(bin + 1).min(bins - 1)] - old[bin]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tempo_moves_a_ramp() {
        let ramp: Vec<f32> = (0..40).flat_map(|t| [t as f32, -(t as f32)]).collect();
        assert_eq!(tempo(&ramp, 2, 1.0), ramp);
        for factor in [0.8f32, 1.25, 2.0] {
            let stretched = tempo(&ramp, 2, factor);
            assert_eq!(stretched.len() / 2, (40.0 / factor).round() as usize);
            for (t, column) in stretched.chunks(2).enumerate() {
                let expected = ((t as f32 + 0.5) * factor - 0.5).clamp(0.0, 39.0);
                assert!((column[0] - expected).abs() < 1e-4 && column[1] == -column[0], "{t}: {column:?}");
            }
        }
        assert!(tempo(&[], 2, 1.1).is_empty());
        assert_eq!(tempo(&[5.0, 6.0], 2, 0.5), [5.0, 6.0, 5.0, 6.0]);
    }

    #[test]
    fn a_formant_moves_by_the_scale() {
        let centres_hz: Vec<f64> = (0..80).map(|bin| 50.0 + 95.0 * f64::from(bin)).collect();
        for scale in [0.85f32, 1.0, 1.15] {
            let mut column: Vec<f32> = centres_hz.iter().map(|hz| -((hz - 2000.0) / 300.0).powi(2) as f32).collect();
            let original = column.clone();
            VocalTract::new(&centres_hz, scale).apply(&mut column);
            let peak = (0..80).max_by(|&a, &b| column[a].total_cmp(&column[b])).unwrap();
            assert!((centres_hz[peak] - 2000.0 * f64::from(scale)).abs() < 60.0, "{scale}: {}", centres_hz[peak]);
            assert!((column[79] - original[79]).abs() < 1.0);
            assert!(scale != 1.0 || column.iter().zip(&original).all(|(a, b)| (a - b).abs() < 1e-3));
        }
        VocalTract::new(&[100.0], 1.2).apply(&mut [1.0]);
    }
}
