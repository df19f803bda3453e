//! Tensors by name, read from and written to safetensors files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, View};

use super::architecture::{Architecture, Role};
use super::survey::SCALES;
use crate::{Error, Result};

/// The largest weights file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 33;
/// The largest safetensors header that is parsed, in bytes.
const MAX_HEADER_BYTES: u64 = 1 << 24;
/// What is behind an int8 tensor's name in that of its scales.
const SCALE: &str = "_scale";
/// How far a value may be from a multiple of its scale, in multiples: more than rounding explains.
const OFF_GRID: f32 = 1e-3;
/// The length of the little-endian number that says how long the header is.
const LENGTH_BYTES: usize = size_of::<u64>();

/// Values in row-major order (the last extent varies fastest).
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// As many values as the extents' product.
    pub values: Vec<f32>,
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Every value as it is.
    F32,
    /// Filters in half precision. Tensors with one extent (biases, normalisation) stay f32: they are few, and variances
    /// leave the range of f16.
    F16,
}

/// Named tensors in the order of their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// The tensor called `path`, e.g. `t0.depthwise.weight`.
    pub fn get(&self, path: &str) -> Option<&Tensor> {
        self.tensors.get(path)
    }

    /// The tensor called `path`, to be changed.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut Tensor> {
        self.tensors.get_mut(path)
    }

    /// Adds or replaces a tensor.
    ///
    /// # Panics
    /// When the number of values is not the product of the extents.
    pub fn insert(&mut self, path: impl Into<String>, tensor: Tensor) {
        assert_eq!(tensor.shape.iter().product::<usize>(), tensor.values.len(), "a tensor's values fill its shape");
        self.tensors.insert(path.into(), tensor);
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, path: &str) -> Option<Tensor> {
        self.tensors.remove(path)
    }

    /// All tensors in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(path, tensor)| (path.as_str(), tensor))
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// [`Error::Read`], or [`Error::Model`] when it is not one or is beyond [`MAX_FILE_BYTES`].
    pub fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(Error::read(path))?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(Error::read(path))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(Error::model(path, format!("is larger than the limit of {MAX_FILE_BYTES} bytes")));
        }
        Self::from_bytes(&bytes).map_err(|problem| Error::model(path, problem))
    }

    /// The tensor called `path` as int8, and what each of its outermost slices is multiplied by. `None` when there is no such
    /// tensor or no scales for it.
    pub fn int8(&self, path: &str) -> Option<(Vec<i8>, &[f32])> {
        let tensor = self.get(path)?;
        let scales = &self.get(&format!("{path}{SCALE}"))?.values;
        let slice = tensor.values.len().checked_div(scales.len())?;
        let values = tensor.values.chunks(slice.max(1)).zip(scales);
        let values = values.flat_map(|(slice, scale)| slice.iter().map(move |value| (value / scale).round() as i8));
        Some((values.collect(), scales))
    }

    /// Reads the bytes of a safetensors file. f32, f16 and bf16 are understood, and int8 `x` beside f32 `x_scale`, whose
    /// `i`th value all of `x[i]` is multiplied by. The error says what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        const REMEDY: &str = "it is damaged or no safetensors file; fetch or convert it again";
        let (length, rest) = bytes
            .split_first_chunk::<LENGTH_BYTES>()
            .ok_or_else(|| format!("{} bytes are too short for a safetensors header: {REMEDY}", bytes.len()))?;
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER_BYTES || length > rest.len() as u64 {
            return Err(format!("claims a header of {length} bytes in a file of {}: {REMEDY}", bytes.len()));
        }
        let (header, data) = rest.split_at(length as usize);
        // Not `SafeTensors::deserialize`: it adds up the header's offsets before it compares them with the file, and a
        // hostile header makes that sum overflow. `Metadata` alone checks order, overlaps and shapes.
        let header: Metadata =
            serde_json::from_slice(header).map_err(|error| format!("the header cannot be read ({error}): {REMEDY}"))?;
        if header.data_len() != data.len() {
            let (claimed, found) = (header.data_len(), data.len());
            return Err(format!("the header claims {claimed} bytes of data but {found} follow it: {REMEDY}"));
        }
        let mut weights = Self::default();
        let mut int8 = Vec::new();
        for path in header.offset_keys() {
            let info = header.info(&path).expect("the header lists its own keys");
            let (start, end) = info.data_offsets;
            let values = decode(&data[start..end], info.dtype).ok_or_else(|| {
                format!("tensor {path:?} has type {}; only F32, F16, BF16 and I8 are read", info.dtype)
            })?;
            if info.dtype == Dtype::I8 {
                int8.push(path.clone());
            }
            weights.insert(path, Tensor { shape: info.shape.clone(), values });
        }
        for path in int8 {
            weights.scale(&path)?;
        }
        Ok(weights)
    }

    /// Multiplies what was read as int8 by its scales.
    fn scale(&mut self, path: &str) -> Result<(), String> {
        let missing = || {
            format!(
                "tensor {path:?} is int8, but {path:?} with {SCALE:?} behind it, a number for each of its outermost slices, is missing; quantize the model again"
            )
        };
        let Some(mut tensor) = self.remove(path) else { return Ok(()) };
        let scales = self.get(&format!("{path}{SCALE}")).ok_or_else(missing)?;
        if tensor.shape.first() != Some(&scales.values.len()) {
            return Err(missing());
        }
        let slice = tensor.shape[1..].iter().product::<usize>().max(1);
        for (slice, scale) in tensor.values.chunks_mut(slice).zip(&scales.values) {
            slice.iter_mut().for_each(|value| *value *= scale);
        }
        self.insert(path, tensor);
        Ok(())
    }

    /// The bytes of a safetensors file with these tensors; those that have scales as int8.
    ///
    /// # Errors
    /// Says which tensor holds a value beyond the range of f16.
    pub fn to_bytes(&self, precision: Precision) -> Result<Vec<u8>, String> {
        let mut stored = Vec::with_capacity(self.len());
        for (path, tensor) in self.iter() {
            let tensor = match self.int8(path) {
                Some((values, _)) => Ok(Stored::int8(tensor, &values)),
                None => Stored::new(tensor, precision),
            };
            stored.push((path, tensor.map_err(|problem| format!("tensor {path:?} {problem}"))?));
        }
        safetensors::serialize(stored, None).map_err(|error| error.to_string())
    }

    /// Checks that these are exactly the tensors of `architecture`, in shape and in values.
    ///
    /// # Errors
    /// [`Error::Network`] names the first tensor that is missing, unexpected, of the wrong shape, not finite, or a
    /// negative variance.
    pub fn check(&self, architecture: &Architecture) -> Result<()> {
        for parameter in architecture.parameters() {
            let fail = |problem: String| Err(Error::network(&parameter.path, problem));
            let Some(tensor) = self.get(&parameter.path) else {
                return fail(format!("the weights lack this tensor of shape {:?}", parameter.shape));
            };
            if tensor.shape != parameter.shape {
                let problem =
                    format!("the layer needs shape {:?}, the weights have {:?}", parameter.shape, tensor.shape);
                return fail(problem);
            }
            if let Some((index, value)) = find(tensor, |value| !value.is_finite()) {
                return fail(format!(
                    "value {index} of the weights is {value}; the training that made them went wrong"
                ));
            }
            if parameter.role == Role::RunningVar
                && let Some((index, value)) = find(tensor, |value| value < 0.0)
            {
                return fail(format!("value {index} is {value}, but a variance cannot be negative"));
            }
            if parameter.role == Role::WeightScale {
                self.check_int8(&parameter.path, tensor)?;
            }
        }
        // Each parameter has its own tensor by now, so a greater number means one that no layer asked for.
        if self.len() > architecture.parameters().len() {
            let known: std::collections::HashSet<_> = architecture.parameters().iter().map(|p| &p.path).collect();
            if let Some((path, tensor)) = self.tensors.iter().find(|(path, _)| !known.contains(path)) {
                let problem = format!("the weights have this tensor of shape {:?}, but no layer uses it", tensor.shape);
                return Err(Error::network(path, problem));
            }
        }
        Ok(())
    }
}

