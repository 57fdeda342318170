//! Writes a message as GitLab writes JSON, into one buffer: field names as declared, ids as numbers, defaults present,
//! unset optional fields `null`, enumerations in lower case, times in UTC with milliseconds.

use std::io::Write as _;

use prost_reflect::{DynamicMessage, Value};
use time::OffsetDateTime;

use super::plan::{OutputField, OutputMessage, Shape};

/// Writes a message as an object.
pub fn write_message(out: &mut Vec<u8>, plan: &OutputMessage, message: &DynamicMessage) {
    out.push(b'{');
    for (index, field) in plan.fields.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&field.key);
        write_field(out, field, message);
    }
    out.push(b'}');
}

/// Writes the value of a field.
pub fn write_field(out: &mut Vec<u8>, field: &OutputField, message: &DynamicMessage) {
    if field.nullable && !message.has_field(&field.descriptor) {
        return out.extend_from_slice(b"null");
    }
    let value = message.get_field(&field.descriptor);
    match value.as_list() {
        Some(elements) if field.repeated => {
            out.push(b'[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(out, &field.shape, element);
            }
            out.push(b']');
        }
        _ => write_value(out, &field.shape, &value),
    }
}

fn write_value(out: &mut Vec<u8>, shape: &Shape, value: &Value) {
    let known = match (shape, value) {
        (Shape::Plain, value) => return write_plain(out, value),
        (Shape::Enum(names), Value::EnumNumber(number)) => match names.iter().find(|(known, _)| known == number) {
            Some((_, name)) => {
                out.extend_from_slice(name);
                true
            }
            None => false,
        },
        (Shape::Message(plan), Value::Message(message)) => {
            write_message(out, plan, message);
            true
        }
        (Shape::Timestamp { seconds, nanos }, Value::Message(message)) => {
            let seconds = message.get_field(seconds).as_i64().unwrap_or_default();
            let nanos = message.get_field(nanos).as_i32().unwrap_or_default();
            write_time(out, seconds, nanos)
        }
        _ => false,
    };
    if !known {
        // This contract has no form for the value: it comes from a newer service, or is the unspecified one.
        out.extend_from_slice(b"null");
    }
}

fn write_plain(out: &mut Vec<u8>, value: &Value) {
    // Writing to a Vec cannot fail. If serde_json refuses a value all the same, it has written nothing for it.
    let written = match value {
        Value::Bool(value) => serde_json::to_writer(&mut *out, value),
        Value::I32(value) => serde_json::to_writer(&mut *out, value),
        Value::I64(value) => serde_json::to_writer(&mut *out, value),
        Value::U32(value) => serde_json::to_writer(&mut *out, value),
        Value::U64(value) => serde_json::to_writer(&mut *out, value),
        Value::F32(value) => serde_json::to_writer(&mut *out, value),
        Value::F64(value) => serde_json::to_writer(&mut *out, value),
        Value::String(value) => serde_json::to_writer(&mut *out, value),
        Value::Bytes(_) | Value::EnumNumber(_) | Value::Message(_) | Value::List(_) | Value::Map(_) => {
            serde_json::to_writer(&mut *out, &())
        }
    };
    if written.is_err() {
        out.extend_from_slice(b"null");
    }
}

/// Writes `"2026-11-23T01:02:03.000Z"`, and reports whether the year has four digits so that it can be written.
fn write_time(out: &mut Vec<u8>, seconds: i64, nanos: i32) -> bool {
    let Ok(time) = OffsetDateTime::from_unix_timestamp(seconds) else { return false };
    let year = time.year();
    if !(0..=9999).contains(&year) || !(0..1_000_000_000).contains(&nanos) {
        return false;
    }
    let month = u8::from(time.month());
    let day = time.day();
    let (hour, minute, second) = time.to_hms();
    let millis = nanos / 1_000_000;
    write!(out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z\"").is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
