//! Bodies that stream through the gateway, in both directions, piece by piece and only as fast as they are taken.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::task::AbortOnDropHandle;

use super::upstream::Place;
use crate::access_log::{CutOff, Record};
use crate::request;
use crate::server::activity::Busy;

/// An error of any body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request, on its way to the upstream. Trailers of the client stay behind: headers that could claim an
/// identity stand in front of the body only. What the upstream does not take of it is read and thrown away for a while, so
/// that the client reads its answer instead of seeing its connection reset.
pub struct RequestBody {
    /// Always there until it is dropped.
    inner: Option<UnsyncBoxBody<Bytes, BoxError>>,
    pause: Pause,
    progress: Progress,
    /// The client sends nothing before it is invited to.
    is_withheld: bool,
    _place: Option<Place>,
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
        Poll::Ready(timed_out())
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
    /// The body of a client that may pause for this long. It keeps its place until it is dropped.
    pub fn new<B>(body: B, pause: Duration, is_withheld: bool, place: Option<Place>) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let inner = Some(body.map_err(Into::into).boxed_unsync());
        Self { inner, pause: Pause::new(pause), progress: Progress::new(), is_withheld, _place: place }
    }

    /// Tells how far it has come.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The same body once more, if it is empty.
    pub fn empty_again(&self) -> Self {
        let inner = Some(Empty::new().map_err(|never| match never {}).boxed_unsync());
        let pause = Pause::new(self.pause.most);
        Self { inner, pause, progress: self.progress.clone(), is_withheld: false, _place: self._place.clone() }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let (Some(inner), false, None) = (self.inner.take(), self.is_withheld, self.progress.failure()) {
            request::drain_behind(inner);
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
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

/// The body of an upstream's answer, on its way to the client. It keeps the record of the request, and the place with the
/// upstream, until it ends. Nobody asks for the next piece while the client takes none, so that somebody else must see to it
/// that this ends.
pub struct Streamed {
    flow: Arc<Mutex<Flow>>,
    _watch: Option<AbortOnDropHandle<()>>,
}

struct Flow {
    /// None once it was cut off because of the client.
    inner: Option<Incoming>,
    pause: Pause,
    status: u16,
    bytes: u64,
    record: Option<Record>,
    busy: Option<Busy>,
    place: Option<Place>,
    /// Since when the client could have taken more; none while the upstream is waited for.
    offered: Option<Instant>,
}

/// How long the two sides of an answer may pause.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// How long the upstream may take for the next piece.
    pub upstream: Duration,
    /// How long the client may take none.
    pub client: Duration,
}

impl Streamed {
    /// The body of an answer with this status.
    pub fn new(inner: Incoming, status: u16, pauses: Pauses, place: Place) -> Self {
        let is_empty = inner.is_end_stream();
        let flow = Arc::new(Mutex::new(Flow {
            inner: Some(inner),
            pause: Pause::new(pauses.upstream),
            status,
            bytes: 0,
            record: None,
            busy: None,
            place: Some(place),
            offered: Some(Instant::now()),
        }));
        let watch = || AbortOnDropHandle::new(tokio::spawn(watch(flow.clone(), pauses.client)));
        Self { _watch: (!is_empty).then(watch), flow }
    }

    /// Takes the record, to be written when the body ends.
    pub fn keep(&mut self, record: Record) {
        lock(&self.flow).record = Some(record);
    }

    /// Keeps the connection from being idle until the body ends.
    pub fn hold(&mut self, busy: Busy) {
        lock(&self.flow).busy = Some(busy);
    }

    /// The next frame with data. Trailers of the upstream stay behind.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        lock(&self.flow).poll(cx)
    }

    /// See [`Body::is_end_stream`].
    pub fn is_end_stream(&self) -> bool {
        lock(&self.flow).is_complete()
    }

    /// See [`Body::size_hint`].
    pub fn size_hint(&self) -> SizeHint {
        lock(&self.flow).inner.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Flow {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let Some(inner) = &mut self.inner else { return Poll::Ready(Some(Err(timed_out()))) };
            let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) else {
                self.offered = None;
                let too_long = ready!(self.pause.poll_too_long(cx));
                self.end(Some(CutOff::UpstreamPaused));
                return Poll::Ready(Some(Err(too_long)));
            };
            self.pause.end();
            self.offered = Some(Instant::now());
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

    fn is_complete(&self) -> bool {
        self.inner.as_ref().is_some_and(Body::is_end_stream)
    }

    fn end(&mut self, cut_off: Option<CutOff>) {
        if let Some(record) = self.record.take() {
            record.finish_streamed(self.status, self.bytes, cut_off);
        }
        self.busy = None;
        self.place = None;
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        let mut flow = lock(&self.flow);
        let cut_off = if flow.is_complete() { None } else { Some(CutOff::Client) };
        flow.end(cut_off);
    }
}

/// Cuts an answer off whose client has taken nothing for so long.
async fn watch(flow: Arc<Mutex<Flow>>, most: Duration) {
    loop {
        let since = lock(&flow).offered.unwrap_or_else(Instant::now);
        tokio::time::sleep_until(since + most).await;
        let mut flow = lock(&flow);
        if flow.offered.is_some_and(|since| since + most <= Instant::now()) && !flow.is_complete() {
            flow.end(Some(CutOff::ClientPaused));
            flow.inner = None;
            return;
        }
        if flow.is_complete() {
            return;
        }
    }
}

fn lock(flow: &Mutex<Flow>) -> MutexGuard<'_, Flow> {
    flow.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn of(frames: impl Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static) -> (RequestBody, Progress) {
        let body = RequestBody::new(StreamBody::new(Box::pin(frames)), PAUSE, false, None);
        let progress = body.progress();
        (body, progress)
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
