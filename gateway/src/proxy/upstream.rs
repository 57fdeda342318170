//! What stands behind protected routes: one pool of connections for each upstream.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chassis::config::is_server_address;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Builder, Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;

use super::body::RequestBody;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection without requests is kept. Shorter than what servers do by default, so that a request seldom
/// meets a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// What an HTTP/2 upstream may send ahead on one stream, and on all of a connection, in bytes.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

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

/// An upstream.
pub struct Upstream {
    /// Its name in the table.
    pub name: Arc<str>,
    scheme: Scheme,
    authority: Authority,
    version: Version,
    client: Transport,
}

#[derive(Clone)]
enum Transport {
    Plain(Client<HttpConnector, RequestBody>),
    Tls(Client<HttpsConnector<HttpConnector>, RequestBody>),
}

impl Upstream {
    /// An upstream at this address. It is connected to when it is first needed.
    ///
    /// # Errors
    /// If the address is not one, or the machine has no certificates to verify one with TLS.
    pub fn new(name: &str, url: &str, protocol: Protocol) -> Result<Self, String> {
        let (scheme, authority) = address(url)?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let is_http2 = protocol == Protocol::H2;
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_only(is_http2)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW);
        let client = if scheme == Scheme::HTTPS {
            Transport::Tls(tls(&builder, connector, is_http2)?)
        } else {
            Transport::Plain(builder.build(connector))
        };
        let version = if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        Ok(Self { name: name.into(), scheme, authority, version, client })
    }

    /// Points a request at the upstream: whatever the client said of the host, this is where it goes.
    pub fn aim(&self, request: &mut Request<RequestBody>, target: PathAndQuery) -> Result<(), http::Error> {
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(target);
        *request.uri_mut() = uri.build()?;
        *request.version_mut() = self.version;
        Ok(())
    }

    /// Sends a request, and waits for the head of the answer.
    ///
    /// # Errors
    /// If the upstream cannot be reached, or breaks off.
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, Error> {
        match &self.client {
            Transport::Plain(client) => client.request(request).await,
            Transport::Tls(client) => client.request(request).await,
        }
    }
}

fn tls(
    builder: &Builder,
    connector: HttpConnector,
    is_http2: bool,
) -> Result<Client<HttpsConnector<HttpConnector>, RequestBody>, String> {
    let tls = HttpsConnectorBuilder::new().with_native_roots();
    let tls = tls.map_err(|error| format!("the machine has no certificates to verify it with: {error}"))?;
    let tls = tls.https_only();
    Ok(builder.build(if is_http2 {
        tls.enable_http2().wrap_connector(connector)
    } else {
        tls.enable_http1().wrap_connector(connector)
    }))
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
