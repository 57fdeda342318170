//! Bodies that stream through the gateway, in both directions, piece by piece and only as fast as they are taken.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::access_log::{CutOff, Record};
use crate::server::activity::Busy;

/// An error of any body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request, on its way to the upstream. Trailers of the client stay behind: headers that could claim an
/// identity stand in front of the body only.
pub struct RequestBody {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    pause: Pause,
    progress: Progress,
}

/// Tells when the source of a body has paused for too long. Time in which nobody asked for the next piece does not count.
struct Pause {
    most: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

/// How far a request's body has come.
#[derive(Clone)]
pub struct Progress(Arc<Mutex<State>>);

struct State {
    moved: Instant,
    failure: Option<BodyFailure>,
}

/// Why a request's body did not arrive completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFailure {
    /// The client paused for too long.
    Paused,
    /// The client broke off.
    Broken,
}

impl Pause {
    fn new(most: Duration) -> Self {
        Self { most, timer: None }
    }

    /// A piece came.
    fn end(&mut self) {
        self.timer = None;
    }

    /// Ready when no piece has come for too long.
    fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let most = self.most;
        ready!(self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(most))).as_mut().poll(cx));
        Poll::Ready(io::Error::from(io::ErrorKind::TimedOut).into())
    }
}

impl Progress {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State { moved: Instant::now(), failure: None })))
    }

    /// When the last piece was taken.
    pub fn moved(&self) -> Instant {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).moved
    }

    /// Why it did not arrive, if so.
    pub fn failure(&self) -> Option<BodyFailure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failure
    }

    fn note(&self, failure: Option<BodyFailure>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { moved: Instant::now(), failure };
    }
}

impl RequestBody {
    /// The body of a client that may pause for this long, and its progress.
    pub fn new<B>(body: B, pause: Duration) -> (Self, Progress)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let progress = Progress::new();
        let inner = body.map_err(Into::into).boxed_unsync();
        (Self { inner, pause: Pause::new(pause), progress: progress.clone() }, progress)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.pause.end();
                    this.progress.note(None);
                    if frame.is_data() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    this.progress.note(Some(BodyFailure::Broken));
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let too_long = ready!(this.pause.poll_too_long(cx));
                    this.progress.note(Some(BodyFailure::Paused));
                    return Poll::Ready(Some(Err(too_long)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an upstream's answer, on its way to the client. It keeps the record of the request until it ends.
pub struct Streamed {
    inner: Incoming,
    pause: Pause,
    status: u16,
    bytes: u64,
    record: Option<Record>,
    busy: Option<Busy>,
}

impl Streamed {
    /// The body of an answer with this status, whose upstream may pause for this long.
    pub fn new(inner: Incoming, status: u16, pause: Duration) -> Self {
        Self { inner, pause: Pause::new(pause), status, bytes: 0, record: None, busy: None }
    }

    /// Takes the record, to be written when the body ends.
    pub fn keep(&mut self, record: Record) {
        self.record = Some(record);
    }

    /// Keeps the connection from being idle until the body ends.
    pub fn hold(&mut self, busy: Busy) {
        self.busy = Some(busy);
    }

    fn end(&mut self, cut_off: Option<CutOff>) {
        if let Some(record) = self.record.take() {
            record.finish_streamed(self.status, self.bytes, cut_off);
        }
        self.busy = None;
    }

    /// The next frame with data. Trailers of the upstream stay behind.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
                let too_long = ready!(self.pause.poll_too_long(cx));
                self.end(Some(CutOff::UpstreamPaused));
                return Poll::Ready(Some(Err(too_long)));
            };
            self.pause.end();
            match frame {
                Some(Ok(frame)) => {
                    let Some(data) = frame.data_ref() else { continue };
                    self.bytes += data.len() as u64;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) => {
                    self.end(Some(CutOff::Upstream));
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {
                    self.end(None);
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// The body as it comes.
    pub fn inner(&self) -> &Incoming {
        &self.inner
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        let is_complete = self.inner.is_end_stream();
        self.end(if is_complete { None } else { Some(CutOff::Client) });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::{Stream, StreamExt as _};
    use http::HeaderMap;
    use http_body_util::StreamBody;

    const PAUSE: Duration = Duration::from_secs(10);

    fn of(frames: impl Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static) -> (RequestBody, Progress) {
        RequestBody::new(StreamBody::new(Box::pin(frames)), PAUSE)
    }

    fn piece() -> io::Result<Frame<Bytes>> {
        Ok(Frame::data(Bytes::from("piece")))
    }

    /// A piece after each of these times.
    fn paced(seconds: &'static [u64]) -> impl Stream<Item = io::Result<Frame<Bytes>>> {
        futures::stream::iter(seconds).then(|seconds| async {
            tokio::time::advance(Duration::from_secs(*seconds)).await;
            piece()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_arrives_and_shows_its_progress() {
        let start = Instant::now();
        let (body, progress) = of(paced(&[9, 9, 9, 9]));
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 20);
        assert_eq!((progress.moved() - start, progress.failure()), (Duration::from_secs(36), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_pauses_for_too_long_or_breaks_off_says_so() {
        let (body, progress) = of(futures::stream::iter([piece()]).chain(futures::stream::pending()));
        assert!(body.collect().await.is_err());
        assert_eq!(progress.failure(), Some(BodyFailure::Paused));
        let broken = Err(io::Error::from(io::ErrorKind::ConnectionReset));
        let (body, progress) = of(futures::stream::iter([piece(), broken]));
        assert!(body.collect().await.is_err());
        assert_eq!(progress.failure(), Some(BodyFailure::Broken));
    }

    #[tokio::test]
    async fn trailers_stay_behind() {
        let (body, _) = of(futures::stream::iter([piece(), Ok(Frame::trailers(HeaderMap::new()))]));
        let collected = body.collect().await.unwrap();
        assert!(collected.trailers().is_none());
        assert_eq!(collected.to_bytes(), "piece");
    }
}
