//! Writes messages as GitLab writes JSON: field names as they are declared, ids as numbers, default values included, unset optional
//! fields `null`, enumerations in lower case, times in UTC with milliseconds.
//!
//! A plan is prepared once for each kind of message, from its descriptor. Writing then goes straight into one buffer.

mod plan;
mod write;

pub use self::{
    plan::{JsonField, JsonMessage, JsonShape, PlanError, descriptor_pool, enum_names},
    write::{MessageWriter, write_field, write_message},
};
