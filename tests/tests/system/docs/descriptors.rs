//! The compiled contract with its comments.

use std::sync::OnceLock;

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, EnumValueDescriptor, FieldDescriptor, FileDescriptor, Kind,
    MessageDescriptor, MethodDescriptor, Value,
};

/// The pool, options and comments included.
pub fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(proto::DESCRIPTOR_SET).expect("the descriptor set decodes"))
}

/// The comment above a declaration, its lines joined.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref().expect("comments are kept");
    let location = info.location.iter().find(|location| location.path == path);
    let text = location.map(|location| location.leading_comments()).unwrap_or_default();
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// The comment of an rpc without its `REST:` line.
pub fn method_comment(method: &MethodDescriptor) -> String {
    let text = comment(&method.parent_file(), method.path());
    text.split(" REST: ").next().unwrap_or_default().to_owned()
}

pub fn message_comment(message: &MessageDescriptor) -> String {
    comment(&message.parent_file(), message.path())
}

pub fn field_comment(field: &FieldDescriptor) -> String {
    comment(&field.parent_file(), field.path())
}

pub fn value_comment(value: &EnumValueDescriptor) -> String {
    comment(&value.parent_enum().parent_file(), value.path())
}

/// The comment of the value of an enum of the contract package.
pub fn contract_comment(enumeration: &str, number: i32) -> String {
    let name = format!("paddock.contract.v1.{enumeration}");
    let descriptor = pool().get_enum_by_name(&name).expect("an enum of the contract");
    value_comment(&descriptor.get_value(number).expect("a declared value"))
}

/// A field of an option as text; empty if it is unset.
pub fn option_text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}

/// The field option of the contract; a message without values if the field has none.
pub fn field_option(field: &FieldDescriptor) -> DynamicMessage {
    let extension = pool().get_extension_by_name("paddock.contract.v1.field").expect("the field option");
    match &*field.options().get_extension(&extension) {
        Value::Message(message) => message.clone(),
        other => panic!("the field option is a message, not {other:?}"),
    }
}

/// The HTTP rule of a method, if it has one.
pub fn http_rule(method: &MethodDescriptor) -> Option<DynamicMessage> {
    let extension = pool().get_extension_by_name("google.api.http").expect("the HTTP option");
    let options = method.options();
    options.has_extension(&extension).then(|| options.get_extension(&extension).as_message().expect("a rule").clone())
}

/// The spelling of an enum value in REST: the enum's name is dropped, the rest in lower case.
pub fn rest_spelling(value: &EnumValueDescriptor) -> String {
    let first = value.parent_enum().values().next().expect("a first value").name().to_owned();
    let prefix = first.strip_suffix("UNSPECIFIED").unwrap_or_default().to_owned();
    value.name().strip_prefix(&prefix).unwrap_or(value.name()).to_lowercase()
}

fn spellings(enumeration: &EnumDescriptor) -> String {
    let values: Vec<_> = enumeration.values().skip(1).map(|value| format!("`{}`", rest_spelling(&value))).collect();
    values.join(", ")
}

/// The JSON type of a field, in the words of the REST pages.
pub fn rest_type(field: &FieldDescriptor) -> String {
    let single = match field.kind() {
        Kind::Int64 | Kind::Int32 | Kind::Uint32 | Kind::Uint64 => "integer".to_owned(),
        Kind::Bool => "boolean".to_owned(),
        Kind::String => "string".to_owned(),
        Kind::Enum(enumeration) => format!("one of {}", spellings(&enumeration)),
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => "time".to_owned(),
        Kind::Message(message) => format!("[{0}](#{1})", message.name(), message.name().to_lowercase()),
        other => panic!("{}: no REST type for {other:?}", field.full_name()),
    };
    if field.is_list() { format!("list of {single}") } else { single }
}
