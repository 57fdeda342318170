//! Writes planned messages.

use std::io::Write as _;

use prost::{DecodeError, Message};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use time::OffsetDateTime;

use super::plan::{JsonField, JsonMessage, JsonShape, PlanError};

/// Writes messages of one kind, with a plan that was prepared once.
#[derive(Debug)]
pub struct MessageWriter {
    descriptor: MessageDescriptor,
    plan: JsonMessage,
}

impl MessageWriter {
    /// Plans the messages with a full name, such as `paddock.runner.v1.Runner`.
    ///
    /// # Errors
    /// If there is no such message, or it has a field that JSON cannot show.
    pub fn new(pool: &DescriptorPool, full_name: &str) -> Result<Self, PlanError> {
        let descriptor = pool.get_message_by_name(full_name);
        let descriptor = descriptor.ok_or_else(|| PlanError(format!("there is no message {full_name}")))?;
        Ok(Self { plan: JsonMessage::new(&descriptor)?, descriptor })
    }

    /// Writes a message as an object.
    ///
    /// # Errors
    /// If the message is not of the planned kind.
    pub fn write(&self, out: &mut Vec<u8>, message: &impl Message) -> Result<(), DecodeError> {
        let message = DynamicMessage::decode(self.descriptor.clone(), message.encode_to_vec().as_slice())?;
        write_message(out, &self.plan, &message);
        Ok(())
    }
}

/// Writes a message as an object.
pub fn write_message(out: &mut Vec<u8>, plan: &JsonMessage, message: &DynamicMessage) {
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
pub fn write_field(out: &mut Vec<u8>, field: &JsonField, message: &DynamicMessage) {
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

fn write_value(out: &mut Vec<u8>, shape: &JsonShape, value: &Value) {
    let known = match (shape, value) {
        (JsonShape::Plain, value) => return write_plain(out, value),
        (JsonShape::Enum(names), Value::EnumNumber(number)) => match names.iter().find(|(known, _)| known == number) {
            Some((_, name)) => {
                out.extend_from_slice(name);
                true
            }
            None => false,
        },
        (JsonShape::Message(plan), Value::Message(message)) => {
            write_message(out, plan, message);
            true
        }
        (JsonShape::Timestamp { seconds, nanos }, Value::Message(message)) => {
            let seconds = message.get_field(seconds).as_i64().unwrap_or_default();
            let nanos = message.get_field(nanos).as_i32().unwrap_or_default();
            write_time(out, seconds, nanos)
        }
        _ => false,
    };
    if !known {
        // The contract has no form for this value: it is the unspecified value, or a newer peer sent it.
        out.extend_from_slice(b"null");
    }
}

fn write_plain(out: &mut Vec<u8>, value: &Value) {
    // Writing to a Vec cannot fail. If serde_json refuses a value, it has written nothing for it.
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

/// Writes `"2026-11-23T01:02:03.000Z"`, unless the time cannot be written with four digits for the year.
fn write_time(out: &mut Vec<u8>, seconds: i64, nanos: i32) -> bool {
    let Ok(time) = OffsetDateTime::from_unix_timestamp(seconds) else { return false };
    let year = time.year();
    if !(0..=9999).contains(&year) || !(0..1_000_000_000).contains(&nanos) {
        return false;
    }
    let (month, day) = (u8::from(time.month()), time.day());
    let (hour, minute, second) = time.to_hms();
    let millis = nanos / 1_000_000;
    write!(out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z\"").is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use prost_types::Timestamp;

    use super::*;
    use crate::{
        json::descriptor_pool,
        paddock::{
            job_token::v1::{AccessEvent, CaptureMode, JobTokenPolicy, LoggedProject, ObjectState},
            runner::v1::RunnerDetails,
        },
    };

    fn write<M: Message>(full_name: &str, message: &M) -> String {
        let pool = descriptor_pool().unwrap();
        let mut out = Vec::new();
        MessageWriter::new(&pool, full_name).unwrap().write(&mut out, message).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_are_written_in_the_order_of_their_declaration() {
        let event = AccessEvent {
            id: "a\"\u{1f600}\n".to_owned(),
            origin_project: Some(LoggedProject {
                id: 9_007_199_254_740_993,
                name: Some(String::new()),
                state: ObjectState::Hidden.into(),
                ..LoggedProject::default()
            }),
            accessed_at: Some(Timestamp { seconds: 1_795_395_723, nanos: 4_999_999 }),
            status: 200,
            job_token_policies: vec![JobTokenPolicy::ReadJobs.into(), 999],
            capture_mode: CaptureMode::BestEffort.into(),
            ..AccessEvent::default()
        };
        let expected = "{\"id\":\"a\\\"\u{1f600}\\n\",\"origin_project\":{\"id\":9007199254740993,\"name\":\"\",\
            \"path\":null,\"path_with_namespace\":null,\"state\":\"hidden\"},\"accessed_project\":null,\
            \"accessed_at\":\"2026-11-23T01:02:03.004Z\",\"job_id\":0,\"user_id\":0,\"route\":\"\",\
            \"job_token_policies\":[\"read_jobs\",null],\"status\":200,\"capture_mode\":\"best_effort\",\
            \"request_id\":\"\",\"remote_ip\":null,\"resolved\":false}";
        assert_eq!(write("paddock.job_token.v1.AccessEvent", &event), expected);
    }

    #[test]
    fn values_without_a_form_are_null() {
        for (status, seconds) in [(0, i64::MAX), (99, -62_167_219_201), (-1, 253_402_300_800)] {
            let created_at = Some(Timestamp { seconds, nanos: 0 });
            let runner = RunnerDetails { status, created_at, ..RunnerDetails::default() };
            let written = write("paddock.runner.v1.RunnerDetails", &runner);
            assert!(written.contains("\"status\":null") && written.contains("\"created_at\":null"), "{written}");
        }
    }

    #[test]
    fn what_json_cannot_show_is_an_error() {
        let pool = descriptor_pool().unwrap();
        for (full_name, expected) in [
            ("paddock.document.v1.Document", "paddock.document.v1.Document.content: JSON cannot show it"),
            ("paddock.runner.v1.None", "there is no message paddock.runner.v1.None"),
        ] {
            assert_eq!(MessageWriter::new(&pool, full_name).unwrap_err().to_string(), expected);
        }
    }
}
