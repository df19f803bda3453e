//! The order in which weights lie so that a kernel reads them front to back.

/// Output channels that lie side by side in packed weights.
pub const PANEL: usize = 16;

/// The number of panels that hold `channels` output channels.
pub fn panels(channels: usize) -> usize {
    channels.div_ceil(PANEL)
}

/// Packs `weight(out, depth, tap)` into `[panel][tap][depth][PANEL]`, zeros beyond the last output channel.
pub fn pack_taps(
    out_channels: usize,
    depth: usize,
    taps: usize,
    weight: impl Fn(usize, usize, usize) -> f32,
) -> Vec<f32> {
    let mut packed = vec![0.0; panels(out_channels) * taps * depth * PANEL];
    for (index, value) in packed.iter_mut().enumerate() {
        let (rest, lane) = (index / PANEL, index % PANEL);
        let (rest, k) = (rest / depth, rest % depth);
        let (panel, tap) = (rest / taps, rest % taps);
        let out = panel * PANEL + lane;
        if out < out_channels {
            *value = weight(out, k, tap);
        }
    }
    packed
}

/// Values that start on a cache line, so that no load of a packed weight crosses one.
pub struct Aligned {
    values: Vec<f32>,
    start: usize,
}

impl Aligned {
    /// Bytes in a cache line.
    const LINE: usize = 64;

    /// Copies `values` to a place that starts on a cache line.
    pub fn new(values: &[f32]) -> Self {
        let mut padded = vec![0.0; values.len() + Self::LINE / size_of::<f32>()];
        // A place that cannot be aligned is only slower.
        let start = padded.as_ptr().align_offset(Self::LINE).min(Self::LINE / size_of::<f32>());
        padded[start..start + values.len()].copy_from_slice(values);
        padded.truncate(start + values.len());
        Self { values: padded, start }
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.start..]
    }
}
