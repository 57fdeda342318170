//! The answer to a request: its body is in memory, or comes as a stream from an upstream or a service.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONNECTION};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tower::BoxError;

use crate::{connection::activity::ActiveRequest, output::document_stream::DocumentStream, proxy::body::ResponseBody};

/// The answer to a request.
pub type Answer = Response<AnswerBody>;

/// The body of an answer.
pub enum AnswerBody {
    /// Bytes in memory.
    Whole(Full<Bytes>),
    /// A stream from an upstream.
    Upstream(Box<ResponseBody>),
    /// A file that a service streams.
    Document(Box<DocumentStream>),
}

impl AnswerBody {
    /// Keeps the connection from being idle until a streamed body ends.
    pub fn keep_active(&mut self, active: ActiveRequest) {
        match self {
            Self::Whole(_) => {}
            Self::Upstream(body) => body.keep_active(active),
            Self::Document(body) => body.keep_active(active),
        }
    }
}

/// Returns the answer for a client that has gone. It is empty and closes the connection.
pub fn client_gone() -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
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
            Self::Upstream(body) => body.poll(cx),
            Self::Document(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Upstream(body) => body.is_end_stream(),
            Self::Document(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Upstream(body) => body.size_hint(),
            Self::Document(_) => SizeHint::default(),
        }
    }
}
