//! Requests that an upstream could read in another way than the gateway, refused before they are decided.

use chassis::status::Refusal;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use hyper::body::Body;
use proto::paddock::contract::v1::Reason;

use super::table::ProtectedRoute;
use crate::path;

/// The parameter by which a request passes as one with another verb.
const VERB_PARAMETER: &str = "_method";

/// Checks a request.
///
/// # Errors
/// If it is coded in a way that ends at the gateway, has a body that would be lost, or could pass as one with another verb.
pub fn check(route: &ProtectedRoute, parts: &Parts, body: &impl Body) -> Result<(), Refusal> {
    if !is_plainly_framed(&parts.headers) {
        return Err(refusal("no transfer coding but chunked is supported"));
    }
    let reads = parts.method == Method::GET || parts.method == Method::HEAD;
    if reads && !body.is_end_stream() && body.size_hint().exact().is_none() {
        return Err(refusal("a body of GET or HEAD needs a Content-Length"));
    }
    check_pairs(parts.uri.query().unwrap_or_default(), "the query")?;
    if route.verb == Method::POST && route.only_reads() && !body.is_end_stream() && may_be_form(&parts.headers) {
        let text = "415 Unsupported Media Type - this route takes no forms";
        return Err(Refusal::new(Reason::UnsupportedMediaType).with_message(text));
    }
    Ok(())
}

/// Checks the pairs of a query or a form.
///
/// # Errors
/// If one makes the request pass as one with another verb.
pub fn check_pairs(pairs: &str, place: &str) -> Result<(), Refusal> {
    if path::pieces(pairs).any(|(piece, _)| names_verb(piece)) {
        return Err(refusal(&format!("{place} must not have {VERB_PARAMETER}")));
    }
    Ok(())
}

fn refusal(text: &str) -> Refusal {
    Refusal::new(Reason::BadRequest).with_message(format!("400 Bad request - {text}"))
}

fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked =
        codings.next().is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    is_chunked && codings.next().is_none()
}

fn names_verb(piece: &str) -> bool {
    let name = piece.split('=').next().unwrap_or_default();
    let name = path::decode_form(name).unwrap_or_default();
    path::parameter(&name).eq_ignore_ascii_case(VERB_PARAMETER)
}

/// Whether some upstream would read the body as a form: where nothing else is said, many do.
pub fn may_be_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(first), None) = (types.next(), types.next()) else { return true };
    let text = String::from_utf8_lossy(first.as_bytes()).to_ascii_lowercase();
    text.trim().is_empty() || text.contains("form") || text.contains("multipart")
}
