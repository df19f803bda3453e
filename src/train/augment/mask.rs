//! SpecAugment (Park et al. 2019): holes in the image, so that the network learns to hear from what is left.

use crate::random::Random;

/// Covers up to `count` stretches of up to `greatest` frames, and no more than `part` of the utterance each, with `fill`
/// `[bins]`. `columns` is `[frames, bins]`.
pub fn time(columns: &mut [f32], fill: &[f32], count: usize, greatest: usize, part: f32, random: &mut Random) {
    let frames = columns.len() / fill.len();
    let greatest = greatest.min((part * frames as f32) as usize);
    for _ in 0..count {
        let extent = random.below(greatest + 1);
        let start = random.below(frames - extent + 1);
        columns[start * fill.len()..][..extent * fill.len()]
            .chunks_exact_mut(fill.len())
            .for_each(|c| c.copy_from_slice(fill));
    }
}

/// Covers up to `count` bands of up to `greatest` bins with `fill` `[bins]`. `columns` is `[frames, bins]`.
pub fn frequency(columns: &mut [f32], fill: &[f32], count: usize, greatest: usize, random: &mut Random) {
    let bins = fill.len();
    for _ in 0..count {
        let extent = random.below(greatest.min(bins) + 1);
        let start = random.below(bins - extent + 1);
        let band = start..start + extent;
        columns.chunks_exact_mut(bins).for_each(|column| column[band.clone()].copy_from_slice(&fill[band.clone()]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_whole_frames_or_whole_bins() {
        let fill = [1.0, 2.0, 3.0, 4.0];
        let (mut frames_hit, mut bins_hit) = ([0; 50], [0; 4]);
        for seed in 0..400 {
            let mut columns = vec![0.0; 200];
            time(&mut columns, &fill, 1, 30, 0.2, &mut Random::new(seed));
            let hit: Vec<usize> = (0..50).filter(|t| columns[t * 4..][..4] == fill).collect();
            assert!(hit.len() <= 10 && hit.windows(2).all(|pair| pair[1] == pair[0] + 1));
            assert_eq!(columns.iter().filter(|&&x| x != 0.0).count(), 4 * hit.len());
            hit.into_iter().for_each(|t| frames_hit[t] += 1);

            let mut columns = vec![0.0; 200];
            frequency(&mut columns, &fill, 1, 2, &mut Random::new(seed));
            let hit: Vec<usize> = (0..4).filter(|b| (0..50).all(|t| columns[t * 4 + b] == fill[*b])).collect();
            assert!(hit.len() <= 2);
            assert_eq!(columns.iter().filter(|&&x| x != 0.0).count(), 50 * hit.len());
            hit.into_iter().for_each(|b| bins_hit[b] += 1);
        }
        assert!(frames_hit.iter().chain(&bins_hit).all(|&hits| hits > 0), "{frames_hit:?} {bins_hit:?}");
        time(&mut [], &fill, 2, 30, 0.2, &mut Random::new(1));
    }
}
