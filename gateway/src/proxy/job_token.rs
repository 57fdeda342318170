//! The job token of a request, and the other credentials in it. The job token is the only credential that an
//! upstream may see: if it took another one, it would serve another caller than the gateway has authorized.

use chassis::status::{Fault, Refusal};
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts, uri::PathAndQuery};
use proto::paddock::contract::v1::Reason;

use crate::{
    credential::{carriers, plan::CredentialPlan, redact, token::Token},
    path::{self, Malformed},
};

/// The credential that an upstream may see, with the plan that finds it.
#[derive(Clone, Copy)]
pub struct ForwardedToken<'t> {
    /// The plan.
    pub plan: &'t CredentialPlan,
    /// The credential.
    pub token: &'t Token,
}

/// Returns what a request presents as its job token, in its headers, its query and the pairs of its form. Any other body
/// is not read.
///
/// # Errors
/// Fails if there is none, or if there are two.
pub fn find(plan: &CredentialPlan, parts: &Parts, form: &str) -> Result<Token, Refusal> {
    let query = parts.uri.query().unwrap_or_default();
    let mut in_pairs = plan.in_pairs(query).map_err(|Malformed| Refusal::new(Reason::PathMalformed))?;
    in_pairs.extend(plan.in_pairs(form).map_err(|Malformed| Refusal::new(Reason::BodyMalformed))?);
    let token = plan.find(&parts.headers, in_pairs)?;
    token.ok_or_else(|| if has_other_kind(parts, form) { plan.wrong_kind() } else { plan.missing() })
}

/// Checks the job token that [`find`] has returned.
///
/// # Errors
/// Fails if its form is wrong, or if another credential came with it.
pub fn check(presented: &ForwardedToken<'_>, parts: &Parts, form: &str) -> Result<(), Refusal> {
    presented.plan.check(presented.token)?;
    if has_another(presented, parts, form) {
        return Err(Refusal::new(Reason::ConflictingCredentials));
    }
    Ok(())
}

/// Returns the pairs of the query and the form.
fn all_pairs<'p>(parts: &'p Parts, form: &'p str) -> impl Iterator<Item = &'p str> {
    let query = parts.uri.query().unwrap_or_default();
    path::lenient_pairs(query).chain(path::lenient_pairs(form)).map(|(pair, _)| pair)
}

/// Reports whether any carrier of any kind has another credential than this one.
fn has_another(known: &ForwardedToken<'_>, parts: &Parts, form: &str) -> bool {
    for name in carriers::all_headers() {
        for value in parts.headers.get_all(&name) {
            let is_empty = value.as_bytes().trim_ascii().is_empty();
            if !is_empty && !known.plan.header_carries(&name, value, known.token) {
                return true;
            }
        }
    }
    all_pairs(parts, form).any(|pair| {
        let is_empty = pair.split_once('=').is_none_or(|(_, value)| value.is_empty());
        !is_empty && carriers::is_parameter(pair) && !known.plan.pair_carries(pair, known.token)
    })
}

/// Reports whether a carrier of any kind has a credential of another kind.
fn has_other_kind(parts: &Parts, form: &str) -> bool {
    for name in carriers::headers() {
        let values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        if values.flat_map(|value| value.split(' ')).any(has_known_prefix) {
            return true;
        }
    }
    all_pairs(parts, form).any(|pair| carriers::is_parameter(pair) || redact::is_suspicious(pair))
}

fn has_known_prefix(text: &str) -> bool {
    carriers::prefixes().any(|prefix| text.starts_with(prefix))
}

/// Returns path and query as they came, without the pairs that carry another credential than the forwarded one.
///
/// # Errors
/// Returns a fault if the rest is not a valid target.
pub fn target(parts: &Parts, forwarded: Option<ForwardedToken<'_>>) -> Result<PathAndQuery, Fault> {
    let path = parts.uri.path();
    let changed_query = parts.uri.query().and_then(|query| without_credentials(query, forwarded));
    match (changed_query, parts.uri.path_and_query()) {
        (None, Some(unchanged)) => Ok(unchanged.clone()),
        (Some(query), _) if !query.is_empty() => {
            PathAndQuery::try_from(format!("{path}?{query}")).map_err(Fault::internal)
        }
        _ => PathAndQuery::try_from(path).map_err(Fault::internal),
    }
}

/// Removes the pairs that carry another credential than the forwarded one. Returns none if all pairs stay.
pub fn without_credentials(pairs: &str, forwarded: Option<ForwardedToken<'_>>) -> Option<String> {
    path::without_pairs(pairs, |pair| {
        let is_forwarded = forwarded.is_some_and(|known| known.plan.pair_carries(pair, known.token));
        !is_forwarded && (carriers::is_parameter(pair) || redact::is_suspicious(pair))
    })
}

/// Removes every header that carries another credential than the forwarded one, under the name of a carrier or any
/// other.
pub fn remove_from_headers(headers: &mut HeaderMap, forwarded: Option<ForwardedToken<'_>>) {
    let carriers: Vec<_> = carriers::all_headers().collect();
    let mut names = Vec::new();
    for (name, value) in headers.iter() {
        if must_go(name, value, &carriers, forwarded) {
            names.push(name.clone());
        }
    }
    for name in names {
        let values = headers.get_all(&name).iter();
        let kept: Vec<_> = values.filter(|value| !must_go(&name, value, &carriers, forwarded)).cloned().collect();
        headers.remove(&name);
        for value in kept {
            headers.append(name.clone(), value);
        }
    }
}

fn must_go(
    name: &HeaderName,
    value: &HeaderValue,
    carriers: &[HeaderName],
    forwarded: Option<ForwardedToken<'_>>,
) -> bool {
    if forwarded.is_some_and(|known| known.plan.header_carries(name, value, known.token)) {
        return false;
    }
    carriers.contains(name) || redact::is_suspicious(&String::from_utf8_lossy(value.as_bytes()))
}
