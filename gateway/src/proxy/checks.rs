//! Refuses requests that an upstream could read in another way than the gateway, before their access is decided.

use chassis::status::Refusal;
use http::{HeaderMap, Method, header, request::Parts};
use hyper::body::Body;
use proto::paddock::contract::v1::Reason;

use super::table::route::ProtectedRoute;
use crate::path;

/// The parameter that gives a request another verb.
const VERB_PARAMETER: &str = "_method";

/// Checks a request.
///
/// # Errors
/// Fails if the request has a transfer coding that ends at the gateway, a body that would be lost, or could pass for a
/// request with another verb.
pub fn check(route: &ProtectedRoute, parts: &Parts, body: &impl Body) -> Result<(), Refusal> {
    if !is_plainly_framed(&parts.headers) {
        return Err(bad_request("no transfer coding but chunked is supported"));
    }
    let reads = parts.method == Method::GET || parts.method == Method::HEAD;
    if reads && !body.is_end_stream() && body.size_hint().exact().is_none() {
        return Err(bad_request("a body of GET or HEAD needs a Content-Length"));
    }
    check_pairs(parts.uri.query().unwrap_or_default(), "the query")?;
    if route.verb == Method::POST && route.only_reads() && !body.is_end_stream() && may_be_form(&parts.headers) {
        let text = "415 Unsupported Media Type - this route takes no forms";
        return Err(Refusal::new(Reason::UnsupportedMediaType).with_message(text));
    }
    Ok(())
}

/// Checks the pairs of a query or a form. `source` names it in the refusal.
///
/// # Errors
/// Fails if a pair gives the request another verb.
pub fn check_pairs(pairs: &str, source: &str) -> Result<(), Refusal> {
    if path::lenient_pairs(pairs).any(|(pair, _)| names_verb(pair)) {
        return Err(bad_request(&format!("{source} must not have {VERB_PARAMETER}")));
    }
    Ok(())
}

fn bad_request(text: &str) -> Refusal {
    Refusal::new(Reason::BadRequest).with_message(format!("400 Bad request - {text}"))
}

fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked =
        codings.next().is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    is_chunked && codings.next().is_none()
}

fn names_verb(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    let name = path::decode_form(name).unwrap_or_default();
    path::lenient_name(&name).eq_ignore_ascii_case(VERB_PARAMETER)
}

/// Reports whether an upstream could read the body as a form. Many do so without a clear media type.
pub fn may_be_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(first) = types.next() else { return true };
    if types.next().is_some() {
        return true;
    }
    let text = String::from_utf8_lossy(first.as_bytes()).to_ascii_lowercase();
    text.trim().is_empty() || text.contains("form") || text.contains("multipart")
}
