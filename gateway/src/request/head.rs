//! The head of a request: its id, its host and its address.

use chassis::status::Refusal;
use http::{HeaderMap, HeaderName, HeaderValue, Version, header::HOST, request::Parts, uri::Authority};
use proto::paddock::contract::v1::Reason;
use uuid::Uuid;

use crate::credential::redact;

/// The header that carries the id of a request, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client.
const MAX_REQUEST_ID: usize = 64;

/// Returns the client's id of the request if logs can show it, or a new one.
pub fn request_id(headers: &HeaderMap) -> String {
    let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match sent.filter(|id| is_loggable_id(id)) {
        Some(id) => id.to_owned(),
        None => Uuid::now_v7().simple().to_string(),
    }
}

fn is_loggable_id(id: &str) -> bool {
    let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    is_plain && (1..=MAX_REQUEST_ID).contains(&id.len()) && !redact::is_suspicious(id)
}

/// Returns the address of the request without its query, as the client knows it: by the configured URL, or by its Host
/// header.
pub fn url(parts: &Parts, external_url: &str) -> String {
    let path = parts.uri.path();
    if !external_url.is_empty() {
        return format!("{}{path}", external_url.trim_end_matches('/'));
    }
    match host(parts) {
        Some(host) => format!("http://{host}{path}"),
        None => path.to_owned(),
    }
}

/// Returns the host that a client asked for, if it is one. An absolute target precedes the Host header (RFC 9112,
/// 3.2.2).
pub fn host(parts: &Parts) -> Option<Authority> {
    let host = match parts.uri.authority() {
        Some(authority) => authority.clone(),
        None => parse_host(parts.headers.get(HOST)?)?,
    };
    has_no_user(&host).then_some(host)
}

/// Checks that a request names one host.
///
/// A request of HTTP/1.1 names its host once, whatever form its target has (RFC 9112, 3.2). One of HTTP/2 names the
/// same host in both places (RFC 9113, 8.3.1). Otherwise two servers could each take another host for the right one.
///
/// # Errors
/// Fails if the request names no host, more than one, or an invalid one.
pub fn check_host(parts: &Parts) -> Result<(), Refusal> {
    if names_one_host(parts) {
        return Ok(());
    }
    Err(Refusal::new(Reason::BadRequest).with_message("400 Bad request - the Host header must name one host"))
}

fn names_one_host(parts: &Parts) -> bool {
    let target = parts.uri.authority();
    if target.is_some_and(|target| !has_no_user(target)) {
        return false;
    }
    let mut headers = parts.headers.get_all(HOST).iter();
    let Some(first) = headers.next() else { return parts.version != Version::HTTP_11 };
    if headers.next().is_some() {
        return false;
    }
    let Some(host) = parse_host(first) else { return false };
    let differs = parts.version == Version::HTTP_2 && target.is_some_and(|target| *target != host);
    has_no_user(&host) && !differs
}

fn parse_host(value: &HeaderValue) -> Option<Authority> {
    value.to_str().ok()?.parse().ok()
}

/// Reports whether an authority is a host and a port only.
fn has_no_user(authority: &Authority) -> bool {
    !authority.as_str().contains('@')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn id_for(value: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, value.parse().unwrap());
        request_id(&headers)
    }

    #[test]
    fn a_plain_id_of_the_client_is_kept() {
        let longest = "a".repeat(64);
        for text in ["0123456789abcdef0123456789abcdef", "A.b_c-1", longest.as_str()] {
            assert_eq!(id_for(text), text);
        }
    }

    #[test]
    fn any_other_id_is_replaced() {
        let too_long = "a".repeat(65);
        let token = proto::paddock::contract::v1::CredentialKind::RunnerToken.spec().unwrap().prefix;
        for text in ["", "a b", "a\"b", "a/b", too_long.as_str(), &format!("{token}s3cret")] {
            let made = id_for(text);
            assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}: {made}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    fn parts(version: Version, uri: &str, hosts: &[&str]) -> Parts {
        let mut request = http::Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_address_is_that_of_the_client() {
        for (uri, hosts, external_url, expected) in [
            ("/a?b", &["h:1"][..], "", "http://h:1/a"),
            ("/a", &["h"], "https://x/y/", "https://x/y/a"),
            ("http://h2:2/a", &[], "", "http://h2:2/a"),
            ("http://h2:2/a", &["h"], "", "http://h2:2/a"),
            ("/a", &["a b>"], "", "/a"),
        ] {
            assert_eq!(url(&parts(Version::HTTP_11, uri, hosts), external_url), expected, "{uri} {hosts:?}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        for (version, uri, hosts) in [
            (Version::HTTP_11, "/a", &["h"][..]),
            (Version::HTTP_11, "http://h/a", &["h"]),
            (Version::HTTP_11, "http://h/a", &["other"]),
            (Version::HTTP_10, "/a", &[]),
            (Version::HTTP_2, "http://h/a", &[]),
            (Version::HTTP_2, "http://h/a", &["H"]),
        ] {
            assert!(check_host(&parts(version, uri, hosts)).is_ok(), "{version:?} {uri} {hosts:?}");
        }
        for (version, uri, hosts) in [
            (Version::HTTP_11, "/a", &[][..]),
            (Version::HTTP_11, "http://h/a", &[]),
            (Version::HTTP_11, "http://h/a", &["a b"]),
            (Version::HTTP_11, "http://h/a", &["u@h"]),
            (Version::HTTP_11, "http://u@h/a", &["h"]),
            (Version::HTTP_11, "/a", &["h", "h"]),
            (Version::HTTP_10, "/a", &["a b"]),
            (Version::HTTP_2, "http://h/a", &["other"]),
        ] {
            assert!(check_host(&parts(version, uri, hosts)).is_err(), "{version:?} {uri} {hosts:?}");
        }
    }
}
