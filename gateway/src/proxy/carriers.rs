//! The job token of a request, and every other credential that stands beside it. What was decided on is the only one that an
//! upstream may see: another that it took instead would make it serve somebody else than the gateway has let through.

use chassis::status::{Fault, Refusal};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use proto::paddock::contract::v1::{CredentialKind, Reason};

use crate::credentials::{self, CredentialPlan};
use crate::input::builder::Token;
use crate::path::{self, Malformed};
use crate::redact;

/// The job token of a request, from its headers, its query and the pairs of its form; any other body streams past unread.
///
/// # Errors
/// If there is none, if it is none, or if a credential of another kind came with it.
pub fn job_token(plan: &CredentialPlan, parts: &Parts, form: &str) -> Result<Token, Refusal> {
    let query = parts.uri.query().unwrap_or_default();
    let mut in_pairs = plan.in_pairs(query).map_err(|Malformed| Refusal::new(Reason::PathMalformed))?;
    in_pairs.extend(plan.in_pairs(form).map_err(|Malformed| Refusal::new(Reason::BodyMalformed))?);
    let pieces = || path::pieces(query).chain(path::pieces(form)).map(|(piece, _)| piece);
    let Some(token) = plan.find(&parts.headers, in_pairs)? else {
        return Err(if carries_another(parts, pieces()) { plan.wrong_kind() } else { plan.missing() });
    };
    plan.check(&token)?;
    if is_accompanied(plan, parts, pieces(), &token) {
        return Err(Refusal::new(Reason::ConflictingCredentials));
    }
    Ok(token)
}

/// Whether anything but this token stands where a credential of any kind may stand.
fn is_accompanied<'p>(
    plan: &CredentialPlan,
    parts: &Parts,
    mut pieces: impl Iterator<Item = &'p str>,
    token: &Token,
) -> bool {
    let is_other = |name: &HeaderName, value: &HeaderValue| {
        !value.as_bytes().trim_ascii().is_empty() && !plan.is_header(name, value, token)
    };
    let in_header = |name: HeaderName| parts.headers.get_all(&name).iter().any(|value| is_other(&name, value));
    let is_other_piece = |piece: &str| {
        let is_empty = piece.split_once('=').is_none_or(|(_, value)| value.is_empty());
        !is_empty && credentials::is_parameter(piece) && !plan.is_piece(piece, token)
    };
    credentials::all_headers().any(in_header) || pieces.any(is_other_piece)
}

/// Whether a credential of another kind stands where one may stand.
fn carries_another<'p>(parts: &Parts, mut pieces: impl Iterator<Item = &'p str>) -> bool {
    let prefixes = || CredentialKind::ALL.iter().filter_map(|kind| kind.spec()).map(|spec| spec.prefix);
    let in_headers = credentials::headers().any(|name| {
        let values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let mut words = values.flat_map(|value| value.split(' '));
        words.any(|word| prefixes().any(|prefix| word.starts_with(prefix)))
    });
    let is_one = |piece: &str| credentials::is_parameter(piece) || redact::is_suspicious(piece);
    in_headers || pieces.any(is_one)
}

/// Path and query as they came, less what carries a credential; the one that may stay stays.
///
/// # Errors
/// A fault if what is left is no target.
pub fn target(parts: &Parts, stays: Option<(&CredentialPlan, &Token)>) -> Result<PathAndQuery, Fault> {
    let path = parts.uri.path();
    let rest = parts.uri.query().and_then(|query| without_credentials(query, stays));
    match (rest, parts.uri.path_and_query()) {
        (None, Some(whole)) => Ok(whole.clone()),
        (Some(rest), _) if !rest.is_empty() => {
            PathAndQuery::try_from(format!("{path}?{rest}")).map_err(Fault::internal)
        }
        _ => PathAndQuery::try_from(path).map_err(Fault::internal),
    }
}

/// Pairs as they came, less those that carry a credential; the one that may stay stays. None: all do.
pub fn without_credentials(pairs: &str, stays: Option<(&CredentialPlan, &Token)>) -> Option<String> {
    path::without_pieces(pairs, |piece| {
        let may_stay = stays.is_some_and(|(plan, token)| plan.is_piece(piece, token));
        !may_stay && (credentials::is_parameter(piece) || redact::is_suspicious(piece))
    })
}

/// Removes every header that carries a credential, under its own name or another; the one that may stay stays.
pub fn remove(headers: &mut HeaderMap, stays: Option<(&CredentialPlan, &Token)>) {
    let carriers: Vec<_> = credentials::all_headers().collect();
    let goes = |name: &HeaderName, value: &HeaderValue| {
        let may_stay = stays.is_some_and(|(plan, token)| plan.is_header(name, value, token));
        !may_stay && (carriers.contains(name) || redact::is_suspicious(&String::from_utf8_lossy(value.as_bytes())))
    };
    let names: Vec<_> =
        headers.iter().filter(|(name, value)| goes(name, value)).map(|(name, _)| name.clone()).collect();
    for name in names {
        let kept: Vec<_> = headers.get_all(&name).iter().filter(|value| !goes(&name, value)).cloned().collect();
        headers.remove(&name);
        for value in kept {
            headers.append(name.clone(), value);
        }
    }
}
