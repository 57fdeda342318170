//! Connections to upstreams. Each knows whether it has been used before and whether anything of an answer has come, so
//! that a request which met a connection that was just being closed can be told from one that was begun.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::{Extensions, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::Service;

use super::body::BoxError;

/// Makes connections, with or without TLS.
#[derive(Clone, Debug)]
pub struct Connector(pub HttpsConnector<HttpConnector>);

/// A connection.
pub struct Link {
    io: TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>,
    course: Course,
    /// The upstream takes nothing any more.
    is_deaf: bool,
}

/// What has happened on a connection.
#[derive(Clone, Default)]
struct Course(Arc<Flags>);

#[derive(Default)]
struct Flags {
    /// Something was read since the last request began.
    has_answered: AtomicBool,
    /// A request began after an answer had.
    is_reused: AtomicBool,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Link>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Link>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let connecting = self.0.call(address);
        Box::pin(async move {
            let io = TokioIo::new(connecting.await?);
            Ok(TokioIo::new(Link { io, course: Course::default(), is_deaf: false }))
        })
    }
}

/// Whether the captured connection had served a request before, and broke before it answered this one at all.
pub fn broke_before_answer(captured: &CaptureConnection) -> bool {
    let mut extensions = Extensions::new();
    if let Some(connected) = &*captured.connection_metadata() {
        connected.get_extras(&mut extensions);
    }
    extensions.get::<Course>().is_some_and(|Course(flags)| {
        flags.is_reused.load(Ordering::Acquire) && !flags.has_answered.load(Ordering::Acquire)
    })
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        self.io.inner().connected().extra(self.course.clone())
    }
}

impl Link {
    fn begin(&self) {
        if self.course.0.has_answered.swap(false, Ordering::AcqRel) {
            self.course.0.is_reused.store(true, Ordering::Release);
        }
    }

    /// An upstream that stops reading may have answered first, so that only what can be read decides how this ends:
    /// what cannot be written counts as written.
    fn written(&mut self, length: usize, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Err(error)) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                self.is_deaf = true;
                Poll::Ready(Ok(length))
            }
            other => other,
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.course.0.has_answered.store(true, Ordering::Release);
        }
        polled
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.begin();
        if self.is_deaf {
            return Poll::Ready(Ok(data.len()));
        }
        let polled = Pin::new(&mut self.io).poll_write(cx, data);
        self.written(data.len(), polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf { Poll::Ready(Ok(())) } else { Pin::new(&mut self.io).poll_flush(cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf { Poll::Ready(Ok(())) } else { Pin::new(&mut self.io).poll_shutdown(cx) }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        let length = data.iter().map(|slice| slice.len()).sum();
        if self.is_deaf {
            return Poll::Ready(Ok(length));
        }
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, data);
        self.written(length, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
