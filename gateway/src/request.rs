//! What a request says of itself besides its parameters: its id, its body, its address.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chassis::status::Refusal;
use http::header::{EXPECT, HOST};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use proto::paddock::contract::v1::Reason;
use uuid::Uuid;

use crate::redact;

/// The header that carries the id of a request, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client.
const MAX_REQUEST_ID: usize = 64;

/// How much of a body that is too large is read and thrown away, so that the client reads the refusal instead of seeing its
/// connection reset while it still writes.
const DRAIN_BYTES: usize = 8 << 20;

/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(2);

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

/// Reads the body.
///
/// # Errors
/// If it is larger than `max`, does not arrive in time, or ends early.
pub async fn body<B>(mut body: B, headers: &HeaderMap, max: usize, timeout: Duration) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let read = if announced > max {
        Err(Refusal::new(Reason::BodyTooLarge))
    } else {
        read_in_time(&mut body, max, timeout).await
    };
    // A client that asks first has not sent the body yet.
    if matches!(&read, Err(refusal) if refusal.reason() == Reason::BodyTooLarge) && !headers.contains_key(EXPECT) {
        let _ = tokio::time::timeout(DRAIN_TIME, drain(&mut body)).await;
    }
    read
}

async fn read_in_time<B>(body: &mut B, max: usize, timeout: Duration) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let late = |_| Refusal::new(Reason::RequestTimeout);
    tokio::time::timeout(timeout, read(body, max)).await.map_err(late)?
}

async fn read<B>(body: &mut B, max: usize) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::new(Reason::BodyMalformed).with_detail("the body ended early"))?;
        // Trailers carry no parameters.
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > max {
            return Err(Refusal::new(Reason::BodyTooLarge));
        }
        if first.is_empty() && all.is_empty() {
            // Most bodies come in one piece, which need not be copied.
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

async fn drain<B>(body: &mut B)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut drained = 0;
    while drained < DRAIN_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        drained += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// The address of the request without its query, as the client knows it: by the configured URL, or by its Host header.
pub fn url(parts: &Parts, external_url: &str) -> String {
    let path = parts.uri.path();
    if !external_url.is_empty() {
        return format!("{}{path}", external_url.trim_end_matches('/'));
    }
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<Authority>().ok()).filter(|host| !host.as_str().contains('@'));
    match host.as_ref().or(parts.uri.authority()) {
        Some(host) => format!("http://{host}{path}"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

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

    #[tokio::test]
    async fn a_body_of_the_largest_size_is_read_and_one_byte_more_is_refused() {
        let time = Duration::from_secs(5);
        for pieces in [vec!["abcd"], vec!["ab", "", "cd"], vec!["", "abc", "d"]] {
            let frames = |pieces: &[&'static str]| {
                let frames: Vec<_> =
                    pieces.iter().map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from(*piece)))).collect();
                StreamBody::new(futures::stream::iter(frames))
            };
            assert_eq!(body(frames(&pieces), &HeaderMap::new(), 4, time).await.unwrap(), "abcd");
            let refusal = body(frames(&pieces), &HeaderMap::new(), 3, time).await.unwrap_err();
            assert_eq!(refusal.reason(), Reason::BodyTooLarge);
        }
        let announced = body(Full::new(Bytes::from("abcd")), &HeaderMap::new(), 3, time).await.unwrap_err();
        assert_eq!(announced.reason(), Reason::BodyTooLarge);
    }

    #[test]
    fn an_empty_body_needs_no_reading() {
        let headers = HeaderMap::new();
        let read = body(Full::new(Bytes::new()), &headers, 0, Duration::ZERO);
        assert!(read.now_or_never().unwrap().unwrap().is_empty());
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
        assert_eq!(url(&parts(Some("a b>"), "/a"), ""), "/a");
    }
}
