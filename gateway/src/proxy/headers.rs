//! What of a request's headers reaches an upstream, and what of its answer's headers reaches the client: neither the
//! headers of a single connection, nor any identity that the gateway did not give.

use std::net::IpAddr;

use chassis::status::Fault;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use proto::paddock::contract::v1::InternalHeader;

use crate::credentials;
use crate::request::REQUEST_ID;

/// The headers that concern one connection only (RFC 9110, 7.6.1; RFC 7540, 3.2.1 for the last), and the framing of the
/// body, which is made anew. `expect` is answered by the gateway.
const HOP_BY_HOP: [&str; 13] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "content-length",
    "upgrade",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "expect",
    "http2-settings",
];

/// The headers by which proxies tell upstreams who calls, from where and for what; the last group lets a request pass as
/// one for another path or with another verb. Whatever a client sends under these names is dropped. An entry that ends in
/// `*` is the start of names. Sources: RFC 7239; the reference pages of nginx, Envoy, Traefik, oauth2-proxy, Cloudflare,
/// Azure App Service, Google IAP and GitLab.
const OF_PROXIES: [&str; 46] = [
    "forwarded",
    "x-forwarded*",
    "via",
    "x-real-*",
    "x-client-*",
    "x-cluster-client-ip",
    "x-originating-*",
    "x-request-id",
    "x-envoy-*",
    "true-client-ip",
    "client-ip",
    "cf-*",
    "fastly-*",
    "akamai-*",
    "x-azure-*",
    "x-appengine-*",
    "x-goog-*",
    "x-amzn-*",
    "x-ms-*",
    "remote-*",
    "x-remote-*",
    "x-auth*",
    "x-webauth-*",
    "x-user*",
    "x-email*",
    "x-group*",
    "x-role*",
    "x-account*",
    "x-principal*",
    "x-identity*",
    "x-id-token*",
    "x-access-token*",
    "x-jwt-*",
    "x-token*",
    "x-ssl-*",
    "ssl-*",
    "x-client-cert*",
    "x-gitlab-*",
    "gitlab-*",
    "sudo",
    "impersonate-*",
    "x-host",
    "x-original-*",
    "x-rewrite-*",
    "x-http-*",
    "x-method-*",
];

/// What every name of ours starts with.
const OURS: [&str; 2] = ["paddock-", "x-paddock-"];

/// Removes the headers of the connection, and every one that the Connection header names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let listed = headers.get_all(header::CONNECTION).iter().chain(headers.get_all("proxy-connection"));
    let listed = listed.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let listed: Vec<_> = listed.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    for name in listed {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Removes every header of a client by which an upstream could take it for somebody.
pub fn remove_identity(headers: &mut HeaderMap) {
    let claimed: Vec<_> = headers.keys().filter(|name| claims_identity(name.as_str())).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
}

/// Whether an upstream could read an identity in a header of this name. Servers differ in what they make of a character
/// that is no letter, digit or hyphen: some turn it into one of these.
fn claims_identity(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let matches = |known: &str| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == known,
    };
    !is_plain || OURS.iter().any(|start| name.starts_with(start)) || OF_PROXIES.iter().any(|known| matches(known))
}

/// Removes every header that carries a credential.
pub fn remove_credentials(headers: &mut HeaderMap) {
    for name in credentials::headers() {
        headers.remove(name);
    }
}

/// What the gateway says of a request.
pub struct Origin<'a> {
    /// The address of the client.
    pub remote_ip: IpAddr,
    /// `http` or `https`, as the client knows the gateway.
    pub scheme: &'static str,
    /// The host that the client asked for.
    pub host: Option<HeaderValue>,
    /// The id of the request.
    pub request_id: &'a str,
    /// The signed identity of the job.
    pub identity: &'a str,
}

/// Adds what the gateway says of the request.
///
/// # Errors
/// A fault if the identity cannot stand in a header: nothing is forwarded without one.
pub fn add_origin(headers: &mut HeaderMap, origin: &Origin<'_>) -> Result<(), Fault> {
    let value = |text: &str| HeaderValue::try_from(text).map_err(Fault::internal);
    let mut identity = value(origin.identity)?;
    if identity.is_empty() {
        return Err(Fault::internal("job-token-auth gave no identity for the upstream"));
    }
    identity.set_sensitive(true);
    headers.insert(identity_header()?, identity);
    headers.insert("x-forwarded-for", value(&origin.remote_ip.to_string())?);
    headers.insert("x-forwarded-proto", HeaderValue::from_static(origin.scheme));
    headers.insert(REQUEST_ID, value(origin.request_id)?);
    if let Some(host) = &origin.host {
        headers.insert("x-forwarded-host", host.clone());
    }
    Ok(())
}

/// Makes the headers of an upstream's answer those of ours.
pub fn of_answer(headers: &mut HeaderMap) {
    // The length is that of the same body.
    let length = headers.remove(header::CONTENT_LENGTH);
    remove_hop_by_hop(headers);
    let ours: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(OURS[0])).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length);
    }
}

fn identity_header() -> Result<HeaderName, Fault> {
    let spec = InternalHeader::JobIdentity.spec().ok_or_else(|| Fault::internal("the identity header has no name"))?;
    Ok(HeaderName::from_static(spec.key))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn what_the_connection_header_names_stays_behind() {
        let mut sent = headers(&[
            ("connection", "close, X-One ,x-two"),
            ("connection", "x-three"),
            ("proxy-connection", "x-four"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("x-four", "4"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut sent);
        assert_eq!(sent, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn no_client_says_who_it_is() {
        for spec in InternalHeader::ALL.iter().filter_map(|header| header.spec()) {
            assert!(claims_identity(spec.key), "{}", spec.key);
            assert!(claims_identity(&spec.key.replacen('-', "_", 1)), "{}", spec.key);
        }
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-user",
            "x_forwarded_for",
            "x.forwarded.for",
            "x-real-ip",
            "remote-user",
            "x-remote-user",
            "x-auth-request-email",
            "x-authenticated-user",
            "x-user-id",
            "x-original-url",
            "x-http-method-override",
            "gitlab-workhorse-api-request",
            "sudo",
        ] {
            assert!(claims_identity(name), "{name}");
        }
        for name in ["accept", "range", "if-none-match", "user-agent", "content-type", "x-checksum-sha1", "cookie"] {
            assert!(!claims_identity(name), "{name}");
        }
    }
}
