//! Streaming speech recognition: sound → spectrogram image → deep fully-convolutional network → CTC → text.

#![warn(missing_docs)]

pub mod audio;
pub mod ctc;
pub mod error;
pub mod inference;
pub mod kernels;
pub mod layers;
pub mod model;
pub mod network;
pub mod recognizer;
pub mod spectrogram;
pub mod time;
pub mod tokens;
pub mod transcript;

pub use error::{Error, Result};
