//! What stands behind protected routes: one pool of connections for each upstream.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chassis::config::is_server_address;
use chassis::status::Fault;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, Method, Request, Response, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use proto::paddock::contract::v1::Reason;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::RequestBody;
use super::link::{self, Connector};
use crate::config::Config;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request waits for its place among those that an upstream serves.
const PLACE_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections without requests that are kept for the next ones, beside those that are in use.
pub const MAX_IDLE: usize = 32;

/// What an HTTP/1 upstream may send ahead, in bytes; the head of an answer must fit into it.
const HTTP1_BUFFER: usize = 64 << 10;

/// What an HTTP/2 upstream may send ahead on one stream, in bytes. On a connection it may send as much on all of its
/// streams together: a client that does not read must not hold up the others.
const STREAM_WINDOW: u32 = 64 << 10;

/// The most requests that an upstream may serve at the same time: the window of a connection has 31 bits (RFC 9113, 6.9.1).
pub const MOST_CONNECTIONS: usize = (1 << 15) - 1;

/// How an upstream is spoken to.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2; without TLS, with prior knowledge.
    H2,
}

/// What the settings say of every upstream, and the table of one.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Requests at the same time, and so connections.
    pub max_connections: usize,
    /// How long a connection without requests is kept.
    pub idle_timeout: Duration,
    /// How often an HTTP/2 upstream is asked whether it is still there, and how long it may take to answer.
    pub keep_alive: (Duration, Duration),
    /// A file with certificates that may sign its own, beside those that the machine trusts; empty: none.
    pub ca_file: String,
    /// Headers of clients that it would believe, beside those that never reach an upstream.
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
    places: Arc<Semaphore>,
    limit: AtomicUsize,
}

/// A place among the requests that an upstream serves at the same time, until the last part of the request has dropped it.
pub type Place = Arc<OwnedSemaphorePermit>;

impl Terms {
    /// The terms of an upstream of which the table says nothing.
    pub fn new(config: &Config) -> Self {
        Self {
            protocol: Protocol::default(),
            max_connections: config.upstream_max_connections,
            idle_timeout: Duration::from_millis(config.upstream_idle_timeout_ms),
            keep_alive: (
                Duration::from_millis(config.http2_keep_alive_interval_ms),
                Duration::from_millis(config.http2_keep_alive_timeout_ms),
            ),
            ca_file: String::new(),
            strip_headers: Vec::new(),
        }
    }
}

impl Upstream {
    /// An upstream at this address. It is connected to when it is first needed.
    ///
    /// # Errors
    /// If the address is not one, or there are no certificates to verify one with TLS.
    pub fn new(name: &str, url: &str, terms: &Terms) -> Result<Self, String> {
        let (scheme, authority) = address(url)?;
        let is_http2 = terms.protocol == Protocol::H2;
        let roots = if scheme == Scheme::HTTPS { trusted(&terms.ca_file)? } else { RootCertStore::empty() };
        let connector = connector(roots, is_http2);
        let limit = terms.max_connections.clamp(1, MOST_CONNECTIONS);
        let window = STREAM_WINDOW.saturating_mul(u32::try_from(limit).unwrap_or(u32::MAX));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(terms.idle_timeout)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(HTTP1_BUFFER)
            .http2_only(is_http2)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(window)
            .http2_max_send_buf_size(HTTP1_BUFFER)
            .http2_keep_alive_interval(terms.keep_alive.0)
            .http2_keep_alive_timeout(terms.keep_alive.1);
        let version = if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        Ok(Self {
            name: name.into(),
            strip_headers: terms.strip_headers.clone(),
            scheme,
            authority,
            version,
            pooled: builder.build(connector.clone()),
            fresh: builder.pool_max_idle_per_host(0).build(connector),
            places: Arc::new(Semaphore::new(limit)),
            limit: AtomicUsize::new(limit),
        })
    }

    /// How many requests it serves at the same time.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Lowers that number.
    pub fn lower_limit(&self, limit: usize) {
        let limit = limit.max(1);
        let before = self.limit.fetch_min(limit, Ordering::Relaxed);
        self.places.forget_permits(before.saturating_sub(limit));
    }

