//! A graph under construction: nodes, constants, inputs and outputs.

use prost::Message;

use super::proto::{
    AttributeProto, DataType, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::network::Tensor;
use crate::{Error, Result};

/// The first opset with every operator we use in its present form; 18 and later add none that we need, and older
/// programs do not know them.
const OPSET: i64 = 17;
/// The form of file that came with it.
const IR_VERSION: i64 = 8;
/// Protobuf's own limit.
const MAX_FILE_BYTES: usize = i32::MAX as usize;

/// An extent of an input or output.
pub enum Extent<'a> {
    Known(usize),
    /// Whatever the caller gives; the same name means the same number.
    Open(&'a str),
}

/// A setting of an operator.
pub enum Setting {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
}

impl From<usize> for Setting {
    fn from(value: usize) -> Self {
        Self::Int(value as i64)
    }
}

impl From<f32> for Setting {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl<const N: usize> From<[usize; N]> for Setting {
    fn from(values: [usize; N]) -> Self {
        Self::Ints(values.map(|value| value as i64).to_vec())
    }
}

/// Every value has a name; the functions that make one return it.
#[derive(Default)]
pub struct Graph {
    proto: GraphProto,
    bytes: usize,
}

impl Graph {
    pub fn input(&mut self, name: &str, data_type: DataType, extents: &[Extent]) -> String {
        self.proto.input.push(value_info(name, data_type, extents));
        name.to_owned()
    }

    pub fn output(&mut self, name: &str, data_type: DataType, extents: &[Extent]) {
        self.proto.output.push(value_info(name, data_type, extents));
    }

    /// A node with one output, whose name begins with `path`.
    pub fn node(&mut self, path: &str, operator: &str, inputs: &[&str], settings: Vec<(&str, Setting)>) -> String {
        let output = format!("{path}/{}/{operator}", self.proto.node.len());
        self.node_as(&output, operator, inputs, settings);
        output
    }

    /// A node with one output of a given name.
    pub fn node_as(&mut self, output: &str, operator: &str, inputs: &[&str], settings: Vec<(&str, Setting)>) {
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(output.to_owned()),
            op_type: Some(operator.to_owned()),
            attribute: settings.into_iter().map(|(name, setting)| attribute(name, setting)).collect(),
        });
    }

    /// A parameter of the network.
    pub fn tensor(&mut self, name: &str, tensor: &Tensor) -> String {
        let bytes = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, DataType::Float, &tensor.shape, bytes)
    }

    /// One number.
    pub fn float(&mut self, value: f32) -> String {
        self.constant(&format!("constant/{value}"), DataType::Float, &[], value.to_le_bytes().to_vec())
    }

    /// Numbers called `name`, one for each output channel.
    pub fn floats(&mut self, name: &str, values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, DataType::Float, &[values.len()], bytes)
    }

    /// One byte.
    pub fn byte(&mut self, value: u8) -> String {
        self.constant(&format!("constant/byte/{value}"), DataType::Uint8, &[], vec![value])
    }

    /// Int8 filters.
    pub fn int8(&mut self, name: &str, shape: &[usize], values: &[i8]) -> String {
        self.constant(name, DataType::Int8, shape, values.iter().map(|&value| value as u8).collect())
    }

    /// 32-bit whole numbers, one for each output channel.
    pub fn int32(&mut self, name: &str, values: &[i32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, DataType::Int32, &[values.len()], bytes)
    }

    /// One whole number.
    pub fn int(&mut self, value: i64) -> String {
        self.constant(&format!("constant/int/{value}"), DataType::Int64, &[], value.to_le_bytes().to_vec())
    }

    /// A list of whole numbers.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let name: Vec<String> = values.iter().map(i64::to_string).collect();
        self.constant(&format!("constant/ints/{}", name.join("_")), DataType::Int64, &[values.len()], bytes)
    }

    /// A name stands for one value, so a constant asked for again is there already.
    fn constant(&mut self, name: &str, data_type: DataType, shape: &[usize], raw_data: Vec<u8>) -> String {
        if !self.proto.initializer.iter().any(|tensor| tensor.name.as_deref() == Some(name)) {
            self.bytes += raw_data.len();
            self.proto.initializer.push(TensorProto {
                dims: shape.iter().map(|&extent| extent as i64).collect(),
                data_type: Some(data_type as i32),
                name: Some(name.to_owned()),
                raw_data: Some(raw_data),
            });
        }
        name.to_owned()
    }

    /// The bytes of an ONNX file.
    ///
    /// # Errors
    /// [`Error::Network`] when the file would be larger than protobuf allows.
    pub fn encode(self, name: &str, metadata: &[(String, String)]) -> Result<Vec<u8>> {
        let entry = |(key, value): &(String, String)| StringStringEntryProto {
            key: Some(key.clone()),
            value: Some(value.clone()),
        };
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some(env!("CARGO_PKG_NAME").to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(GraphProto { name: Some(name.to_owned()), ..self.proto }),
            opset_import: vec![OperatorSetIdProto { domain: None, version: Some(OPSET) }],
            metadata_props: metadata.iter().map(entry).collect(),
        };
        let bytes = self.bytes.max(model.encoded_len());
        if bytes > MAX_FILE_BYTES {
            let problem = format!("{bytes} bytes are too many for an ONNX file, which holds at most {MAX_FILE_BYTES}");
            return Err(Error::network("", problem));
        }
        Ok(model.encode_to_vec())
    }
}

fn attribute(name: &str, setting: Setting) -> AttributeProto {
    let mut attribute = AttributeProto { name: Some(name.to_owned()), ..Default::default() };
    attribute.r#type = Some(match setting {
        Setting::Int(value) => {
            attribute.i = Some(value);
            AttributeProto::INT
        }
        Setting::Ints(values) => {
            attribute.ints = values;
            AttributeProto::INTS
        }
        Setting::Float(value) => {
            attribute.f = Some(value);
            AttributeProto::FLOAT
        }
    });
    attribute
}

fn value_info(name: &str, data_type: DataType, extents: &[Extent]) -> ValueInfoProto {
    let dimension = |extent: &Extent| match *extent {
        Extent::Known(value) => Dimension { dim_value: Some(value as i64), dim_param: None },
        Extent::Open(name) => Dimension { dim_value: None, dim_param: Some(name.to_owned()) },
    };
    let shape = TensorShapeProto { dim: extents.iter().map(dimension).collect() };
    let tensor_type = TensorTypeProto { elem_type: Some(data_type as i32), shape: Some(shape) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
