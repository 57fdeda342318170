//! The upstreams behind protected routes: one pool of connections for each.

use std::{fmt, sync::Arc, time::Duration};

use chassis::{config::is_server_address, status::Fault};
use http::{
    HeaderName, Method, Request, Response, Uri, Version,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{
        Client, Error,
        connect::{HttpConnector, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde::Deserialize;

use super::{
    body::RequestBody,
    connection::{self, Connector},
    slot::{Slot, Slots},
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle connections that are kept for the next requests, in addition to those in use.
pub const MAX_IDLE: usize = 32;

/// What an HTTP/1 upstream may send ahead, in bytes. The head of a response must fit into it.
const HTTP1_BUFFER: usize = 64 << 10;

/// What an HTTP/2 upstream may send ahead on one stream, in bytes. A connection has room for all of its streams: a
/// client that does not read must not block the others.
const STREAM_WINDOW: u32 = 64 << 10;

/// The most requests that an upstream may serve at the same time: the window of a connection has 31 bits (RFC 9113,
/// 6.9.1).
pub const MAX_CONNECTIONS: usize = (1 << 15) - 1;

/// The protocol of an upstream.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2; without TLS, with prior knowledge.
    H2,
}

/// The settings of an upstream: those of the gateway, changed by the table of protected routes.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// The protocol.
    pub protocol: Protocol,
    /// Requests at the same time, and so connections.
    pub max_connections: usize,
    /// How long a connection without requests is kept.
    pub idle_timeout: Duration,
    /// How often an HTTP/2 upstream gets a ping.
    pub keep_alive_interval: Duration,
    /// How long it may take to answer a ping.
    pub keep_alive_timeout: Duration,
    /// A file with certificate authorities to trust, in addition to those of the machine; empty: none.
    pub ca_file: String,
    /// Headers of clients to remove, in addition to those that never reach an upstream.
    pub strip_headers: Vec<HeaderName>,
}

/// An upstream.
pub struct Upstream {
    /// Its name in the table.
    pub name: Arc<str>,
    /// Headers of clients that do not reach it.
    pub strip_headers: Vec<HeaderName>,
    scheme: Scheme,
    authority: Authority,
    version: Version,
    pooled: Client<Connector, RequestBody>,
    /// Makes a connection for each request.
    fresh: Client<Connector, RequestBody>,
    slots: Slots,
}

impl Upstream {
    /// Returns the upstream at this address. The gateway connects to it with the first request.
    ///
    /// # Errors
    /// Fails if the address is invalid, or if there are no certificates to verify an upstream with TLS.
    pub fn new(name: &str, url: &str, settings: &UpstreamSettings) -> Result<Self, String> {
        let (scheme, authority) = parse_address(url)?;
        let is_http2 = settings.protocol == Protocol::H2;
        let roots = if scheme == Scheme::HTTPS { trusted_roots(&settings.ca_file)? } else { RootCertStore::empty() };
        let connector = new_connector(roots, is_http2);
        let limit = settings.max_connections.clamp(1, MAX_CONNECTIONS);
        let window = STREAM_WINDOW.saturating_mul(u32::try_from(limit).unwrap_or(u32::MAX));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_timeout)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(HTTP1_BUFFER)
            .http2_only(is_http2)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(window)
            .http2_max_send_buf_size(HTTP1_BUFFER)
            .http2_keep_alive_interval(settings.keep_alive_interval)
            .http2_keep_alive_timeout(settings.keep_alive_timeout);
        let version = if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        Ok(Self {
            name: name.into(),
            strip_headers: settings.strip_headers.clone(),
            scheme,
            authority,
            version,
            pooled: builder.build(connector.clone()),
            fresh: builder.pool_max_idle_per_host(0).build(connector),
            slots: Slots::new(limit),
        })
    }

    /// Returns the slots for its requests.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Takes a slot for a request, and waits a moment for a free one.
    ///
    /// # Errors
    /// Returns a fault if no slot becomes free.
    pub async fn take_slot(&self) -> Result<Slot, Fault> {
        self.slots.take(self).await
    }

    /// Reports whether its protocol is HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// Sets the address of a request to the upstream, whatever host the client named.
    pub fn set_target(&self, request: &mut Request<RequestBody>, target: PathAndQuery) -> Result<(), http::Error> {
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(target);
        *request.uri_mut() = uri.build()?;
        *request.version_mut() = self.version;
        Ok(())
    }

    /// Sends a request, and waits for the head of the response. An HTTP/1 upstream can close an idle connection just
    /// when a request comes. A GET or HEAD without a body is then sent once more, on a new connection.
    ///
    /// # Errors
    /// Fails if the upstream cannot be reached, or breaks off.
    pub async fn send(&self, mut request: Request<RequestBody>) -> Result<Response<Incoming>, Error> {
        let reads = *request.method() == Method::GET || *request.method() == Method::HEAD;
        let may_repeat = reads && !self.is_http2() && request.body().is_end_stream();
        let repeated = may_repeat.then(|| repeated_request(&request));
        let captured = capture_connection(&mut request);
        match (self.pooled.request(request).await, repeated) {
            (Err(_), Some(repeated)) if connection::broke_before_answer(&captured) => {
                self.fresh.request(repeated).await
            }
            (responded, _) => responded,
        }
    }
}

/// Returns the same request once more. Its body must be empty.
fn repeated_request(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut repeated = Request::new(request.body().empty_again());
    *repeated.method_mut() = request.method().clone();
    *repeated.uri_mut() = request.uri().clone();
    *repeated.headers_mut() = request.headers().clone();
    repeated
}

fn new_connector(roots: RootCertStore, is_http2: bool) -> Connector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    Connector(if is_http2 {
        https.enable_http2().wrap_connector(http)
    } else {
        https.enable_http1().wrap_connector(http)
    })
}

