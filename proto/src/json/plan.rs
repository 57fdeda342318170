//! The plan of a JSON object: how each field of a message is written.

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use crate::contract::DESCRIPTOR_SET;

/// The maximum depth of messages inside messages. It stops a message that contains itself.
const MAX_DEPTH: usize = 8;

const TIMESTAMP: &str = "google.protobuf.Timestamp";

/// Why a message cannot be written as JSON.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PlanError(pub(super) String);

/// Decodes the descriptors of the contract. This takes milliseconds, so do it once.
///
/// # Errors
/// If they cannot be decoded.
pub fn descriptor_pool() -> Result<DescriptorPool, PlanError> {
    DescriptorPool::decode(DESCRIPTOR_SET).map_err(|error| PlanError(error.to_string()))
}

/// How a message is written.
#[derive(Debug)]
pub struct JsonMessage {
    /// Its fields, in the order of their declaration.
    pub fields: Vec<JsonField>,
}

/// How a field is written.
#[derive(Debug)]
pub struct JsonField {
    /// The field.
    pub descriptor: FieldDescriptor,
    /// The quoted name and a colon.
    pub key: Vec<u8>,
    /// The shape of its value, or of each value of a list.
    pub shape: JsonShape,
    /// Whether it is a list.
    pub repeated: bool,
    /// Whether it is `null` when unset. Otherwise its default value is written.
    pub nullable: bool,
}

/// How a value is written.
#[derive(Debug)]
pub enum JsonShape {
    /// A truth value, a number or a text.
    Plain,
    /// One of these quoted names, by its number.
    Enum(Vec<(i32, Vec<u8>)>),
    /// A time.
    Timestamp {
        /// The field with the seconds since the Unix epoch.
        seconds: FieldDescriptor,
        /// The field with the nanoseconds of the second.
        nanos: FieldDescriptor,
    },
    /// An object.
    Message(JsonMessage),
}

impl JsonMessage {
    /// Plans a whole message.
    ///
    /// # Errors
    /// If it has a field that JSON cannot show.
    pub fn new(message: &MessageDescriptor) -> Result<Self, PlanError> {
        Self::of_fields(message.fields())
    }

    /// Plans a message with some of its fields only.
    ///
    /// # Errors
    /// If JSON cannot show one of them.
    pub fn of_fields(fields: impl IntoIterator<Item = FieldDescriptor>) -> Result<Self, PlanError> {
        Self::at_depth(fields, 0)
    }

    fn at_depth(fields: impl IntoIterator<Item = FieldDescriptor>, depth: usize) -> Result<Self, PlanError> {
        let fields: Result<_, _> = fields.into_iter().map(|field| JsonField::at_depth(field, depth)).collect();
        Ok(Self { fields: fields? })
    }
}

impl JsonField {
    /// Plans a field.
    ///
    /// # Errors
    /// If JSON cannot show it.
    pub fn new(descriptor: FieldDescriptor) -> Result<Self, PlanError> {
        Self::at_depth(descriptor, 0)
    }

    fn at_depth(descriptor: FieldDescriptor, depth: usize) -> Result<Self, PlanError> {
        if depth > MAX_DEPTH || descriptor.is_map() {
            return Err(not_in_json(&descriptor));
        }
        let shape = match descriptor.kind() {
            Kind::Bytes => return Err(not_in_json(&descriptor)),
            Kind::Enum(descriptor) => JsonShape::Enum(quoted_names(&descriptor)),
            Kind::Message(message) if message.full_name() == TIMESTAMP => {
                match (message.get_field(1), message.get_field(2)) {
                    (Some(seconds), Some(nanos)) => JsonShape::Timestamp { seconds, nanos },
                    _ => return Err(not_in_json(&descriptor)),
                }
            }
            Kind::Message(message) => JsonShape::Message(JsonMessage::at_depth(message.fields(), depth + 1)?),
            _ => JsonShape::Plain,
        };
        Ok(Self {
            key: format!("\"{}\":", descriptor.name()).into_bytes(),
            shape,
            repeated: descriptor.is_list(),
            nullable: descriptor.supports_presence(),
            descriptor,
        })
    }
}

fn not_in_json(field: &FieldDescriptor) -> PlanError {
    PlanError(format!("{}: JSON cannot show it", field.full_name()))
}

fn quoted_names(descriptor: &EnumDescriptor) -> Vec<(i32, Vec<u8>)> {
    let names = enum_names(descriptor).into_iter();
    names.map(|(name, number)| (number, format!("\"{name}\"").into_bytes())).collect()
}

/// Returns the names of the values of an enumeration in lower case and without their common prefix, with their numbers. The
/// unspecified value is left out.
#[must_use]
pub fn enum_names(descriptor: &EnumDescriptor) -> Vec<(String, i32)> {
    let zero = descriptor.default_value().name().to_owned();
    let prefix = zero.strip_suffix("UNSPECIFIED").unwrap_or_default();
    descriptor
        .values()
        .filter(|value| value.number() != 0)
        .map(|value| {
            let name = value.name();
            (name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase(), value.number())
        })
        .collect()
}
