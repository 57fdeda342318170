//! Bodies that stream through the gateway, in both directions, frame by frame and only as fast as the receiver takes
//! them.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::task::AbortOnDropHandle;
use tower::BoxError;

use super::slot::Slot;
use crate::{
    connection::activity::ActiveRequest,
    observe::{access_log::AccessRecord, cut_off::CutOff},
    request::body::drain_in_background,
};

/// The body of a request, on its way to the upstream. Trailers of the client are dropped: only headers in front of the
/// body are checked for identities. If the upstream does not read all of it, the rest is drained for a while, so that
/// the client reads its response instead of seeing its connection reset.
pub struct RequestBody {
    /// None only while this is dropped.
    inner: Option<UnsyncBoxBody<Bytes, BoxError>>,
    pause: PauseTimer,
    progress: Progress,
    /// The client waits for `100 Continue` and has not sent the body yet.
    is_withheld: bool,
    _slot: Option<Slot>,
}

/// Measures how long the source of a body pauses. Time in which the receiver takes no frame does not count.
struct PauseTimer {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The progress of a request's body, shared with the task that waits for the response.
#[derive(Clone)]
pub struct Progress(Arc<Mutex<ProgressState>>);

struct ProgressState {
    moved_at: Instant,
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

impl PauseTimer {
    fn new(limit: Duration) -> Self {
        Self { limit, timer: None }
    }

    /// Resets the timer after a frame.
    fn reset(&mut self) {
        self.timer = None;
    }

    /// Returns an error when no frame has come for too long.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(timed_out())
    }
}

impl Progress {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(ProgressState { moved_at: Instant::now(), failure: None })))
    }

    /// Returns when the last frame was taken.
    pub fn moved_at(&self) -> Instant {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).moved_at
    }

    /// Returns why the body did not arrive completely, if so.
    pub fn failure(&self) -> Option<BodyFailure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failure
    }

    fn note_progress(&self, failure: Option<BodyFailure>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = ProgressState { moved_at: Instant::now(), failure };
    }
}