/// Returns the certificate authorities to trust: those of the machine, and those of the file.
fn trusted_roots(ca_file: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let of_machine = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(of_machine.certs);
    if !ca_file.is_empty() {
        add_certificates(&mut roots, ca_file).map_err(|problem| format!("ca_file {ca_file}: {problem}"))?;
    }
    if roots.is_empty() {
        return Err(format!("the machine has no certificates to verify it with: {:?}", of_machine.errors));
    }
    Ok(roots)
}

fn add_certificates(roots: &mut RootCertStore, file: &str) -> Result<(), String> {
    let mut count = 0;
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())? {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
        count += 1;
    }
    if count == 0 { Err("there is no certificate in it".to_owned()) } else { Ok(()) }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}://{}", self.name, self.scheme, self.authority)
    }
}

/// Reads scheme and host of an upstream's address.
///
/// # Errors
/// Fails if the text is not an address, or has more parts than these: the path of a request is forwarded as it came.
pub fn parse_address(url: &str) -> Result<(Scheme, Authority), String> {
    scheme_and_host(url).ok_or_else(|| {
        // A text with a user name may contain a password.
        let shown = if url.contains('@') { String::new() } else { format!(", not {url:?}") };
        format!("must be an address as http://127.0.0.1:3000, without a user name and a path{shown}")
    })
}

fn scheme_and_host(url: &str) -> Option<(Scheme, Authority)> {
    let parts = url.parse::<Uri>().ok()?.into_parts();
    let has_path = parts.path_and_query.is_some_and(|path| path != "/");
    if has_path || !is_server_address(url) {
        return None;
    }
    Some((parts.scheme?, parts.authority?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_and_a_host() {
        for url in ["http://127.0.0.1:3000", "https://gitlab.example.com", "http://[::1]:80/", "http://host"] {
            assert!(parse_address(url).is_ok(), "{url}");
        }
        for url in ["", "host", "host:80", "ftp://host", "http://", "http://h/path", "http://h?a", "http://u:p@h", "/a"]
        {
            assert!(parse_address(url).is_err(), "{url}");
        }
        for url in ["http://127.0.0.1:99999", "http://h:0", "http://h:", "http://[::1]:65536"] {
            assert!(parse_address(url).is_err(), "{url}: the port is none");
        }
        assert!(!parse_address("http://u:secret@h").unwrap_err().contains("secret"));
    }
}
