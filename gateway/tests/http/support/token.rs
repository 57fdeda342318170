//! Well-formed tokens, and the names of their carriers in the contract.

use proto::{
    contract::{Carrier, Place},
    paddock::contract::v1::{CredentialForm, CredentialKind},
};

/// Returns a well-formed token of a kind. Each number gives another token.
pub fn of(kind: CredentialKind, number: u64) -> String {
    let spec = kind.spec().unwrap();
    let text = format!("{}{number:032}", spec.prefix);
    match spec.form {
        CredentialForm::Jwt => format!("{}eyJhbGciOiJFZERTQSJ9.{number:032}.c2lnbmF0dXJl", spec.prefix),
        _ => text.clone() + std::str::from_utf8(&token::checksum(&text)).unwrap(),
    }
}

/// Returns a user token.
pub fn user() -> String {
    of(CredentialKind::UserToken, 1)
}

/// Returns a runner token.
pub fn runner() -> String {
    of(CredentialKind::RunnerToken, 1)
}

fn carriers(kind: CredentialKind) -> impl Iterator<Item = &'static Carrier> {
    kind.spec().unwrap().carriers.iter()
}

/// Returns the parameters that carry a kind of credential.
pub fn parameters(kind: CredentialKind) -> Vec<&'static str> {
    carriers(kind)
        .filter_map(|carrier| match carrier.place {
            Place::Parameter(name) => Some(name),
            Place::Header(_) | Place::AuthorizationScheme(_) | Place::BasicUsername(_) => None,
        })
        .collect()
}

/// Returns the headers that carry a kind of credential, with their values for this token.
pub fn headers(kind: CredentialKind, token: &str) -> Vec<(&'static str, String)> {
    carriers(kind)
        .filter_map(|carrier| match carrier.place {
            Place::Header(name) => Some((name, token.to_owned())),
            Place::AuthorizationScheme(scheme) => Some(("authorization", format!("{scheme} {token}"))),
            Place::Parameter(_) | Place::BasicUsername(_) => None,
        })
        .collect()
}

/// Returns the first header that carries a user token, and a user token.
pub fn user_header() -> (&'static str, String) {
    headers(CredentialKind::UserToken, &user()).remove(0)
}

/// Returns the parameter that carries a runner token.
pub fn runner_parameter() -> &'static str {
    parameters(CredentialKind::RunnerToken)[0]
}

/// Returns a JSON body with a runner token and further fields, each with a leading comma.
pub fn runner_body(more: &str) -> String {
    format!("{{\"{}\":\"{}\"{more}}}", runner_parameter(), runner())
}
