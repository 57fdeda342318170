//! One operation of the document: the parameters of a route and its responses.

use std::{collections::BTreeMap, ops::Range};

use http::Method;
use proto::{contract::Success, paddock::contract::v1::Reason};
use serde_json::{Map, Value, json};

use super::{
    comments::{Comments, first_sentence},
    schema::{self, Schemas},
    security,
};
use crate::{
    input::plan::FieldPlan,
    output::plan::BodyPlan,
    request::head::REQUEST_ID,
    rest::routes::{OwnPage, Route},
};

/// The headers of a page, and what they hold.
const PAGE_HEADERS: [(&str, &str, &str); 7] = [
    ("x-page", "integer", "The number of the page, from 1."),
    ("x-per-page", "integer", "How many items a page holds."),
    ("x-next-page", "string", "The number of the next page; empty if there is none."),
    ("x-prev-page", "string", "The number of the page before; empty if there is none."),
    ("x-total", "integer", "How many items the list holds; left out above 10,000."),
    ("x-total-pages", "integer", "How many pages the list has; left out above 10,000 items."),
    ("link", "string", "Links to the neighbouring, first and last page."),
];

/// The headers of a page of a growing list, and what they hold.
const CURSOR_HEADERS: [(&str, &str, &str); 3] = [
    ("x-per-page", "integer", "How many items a page holds."),
    ("x-next-cursor", "string", "The value of `cursor` for the next page; empty if there is none."),
    ("link", "string", "A link to the next page; left out if there is none."),
];

/// The headers of a file.
const DOCUMENT_HEADERS: [(&str, &str, &str); 1] = [("content-disposition", "string", "The name for saving the file.")];

/// Writes operations, and collects the schemas and tags that they share.
#[derive(Default)]
pub struct OperationWriter {
    comments: Comments,
    /// The schemas that operations refer to.
    pub schemas: Schemas,
    /// The services, with their comments.
    pub tags: BTreeMap<String, String>,
}

impl OperationWriter {
    /// Returns the operation of a route.
    pub fn operation(&mut self, route: &Route) -> Value {
        let comment = self.comments.method(&route.descriptor);
        let service = route.descriptor.parent_service();
        let tag = service.name().trim_end_matches("Service").to_owned();
        let about = self.comments.service(service);
        self.tags.insert(tag.clone(), about);
        let mut operation = Map::new();
        operation.insert("operationId".into(), json!(route.method.name));
        operation.insert("summary".into(), json!(first_sentence(&comment)));
        operation.insert("description".into(), json!(comment));
        operation.insert("tags".into(), json!([tag]));
        operation.insert("parameters".into(), json!(self.parameters(route)));
        if takes_body(&route.verb) {
            operation.insert("requestBody".into(), self.request_body(route));
        }
        operation.insert("responses".into(), self.responses(route));
        operation.insert("security".into(), json!(security::requirements(route.method.accepts)));
        let scopes: Vec<_> = route.method.scopes.iter().map(|scope| scope.name()).collect();
        if !scopes.is_empty() {
            operation.insert("x-token-scopes".into(), json!(scopes));
        }
        Value::Object(operation)
    }

    fn parameters(&mut self, route: &Route) -> Vec<Value> {
        let mut parameters = Vec::new();
        for (index, field) in route.input.message.fields.iter().enumerate() {
            if route.variables.contains(&index) {
                parameters.push(self.parameter(field, "path"));
            } else if !takes_body(&route.verb) {
                parameters.push(self.parameter(field, "query"));
            }
        }
        parameters
    }

    fn parameter(&mut self, field: &FieldPlan, location: &str) -> Value {
        let is_required = location == "path" || field.required;
        let mut parameter = json!({"name": field.name, "in": location, "required": is_required});
        let schema = schema::input(field, &mut self.comments);
        if let Some(object) = parameter.as_object_mut() {
            object.insert("description".into(), schema.get("description").cloned().unwrap_or_default());
            object.insert("schema".into(), schema);
        }
        parameter
    }

    fn request_body(&mut self, route: &Route) -> Value {
        let fields = route.input.message.fields.iter().enumerate();
        let fields: Vec<_> =
            fields.filter(|(index, _)| !route.variables.contains(index)).map(|(_, field)| field).collect();
        let mut properties = Map::new();
        if let Some(credential) = &route.input.credential {
            let description = self.comments.field(credential);
            properties.insert(credential.name().to_owned(), json!({"type": "string", "description": description}));
        }
        properties.extend(fields.iter().map(|field| (field.name.clone(), schema::input(field, &mut self.comments))));
        let required: Vec<_> = fields.iter().filter(|field| field.required).map(|field| &field.name).collect();
        let mut schema = json!({"type": "object", "properties": properties});
        if let Some(object) = schema.as_object_mut().filter(|_| !required.is_empty()) {
            object.insert("required".into(), json!(required));
        }
        let content = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"];
        let content: Map<_, _> = content.map(|name| (name.to_owned(), json!({"schema": schema}))).into_iter().collect();
        json!({"required": !required.is_empty(), "content": content})
    }

