//! The order in which weights lie so that a kernel reads them front to back.

/// Output channels that lie side by side in packed weights.
pub const PANEL: usize = 16;

/// The number of panels that hold `channels` output channels.
pub fn panels(channels: usize) -> usize {
    channels.div_ceil(PANEL)
}

/// Packs `weight(out, depth, tap)` into `[panel][tap][depth][PANEL]`, zeros beyond the last output channel.
pub fn pack_taps<T: Copy + Default>(
    out_channels: usize,
    depth: usize,
    taps: usize,
    weight: impl Fn(usize, usize, usize) -> T,
) -> Vec<T> {
    let mut packed = vec![T::default(); panels(out_channels) * taps * depth * PANEL];
    for (index, lanes) in packed.chunks_exact_mut(PANEL).enumerate() {
        let (k, tap, panel) = (index % depth, index / depth % taps, index / depth / taps);
        for (lane, value) in lanes.iter_mut().enumerate() {
            let out = panel * PANEL + lane;
            if out < out_channels {
                *value = weight(out, k, tap);
            }
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
        let mut aligned = Self::zeros(values.len());
        aligned.copy_from_slice(values);
        aligned
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut values = vec![0.0; len + Self::LINE / size_of::<f32>()];
        // A place that cannot be aligned is only slower.
        let start = values.as_ptr().align_offset(Self::LINE).min(Self::LINE / size_of::<f32>());
        values.truncate(start + len);
        Self { values, start }
    }

    /// Values of whatever was there before, at least `len` of them.
    pub fn at_least(&mut self, len: usize) -> &mut [f32] {
        if self.len() < len {
            *self = Self::zeros(len);
        }
        self
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.start..]
    }
}

impl Default for Aligned {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..]
    }
}
