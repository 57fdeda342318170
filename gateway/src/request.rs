//! What a request says of itself besides its parameters: its id, its body, its address.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chassis::status::Refusal;
use http::header::{EXPECT, HOST};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use proto::paddock::contract::v1::Reason;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use crate::redact;

/// The header that carries the id of a request, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client.
const MAX_REQUEST_ID: usize = 64;

/// How much of a body that is too large is read and thrown away, so that the client reads the refusal instead of seeing
/// its connection reset while it still writes.
const DRAIN_BYTES: usize = 8 << 20;

/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The same for uploads, which have no largest size. They are drained beside their answer.
const UPLOAD_DRAIN_BYTES: usize = 256 << 20;
const UPLOAD_DRAIN_TIME: Duration = Duration::from_secs(10);

/// The client's id of the request if it can stand in logs, otherwise a new one.
pub fn id(headers: &HeaderMap) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let usable = sent.filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(is_plain));
    match usable.filter(|id| !redact::is_suspicious(id)) {
        Some(id) => id.to_owned(),
        None => Uuid::now_v7().simple().to_string(),
    }
}

/// A body of this size takes no share of the memory for bodies, in pieces or not: what runners send is smaller, so that
/// clients who never finish large bodies keep no runner waiting.
const SMALL_BYTES: usize = 16 << 10;

/// Reads bodies, within the limits of one and of all.
#[derive(Debug)]
pub struct BodyReader {
    /// The largest body, in bytes.
    max: usize,
    /// The largest body that takes no share of the memory.
    small: usize,
    /// How long a body may take.
    timeout: Duration,
    /// The bytes that all larger bodies together may hold beyond their first piece.
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
    /// A reader with these limits.
    pub fn new(max: usize, timeout: Duration, memory: usize) -> Self {
        Self { max, small: SMALL_BYTES, timeout, memory: Semaphore::new(memory.min(Semaphore::MAX_PERMITS)) }
    }

    /// Reads a body. While too many large bodies are under way, a large one waits for its share.
    ///
    /// # Errors
    /// If it is too large, does not arrive in time, or ends early.
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
            let late = |_| Err(Refusal::new(Reason::RequestTimeout));
            tokio::time::timeout(self.timeout, pin!(self.collect(&mut body))).await.unwrap_or_else(late)
        };
        // A client that asks first has not sent the body yet.
        let is_too_large = matches!(&read, Err(refusal) if refusal.reason() == Reason::BodyTooLarge);
        if is_too_large && !headers.contains_key(EXPECT) {
            drain(&mut body, DRAIN_BYTES, DRAIN_TIME).await;
        }
        read
    }

    async fn collect<B>(&self, body: &mut B) -> Result<ReadBody<'_>, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // Most bodies come in one piece, which need not be copied; its size is bounded by that of a frame.
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        let mut share: Option<SemaphorePermit<'_>> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::new(Reason::BodyMalformed).with_detail("the body ended early"))?;
            // Trailers carry no parameters.
            let Ok(data) = frame.into_data() else { continue };
            // Many HTTP/2 clients end a body with an empty frame; it needs no memory, and none to wait for.
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
                let held = share.as_ref().map_or(0, SemaphorePermit::num_permits);
                let lacking = u32::try_from(size - held).unwrap_or(u32::MAX);
                match (&mut share, self.memory.acquire_many(lacking).await.ok()) {
                    (Some(share), Some(more)) => share.merge(more),
                    (share, more) => *share = more,
                }
            }
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
        Ok(ReadBody { bytes: if all.is_empty() { first } else { all.freeze() }, _share: share })
    }
}

/// Reads some of what a client still sends, and throws it away.
async fn drain<B>(body: &mut B, bytes: usize, time: Duration)
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

/// Reads what a client still sends of a body of any size, and throws it away, while it is answered.
pub fn drain_behind<B>(mut body: B)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    if let (false, Ok(runtime)) = (body.is_end_stream(), Handle::try_current()) {
        runtime.spawn(async move { drain(&mut body, UPLOAD_DRAIN_BYTES, UPLOAD_DRAIN_TIME).await });
    }
}

/// The address of the request without its query, as the client knows it: by the configured URL, or by its Host header.
pub fn url(parts: &Parts, external_url: &str) -> String {
    let path = parts.uri.path();
    if !external_url.is_empty() {
        return format!("{}{path}", external_url.trim_end_matches('/'));
    }
    match host(parts) {
        Some(host) => format!("http://{host}{path}"),
        None => path.to_owned(),
    }
}

/// The host that a client asked for, if it is one: that of an absolute target before the Host header (RFC 9112, 3.2.2).
pub fn host(parts: &Parts) -> Option<Authority> {
    let in_header = || parts.headers.get(HOST)?.to_str().ok()?.parse().ok();
    parts.uri.authority().cloned().or_else(in_header).filter(|host| !host.as_str().contains('@'))
}

