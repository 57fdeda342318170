//! Reads the bodies of requests, within the limits of one and of all, and drains what a client still sends of a body
//! that is not read.

use std::{pin::pin, time::Duration};

use bytes::{Bytes, BytesMut};
use chassis::status::Refusal;
use http::{HeaderMap, header::EXPECT};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use proto::paddock::contract::v1::Reason;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
};

/// How much of a body that is too large is read and thrown away, in bytes, so that the client reads the refusal instead
/// of seeing its connection reset while it still writes.
const DRAIN_BYTES: usize = 8 << 20;

/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The same limits for uploads, which have no largest size. They are drained while the response is sent.
const UPLOAD_DRAIN_BYTES: usize = 256 << 20;
const UPLOAD_DRAIN_TIME: Duration = Duration::from_secs(10);

/// The largest body that takes no share of the memory for bodies, in bytes. The bodies of runners are smaller, so that
/// clients who never finish large bodies keep no runner waiting.
const SMALL_BYTES: usize = 16 << 10;

/// Reads bodies, within the limits of one and of all.
#[derive(Debug)]
pub struct BodyReader {
    /// The largest body, in bytes.
    max: usize,
    /// The largest body that takes no share of the memory, in bytes.
    small: usize,
    /// How long a body may take.
    timeout: Duration,
    /// The bytes that all larger bodies together may hold beyond their first chunk.
    memory: Semaphore,
}

/// A body, and its share of the memory for bodies.
#[derive(Debug)]
pub struct ReadBody<'r> {
    /// The body.
    pub bytes: Bytes,
    _share: Option<SemaphorePermit<'r>>,
}

impl BodyReader {
    /// Returns a reader with these limits.
    pub fn new(max: usize, timeout: Duration, memory: usize) -> Self {
        Self { max, small: SMALL_BYTES, timeout, memory: Semaphore::new(memory.min(Semaphore::MAX_PERMITS)) }
    }

    /// Reads a body. While too many large bodies are under way, a large one waits for its share.
    ///
    /// # Errors
    /// Fails if the body is too large, does not arrive in time, or ends early.
    pub async fn read<B>(&self, mut body: B, headers: &HeaderMap) -> Result<ReadBody<'_>, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if body.is_end_stream() {
            return Ok(ReadBody { bytes: Bytes::new(), _share: None });
        }
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let read = if announced > self.max {
            Err(Refusal::new(Reason::BodyTooLarge))
        } else {
            match tokio::time::timeout(self.timeout, pin!(self.collect_frames(&mut body))).await {
                Ok(read) => read,
                Err(_) => Err(Refusal::new(Reason::RequestTimeout)),
            }
        };
        // A client that sent `Expect` has not sent the body yet.
        let is_too_large = matches!(&read, Err(refusal) if refusal.reason() == Reason::BodyTooLarge);
        if is_too_large && !headers.contains_key(EXPECT) {
            drain_body(&mut body, DRAIN_BYTES, DRAIN_TIME).await;
        }
        read
    }

    async fn collect_frames<B>(&self, body: &mut B) -> Result<ReadBody<'_>, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // Most bodies come in one chunk, which is not copied; the size of a frame bounds it.
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        let mut share: Option<SemaphorePermit<'_>> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::new(Reason::BodyMalformed).with_detail("the body ended early"))?;
            // Trailers carry no parameters.
            let Ok(data) = frame.into_data() else { continue };
            // Many HTTP/2 clients end a body with an empty frame, which needs no memory and must not wait for any.
            if data.is_empty() {
                continue;
            }
            let size = first.len() + all.len() + data.len();
            if size > self.max {
                return Err(Refusal::new(Reason::BodyTooLarge));
            }
            if first.is_empty() && all.is_empty() {
                first = data;
                continue;
            }
            if size > self.small {
                self.extend_share(&mut share, size).await;
            }
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
        Ok(ReadBody { bytes: if all.is_empty() { first } else { all.freeze() }, _share: share })
    }

    /// Waits until the share of the memory covers this size.
    async fn extend_share<'r>(&'r self, share: &mut Option<SemaphorePermit<'r>>, size: usize) {
        let held = share.as_ref().map_or(0, SemaphorePermit::num_permits);
        let lacking = u32::try_from(size - held).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let Ok(more) = self.memory.acquire_many(lacking).await else { return };
        match share {
            Some(share) => share.merge(more),
            None => *share = Some(more),
        }
    }
}

