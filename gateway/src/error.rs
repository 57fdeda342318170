//! Refusals and faults as REST responses: GitLab's keys for client programs, and reason, remedy and request id for the
//! people who run them. The detail of a fault stays in the log.

use std::collections::BTreeMap;

use bytes::Bytes;
use chassis::status::{Refusal, Rejection};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use proto::{
    contract::{MethodSpec, ReasonSpec},
    paddock::contract::v1::Reason,
};
use serde::Serialize;

use crate::{credential::carriers, output::JSON};

/// The body of a refusal or fault.
#[derive(Serialize)]
struct Envelope<'a> {
    message: Message<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_description: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    reason: &'static str,
    remedy: &'static str,
    request_id: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Message<'a> {
    Text(&'a str),
    Fields(&'a BTreeMap<String, Vec<String>>),
    /// The form of GitLab's limits.
    Limit {
        error: &'a str,
    },
}

/// The parts of a request that its error response needs.
#[derive(Clone, Copy, Default)]
pub struct ErrorContext<'a> {
    /// The method that was called, if the request got that far.
    pub method: Option<&'a MethodSpec>,
    /// The reason that an answer from memory repeats.
    pub repeated: Option<Reason>,
    /// The id of the request.
    pub request_id: &'a str,
}

/// Builds the response.
pub fn response(rejection: &Rejection, context: ErrorContext<'_>) -> Response<Full<Bytes>> {
    let ErrorContext { method, repeated, request_id } = context;
    let spec = rejection.spec();
    let mut envelope = match rejection {
        Rejection::Refusal(refusal) => refusal_envelope(refusal, method, request_id),
        // The detail of a fault is for the log only.
        Rejection::Fault(_) => new_envelope(spec, Message::Text(spec.message), spec.message, request_id),
    };
    if let Some(repeated) = repeated.and_then(Reason::spec) {
        envelope.reason = repeated.code;
        envelope.remedy = repeated.remedy;
    }
    let mut response = Response::new(Full::from(serde_json::to_vec(&envelope).unwrap_or_default()));
    *response.status_mut() = StatusCode::from_u16(spec.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    if let Some(challenge) = challenge_header(spec) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    if let Rejection::Refusal(refusal) = rejection
        && let Some(seconds) = refusal.retry_after()
    {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Rejection::Fault(fault) = rejection
        && fault.reason() == Reason::UpstreamBusy
    {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(1));
    }
    response
}

fn refusal_envelope<'a>(refusal: &'a Refusal, method: Option<&MethodSpec>, request_id: &'a str) -> Envelope<'a> {
    let message = match refusal.reason() {
        Reason::ValidationFailed if !refusal.fields().is_empty() => Message::Fields(refusal.fields()),
        Reason::TooManyRequests => limit_message(refusal),
        _ => Message::Text(refusal.message()),
    };
    let mut envelope = new_envelope(refusal.spec(), message, refusal.message(), request_id);
    if refusal.reason() == Reason::InsufficientScope {
        let scopes = method.map(|method| method.scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(" "));
        envelope.error_description = Some("The request requires higher privileges than provided by the access token.");
        envelope.scope = scopes;
    }
    envelope
}

/// Returns the message of a 429: a limit of GitLab has its text in the field `error`.
fn limit_message(refusal: &Refusal) -> Message<'_> {
    match refusal.fields().get("error").and_then(|texts| texts.first()) {
        Some(error) => Message::Limit { error },
        None => Message::Text(refusal.message()),
    }
}

fn new_envelope<'a>(
    spec: &'static ReasonSpec,
    message: Message<'a>,
    text: &'a str,
    request_id: &'a str,
) -> Envelope<'a> {
    Envelope {
        message,
        error: spec.error_key.then_some(text),
        error_description: None,
        scope: None,
        reason: spec.code,
        remedy: spec.remedy,
        request_id,
    }
}

