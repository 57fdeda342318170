//! The headers of requests and responses on their way through the gateway. The headers of a single connection stay
//! behind, and so does every identity that the gateway did not give.

use std::net::IpAddr;

use chassis::status::Fault;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use proto::paddock::contract::v1::InternalHeader;

use crate::request::head::REQUEST_ID;

/// The headers of a single connection (RFC 9110, 7.6.1; RFC 7540, 3.2.1 for the last), and the framing of the body,
/// which is made anew. The gateway answers `expect` itself.
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

/// The headers in which proxies send identities and addresses to upstreams, and the keys of API gateways. The last
/// group lets a request pass for one with another path or verb. A client's headers with these names are dropped. An
/// entry that ends in `*` is a prefix. Sources: RFC 7239; RFC 9440; https://httpoxy.org; the reference pages of nginx,
/// Apache, Envoy, Traefik, HAProxy, Kong, Pomerium, Vouch, oauth2-proxy, Tailscale, Cloudflare, Azure App Service,
/// Google IAP, WebLogic, Mimir and GitLab.
const PROXY_HEADERS: [&str; 78] = [
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

/// The headers that tell a server to send files or requests elsewhere.
const SERVER_HEADERS: [&str; 3] = ["x-sendfile*", "x-accel-*", "x-lighttpd-*"];

/// The prefixes of Paddock's own headers.
const OWN_PREFIXES: [&str; 2] = ["paddock-", "x-paddock-"];

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

/// Removes every header in which an upstream could read an identity of the client.
pub fn remove_identity(headers: &mut HeaderMap) {
    let claimed: Vec<_> = headers.keys().filter(|name| claims_identity(name.as_str())).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
}

/// Reports whether an upstream could read an identity in a header of this name. Any character besides letters, digits
/// and hyphens counts, because some servers replace it by one of these.
fn claims_identity(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    !is_plain
        || OWN_PREFIXES.iter().any(|start| name.starts_with(start))
        || PROXY_HEADERS.iter().chain(&SERVER_HEADERS).any(|pattern| matches_pattern(name, pattern))
}

fn matches_pattern(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// Joins the cookies in one header, as HTTP/1 requires (RFC 9113, 8.2.3), or removes them.
pub fn join_cookies(headers: &mut HeaderMap, forwards_cookies: bool) {
    if !forwards_cookies {
        headers.remove(header::COOKIE);
        return;
    }
    let cookies: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..]));
    headers.remove(header::COOKIE);
    if let Ok(joined) = joined
        && !joined.is_empty()
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// The client and the job of a request, as the gateway tells the upstream.
pub struct RequestOrigin<'a> {
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

/// Adds the headers with the origin of the request.
///
/// # Errors
/// Returns a fault if no header can carry the identity: no request is forwarded without one.
pub fn add_origin(headers: &mut HeaderMap, origin: &RequestOrigin<'_>) -> Result<(), Fault> {
    let mut identity = header_value(origin.identity)?;
    if identity.is_empty() {
        return Err(Fault::internal("job-token-auth gave no identity for the upstream"));
    }
    identity.set_sensitive(true);
    headers.insert(identity_header()?, identity);
    headers.insert("x-forwarded-for", header_value(&origin.remote_ip.to_string())?);
    headers.insert("x-forwarded-proto", HeaderValue::from_static(origin.scheme));
    headers.insert(REQUEST_ID, header_value(origin.request_id)?);
    if let Some(host) = &origin.host {
        headers.insert("x-forwarded-host", host.clone());
    }
    Ok(())
}

fn header_value(text: &str) -> Result<HeaderValue, Fault> {
    HeaderValue::try_from(text).map_err(Fault::internal)
}

/// Removes the headers of an upstream's response that must not reach the client.
pub fn clean_response(headers: &mut HeaderMap) {
    // The length is that of the same body, unless it has a transfer coding (RFC 9112, 6.3).
    let is_coded = headers.contains_key(header::TRANSFER_ENCODING);
    let length = headers.remove(header::CONTENT_LENGTH).filter(|_| !is_coded);
    remove_hop_by_hop(headers);
    let ours: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(OWN_PREFIXES[0])).cloned().collect();
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
        pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
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
        for (forwards_cookies, expected) in
            [(true, headers(&[("cookie", "a=1; b=2; c=3"), ("accept", "*/*")])), (false, headers(&[("accept", "*/*")]))]
        {
            let mut kept = sent.clone();
            join_cookies(&mut kept, forwards_cookies);
            assert_eq!(kept, expected);
        }
    }
}
