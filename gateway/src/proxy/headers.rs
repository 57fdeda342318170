//! What of a request's headers reaches an upstream, and what of its answer's headers reaches the client: neither the
//! headers of a single connection, nor any identity that the gateway did not give.

use std::net::IpAddr;

use chassis::status::Fault;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use proto::paddock::contract::v1::InternalHeader;

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

/// The headers by which proxies tell upstreams who calls, from where and for what, and the keys of API gateways; the last
/// groups let a request pass as one for another path or with another verb, and let an upstream send files or requests
/// elsewhere. Whatever a client sends under these names is dropped. An entry that ends in `*` is the start of names. Sources:
/// RFC 7239; RFC 9440; https://httpoxy.org; the reference pages of nginx, Apache, Envoy, Traefik, HAProxy, Kong, Pomerium,
/// Vouch, oauth2-proxy, Tailscale, Cloudflare, Azure App Service, Google IAP, WebLogic, Mimir and GitLab.
const OF_PROXIES: [&str; 78] = [
    "forwarded",
    "x-forwarded*",
    "x-forward-*",
    "forwarded-*",
    "via",
    "x-real-*",
    "x-client-*",
    "x-cluster-client-ip",
    "x-originating-*",
    "x-request-id",
    "x-envoy-*",
    "true-client-ip",
    "client-*",
    "proxy",
    "proxy-*",
    "x-proxy-*",
    "wl-proxy-*",
    "cf-*",
    "fastly-*",
    "akamai-*",
    "x-azure-*",
    "x-arr-*",
    "x-appengine-*",
    "x-goog-*",
    "x-amzn-*",
    "x-ms-*",
    "remote-*",
    "x-remote-*",
    "x-auth*",
    "auth-*",
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
    "x-consumer-*",
    "x-credential-*",
    "x-anonymous-*",
    "x-pomerium-*",
    "x-vouch-*",
    "x-sso-*",
    "x-trusted-*",
    "x-scope-*",
    "x-tenant*",
    "x-oidc-*",
    "oidc-*",
    "x-saml-*",
    "x-shib-*",
    "shib-*",
    "tailscale-*",
    "x-tailscale-*",
    "x-ssl-*",
    "ssl-*",
    "x-tls-*",
    "x-api-key*",
    "x-apikey",
    "api-key",
    "apikey",
    "x-nuget-apikey",
    "x-gitlab-*",
    "gitlab-*",
    "sudo",
    "impersonate-*",
    "front-end-https",
    "x-url-*",
    "x-script-*",
    "x-host",
    "x-original-*",
    "x-rewrite-*",
    "x-http-*",
    "x-method-*",
];

/// What an upstream could be told to do with its answer.
const OF_SERVERS: [&str; 3] = ["x-sendfile*", "x-accel-*", "x-lighttpd-*"];

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
    !is_plain
        || OURS.iter().any(|start| name.starts_with(start))
        || OF_PROXIES.iter().chain(&OF_SERVERS).any(|known| matches(known))
}

/// Leaves the cookies where a route asks for them, in one header as HTTP/1 wants it (RFC 9113, 8.2.3).
pub fn keep_cookies(headers: &mut HeaderMap, is_asked_for: bool) {
    let cookies: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..]));
    headers.remove(header::COOKIE);
    if let (true, Ok(joined)) = (is_asked_for, joined)
        && !joined.is_empty()
    {
        headers.insert(header::COOKIE, joined);
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
    // The length is that of the same body, unless its framing says otherwise (RFC 9112, 6.3).
    let is_coded = headers.contains_key(header::TRANSFER_ENCODING);
    let length = headers.remove(header::CONTENT_LENGTH).filter(|_| !is_coded);
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
            "client-cert-chain",
            "x-arr-clientcert",
            "x-consumer-username",
            "x-credential-identifier",
            "x-pomerium-jwt-assertion",
            "x-vouch-user",
            "tailscale-user-login",
            "x-proxy-remote-user",
            "oidc-claim-email",
            "x-scope-orgid",
            "x-tenant-id",
            "wl-proxy-client-ip",
            "proxy-client-ip",
            "x-forward-for",
            "x-sso-user",
            "x-trusted-user",
            "proxy",
            "x-sendfile-type",
            "x-accel-mapping",
            "x-script-name",
            "front-end-https",
            "x-url-scheme",
            "x-nuget-apikey",
            "x-api-key",
        ] {
            assert!(claims_identity(name), "{name}");
        }
        for name in ["accept", "range", "if-none-match", "user-agent", "content-type", "x-checksum-sha1", "referer"] {
            assert!(!claims_identity(name), "{name}");
        }
    }

    #[test]
    fn cookies_stay_only_where_they_are_asked_for_and_in_one_header() {
        let sent = headers(&[("cookie", "a=1"), ("cookie", "b=2; c=3"), ("accept", "*/*")]);
        for (is_asked_for, expected) in
            [(true, headers(&[("cookie", "a=1; b=2; c=3"), ("accept", "*/*")])), (false, headers(&[("accept", "*/*")]))]
        {
            let mut kept = sent.clone();
            keep_cookies(&mut kept, is_asked_for);
            assert_eq!(kept, expected);
        }
    }
}
