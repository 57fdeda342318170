//! Accepts connections and serves HTTP/1.1 and HTTP/2 (prior knowledge) on one port, with a limit on every resource
//! that a client can use up, and drains on shutdown.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use chassis::process;
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    connection::{
        activity::Activity,
        forwarded_for::TrustedProxies,
        socket::Socket,
        version::{self, HttpVersion},
    },
    handler::Gateway,
    proxy::table::Table,
};

/// How long to wait after the operating system refused a connection, mostly because file descriptors were used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Open files that are reserved for the process itself, and not used for connections.
const RESERVED_FILES: u64 = 128;

/// What an HTTP/2 client may send ahead on one stream, in bytes. Bodies are small; a larger window would only help to
/// fill the memory.
const STREAM_WINDOW: u32 = 128 << 10;

/// What an HTTP/2 client may send ahead on all streams of a connection, in bytes.
const CONNECTION_WINDOW: u32 = 512 << 10;

/// What the gateway buffers of a response for an HTTP/2 client that does not read, in bytes.
const SEND_BUFFER: usize = 64 << 10;

/// Serves up to this many connections at the same time until shutdown. Then it lets requests that are under way finish
/// within the drain timeout.
pub async fn serve(
    gateway: Arc<Gateway>,
    config: &Config,
    max_connections: usize,
    listener: TcpListener,
    shutdown: CancellationToken,
) {
    let server = Arc::new(Server::new(gateway, config, shutdown.clone()));
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(max_connections));
    let mut is_accepting = true;
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let slot = slots.clone().acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        match shutdown.run_until_cancelled(accepted).await {
            None => break,
            Some((slot, Ok((stream, peer)))) => {
                is_accepting = true;
                let server = server.clone();
                connections.spawn(async move {
                    server.handle_connection(stream, peer).await;
                    drop(slot);
                });
            }
            Some((_, Err(error))) => {
                if std::mem::replace(&mut is_accepting, false) {
                    tracing::warn!(%error, "cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    let drain = Duration::from_millis(config.drain_timeout_ms);
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests did not finish in time");
        server.abort.cancel();
        connections.wait().await;
    }
}

/// Returns how many connections can be served at the same time, so that there are open files for them and for the
/// upstreams.
pub fn max_connections(config: &Config, protected: &Table) -> usize {
    let files = files_for_connections(process::raise_open_file_limit());
    // Half of the files stay for clients, so that they can connect and ask for the health of the gateway.
    let files_for_upstreams = protected.limit_files(files / 2);
    let possible = files.saturating_sub(files_for_upstreams).max(1);
    let configured = config.max_connections;
    if possible < configured {
        tracing::warn!(
            most = possible,
            wished = configured,
            "fewer connections than gateway.max_connections: raise the limit of open files"
        );
    }
    configured.min(possible)
}

/// Returns the open files that are left for connections.
fn files_for_connections(open_files: u64) -> usize {
    let most = open_files.saturating_sub(RESERVED_FILES).clamp(1, Semaphore::MAX_PERMITS as u64);
    usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS)
}

/// The state that all connections share.
struct Server {
    gateway: Arc<Gateway>,
    shutdown: CancellationToken,
    /// Ends connections that did not drain in time.
    abort: CancellationToken,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    header_read_timeout: Duration,
    idle_timeout: Duration,
    trusted_proxies: TrustedProxies,
}

impl Server {
    fn new(gateway: Arc<Gateway>, config: &Config, shutdown: CancellationToken) -> Self {
        let header_read_timeout = Duration::from_millis(config.header_read_timeout_ms);
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(header_read_timeout)
            .max_buf_size(config.max_header_bytes.max(8192))
            .max_header_size(config.max_header_bytes);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_concurrent_streams(config.http2_max_concurrent_streams)
            .max_header_list_size(u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(config.http2_max_pending_reset_streams)
            .keep_alive_interval(Duration::from_millis(config.http2_keep_alive_interval_ms))
            .keep_alive_timeout(Duration::from_millis(config.http2_keep_alive_timeout_ms));
        let idle_timeout = Duration::from_millis(config.idle_timeout_ms);
        let abort = CancellationToken::new();
        // The validation of the settings has refused a text that cannot be read. The fallback trusts no proxy.
        let trusted_proxies = TrustedProxies::parse(&config.trusted_proxies).unwrap_or_default();
        Self { gateway, shutdown, abort, http1, http2, header_read_timeout, idle_timeout, trusted_proxies }
    }

    async fn handle_connection(&self, stream: TcpStream, peer: SocketAddr) {
        let served = self.abort.run_until_cancelled(self.serve_stream(stream, peer)).await;
        if let Some(Err(error)) = served {
            // Clients may end their connections at any time and in any way.
            tracing::debug!(%peer, %error, "connection ended");
        }
    }

    async fn serve_stream(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = Socket::new(stream);
        let detecting = tokio::time::timeout(self.header_read_timeout, version::detect(socket.clone()));
        let Some(detected) = self.shutdown.run_until_cancelled(detecting).await else { return Ok(()) };
        let (version, stream) = detected??;
        let activity = Activity::default();
        let service = service_fn(|mut request: Request<Incoming>| {
            let gateway = self.gateway.clone();
            let active = activity.begin();
            if version == HttpVersion::Http1 {
                request.extensions_mut().insert(socket.clone());
            }
            let remote_ip = self.trusted_proxies.client_address(peer.ip(), request.headers());
            async move {
                let mut answer = gateway.handle(request, remote_ip).await;
                answer.body_mut().keep_active(active);
                Ok::<_, Infallible>(answer)
            }
        });
        let io = TokioIo::new(stream);
        match version {
            HttpVersion::Http1 => {
                let connection = self.http1.serve_connection(io, service).with_upgrades();
                self.run_to_end(connection, http1::UpgradeableConnection::graceful_shutdown, &activity).await
            }
            HttpVersion::Http2 => {
                let connection = self.http2.serve_connection(io, service);
                self.run_to_end(connection, http2::Connection::graceful_shutdown, &activity).await
            }
        }
    }

    /// Runs a connection to its end. On shutdown, and when it is idle, requests that are under way may finish.
    async fn run_to_end<C>(
        &self,
        connection: C,
        graceful_shutdown: impl FnOnce(Pin<&mut C>),
        activity: &Activity,
    ) -> io::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(io::Error::other),
            () = self.shutdown.cancelled() => {}
            () = activity.idle_for(self.idle_timeout) => {}
        }
        graceful_shutdown(connection.as_mut());
        // A client that keeps its connection open all the same loses it after the same time again.
        let closing = activity.idle_for(self.idle_timeout);
        tokio::select! {
            ended = connection => ended.map_err(io::Error::other),
            () = closing => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_never_use_up_the_open_files() {
        for (open_files, files) in [(1024, 896), (128, 1), (u64::MAX, Semaphore::MAX_PERMITS)] {
            assert_eq!(files_for_connections(open_files), files, "{open_files}");
        }
    }
}
