//! The answer to a request: in one piece, or as a stream from an upstream or a service.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use crate::output::pieces::Pieces;
use crate::proxy::body::{BoxError, Streamed};
use crate::server::activity::Busy;

/// An answer.
pub type Answer = Response<AnswerBody>;

/// The body of an answer.
pub enum AnswerBody {
    /// In one piece.
    Whole(Full<Bytes>),
    /// As it comes from an upstream.
    Streamed(Box<Streamed>),
    /// As a service makes it.
    Pieces(Box<Pieces>),
}

impl AnswerBody {
    /// Keeps the connection from being idle until a body that streams ends.
    pub fn hold(&mut self, busy: Busy) {
        match self {
            Self::Whole(_) => {}
            Self::Streamed(body) => body.hold(busy),
            Self::Pieces(body) => body.hold(busy),
        }
    }
}

impl Default for AnswerBody {
    fn default() -> Self {
        Self::Whole(Full::default())
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Streamed(body) => body.poll(cx),
            Self::Pieces(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Streamed(body) => body.is_end_stream(),
            Self::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Streamed(body) => body.size_hint(),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}
