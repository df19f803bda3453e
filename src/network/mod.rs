//! **What the network is**: layers as data, and everything that follows from them without computing a single value.

mod architecture;
pub mod arithmetic;
mod fold;
mod layer;
pub mod onnx;
mod survey;
mod weights;

pub use architecture::{Architecture, LayerSummary, Parameter, Role};
pub use fold::{Folded, fold_batch_norm};
pub use layer::{
    Activation, BatchNorm, Convolution, Dropout, FrameShape, FrequencyPadding, Layer, LocalResponseNorm, NamedLayer,
    Pool, Quantize, Residual, TimePadding,
};
pub use survey::{
    MAX_CHANNELS, MAX_COLUMN, MAX_DEPTH, MAX_FREQUENCY, MAX_INT8_PRODUCTS, MAX_KERNEL, MAX_LAYERS, MAX_MULTIPLY_ADDS,
    MAX_PARAMETERS, MAX_RECEPTIVE_FIELD, MAX_STATE, TimeExtent,
};
pub use weights::{MAX_FILE_BYTES, Precision, Tensor, Weights};
