//! Detects by the first bytes of a connection whether the client speaks HTTP/1 or HTTP/2 with prior knowledge (RFC
//! 9113, 3.4).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The version of HTTP that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A stream whose first bytes were read already. It returns them again before it reads on.
#[derive(Debug)]
pub struct RewoundStream<S> {
    first: Bytes,
    stream: S,
}

/// Reads as many bytes as it takes to detect the version.
///
/// # Errors
/// Fails if the stream fails, or ends before its first byte.
pub async fn detect<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(HttpVersion, RewoundStream<S>)> {
    let mut first = BytesMut::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let mut rest = (&mut stream).take((PREFACE.len() - first.len()) as u64);
        if rest.read_buf(&mut first).await? == 0 {
            break;
        }
    }
    if first.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let version = if first == PREFACE { HttpVersion::Http2 } else { HttpVersion::Http1 };
    Ok((version, RewoundStream { first: first.freeze(), stream }))
}

impl<S: AsyncRead + Unpin> AsyncRead for RewoundStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..count]);
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RewoundStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_bytes_tell_the_version_and_are_not_lost() {
        let http2 = [PREFACE, b"\0\0\0\x04\0"].concat();
        let cases: [(&[u8], HttpVersion); 5] = [
            (b"GET / HTTP/1.1\r\n\r\n", HttpVersion::Http1),
            (b"PRI * HTTP/1.1\r\n\r\n", HttpVersion::Http1),
            (b"P", HttpVersion::Http1),
            (&http2, HttpVersion::Http2),
            (PREFACE, HttpVersion::Http2),
        ];
        for (sent, expected) in cases {
            for chunk in [1, 7, sent.len()] {
                let (mut client, server) = tokio::io::duplex(chunk);
                let bytes = sent.to_vec();
                let sending = async move { tokio::io::AsyncWriteExt::write_all(&mut client, &bytes).await };
                let reading = async {
                    let (version, mut stream) = detect(server).await.unwrap();
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).await.unwrap();
                    (version, all)
                };
                let (_, (version, all)) = tokio::join!(sending, reading);
                assert_eq!((version, all.as_slice()), (expected, sent));
            }
        }
    }

    #[tokio::test]
    async fn an_empty_connection_is_an_error() {
        assert!(detect(tokio::io::empty()).await.is_err());
    }
}
