//! Winograd's minimal filtering (Lavin & Gray 2015).
//!
//! F(4, 3): four neighbouring outputs of a filter of three taps take 6 products instead of 12:
//! `y = A^T [(G g) ⊙ (B^T d)]`, where `d` are the 6 inputs under the tile, `g` the 3 taps and `y` the 4 outputs.
//! F(2, 5): with the same `B^T`, two outputs of five taps take 6 products instead of 10.
//!
//! Along frequency, time stays as it is, so a row transformed once serves every time tap, and the convolution streams.

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

/// What the rows of `G` have in common: divided by it they are sums of taps and of twice and four times taps.
pub const FILTER_SCALE: [f32; TILE_IN] = [1.0 / 4.0, -1.0 / 6.0, -1.0 / 6.0, 1.0 / 24.0, 1.0 / 24.0, 1.0];

/// `A^T`.
pub const OUTPUT_TRANSFORM: [[f32; TILE_IN]; TILE_OUT] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
];

/// `A^T` of F(2, 5).
#[cfg(test)]
pub const PAIR_TRANSFORM: [[f32; TILE_IN]; 2] = [[1.0, 1.0, 1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 2.0, -2.0, 1.0]];

/// Where the polynomials behind the planes are taken; the last one's point is infinity.
const POINTS: [f64; TILE_IN - 1] = [0.0, 1.0, -1.0, 2.0, -2.0];

/// How [`TILE_IN`] products become outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// F(4, 3).
    Four,
    /// F(2, 5).
    Pair,
}

impl Form {
    /// Taps of the filter.
    pub fn taps(self) -> usize {
        match self {
            Self::Four => TAPS,
            Self::Pair => 5,
        }
    }

    /// Outputs of a tile.
    pub fn outputs(self) -> usize {
        TILE_IN + 1 - self.taps()
    }

    /// `G`: how much tap `tap` counts in the products of a plane.
    pub fn filter_factor(self, plane: usize, tap: usize) -> f32 {
        let factor = match POINTS.get(plane) {
            Some(point) => FILTER_TRANSFORM[plane][0] * point.powi(tap as i32),
            None => f64::from(u8::from(tap + 1 == self.taps())),
        };
        factor as f32
    }
}

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

    #[test]
    fn both_forms_from_the_same_inputs() {
        let d = [0.3f32, -1.2, 0.8, 2.0, -0.7, 0.1];
        for (form, transform) in [(Form::Four, &OUTPUT_TRANSFORM[..]), (Form::Pair, &PAIR_TRANSFORM[..])] {
            let g = &[0.5f32, -0.25, 1.5, 0.75, -2.0][..form.taps()];
            let filter = |i: usize| g.iter().enumerate().map(|(tap, g)| form.filter_factor(i, tap) * g).sum::<f32>();
            let products: Vec<f32> = (0..TILE_IN)
                .map(|i| filter(i) * INPUT_TRANSFORM[i].iter().zip(d).map(|(b, d)| b * d).sum::<f32>())
                .collect();
            assert_eq!(transform.len(), form.outputs());
            for (i, row) in transform.iter().enumerate() {
                let y: f32 = row.iter().zip(&products).map(|(a, m)| a * m).sum();
                let direct: f32 = g.iter().zip(&d[i..]).map(|(g, d)| g * d).sum();
                assert!((y - direct).abs() < 1e-5, "{form:?}, output {i}: {y} instead of {direct}");
            }
        }
    }
}
