//! Well-formed tokens, and the names of what carries them, from the contract.

use proto::{
    contract::{Carrier, Place},
    paddock::contract::v1::{CredentialForm, CredentialKind},
};

/// A well-formed token of the kind; another number makes another token.
pub fn of(kind: CredentialKind, number: u64) -> String {
    let spec = kind.spec().unwrap();
    let text = format!("{}{number:032}", spec.prefix);
    match spec.form {
        CredentialForm::Jwt => format!("{}eyJhbGciOiJFZERTQSJ9.{number:032}.c2lnbmF0dXJl", spec.prefix),
        _ => text.clone() + std::str::from_utf8(&token::checksum(&text)).unwrap(),
    }
}

/// A user token.
pub fn user() -> String {
    of(CredentialKind::UserToken, 1)
}

/// A runner token.
pub fn runner() -> String {
    of(CredentialKind::RunnerToken, 1)
}

fn carriers(kind: CredentialKind) -> impl Iterator<Item = &'static Carrier> {
    kind.spec().unwrap().carriers.iter()
}

/// The parameters that carry a kind.
pub fn parameters(kind: CredentialKind) -> Vec<&'static str> {
    let name = |carrier: &'static Carrier| match carrier.place {
        Place::Parameter(name) => Some(name),
        Place::Header(_) | Place::AuthorizationScheme(_) | Place::BasicUsername(_) => None,
    };
    carriers(kind).filter_map(name).collect()
}

/// The headers that carry a kind, with what they must hold for this token.
pub fn headers(kind: CredentialKind, token: &str) -> Vec<(&'static str, String)> {
    let header = |carrier: &'static Carrier| match carrier.place {
        Place::Header(name) => Some((name, token.to_owned())),
        Place::AuthorizationScheme(scheme) => Some(("authorization", format!("{scheme} {token}"))),
        Place::Parameter(_) | Place::BasicUsername(_) => None,
    };
    carriers(kind).filter_map(header).collect()
}

/// The first header that carries a user token, with one.
pub fn user_header() -> (&'static str, String) {
    headers(CredentialKind::UserToken, &user()).remove(0)
}

/// The parameter that carries a runner token.
pub fn runner_parameter() -> &'static str {
    parameters(CredentialKind::RunnerToken)[0]
}

/// A JSON body with a runner token and these further fields, each with a leading comma.
pub fn runner_body(more: &str) -> String {
    format!("{{\"{}\":\"{}\"{more}}}", runner_parameter(), runner())
}
