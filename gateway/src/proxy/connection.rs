//! Connections to upstreams. Each one knows whether it was used before and whether any byte of a response has come.
//! This distinguishes a request that met a closing connection from a request that the upstream has begun.

use std::{
    future::Future,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http::{Extensions, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{CaptureConnection, Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower::{BoxError, Service};

/// Makes connections, with or without TLS.
#[derive(Clone, Debug)]
pub struct Connector(pub HttpsConnector<HttpConnector>);

/// A connection to an upstream.
pub struct UpstreamConnection {
    io: TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>,
    state: ConnectionState,
    /// The upstream has stopped reading.
    write_closed: bool,
}

/// The state of a connection, which the client of the pool can read too.
#[derive(Clone, Default)]
struct ConnectionState(Arc<Flags>);

#[derive(Default)]
struct Flags {
    /// A byte was read since the last request began.
    has_answered: AtomicBool,
    /// A request began after a response.
    is_reused: AtomicBool,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<UpstreamConnection>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<UpstreamConnection>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let connecting = self.0.call(address);
        Box::pin(async move {
            let io = TokioIo::new(connecting.await?);
            Ok(TokioIo::new(UpstreamConnection { io, state: ConnectionState::default(), write_closed: false }))
        })
    }
}

/// Reports whether the captured connection had served a request before, and broke before any byte of this response.
pub fn broke_before_answer(captured: &CaptureConnection) -> bool {
    let mut extensions = Extensions::new();
    if let Some(connected) = &*captured.connection_metadata() {
        connected.get_extras(&mut extensions);
    }
    extensions.get::<ConnectionState>().is_some_and(|ConnectionState(flags)| {
        flags.is_reused.load(Ordering::Acquire) && !flags.has_answered.load(Ordering::Acquire)
    })
}

impl Connection for UpstreamConnection {
    fn connected(&self) -> Connected {
        self.io.inner().connected().extra(self.state.clone())
    }
}

impl UpstreamConnection {
    fn begin_request(&self) {
        if self.state.0.has_answered.swap(false, Ordering::AcqRel) {
            self.state.0.is_reused.store(true, Ordering::Release);
        }
    }

    /// Ignores that an upstream has stopped reading: it may have responded first, so that only the response decides the
    /// outcome. Bytes that cannot be written count as written.
    fn ignore_closed(&mut self, length: usize, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Err(error)) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                self.write_closed = true;
                Poll::Ready(Ok(length))
            }
            other => other,
        }
    }
}

impl AsyncRead for UpstreamConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.state.0.has_answered.store(true, Ordering::Release);
        }
        polled
    }
}

impl AsyncWrite for UpstreamConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.begin_request();
        if self.write_closed {
            return Poll::Ready(Ok(data.len()));
        }
        let polled = Pin::new(&mut self.io).poll_write(cx, data);
        self.ignore_closed(data.len(), polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_closed { Poll::Ready(Ok(())) } else { Pin::new(&mut self.io).poll_flush(cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_closed { Poll::Ready(Ok(())) } else { Pin::new(&mut self.io).poll_shutdown(cx) }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin_request();
        let length = data.iter().map(|slice| slice.len()).sum();
        if self.write_closed {
            return Poll::Ready(Ok(length));
        }
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, data);
        self.ignore_closed(length, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
