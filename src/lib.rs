//! Streaming speech recognition: sound → spectrogram image → deep fully-convolutional network → CTC → text.

#![warn(missing_docs)]

pub mod atomic_file;
pub mod audio;
pub mod captions;
pub mod ctc;
pub mod dataset;
pub mod endpoint;
pub mod error;
pub mod evaluate;
pub mod inference;
pub mod kernels;
pub mod layers;
pub mod lines;
pub mod model;
pub mod network;
pub mod quantize;
pub mod random;
pub mod recognizer;
pub mod spectrogram;
pub mod time;
pub mod tokens;
pub mod train;
pub mod transcript;
pub mod visualize;

pub use error::{Error, Result};
