//! Speech with its text: where it is, what is usable, and in which order training sees it.

pub mod batches;
pub mod manifest;
pub mod text;
