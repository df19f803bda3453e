//! What adds up in power: noise, other voices, and the echoes of a room.

use crate::random::Random;

/// Adds `other`, `factor` times, from its value `start` on and over again as often as it takes.
pub fn add(power: &mut [f32], other: &[f32], factor: f32, start: usize) {
    if !other.is_empty() {
        let around = other[start.min(other.len())..].iter().chain(other.iter().cycle());
        power.iter_mut().zip(around).for_each(|(power, other)| *power += factor * other);
    }
}

/// Adds noise of the same shape at a signal-to-noise ratio in dB, both taken as means over everything. Silence stays.
pub fn mix(power: &mut [f32], noise: &[f32], ratio_db: f32) {
    let total = |power: &[f32]| power.iter().map(|&p| f64::from(p)).sum::<f64>();
    let noise_power = total(noise);
    if noise_power > 0.0 {
        let factor = total(power) / noise_power * 10f64.powf(-f64::from(ratio_db) / 10.0);
        add(power, noise, factor as f32, 0);
    }
}

/// Noise whose power density falls as `1 / f^exponent`: 0 white, 1 pink, 2 brown. `[frames, bins]` for bins at
/// `centres_hz`, at no particular level.
pub fn coloured_noise(frames: usize, centres_hz: &[f64], exponent: f32, random: &mut Random) -> Vec<f32> {
    let bins = centres_hz.len();
    let centre = |bin: usize| centres_hz[bin.min(bins - 1)];
    let levels: Vec<f32> = (0..bins)
        .map(|bin| {
            let width_hz = (centre(bin + 1) - centre(bin.saturating_sub(1))).max(1.0);
            (width_hz * centre(bin).max(50.0).powf(-f64::from(exponent))) as f32
        })
        .collect();
    // The power of Gaussian noise under one filter is about the mean of two exponential variables.
    let mut exponential = || -(1.0 - random.unit()).ln();
    (0..frames).flat_map(|_| levels.iter()).map(|level| level * 0.5 * (exponential() + exponential())).collect()
}

/// What a speech codec at a low rate does to power `[frames, bins]`: noise that follows the spectrum of each frame
/// `ratio_db` below it, and may fill what lies between its peaks (the noise shaping of CELP, Schroeder & Atal 1985).
pub fn encode(power: &mut [f32], bins: usize, ratio_db: f32, random: &mut Random) {
    /// Bins to either side over which the noise is spread.
    const REACH: usize = 3;
    let factor = 10f32.powf(-ratio_db / 10.0);
    let mut envelope = vec![0.0; bins];
    for column in power.chunks_exact_mut(bins) {
        for (bin, level) in envelope.iter_mut().enumerate() {
            let around = &column[bin.saturating_sub(REACH)..(bin + REACH + 1).min(bins)];
            *level = around.iter().sum::<f32>() / around.len() as f32;
        }
        for (power, level) in column.iter_mut().zip(&envelope) {
            *power += factor * level * -(1.0 - random.unit()).ln();
        }
    }
}

/// Echoes that die away by 60 dB in `seconds` (Sabine's reverberation time), `direct_db` above which the direct sound
/// stands. `power` is `[frames, bins]`, frames `hop_s` apart.
pub fn reverberate(power: &mut [f32], bins: usize, seconds: f32, hop_s: f32, direct_db: f32) {
    let decay = 10f32.powf(-6.0 * hop_s / seconds.max(hop_s));
    // Σ_{n ≥ 1} share · decay^n = echoes / direct.
    let share = 10f32.powf(-direct_db / 10.0) * (1.0 - decay) / decay;
    let mut echoes = vec![0.0; bins];
    for column in power.chunks_exact_mut(bins) {
        for (power, echo) in column.iter_mut().zip(&mut echoes) {
            let direct = *power;
            *power += share * *echo;
            *echo = decay * (*echo + direct);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_keeps_the_ratio() {
        let noise = coloured_noise(100, &[100.0, 200.0, 400.0], 1.0, &mut Random::new(1));
        let mut power = vec![2.0; 300];
        mix(&mut power, &noise, 10.0);
        let added: f32 = power.iter().map(|p| p - 2.0).sum();
        assert!((added / 600.0 - 0.1).abs() < 1e-3, "{added}");
        mix(&mut power, &[0.0; 300], 10.0);
        let mut silence = [0.0; 3];
        mix(&mut silence, &[1.0; 3], 0.0);
        assert_eq!(silence, [0.0; 3]);
        let mut power = [0.0; 5];
        add(&mut power, &[1.0, 2.0, 3.0], 2.0, 2);
        assert_eq!(power, [6.0, 2.0, 4.0, 6.0, 2.0]);
        add(&mut power, &[], 1.0, 0);
    }

    #[test]
    fn noise_has_its_colour() {
        let centres_hz: Vec<f64> = (1..=64).map(|bin| 100.0 * f64::from(bin)).collect();
        for exponent in [0.0, 1.0, 2.0] {
            let noise = coloured_noise(2000, &centres_hz, exponent, &mut Random::new(1));
            let mean = |bin: usize| noise.iter().skip(bin).step_by(64).sum::<f32>() / 2000.0;
            // 200 Hz against 3200 Hz: four octaves.
            let octaves = (mean(1) / mean(31)).log2() / 4.0;
            assert!((octaves - exponent).abs() < 0.05, "{octaves} {exponent}");
        }
    }

    #[test]
    fn a_codecs_noise_follows_the_spectrum() {
        let mut random = Random::new(3);
        let mut power: Vec<f32> = (0..4000).flat_map(|_| (0..20).map(|bin| if bin < 10 { 4.0 } else { 0.0 })).collect();
        encode(&mut power, 20, 10.0, &mut random);
        let mean = |bin: usize| power.iter().skip(bin).step_by(20).sum::<f32>() / 4000.0;
        assert!((mean(4) - 4.4).abs() < 0.02, "{}", mean(4));
        assert!(mean(11) > 0.05 && mean(15) == 0.0, "the noise fills the neighbours of sound, not silence");
        let mut silence = [0.0; 40];
        encode(&mut silence, 20, 0.0, &mut random);
        assert_eq!(silence, [0.0; 40]);
    }

    #[test]
    fn echoes_die_away_by_60_db() {
        let mut power = vec![0.0; 2 * 101];
        (power[0], power[1]) = (1.0, 3.0);
        reverberate(&mut power, 2, 0.5, 0.01, 6.0);
        assert_eq!(power[..2], [1.0, 3.0]);
        let ratio: f32 = power[2..].iter().step_by(2).sum();
        assert!((10.0 * ratio.log10() + 6.0).abs() < 0.01, "{ratio}");
        assert!((10.0 * (power[2 * 51] / power[2]).log10() + 60.0).abs() < 0.1);
        assert!((power[5] / power[4] - 3.0).abs() < 1e-4);
    }
}
