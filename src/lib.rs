//! Streaming speech recognition: sound → spectrogram image → deep fully-convolutional network → CTC → text.

#![warn(missing_docs)]

pub mod error;
pub mod network;
pub mod spectrogram;
pub mod time;
pub mod tokens;

pub use error::{Error, Result};
