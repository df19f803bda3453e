//! **What the network is**: layers as data, and everything that follows from them without computing a single value.

mod layer;

pub use layer::{
    Activation, BatchNorm, Convolution, Dropout, FrameShape, FrequencyPadding, Layer, LocalResponseNorm, NamedLayer,
    Pool, Residual, TimePadding,
};
