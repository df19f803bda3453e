//! Winograd's minimal filtering F(4, 3) along the frequency axis (Lavin & Gray 2015).
//!
//! Four neighbouring outputs of a filter of three taps take 6 products instead of 12:
//! `y = A^T [(G g) ⊙ (B^T d)]`, where `d` are the 6 input bins under the tile, `g` the 3 taps and `y` the 4 outputs.
//! Time stays as it is, so a row transformed once serves every time tap, and the convolution streams.

/// Input bins under a tile.
pub const TILE_IN: usize = 6;
/// Output bins of a tile.
pub const TILE_OUT: usize = 4;
/// Taps of the filter.
pub const TAPS: usize = 3;

/// `B^T`.
#[cfg(test)]
pub const INPUT_TRANSFORM: [[f32; TILE_IN]; TILE_IN] = [
    [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
    [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
    [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
    [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
    [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
];

/// `G`.
pub const FILTER_TRANSFORM: [[f64; TAPS]; TILE_IN] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// `A^T`.
pub const OUTPUT_TRANSFORM: [[f32; TILE_IN]; TILE_OUT] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
];

/// Row `plane` of `G g`: the weight that takes the place of the three taps in that plane's product.
pub fn transform_filter(taps: [f32; TAPS], plane: usize) -> f32 {
    FILTER_TRANSFORM[plane].iter().zip(taps).map(|(g, tap)| g * f64::from(tap)).sum::<f64>() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_outputs_from_six_products() {
        let d = [0.3f32, -1.2, 0.8, 2.0, -0.7, 0.1];
        let g = [0.5f32, -0.25, 1.5];
        let products: Vec<f32> = (0..TILE_IN)
            .map(|i| transform_filter(g, i) * INPUT_TRANSFORM[i].iter().zip(d).map(|(b, d)| b * d).sum::<f32>())
            .collect();
        for (i, row) in OUTPUT_TRANSFORM.iter().enumerate() {
            let y: f32 = row.iter().zip(&products).map(|(a, m)| a * m).sum();
            let direct: f32 = g.iter().zip(&d[i..]).map(|(g, d)| g * d).sum();
            assert!((y - direct).abs() < 1e-5, "output {i}: {y} instead of {direct}");
        }
    }
}
