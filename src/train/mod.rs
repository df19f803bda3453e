//! Learning from a dataset: the optimiser and what is around it.

pub mod augment;
pub mod checkpoint;
pub mod clip;
pub mod ema;
pub mod optimizer;
pub mod schedule;