/// Reads some of what a client still sends, and throws it away.
async fn drain_body<B>(body: &mut B, bytes: usize, time: Duration)
where
    B: Body<Data = Bytes> + Unpin,
{
    let draining = async {
        let mut drained = 0;
        while drained < bytes
            && let Some(Ok(frame)) = body.frame().await
        {
            drained += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    let _ = tokio::time::timeout(time, draining).await;
}

/// Drains a body of any size in the background, while its request is answered.
pub fn drain_in_background<B>(mut body: B)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    if body.is_end_stream() {
        return;
    }
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move { drain_body(&mut body, UPLOAD_DRAIN_BYTES, UPLOAD_DRAIN_TIME).await });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;

    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn frames(
        chunks: &[&'static str],
    ) -> StreamBody<impl futures::Stream<Item = io::Result<Frame<Bytes>>> + Unpin + use<>> {
        let frames: Vec<_> = chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from(*chunk)))).collect();
        StreamBody::new(futures::stream::iter(frames))
    }

    async fn read_up_to(max: usize, body: impl Body<Data = Bytes> + Unpin) -> Result<Bytes, Reason> {
        let reader = BodyReader::new(max, Duration::from_secs(5), 100);
        let read = reader.read(body, &HeaderMap::new()).await;
        read.map(|body| body.bytes).map_err(|refusal| refusal.reason())
    }

    #[tokio::test]
    async fn a_body_of_the_largest_size_is_read_and_one_byte_more_is_refused() {
        for chunks in [vec!["abcd"], vec!["ab", "", "cd"], vec!["", "abc", "d"], vec!["a", "b", "c", "d"]] {
            assert_eq!(read_up_to(4, frames(&chunks)).await.unwrap(), "abcd");
            assert_eq!(read_up_to(3, frames(&chunks)).await, Err(Reason::BodyTooLarge));
        }
        assert_eq!(read_up_to(3, Full::new(Bytes::from("abcd"))).await, Err(Reason::BodyTooLarge));
        assert!(read_up_to(0, Full::new(Bytes::new())).await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn all_bodies_together_have_a_limit() {
        let reader = BodyReader { small: 1, ..BodyReader::new(100, Duration::from_secs(5), 6) };
        let headers = HeaderMap::new();
        let held = reader.read(frames(&["abc", "def"]), &headers).await.unwrap();
        let waiting = reader.read(frames(&["a", "b"]), &headers).await;
        assert_eq!(waiting.unwrap_err().reason(), Reason::RequestTimeout, "the first body holds all of it");
        for chunks in [["in one chunk", ""], ["", "x"]] {
            assert_eq!(reader.read(frames(&chunks), &headers).await.unwrap().bytes, chunks.concat());
        }
        drop(held);
        assert_eq!(reader.read(frames(&["a", "b"]), &headers).await.unwrap().bytes, "ab");
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_body_never_waits_for_large_ones() {
        let reader = BodyReader { small: 4, ..BodyReader::new(100, Duration::from_secs(5), 6) };
        let headers = HeaderMap::new();
        let _held = reader.read(frames(&["abc", "def"]), &headers).await.unwrap();
        assert_eq!(reader.read(frames(&["a", "b", "cd"]), &headers).await.unwrap().bytes, "abcd");
        let waiting = reader.read(frames(&["a", "b", "cd", "e"]), &headers).await;
        assert_eq!(waiting.unwrap_err().reason(), Reason::RequestTimeout);
    }
}