    fn responses(&mut self, route: &Route) -> Value {
        let status = match route.method.success {
            Success::Status(status) => status.to_string(),
            Success::Field(_) => "2XX".to_owned(),
        };
        let mut headers = Map::new();
        headers.insert(REQUEST_ID.as_str().to_owned(), request_id());
        for (name, field) in &route.output.headers {
            let description = self.comments.field(field);
            headers.insert(name.as_str().to_owned(), json!({"description": description, "schema": {"type": "string"}}));
        }
        let output = &route.output;
        let is_document = matches!(output.body, BodyPlan::Document(_));
        let lists: [(bool, &[_]); 3] = [
            (output.page.is_some(), &PAGE_HEADERS),
            (output.cursor.is_some(), &CURSOR_HEADERS),
            (is_document, &DOCUMENT_HEADERS),
        ];
        for (name, kind, description) in lists.iter().filter(|(applies, _)| *applies).flat_map(|(_, list)| *list) {
            headers.insert((*name).to_owned(), json!({"description": description, "schema": {"type": kind}}));
        }
        let media = if is_document { "*/*" } else { "application/json" };
        let schema = match &output.body {
            BodyPlan::Document(_) => Some(json!({"type": "string", "format": "binary"})),
            BodyPlan::Field(field) => Some(self.schemas.output(field, &mut self.comments)),
            BodyPlan::Message(message) if message.fields.is_empty() => None,
            BodyPlan::Message(message) => Some(self.schemas.output_message(message, &mut self.comments)),
        };
        let mut success = json!({"description": "Success.", "headers": headers});
        if let (Some(schema), Some(object)) = (schema.filter(|_| status != "204"), success.as_object_mut()) {
            object.insert("content".into(), json!({media: {"schema": schema}}));
        }
        json!({
            status: success,
            "4XX": {"$ref": "#/components/responses/Refusal"},
            "5XX": {"$ref": "#/components/responses/Fault"},
        })
    }
}

/// Returns the operation of one of the gateway's own pages.
pub fn own_page(page: OwnPage, tag: &str) -> Value {
    let (name, summary) = match page {
        OwnPage::Liveness => ("Liveness", "Tells whether the gateway lives"),
        OwnPage::Readiness => ("Readiness", "Tells whether the gateway can serve, and if not, what is missing"),
        OwnPage::Health => ("Health", "Tells the version and the contract digest of the gateway"),
        OwnPage::OpenApi => ("OpenApi", "Returns this document"),
    };
    let mut responses = Map::new();
    responses.insert("200".into(), own_page_response("Success."));
    responses.insert("4XX".into(), json!({"$ref": "#/components/responses/Refusal"}));
    if page == OwnPage::Readiness {
        responses.insert("503".into(), own_page_response("What is missing."));
    }
    json!({"operationId": name, "summary": summary, "tags": [tag], "security": [], "responses": responses})
}

fn own_page_response(description: &str) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": {"type": "object"}}}})
}

/// Returns the responses that every operation may have.
pub fn error_responses() -> Value {
    json!({
        "Refusal": error_response("The caller can mend it.", 400..500),
        "Fault": error_response("Paddock, or a system that it depends on, failed.", 500..600),
    })
}

fn error_response(description: &str, statuses: Range<u16>) -> Value {
    let specs = Reason::ALL.iter().filter_map(|reason| reason.spec());
    let reasons: Vec<_> = specs.filter(|spec| statuses.contains(&spec.http_status)).map(|spec| spec.code).collect();
    json!({
        "description": description,
        "headers": {REQUEST_ID.as_str(): request_id()},
        "content": {"application/json": {"schema": envelope_schema(&reasons)}},
    })
}

/// Returns the schema of a refusal or fault with one of these reasons.
fn envelope_schema(reasons: &[&str]) -> Value {
    let fields = json!({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}});
    json!({
        "type": "object",
        "required": ["message", "reason", "remedy", "request_id"],
        "properties": {
            "message": {
                "description": "What is wrong; texts per field for a record that is not valid.",
                "oneOf": [{"type": "string"}, fields],
            },
            "error": {"type": "string", "description": "The same text, where GitLab has it under this key."},
            "error_description": {"type": "string", "description": "More about a missing scope."},
            "scope": {"type": "string", "description": "The scopes of which one is needed."},
            "reason": {"type": "string", "enum": reasons},
            "remedy": {"type": "string", "description": "What the caller can do."},
            "request_id": {"type": "string", "description": "Under which the log has the request."},
        },
    })
}

fn request_id() -> Value {
    json!({"description": "The id of the request, as the log has it.", "schema": {"type": "string"}})
}

/// Reports whether a request with this verb has its parameters in the body.
fn takes_body(verb: &Method) -> bool {
    *verb == Method::POST || *verb == Method::PUT || *verb == Method::PATCH
}
