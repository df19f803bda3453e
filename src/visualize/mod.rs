//! **Seeing inside**: what every layer answers, what a unit looks at, and why a letter was heard.
//!
//! Everything here looks at a network through [`OpenNetwork`](crate::layers::OpenNetwork); nothing here trains.

pub mod activations;
pub mod arrays;
pub mod deconvnet;
pub mod gallery;
pub mod griffin_lim;
pub mod imagine;
mod letters;
pub mod occlusion;
pub mod page;
pub mod pictures;
pub mod receptive_field;
pub mod strongest;

#[cfg(test)]
mod tests;
