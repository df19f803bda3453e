//! Speech with its text: where it is, what is usable, and in which order training sees it.

pub mod batches;
mod lines;
pub mod manifest;
pub mod prepare;
pub mod shards;
pub mod sound;
pub mod text;