    /// A place among the requests that it serves. The request waits a moment for one.
    ///
    /// # Errors
    /// If none becomes free.
    pub async fn place(&self) -> Result<Place, Fault> {
        let acquired = tokio::time::timeout(PLACE_TIMEOUT, self.places.clone().acquire_owned()).await;
        let place = acquired.map_err(|_| Fault::of(Reason::UpstreamBusy, format!("{self:?}")))?;
        // The semaphore is never closed.
        place.map(Arc::new).map_err(Fault::internal)
    }

    /// Whether it is spoken to with HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// Points a request at the upstream: whatever the client said of the host, this is where it goes.
    pub fn aim(&self, request: &mut Request<RequestBody>, target: PathAndQuery) -> Result<(), http::Error> {
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(target);
        *request.uri_mut() = uri.build()?;
        *request.version_mut() = self.version;
        Ok(())
    }

    /// Sends a request, and waits for the head of the answer. If the connection had been kept from earlier requests and was
    /// closed just when this one came, one that only reads and has no body is sent once more, on a connection of its own.
    ///
    /// # Errors
    /// If the upstream cannot be reached, or breaks off.
    pub async fn send(&self, mut request: Request<RequestBody>) -> Result<Response<Incoming>, Error> {
        let reads = *request.method() == Method::GET || *request.method() == Method::HEAD;
        let may_repeat = reads && !self.is_http2() && request.body().is_end_stream();
        let again = may_repeat.then(|| {
            let mut again = Request::new(request.body().empty_again());
            *again.method_mut() = request.method().clone();
            *again.uri_mut() = request.uri().clone();
            *again.headers_mut() = request.headers().clone();
            again
        });
        let captured = capture_connection(&mut request);
        match (self.pooled.request(request).await, again) {
            (Err(_), Some(again)) if link::broke_before_answer(&captured) => self.fresh.request(again).await,
            (answered, _) => answered,
        }
    }
}

fn connector(roots: RootCertStore, is_http2: bool) -> Connector {
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

/// The certificates that may sign an upstream's: those that the machine trusts, and those of the file.
fn trusted(ca_file: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let of_machine = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(of_machine.certs);
    if !ca_file.is_empty() {
        let problem = |error: &dyn fmt::Display| format!("ca_file {ca_file}: {error}");
        let mut count = 0;
        for certificate in CertificateDer::pem_file_iter(ca_file).map_err(|error| problem(&error))? {
            roots.add(certificate.map_err(|error| problem(&error))?).map_err(|error| problem(&error))?;
            count += 1;
        }
        if count == 0 {
            return Err(problem(&"there is no certificate in it"));
        }
    }
    if roots.is_empty() {
        return Err(format!("the machine has no certificates to verify it with: {:?}", of_machine.errors));
    }
    Ok(roots)
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}://{}", self.name, self.scheme, self.authority)
    }
}

/// Scheme and host of an upstream's address.
///
/// # Errors
/// If it is none, or says more than that: the path of a request is forwarded as it came.
pub fn address(url: &str) -> Result<(Scheme, Authority), String> {
    let problem = || {
        // There may be a password in it.
        let shown = if url.contains('@') { String::new() } else { format!(", not {url:?}") };
        format!("must be an address as http://127.0.0.1:3000, without a user name and a path{shown}")
    };
    let parts = url.parse::<Uri>().map_err(|_| problem())?.into_parts();
    let is_bare = parts.path_and_query.is_none_or(|path| path == "/");
    match (parts.scheme, parts.authority) {
        (Some(scheme), Some(authority)) if is_bare && is_server_address(url) => Ok((scheme, authority)),
        _ => Err(problem()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_and_a_host() {
        for url in ["http://127.0.0.1:3000", "https://gitlab.example.com", "http://[::1]:80/", "http://host"] {
            assert!(address(url).is_ok(), "{url}");
        }
        for url in ["", "host", "host:80", "ftp://host", "http://", "http://h/path", "http://h?a", "http://u:p@h", "/a"]
        {
            assert!(address(url).is_err(), "{url}");
        }
        for url in ["http://127.0.0.1:99999", "http://h:0", "http://h:", "http://[::1]:65536"] {
            assert!(address(url).is_err(), "{url}: the port is none");
        }
        assert!(!address("http://u:secret@h").unwrap_err().contains("secret"));
    }
}
