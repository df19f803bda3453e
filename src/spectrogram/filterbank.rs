//! How the points of a spectrum add up to the bins of a column.

use super::{Scale, Settings};

/// A filter narrower than the spectrum's resolution can miss every point; one whose weights sum to less than this
/// listens to the point nearest to its centre instead.
const LEAST_SUM: f64 = 1e-3;

/// One bin's weights over the points of the spectrum, without the zeros on both sides.
pub(super) struct Filter {
    start: usize,
    weights: Vec<f32>,
}

impl Filter {
    fn new(row: &[f64]) -> Self {
        let start = row.iter().position(|&weight| weight != 0.0).unwrap_or(0);
        let end = row.iter().rposition(|&weight| weight != 0.0).map_or(start, |last| last + 1);
        Self { start, weights: row[start..end].iter().map(|&weight| weight as f32).collect() }
    }

    /// One past the last point it looks at.
    pub(super) fn end(&self) -> usize {
        self.start + self.weights.len()
    }

    /// The weighted sum of `energies`, `[points]`.
    pub(super) fn apply(&self, energies: &[f32]) -> f32 {
        energies[self.start..self.end()].iter().zip(&self.weights).map(|(energy, weight)| energy * weight).sum()
    }
}

/// The filter of each bin, `[bins]`.
pub(super) fn filters(settings: &Settings) -> Vec<Filter> {
    match settings.scale {
        Scale::Mel { bins, low_hz, high_hz } => {
            let edges_hz = mel_points_hz(bins, low_hz, high_hz);
            edges_hz.windows(3).map(|edges| Filter::new(&triangle(edges, settings))).collect()
        }
        Scale::Linear { bins } => (0..bins).map(|start| Filter { start, weights: vec![1.0] }).collect(),
    }
}

/// The filters as a matrix `[bins, fft_size / 2 + 1]`.
pub(super) fn matrix(settings: &Settings) -> Vec<f32> {
    let points = settings.fft_size / 2 + 1;
    let filters = filters(settings);
    let mut matrix = vec![0.0; filters.len() * points];
    for (row, filter) in matrix.chunks_exact_mut(points).zip(&filters) {
        row[filter.start..filter.end()].copy_from_slice(&filter.weights);
    }
    matrix
}

/// The centre frequency of each bin, `[bins]`.
pub(super) fn centres_hz(settings: &Settings) -> Vec<f64> {
    match settings.scale {
        Scale::Mel { bins, low_hz, high_hz } => mel_points_hz(bins, low_hz, high_hz)[1..=bins].to_vec(),
        Scale::Linear { bins } => (0..bins).map(|point| point_hz(point, settings)).collect(),
    }
}

/// The weights `[fft_size / 2 + 1]` of a triangle of height 1 whose foot, tip and foot are `edges_hz`.
fn triangle(edges_hz: &[f64], settings: &Settings) -> Vec<f64> {
    let &[low, centre, high] = edges_hz else { unreachable!("a triangle has three corners") };
    let weight = |hz: f64| ((hz - low) / (centre - low)).min((high - hz) / (high - centre)).max(0.0);
    let mut row: Vec<f64> = (0..=settings.fft_size / 2).map(|point| weight(point_hz(point, settings))).collect();
    if row.iter().sum::<f64>() < LEAST_SUM {
        let nearest = (centre / point_hz(1, settings)).round() as usize;
        row[nearest.min(settings.fft_size / 2)] = 1.0;
    }
    row
}

/// `bins + 2` frequencies from `low_hz` to `high_hz`, equally spaced in mel.
fn mel_points_hz(bins: usize, low_hz: f64, high_hz: f64) -> Vec<f64> {
    let (low, high) = (mel(low_hz), mel(high_hz));
    (0..bins + 2).map(|i| hz(low + (high - low) * i as f64 / (bins + 1) as f64)).collect()
}

fn mel(hz: f64) -> f64 {
    2595.0 * (1.0 + hz / 700.0).log10()
}

fn hz(mel: f64) -> f64 {
    700.0 * (10f64.powf(mel / 2595.0) - 1.0)
}

/// The frequency of a point of the spectrum.
fn point_hz(point: usize, settings: &Settings) -> f64 {
    point as f64 * f64::from(settings.sample_rate_hz) / settings.fft_size as f64
}
