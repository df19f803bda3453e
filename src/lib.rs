//! Streaming speech recognition: sound → spectrogram image → deep fully-convolutional network → CTC → text.

#![warn(missing_docs)]

pub mod audio;
pub mod error;
pub mod network;
pub mod time;

pub use error::{Error, Result};
