//! Learning from a dataset: the loop, the optimiser and what is around them.

pub mod augment;
pub mod checkpoint;
pub mod clip;
pub mod config;
mod corpus;
pub mod ema;
mod examples;
mod learner;
mod loader;
pub mod metrics;
mod objective;
pub mod optimizer;
pub mod report;
pub mod schedule;
mod trainer;
mod validation;

pub use config::{Budget, Config, Source};
pub use trainer::{End, Event, Start, Trainer};