/// Returns the authentication schemes that a 401 must name (RFC 9110, 15.5.2).
fn challenge_header(spec: &ReasonSpec) -> Option<HeaderValue> {
    if spec.http_status != StatusCode::UNAUTHORIZED.as_u16() {
        return None;
    }
    let challenges = carriers::schemes().map(|scheme| format!("{scheme} realm=\"paddock\""));
    HeaderValue::try_from(challenges.collect::<Vec<_>>().join(", ")).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use chassis::status::Fault;
    use futures::FutureExt as _;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    fn answer(rejection: impl Into<Rejection>) -> (StatusCode, http::HeaderMap, Value) {
        let method = proto::contract::METHODS.iter().find(|method| method.name == "CreateRunner");
        answer_in(rejection, ErrorContext { method, repeated: None, request_id: "r1" })
    }

    fn answer_in(rejection: impl Into<Rejection>, context: ErrorContext<'_>) -> (StatusCode, http::HeaderMap, Value) {
        let (parts, body) = response(&rejection.into(), context).into_parts();
        let bytes = body.collect().now_or_never().unwrap().unwrap().to_bytes();
        (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn every_reason_has_message_reason_remedy_and_request_id() {
        for reason in Reason::ALL {
            let spec = reason.spec().unwrap();
            let rejection: Rejection =
                if spec.http_status < 500 { Refusal::new(reason).into() } else { Fault::of(reason, "a secret").into() };
            let (status, headers, body) = answer(rejection);
            assert_eq!(status.as_u16(), spec.http_status);
            assert_eq!(headers[header::CONTENT_TYPE], "application/json");
            assert_eq!(headers.contains_key(header::WWW_AUTHENTICATE), spec.http_status == 401, "{reason:?}");
            let keys = (&body["message"], &body["reason"], &body["remedy"], &body["request_id"]);
            assert_eq!(keys, (&json!(spec.message), &json!(spec.code), &json!(spec.remedy), &json!("r1")));
            assert_eq!(body.get("error"), spec.error_key.then(|| json!(spec.message)).as_ref());
            assert!(!body.to_string().contains("a secret"));
        }
    }

    #[test]
    fn a_precise_message_is_under_both_keys() {
        let (_, _, body) = answer(Refusal::new(Reason::ParameterMissing).with_message("token is missing"));
        assert_eq!((&body["message"], &body["error"]), (&json!("token is missing"), &json!("token is missing")));
    }

    #[test]
    fn a_failed_validation_lists_its_fields() {
        let (_, _, body) =
            answer(Refusal::new(Reason::ValidationFailed).with_field("path", "is taken").with_field("path", "x"));
        assert_eq!(body["message"], json!({"path": ["is taken", "x"]}));
        let (_, _, body) = answer(Refusal::new(Reason::ValidationFailed).with_message("400 Bad request - x"));
        assert_eq!(body["message"], json!("400 Bad request - x"));
    }

    #[test]
    fn a_missing_scope_is_named() {
        let (_, _, body) = answer(Refusal::new(Reason::InsufficientScope));
        assert_eq!(body["error"], json!("insufficient_scope"));
        assert_eq!(body["scope"], json!("api create_runner"));
        assert!(body["error_description"].is_string());
    }

    #[test]
    fn a_wait_is_whole_seconds() {
        let (_, headers, _) = answer(Refusal::new(Reason::Conflict).with_retry_after(7));
        assert_eq!(headers[header::RETRY_AFTER], "7");
    }
    #[test]
    fn an_answer_from_memory_has_the_reason_and_the_remedy_that_it_repeats() {
        let refusal =
            Refusal::new(Reason::TooManyRequests).with_message("429 Too Many Requests - x").with_retry_after(6);
        let context = ErrorContext { method: None, repeated: Some(Reason::RunnerUnassigned), request_id: "r1" };
        let (status, headers, body) = answer_in(refusal, context);
        let repeated = Reason::RunnerUnassigned.spec().unwrap();
        assert_eq!((status.as_u16(), &headers[header::RETRY_AFTER]), (429, &HeaderValue::from(6)));
        let expected = json!({
            "message": "429 Too Many Requests - x", "reason": repeated.code, "remedy": repeated.remedy, "request_id": "r1"
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_limit_of_gitlab_has_the_form_of_gitlab() {
        let (_, _, body) = answer(Refusal::new(Reason::TooManyRequests).with_field("error", "too many"));
        assert_eq!(body["message"], json!({"error": "too many"}));
        assert_eq!(body["reason"], json!("too_many_requests"));
    }
}
