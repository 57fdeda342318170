//! The plan of a response, made at start: which fields make the body, which become headers, and how each is written.

use http::HeaderName;
use prost_reflect::{FieldDescriptor, MessageDescriptor};
use proto::{
    contract::Success,
    json::{JsonField, JsonMessage},
};

use crate::contract::{ContractError, Descriptors};

const PAGE: &str = "paddock.page.v1.Page";
const CURSOR: &str = "paddock.page.v1.Cursor";
const DOCUMENT: &str = "paddock.document.v1.Document";

/// A response.
#[derive(Debug)]
pub struct OutputPlan {
    /// What the body is made of.
    pub body: BodyPlan,
    /// The fields that become headers.
    pub headers: Vec<(HeaderName, FieldDescriptor)>,
    /// The field with the position of a page in its list.
    pub page: Option<FieldDescriptor>,
    /// The field with the cursor of the next page of a growing list.
    pub cursor: Option<FieldDescriptor>,
    /// Where the status comes from.
    pub status: StatusPlan,
}

/// The source of the HTTP status of a response.
#[derive(Debug)]
pub enum StatusPlan {
    /// It is always the same.
    Fixed(u16),
    /// It is in this field.
    Field(FieldDescriptor),
}

/// The content of a response's body.
#[derive(Debug)]
pub enum BodyPlan {
    /// One field is the whole body.
    Field(JsonField),
    /// The message, without the fields that are in other places of the response.
    Message(JsonMessage),
    /// A file, written as it is.
    Document(FieldDescriptor),
}

impl OutputPlan {
    /// Plans the response of a method.
    ///
    /// # Errors
    /// Fails if the contract names a field that does not exist, or one that JSON cannot show.
    pub fn new(
        descriptors: &Descriptors,
        message: &MessageDescriptor,
        response_body: Option<&str>,
        success: Success,
    ) -> Result<Self, ContractError> {
        let status = match success {
            Success::Status(status) => StatusPlan::Fixed(status),
            Success::Field(name) => StatusPlan::Field(find_field(message, name)?),
        };
        let mut headers = Vec::new();
        let mut page = None;
        let mut cursor = None;
        let mut fields = Vec::new();
        for field in message.fields() {
            let header = descriptors.field(&field)?.response_header;
            let is_status = matches!(&status, StatusPlan::Field(status) if *status == field);
            if !header.is_empty() {
                let name =
                    HeaderName::try_from(&header).map_err(|error| ContractError::new(format!("{header}: {error}")))?;
                headers.push((name, field));
            } else if is_message(&field, PAGE) {
                page = Some(field);
            } else if is_message(&field, CURSOR) {
                cursor = Some(field);
            } else if !is_status {
                fields.push(field);
            }
        }
        let body = match response_body.map(|name| find_field(message, name)).transpose()? {
            Some(field) if is_message(&field, DOCUMENT) && !field.is_list() => BodyPlan::Document(field),
            Some(field) => BodyPlan::Field(JsonField::new(field)?),
            None => BodyPlan::Message(JsonMessage::of_fields(fields)?),
        };
        Ok(Self { body, headers, page, cursor, status })
    }
}

fn find_field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, ContractError> {
    let field = message.get_field_by_name(name);
    field.ok_or_else(|| ContractError::new(format!("{} has no field {name}", message.full_name())))
}

fn is_message(field: &FieldDescriptor, name: &str) -> bool {
    field.kind().as_message().is_some_and(|kind| kind.full_name() == name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_the_contract_can_be_planned() {
        let descriptors = Descriptors::load().unwrap();
        for (method, spec) in descriptors.methods().unwrap() {
            for binding in descriptors.bindings(&method).unwrap() {
                let body = binding.response_body.as_deref();
                OutputPlan::new(&descriptors, &method.output(), body, spec.success).unwrap();
            }
        }
    }
}