impl RequestBody {
    /// Returns the body of a client that may pause for this long. It keeps its slot until it is dropped.
    pub fn new<B>(body: B, pause: Duration, is_withheld: bool, slot: Option<Slot>) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let inner = Some(body.map_err(Into::into).boxed_unsync());
        Self { inner, pause: PauseTimer::new(pause), progress: Progress::new(), is_withheld, _slot: slot }
    }

    /// Returns its progress.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Returns an empty body in the same slot, for the repetition of a request whose body is empty.
    pub fn empty_again(&self) -> Self {
        let inner = Some(Empty::new().map_err(|never| match never {}).boxed_unsync());
        let pause = PauseTimer::new(self.pause.limit);
        Self { inner, pause, progress: self.progress.clone(), is_withheld: false, _slot: self._slot.clone() }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.is_withheld || self.progress.failure().is_some() {
            return;
        }
        if let Some(inner) = self.inner.take() {
            drain_in_background(inner);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        this.is_withheld = false;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        loop {
            match Pin::new(&mut *inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.pause.reset();
                    this.progress.note_progress(None);
                    if frame.is_data() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    this.progress.note_progress(Some(BodyFailure::Broken));
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let expired = ready!(this.pause.poll_expired(cx));
                    this.progress.note_progress(Some(BodyFailure::Paused));
                    return Poll::Ready(Some(Err(expired)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

/// The body of an upstream's response, on its way to the client. It keeps the record of the request, and the slot of
/// the upstream, until it ends. While the client takes no frame, the server does not poll the body, so a task watches
/// for that case.
pub struct ResponseBody {
    stream: Arc<Mutex<ResponseStream>>,
    _watch: Option<AbortOnDropHandle<()>>,
}

struct ResponseStream {
    /// None after a cut-off because of the client.
    inner: Option<Incoming>,
    pause: PauseTimer,
    status: u16,
    bytes: u64,
    record: Option<AccessRecord>,
    active: Option<ActiveRequest>,
    slot: Option<Slot>,
    /// Since when the client could have taken the next frame; none while the gateway waits for the upstream.
    offered_at: Option<Instant>,
}

/// How long the two sides of a response may pause.
#[derive(Clone, Copy, Debug)]
pub struct PauseLimits {
    /// How long the upstream may take for the next frame.
    pub upstream: Duration,
    /// How long the client may take no frame.
    pub client: Duration,
}

impl ResponseBody {
    /// Returns the body of a response with this status.
    pub fn new(inner: Incoming, status: u16, limits: PauseLimits, slot: Slot) -> Self {
        let is_empty = inner.is_end_stream();
        let stream = Arc::new(Mutex::new(ResponseStream {
            inner: Some(inner),
            pause: PauseTimer::new(limits.upstream),
            status,
            bytes: 0,
            record: None,
            active: None,
            slot: Some(slot),
            offered_at: Some(Instant::now()),
        }));
        let mut watch = None;
        if !is_empty {
            let watching = tokio::spawn(cut_off_paused_client(stream.clone(), limits.client));
            watch = Some(AbortOnDropHandle::new(watching));
        }
        Self { stream, _watch: watch }
    }

    /// Takes the record, which is written when the body ends.
    pub fn keep_record(&mut self, record: AccessRecord) {
        lock_stream(&self.stream).record = Some(record);
    }

    /// Keeps the connection from being idle until the body ends.
    pub fn keep_active(&mut self, active: ActiveRequest) {
        lock_stream(&self.stream).active = Some(active);
    }

    /// Polls for the next frame with data. Trailers of the upstream are dropped.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        lock_stream(&self.stream).poll(cx)
    }

    /// See [`Body::is_end_stream`].
    pub fn is_end_stream(&self) -> bool {
        lock_stream(&self.stream).is_complete()
    }

    /// See [`Body::size_hint`].
    pub fn size_hint(&self) -> SizeHint {
        lock_stream(&self.stream).inner.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl ResponseStream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let Some(inner) = &mut self.inner else { return Poll::Ready(Some(Err(timed_out()))) };
            let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) else {
                self.offered_at = None;
                let expired = ready!(self.pause.poll_expired(cx));
                self.finish_record(Some(CutOff::UpstreamPaused));
                return Poll::Ready(Some(Err(expired)));
            };
            self.pause.reset();
            self.offered_at = Some(Instant::now());
            match frame {
                Some(Ok(frame)) => {
                    let Some(data) = frame.data_ref() else { continue };
                    self.bytes += data.len() as u64;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) => {
                    self.finish_record(Some(CutOff::Upstream));
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {
                    self.finish_record(None);
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.inner.as_ref().is_some_and(Body::is_end_stream)
    }

    fn finish_record(&mut self, cut_off: Option<CutOff>) {
        if let Some(record) = self.record.take() {
            record.finish_streamed(self.status, self.bytes, cut_off);
        }
        self.active = None;
        self.slot = None;
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let mut stream = lock_stream(&self.stream);
        let cut_off = if stream.is_complete() { None } else { Some(CutOff::Client) };
        stream.finish_record(cut_off);
    }
}

/// Cuts a response off when its client has taken no frame for this long.
async fn cut_off_paused_client(stream: Arc<Mutex<ResponseStream>>, limit: Duration) {
    loop {
        let offered_at = lock_stream(&stream).offered_at.unwrap_or_else(Instant::now);
        tokio::time::sleep_until(offered_at + limit).await;
        let mut stream = lock_stream(&stream);
        if stream.is_complete() {
            return;
        }
        if stream.offered_at.is_some_and(|offered_at| offered_at + limit <= Instant::now()) {
            stream.finish_record(Some(CutOff::ClientPaused));
            stream.inner = None;
            return;
        }
    }
}

fn lock_stream(stream: &Mutex<ResponseStream>) -> MutexGuard<'_, ResponseStream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

fn timed_out() -> BoxError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::{Stream, StreamExt as _};
    use http::HeaderMap;
    use http_body_util::StreamBody;

    const PAUSE: Duration = Duration::from_secs(10);

    fn body_of(frames: impl Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static) -> (RequestBody, Progress) {
        let body = RequestBody::new(StreamBody::new(Box::pin(frames)), PAUSE, false, None);
        let progress = body.progress();
        (body, progress)
    }

    fn frame() -> io::Result<Frame<Bytes>> {
        Ok(Frame::data(Bytes::from("chunk")))
    }

    /// Returns a frame after each of these times.
    fn paced(seconds: &'static [u64]) -> impl Stream<Item = io::Result<Frame<Bytes>>> {
        futures::stream::iter(seconds).then(|seconds| async {
            tokio::time::advance(Duration::from_secs(*seconds)).await;
            frame()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_arrives_and_shows_its_progress() {
        let start = Instant::now();
        let (body, progress) = body_of(paced(&[9, 9, 9, 9]));
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 20);
        assert_eq!(progress.moved_at() - start, Duration::from_secs(36));
        assert_eq!(progress.failure(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_pauses_for_too_long_or_breaks_off_says_so() {
        let (body, progress) = body_of(futures::stream::iter([frame()]).chain(futures::stream::pending()));
        assert!(body.collect().await.is_err());
        assert_eq!(progress.failure(), Some(BodyFailure::Paused));
        let broken = Err(io::Error::from(io::ErrorKind::ConnectionReset));
        let (body, progress) = body_of(futures::stream::iter([frame(), broken]));
        assert!(body.collect().await.is_err());
        assert_eq!(progress.failure(), Some(BodyFailure::Broken));
    }

    #[tokio::test]
    async fn trailers_stay_behind() {
        let (body, _) = body_of(futures::stream::iter([frame(), Ok(Frame::trailers(HeaderMap::new()))]));
        let collected = body.collect().await.unwrap();
        assert!(collected.trailers().is_none());
        assert_eq!(collected.to_bytes(), "chunk");
    }
}