/// A request of HTTP/1.1 names its host once (RFC 9112, 3.2), whatever form its target has; one of HTTP/2 names the same in both
/// places (RFC 9113, 8.3.1): servers that believe different ones of several hosts can be played off against each other.
///
/// # Errors
/// If it names none, several, or something that is no host.
pub fn check_host(parts: &Parts) -> Result<(), Refusal> {
    let mut named = parts.headers.get_all(HOST).iter();
    let (first, second) = (named.next(), named.next());
    let target = parts.uri.authority();
    let read = |value: &HeaderValue| value.to_str().ok()?.parse::<Authority>().ok();
    let is_host = |authority: &Authority| !authority.as_str().contains('@');
    let is_right = match first {
        None => parts.version != Version::HTTP_11,
        Some(value) => read(value).is_some_and(|host| {
            let is_other = parts.version == Version::HTTP_2 && target.is_some_and(|target| *target != host);
            is_host(&host) && !is_other
        }),
    };
    if is_right && second.is_none() && target.is_none_or(is_host) {
        return Ok(());
    }
    Err(Refusal::new(Reason::BadRequest).with_message("400 Bad request - the Host header must name one host"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use std::io;

    fn id_for(value: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, value.parse().unwrap());
        id(&headers)
    }

    #[test]
    fn a_plain_id_of_the_client_is_kept() {
        let longest = "a".repeat(64);
        for text in ["0123456789abcdef0123456789abcdef", "A.b_c-1", longest.as_str()] {
            assert_eq!(id_for(text), text);
        }
    }

    #[test]
    fn any_other_id_is_replaced() {
        let too_long = "a".repeat(65);
        let token = proto::paddock::contract::v1::CredentialKind::RunnerToken.spec().unwrap().prefix;
        for text in ["", "a b", "a\"b", "a/b", too_long.as_str(), &format!("{token}s3cret")] {
            let made = id_for(text);
            assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}: {made}");
        }
        assert_ne!(id(&HeaderMap::new()), id(&HeaderMap::new()));
    }

    fn frames(
        pieces: &[&'static str],
    ) -> StreamBody<impl futures::Stream<Item = io::Result<Frame<Bytes>>> + Unpin + use<>> {
        let frames: Vec<_> = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from(*piece)))).collect();
        StreamBody::new(futures::stream::iter(frames))
    }

    async fn read_up_to(max: usize, body: impl Body<Data = Bytes> + Unpin) -> Result<Bytes, Reason> {
        let reader = BodyReader::new(max, Duration::from_secs(5), 100);
        let read = reader.read(body, &HeaderMap::new()).await;
        read.map(|body| body.bytes).map_err(|refusal| refusal.reason())
    }

    #[tokio::test]
    async fn a_body_of_the_largest_size_is_read_and_one_byte_more_is_refused() {
        for pieces in [vec!["abcd"], vec!["ab", "", "cd"], vec!["", "abc", "d"], vec!["a", "b", "c", "d"]] {
            assert_eq!(read_up_to(4, frames(&pieces)).await.unwrap(), "abcd");
            assert_eq!(read_up_to(3, frames(&pieces)).await, Err(Reason::BodyTooLarge));
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
        for pieces in [["in one piece", ""], ["", "x"]] {
            assert_eq!(reader.read(frames(&pieces), &headers).await.unwrap().bytes, pieces.concat());
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

    #[test]
    fn the_address_is_that_of_the_client() {
        let parts = |host: Option<&str>, uri: &str| {
            let mut request = http::Request::builder().uri(uri);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            request.body(()).unwrap().into_parts().0
        };
        assert_eq!(url(&parts(Some("h:1"), "/a?b"), ""), "http://h:1/a");
        assert_eq!(url(&parts(Some("h"), "/a"), "https://x/y/"), "https://x/y/a");
        assert_eq!(url(&parts(None, "http://h2:2/a"), ""), "http://h2:2/a");
        assert_eq!(url(&parts(Some("h"), "http://h2:2/a"), ""), "http://h2:2/a");
        assert_eq!(url(&parts(Some("a b>"), "/a"), ""), "/a");
    }

    #[test]
    fn a_request_names_one_host() {
        let checked = |version: Version, uri: &str, hosts: &[&str]| {
            let mut request = http::Request::builder().version(version).uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            check_host(&request.body(()).unwrap().into_parts().0).is_ok()
        };
        for (version, uri, hosts) in [
            (Version::HTTP_11, "/a", &["h"][..]),
            (Version::HTTP_11, "http://h/a", &["h"]),
            (Version::HTTP_11, "http://h/a", &["other"]),
            (Version::HTTP_10, "/a", &[]),
            (Version::HTTP_2, "http://h/a", &[]),
            (Version::HTTP_2, "http://h/a", &["H"]),
        ] {
            assert!(checked(version, uri, hosts), "{version:?} {uri} {hosts:?}");
        }
        for (version, uri, hosts) in [
            (Version::HTTP_11, "/a", &[][..]),
            (Version::HTTP_11, "http://h/a", &[]),
            (Version::HTTP_11, "http://h/a", &["a b"]),
            (Version::HTTP_11, "http://h/a", &["u@h"]),
            (Version::HTTP_11, "http://u@h/a", &["h"]),
            (Version::HTTP_11, "/a", &["h", "h"]),
            (Version::HTTP_10, "/a", &["a b"]),
            (Version::HTTP_2, "http://h/a", &["other"]),
        ] {
            assert!(!checked(version, uri, hosts), "{version:?} {uri} {hosts:?}");
        }
    }
}
