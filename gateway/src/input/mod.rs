//! From a REST request to a request message: path, body and query in, a message out, or all that is wrong with them.

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

use builder::{Builder, Problem};
use coerce::Flaw;
use media::Media;

/// Reads body and query into the message, in this order of precedence.
///
/// # Errors
/// If one of them cannot be read at all. What single parameters lack is collected in the builder.
pub async fn read(builder: &mut Builder<'_>, headers: &HeaderMap, body: Bytes, query: &str) -> Result<(), Refusal> {
    let malformed = |detail: String| Refusal::new(Reason::BodyMalformed).with_detail(detail);
    match media::of(headers, &body)? {
        Media::Nothing => {}
        Media::Json => json::read(&body, builder).map_err(malformed)?,
        Media::Form => {
            let text = std::str::from_utf8(&body).map_err(|_| malformed("the form is not UTF-8".into()))?;
            form::read_pairs(text, builder).map_err(|_| malformed("the form is not percent-encoded UTF-8".into()))?;
        }
        Media::Multipart(boundary) => Box::pin(form::read_multipart(body, boundary, builder))
            .await
            .map_err(|_| malformed("the parts of the form cannot be read".into()))?,
    }
    builder.end_of_place();
    form::read_pairs(query, builder).map_err(|_| Refusal::new(Reason::PathMalformed))?;
    builder.end_of_place();
    Ok(())
}

/// The refusal that names every parameter with something wrong, as Grape words it.
pub fn refusal(problems: &[Problem]) -> Option<Refusal> {
    if problems.is_empty() {
        return None;
    }
    let texts: Vec<_> = problems.iter().map(|problem| format!("{} {}", problem.name, problem.flaw.text())).collect();
    let only_missing = problems.iter().all(|problem| problem.flaw == Flaw::Missing);
    let reason = if only_missing { Reason::ParameterMissing } else { Reason::ParameterInvalid };
    Some(Refusal::new(reason).with_message(texts.join(", ")))
}
