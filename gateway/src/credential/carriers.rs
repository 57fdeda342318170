//! Everything that can carry a credential of any kind, as the contract declares it. Logs, links and upstreams must not
//! contain these values.

use http::{HeaderName, header};
use proto::{contract::Place, paddock::contract::v1::CredentialKind};

use crate::path;

/// Headers and parameters in which GitLab takes credentials that Paddock does not know. Sources:
/// https://docs.gitlab.com/api/rest/authentication/ and https://docs.gitlab.com/security/tokens/
const OTHER_HEADERS: [&str; 1] = ["deploy-token"];
const OTHER_PARAMETERS: [&str; 4] = ["deploy_token", "feed_token", "rss_token", "oauth_token"];

/// Returns the parameters that carry a credential of any kind. Their values are removed from logs and responses.
pub fn parameters() -> impl Iterator<Item = &'static str> {
    carrier_places().filter_map(|place| match place {
        Place::Parameter(name) => Some(name),
        Place::Header(_) | Place::AuthorizationScheme(_) | Place::BasicUsername(_) => None,
    })
}

/// Reports whether a pair of a query has the name of a parameter that carries a credential of any kind, in any
/// spelling.
pub fn is_parameter(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    // A name that cannot be decoded is not a parameter of the contract, but a less strict upstream may read it as one.
    let Ok(name) = path::decode_form(name) else { return true };
    let name = path::lenient_name(&name);
    parameters().chain(OTHER_PARAMETERS).any(|known| known.eq_ignore_ascii_case(&name))
}

/// Returns the schemes of the Authorization header that carry a credential, in lower case.
pub fn schemes() -> impl Iterator<Item = &'static str> {
    carrier_places().filter_map(|place| match place {
        Place::AuthorizationScheme(name) => Some(name),
        Place::Header(_) | Place::Parameter(_) | Place::BasicUsername(_) => None,
    })
}

/// Returns the headers that carry a credential of any kind, including the Authorization header with any scheme.
pub fn headers() -> impl Iterator<Item = HeaderName> {
    carrier_places().filter_map(|place| match place {
        Place::Header(name) => Some(HeaderName::from_static(name)),
        Place::AuthorizationScheme(_) | Place::BasicUsername(_) => Some(header::AUTHORIZATION),
        Place::Parameter(_) => None,
    })
}

/// Returns the headers that carry a credential of any kind, including those that only GitLab knows.
pub fn all_headers() -> impl Iterator<Item = HeaderName> {
    headers().chain(OTHER_HEADERS.map(HeaderName::from_static))
}

/// Returns the prefixes of all kinds of credentials.
pub fn prefixes() -> impl Iterator<Item = &'static str> {
    CredentialKind::ALL.iter().filter_map(|kind| kind.spec()).map(|spec| spec.prefix)
}

/// Returns the place of every carrier of every kind of credential.
fn carrier_places() -> impl Iterator<Item = Place> {
    let specs = CredentialKind::ALL.iter().filter_map(|kind| kind.spec());
    specs.flat_map(|spec| spec.carriers).map(|carrier| carrier.place)
}
