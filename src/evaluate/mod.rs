//! How far the text we hear is from what was said.

pub mod calibration;
pub mod edit_distance;
pub mod error_rate;
pub mod results;
