//! The types of parameters and responses as JSON Schema.

use std::collections::BTreeMap;

use prost_reflect::Kind;
use proto::json::{JsonField, JsonMessage, JsonShape};
use serde_json::{Map, Value, json};

use super::comments::Comments;
use crate::input::plan::{FieldPlan, MessagePlan, Shape as InputShape};

/// The schemas that others refer to, by name.
#[derive(Default)]
pub struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Returns the schemas as components of the document.
    pub fn into_components(self) -> Value {
        json!(self.0)
    }

    /// Returns the schema of a field of a response.
    pub fn output(&mut self, field: &JsonField, comments: &mut Comments) -> Value {
        let mut schema = self.element_schema(field, comments);
        if field.repeated {
            schema = json!({"type": "array", "items": schema});
        }
        if field.nullable {
            schema = make_nullable(schema);
        }
        with_description(schema, comments.field(&field.descriptor))
    }

    /// Returns the schema of a response that is a message.
    pub fn output_message(&mut self, message: &JsonMessage, comments: &mut Comments) -> Value {
        let mut properties = Map::new();
        for field in &message.fields {
            properties.insert(field.descriptor.name().to_owned(), self.output(field, comments));
        }
        // Every field is always written.
        let required: Vec<_> = properties.keys().cloned().collect();
        json!({"type": "object", "properties": properties, "required": required})
    }

    fn element_schema(&mut self, field: &JsonField, comments: &mut Comments) -> Value {
        match &field.shape {
            JsonShape::Plain => scalar_schema(&field.descriptor.kind()),
            JsonShape::Enum(names) => {
                let names =
                    names.iter().map(|(_, quoted)| String::from_utf8_lossy(quoted).trim_matches('"').to_owned());
                json!({"type": "string", "enum": names.collect::<Vec<_>>()})
            }
            JsonShape::Timestamp { .. } => json!({"type": "string", "format": "date-time"}),
            JsonShape::Message(message) => {
                let kind = field.descriptor.kind();
                let name = kind.as_message().map(|kind| kind.name().to_owned()).unwrap_or_default();
                if !self.0.contains_key(&name) {
                    let schema = self.output_message(message, comments);
                    self.0.insert(name.clone(), schema);
                }
                json!({"$ref": format!("#/components/schemas/{name}")})
            }
        }
    }
}

/// Returns the schema of a parameter.
pub fn input(field: &FieldPlan, comments: &mut Comments) -> Value {
    let mut schema = match &field.shape {
        InputShape::Enum(names) => {
            json!({"type": "string", "enum": names.iter().map(|(name, _)| name).collect::<Vec<_>>()})
        }
        InputShape::Message(message) => input_message(message, comments),
        InputShape::Bool
        | InputShape::Int32
        | InputShape::Int64
        | InputShape::Uint32
        | InputShape::Uint64
        | InputShape::Text => scalar_schema(&field.descriptor.kind()),
    };
    if let (Some((minimum, maximum)), Some(object)) = (field.bounds, schema.as_object_mut()) {
        object.insert("minimum".to_owned(), json!(minimum));
        object.insert("maximum".to_owned(), json!(maximum));
    }
    if field.repeated {
        schema = json!({"type": "array", "items": schema});
    }
    with_description(schema, comments.field(&field.descriptor))
}

fn input_message(message: &MessagePlan, comments: &mut Comments) -> Value {
    let properties: Map<_, _> =
        message.fields.iter().map(|field| (field.name.clone(), input(field, comments))).collect();
    json!({"type": "object", "properties": properties})
}

fn scalar_schema(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
        Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "format": "int64", "minimum": 0}),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "integer", "format": "int64"}),
        Kind::Uint64 | Kind::Fixed64 => json!({"type": "integer", "minimum": 0}),
        Kind::Float | Kind::Double => json!({"type": "number"}),
        Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Message(_) => json!({"type": "string"}),
    }
}

fn make_nullable(mut schema: Value) -> Value {
    const NULL: &str = "null";
    let Some(kind) = schema.get_mut("type") else { return json!({"oneOf": [schema, {"type": NULL}]}) };
    *kind = json!([kind.take(), NULL]);
    if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        values.push(Value::Null);
    }
    schema
}

/// Adds the description to a schema, unless it is empty.
fn with_description(mut schema: Value, description: String) -> Value {
    if let Some(object) = schema.as_object_mut().filter(|_| !description.is_empty()) {
        object.insert("description".to_owned(), Value::String(description));
    }
    schema
}
