//! Turns the message that a service returns into a REST response: status, headers and body in GitLab's form.

mod cursor;
pub mod document;
pub mod document_stream;
mod paging;
pub mod plan;

use bytes::Bytes;
use chassis::status::Fault;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use prost_reflect::DynamicMessage;
use proto::json::{write_field, write_message};

use self::plan::{BodyPlan, OutputPlan, StatusPlan};

/// The media type of every body.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The size of a buffer that most responses fit into, in bytes.
const CAPACITY: usize = 512;

/// Builds the response. `link` returns the address and the query of the request, for the links of a page.
///
/// # Errors
/// Fails if the service returned a status that HTTP does not have.
pub fn response(
    plan: &OutputPlan,
    message: &DynamicMessage,
    link: impl FnOnce() -> (String, String),
) -> Result<Response<Full<Bytes>>, Fault> {
    let status = match &plan.status {
        StatusPlan::Fixed(status) => u32::from(*status),
        StatusPlan::Field(field) => {
            message.get_field(field).as_i32().and_then(|status| status.try_into().ok()).unwrap_or_default()
        }
    };
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.filter(StatusCode::is_success);
    let status = status.ok_or_else(|| Fault::internal("the answer has no HTTP status"))?;

    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    add_headers(response.headers_mut(), plan, message);
    if let Some(field) = plan.page.as_ref().or(plan.cursor.as_ref()) {
        let (url, query) = link();
        let position = message.get_field(field);
        match position.as_message() {
            Some(page) if plan.page.is_some() => paging::add_headers(response.headers_mut(), page, &url, &query),
            Some(cursor) => cursor::add_headers(response.headers_mut(), cursor, &url, &query),
            None => {}
        }
    }
    if status == StatusCode::NO_CONTENT {
        return Ok(response);
    }
    let mut body = Vec::with_capacity(CAPACITY);
    match &plan.body {
        BodyPlan::Document(field) => {
            document::write(&mut response, field, message);
            return Ok(response);
        }
        BodyPlan::Field(field) => write_field(&mut body, field, message),
        BodyPlan::Message(fields) => write_message(&mut body, fields, message),
    }
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    *response.body_mut() = Full::from(body);
    Ok(response)
}

fn add_headers(headers: &mut HeaderMap, plan: &OutputPlan, message: &DynamicMessage) {
    for (name, field) in &plan.headers {
        let value = message.get_field(field);
        // A field is left out if it is unset, or if no header can carry it.
        let text = value.as_str().filter(|text| !text.is_empty());
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(name.clone(), value);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