/// Int8 filters.
impl Weights {
    /// Checks the scales at `path`, and that the filters are multiples of them that int8 can hold.
    fn check_int8(&self, path: &str, scales: &Tensor) -> Result<()> {
        const REMEDY: &str = "quantize the model again";
        let fail = |problem: String| Err(Error::network(path, format!("{problem}; {REMEDY}")));
        if let Some((index, value)) = find(scales, |value| !SCALES.contains(&value)) {
            let (least, most) = (SCALES.start(), SCALES.end());
            return fail(format!("value {index} is {value}, but a scale is a number from {least:e} to {most:e}"));
        }
        let filters = path.strip_suffix(SCALE).and_then(|path| self.get(path));
        let Some(filters) = filters else { return fail("there are no filters for these scales".into()) };
        let slice = filters.values.len() / scales.values.len();
        for (index, (filter, scale)) in filters.values.chunks_exact(slice).zip(&scales.values).enumerate() {
            let steps = filter.iter().map(|value| value / scale);
            let is_int8 =
                |steps: f32| (-128.0..=127.0).contains(&steps.round()) && (steps - steps.round()).abs() < OFF_GRID;
            if let Some(steps) = steps.into_iter().find(|&steps| !is_int8(steps)) {
                return fail(format!("filter {index} holds {steps} times its scale, which is no int8"));
            }
        }
        Ok(())
    }
}

fn find(tensor: &Tensor, wanted: impl Fn(f32) -> bool) -> Option<(usize, f32)> {
    tensor.values.iter().copied().enumerate().find(|&(_, value)| wanted(value))
}

fn decode(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    let words = bytes.as_chunks::<2>().0.iter().map(|&word| u16::from_le_bytes(word));
    match dtype {
        Dtype::F32 => Some(bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect()),
        Dtype::F16 => Some(words.map(|bits| f16::from_bits(bits).to_f32()).collect()),
        Dtype::I8 => Some(bytes.iter().map(|&byte| f32::from(byte as i8)).collect()),
        Dtype::BF16 => Some(words.map(|bits| bf16::from_bits(bits).to_f32()).collect()),
        _ => None,
    }
}

/// A tensor in the form the file holds.
struct Stored<'a> {
    dtype: Dtype,
    shape: &'a [usize],
    bytes: Vec<u8>,
}

impl<'a> Stored<'a> {
    fn new(tensor: &'a Tensor, precision: Precision) -> Result<Self, String> {
        let shape = &tensor.shape[..];
        if precision == Precision::F32 || shape.len() < 2 {
            let bytes = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            return Ok(Self { dtype: Dtype::F32, shape, bytes });
        }
        if let Some((index, value)) = find(tensor, |value| value.is_finite() && f16::from_f32(value).is_infinite()) {
            return Err(format!("holds {value} at {index}, beyond the range of f16; save it as f32"));
        }
        let bytes = tensor.values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        Ok(Self { dtype: Dtype::F16, shape, bytes })
    }
}

impl<'a> Stored<'a> {
    fn int8(tensor: &'a Tensor, values: &[i8]) -> Self {
        Self { dtype: Dtype::I8, shape: &tensor.shape, bytes: values.iter().map(|&value| value as u8).collect() }
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
