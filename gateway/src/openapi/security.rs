//! The carriers of credentials as OpenAPI security schemes.

use proto::{
    contract::{Carrier, Place},
    paddock::contract::v1::CredentialKind,
};
use serde_json::{Map, Value, json};

/// Returns every carrier of every kind, as components.
pub fn schemes() -> Value {
    let mut schemes = Map::new();
    for kind in CredentialKind::ALL {
        let Some(spec) = kind.spec() else { continue };
        for carrier in spec.carriers {
            let description = format!("{}, starting with `{}`.", credential_title(kind), spec.prefix);
            let scheme = match carrier.place {
                Place::Header(name) => {
                    json!({"type": "apiKey", "in": "header", "name": name, "description": description})
                }
                Place::Parameter(name) => {
                    json!({"type": "apiKey", "in": "query", "name": name, "description": description})
                }
                Place::AuthorizationScheme(name) => json!({"type": "http", "scheme": name, "description": description}),
                // No method of the contract takes it; protected routes are not in this document.
                Place::BasicUsername(_) => continue,
            };
            schemes.insert(scheme_name(kind, carrier), scheme);
        }
    }
    Value::Object(schemes)
}

/// Returns the alternatives that a method with these kinds offers.
pub fn requirements(accepts: &[CredentialKind]) -> Vec<Value> {
    let mut alternatives = Vec::new();
    for kind in accepts {
        if *kind == CredentialKind::None {
            alternatives.push(json!({}));
        }
        let carriers = kind.spec().map(|spec| spec.carriers).unwrap_or_default();
        alternatives.extend(carriers.iter().filter(is_offered).map(|carrier| json!({scheme_name(*kind, carrier): []})));
    }
    alternatives
}

/// Reports whether methods of the contract take this carrier. Basic authentication is for protected routes only.
fn is_offered(carrier: &&Carrier) -> bool {
    !matches!(carrier.place, Place::BasicUsername(_))
}

/// Returns the name of a carrier among the security schemes of the document.
fn scheme_name(kind: CredentialKind, carrier: &Carrier) -> String {
    let kind = kind.as_str_name().trim_start_matches("CREDENTIAL_KIND_").to_ascii_lowercase();
    match carrier.place {
        Place::Header(name) => format!("{kind}.header.{name}"),
        Place::Parameter(name) => format!("{kind}.parameter.{name}"),
        Place::AuthorizationScheme(name) | Place::BasicUsername(name) => format!("{kind}.{name}"),
    }
}

fn credential_title(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::UserToken => "A personal access token",
        CredentialKind::RunnerToken => "A runner authentication token",
        CredentialKind::JobToken => "A CI job token",
        CredentialKind::Unspecified | CredentialKind::None | CredentialKind::Process => "A credential",
    }
}
