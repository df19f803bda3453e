//! Many channels to one.

/// Appends the mean of the channels of every frame of `interleaved` (`[frame][channel]`) to `mono`, values clipped to
/// [−1, 1]. Values that are not finite become 0; returns how many.
pub fn mix(interleaved: &[f32], channels: usize, mono: &mut Vec<f32>) -> u64 {
    let mut replaced = 0;
    let mut clean = |value: f32| {
        if value.is_finite() {
            value.clamp(-1.0, 1.0)
        } else {
            replaced += 1;
            0.0
        }
    };
    if channels == 1 {
        mono.extend(interleaved.iter().map(|&value| clean(value)));
    } else {
        let frames = interleaved.chunks_exact(channels);
        mono.extend(frames.map(|frame| frame.iter().map(|&value| clean(value)).sum::<f32>() / channels as f32));
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_of_channels_and_nothing_but_numbers() {
        let mut mono = vec![0.25];
        assert_eq!(mix(&[0.5, -0.25, 1.0, 0.0], 2, &mut mono), 0);
        assert_eq!(mono, [0.25, 0.125, 0.5]);
        mono.clear();
        assert_eq!(mix(&[f32::NAN, f32::INFINITY, 7.0, f32::NEG_INFINITY, -1.5], 1, &mut mono), 3);
        assert_eq!(mono, [0.0, 0.0, 1.0, 0.0, -1.0]);
    }
}
