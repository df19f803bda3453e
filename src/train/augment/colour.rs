//! The microphone and the line: a gain for every bin, in dB, which adds up and is applied once.

use std::ops::Range;

/// Tilts the spectrum by `db_per_octave` around 1 kHz. `gains_db` is `[bins]`, at `centres_hz`.
pub fn tilt(gains_db: &mut [f32], centres_hz: &[f64], db_per_octave: f32) {
    for (gain, hz) in gains_db.iter_mut().zip(centres_hz) {
        // Below 50 Hz a tilt per octave has no end.
        *gain += db_per_octave * (hz.max(50.0) / 1000.0).log2() as f32;
    }
}

/// Lets a band pass, as a telephone does, and falls by `db_per_octave` on both sides of it.
pub fn band(gains_db: &mut [f32], centres_hz: &[f64], band_hz: Range<f32>, db_per_octave: f32) {
    let (low, high) = (f64::from(band_hz.start), f64::from(band_hz.end));
    for (gain, &hz) in gains_db.iter_mut().zip(centres_hz) {
        let octaves = (low / hz.max(1.0)).log2().max((hz.max(1.0) / high).log2()).max(0.0);
        *gain -= db_per_octave * octaves as f32;
    }
}

/// Applies gains `[bins]` to power `[frames, bins]`.
pub fn apply(power: &mut [f32], gains_db: &[f32]) {
    let factors: Vec<f32> = gains_db.iter().map(|db| 10f32.powf(db / 10.0)).collect();
    for column in power.chunks_exact_mut(factors.len()) {
        column.iter_mut().zip(&factors).for_each(|(power, factor)| *power *= factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CENTRES_HZ: [f64; 5] = [125.0, 500.0, 1000.0, 2000.0, 8000.0];

    #[test]
    fn gains_in_db() {
        let mut gains = [3.0; 5];
        tilt(&mut gains, &CENTRES_HZ, -2.0);
        assert_eq!(gains, [9.0, 5.0, 3.0, 1.0, -3.0]);
        let mut gains = [0.0; 5];
        band(&mut gains, &CENTRES_HZ, 250.0..4000.0, 48.0);
        assert_eq!(gains, [-48.0, 0.0, 0.0, 0.0, -48.0]);
        let mut power = [1.0; 10];
        apply(&mut power, &[10.0, 0.0, -10.0, 20.0, 0.0]);
        assert_eq!(power[..5], power[5..]);
        assert!((power[0] - 10.0).abs() < 1e-5 && (power[2] - 0.1).abs() < 1e-6 && (power[3] - 100.0).abs() < 1e-4);
    }
}
