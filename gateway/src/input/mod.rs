//! Turns a REST request into a request message. It reads path, body and query, and collects every flaw of their
//! parameters.

pub mod builder;
mod coerce;
mod form;
mod json;
pub mod media;
pub mod plan;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use bytes::Bytes;
use chassis::status::Refusal;
use http::HeaderMap;
use proto::paddock::contract::v1::Reason;

use self::{
    builder::{MessageBuilder, Problem},
    coerce::Flaw,
    media::Media,
};

/// Reads body and query into the message, in this order of precedence.
///
/// # Errors
/// Fails if one of them cannot be read at all. The flaws of single parameters are collected in the builder.
pub async fn read(
    builder: &mut MessageBuilder<'_>,
    headers: &HeaderMap,
    body: Bytes,
    query: &str,
) -> Result<(), Refusal> {
    match media::detect(headers, &body)? {
        Media::Nothing => {}
        Media::Json => json::read(&body, builder).map_err(malformed)?,
        Media::Form => {
            let text = std::str::from_utf8(&body).map_err(|_| malformed("the form is not UTF-8"))?;
            form::read_pairs(text, builder).map_err(|_| malformed("the form is not percent-encoded UTF-8"))?;
        }
        Media::Multipart(boundary) => Box::pin(form::read_multipart(body, boundary, builder))
            .await
            .map_err(|_| malformed("the parts of the form cannot be read"))?,
    }
    builder.end_source();
    form::read_pairs(query, builder).map_err(|_| Refusal::new(Reason::PathMalformed))?;
    builder.end_source();
    Ok(())
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::BodyMalformed).with_detail(detail)
}

/// Returns the refusal that names every parameter with a flaw, in the words of Grape.
pub fn refusal(problems: &[Problem]) -> Option<Refusal> {
    if problems.is_empty() {
        return None;
    }
    let texts: Vec<_> = problems.iter().map(|problem| format!("{} {}", problem.name, problem.flaw.text())).collect();
    let only_missing = problems.iter().all(|problem| problem.flaw == Flaw::Missing);
    let reason = if only_missing { Reason::ParameterMissing } else { Reason::ParameterInvalid };
    Some(Refusal::new(reason).with_message(texts.join(", ")))
}
