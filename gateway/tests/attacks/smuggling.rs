//! The upstream receives exactly the decided requests: framings that two servers read differently.

use std::{collections::HashSet, net::SocketAddr};

use futures::StreamExt as _;
use proto::paddock::job_token::v1::AuthorizeRequest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tracing::Level;

use crate::support::{
    log,
    protected::{Setup, identity, identity_header, job_header},
    upstream::Upstream,
};

/// A path of a protected route that takes a body.
const PATH: &str = "/api/v4/projects/42/packages/generic/name/1.0/file";

/// A request that must not reach the upstream, because job-token-auth did not decide it.
const SMUGGLED: &str = "GET /api/v4/projects/666/jobs HTTP/1.1\r\nhost: x\r\nx-smuggled: 1\r\n\r\n";

/// Lines that state the length of the body, or look like it. `{n}` is the length of the body.
const FRAMINGS: [&str; 48] = [
    "content-length: {n}",
    "content-length: 0",
    "content-length: 4",
    "content-length: +{n}",
    "content-length: -1",
    "content-length: 0x10",
    "content-length: {n}, {n}",
    "content-length: {n}, 4",
    "content-length: {n}\r\ncontent-length: {n}",
    "content-length: {n}\r\ncontent-length: 4",
    "content-length: 4\r\ncontent-length: {n}",
    "content-length:{n}",
    "content-length : {n}",
    " content-length: {n}",
    "content_length: {n}",
    "content-length: \x0b{n}",
    "content-length: {n}\r\n\t",
    "content-length: 18446744073709551616",
    "transfer-encoding: chunked",
    "Transfer-Encoding: Chunked",
    "transfer-encoding:chunked",
    "transfer-encoding: chunked ",
    "transfer-encoding:\tchunked",
    "transfer-encoding:\x0bchunked",
    "transfer-encoding: \x00chunked",
    "transfer-encoding : chunked",
    " transfer-encoding: chunked",
    "transfer_encoding: chunked",
    "transfer-encoding: xchunked",
    "transfer-encoding: chunked;q=1",
    "transfer-encoding: \"chunked\"",
    "transfer-encoding: identity",
    "transfer-encoding: identity, chunked",
    "transfer-encoding: chunked, identity",
    "transfer-encoding: chunked, chunked",
    "transfer-encoding: gzip, chunked",
    "transfer-encoding: chunked\r\ntransfer-encoding: identity",
    "transfer-encoding: identity\r\ntransfer-encoding: chunked",
    "transfer-encoding:\r\n chunked",
    "transfer-encoding:\r\ntransfer-encoding: chunked",
    "x: y\ntransfer-encoding: chunked",
    "x: y\rtransfer-encoding: chunked",
    "content-length: {n}\r\ntransfer-encoding: chunked",
    "transfer-encoding: chunked\r\ncontent-length: {n}",
    "content-length: 4\r\ntransfer-encoding: chunked",
    "content-length: {n}\r\ntransfer-encoding: xchunked",
    "content-length: {n}\r\nconnection: content-length",
    "transfer-encoding: chunked\r\nconnection: transfer-encoding",
];

/// Bodies; `{s}` is the request to smuggle.
const BODIES: [&str; 13] = [
    "{s}",
    "body",
    "0\r\n\r\n{s}",
    "4\r\nbody\r\n0\r\n\r\n{s}",
    "4;a=b\r\nbody\r\n0;x=\"y\"\r\n\r\n{s}",
    "4;a=\n\r\nbody\r\n0\r\n\r\n{s}",
    "4\nbody\n0\n\n{s}",
    "4 \r\nbody\r\n0\r\n\r\n{s}",
    "0x4\r\nbody\r\n0\r\n\r\n{s}",
    "10000000000000004\r\nbody\r\n0\r\n\r\n{s}",
    "4\r\nbodyXX0\r\n\r\n{s}",
    "0\r\nx-smuggled: 1\r\ncontent-length: 4\r\n\r\n{s}",
    "-4\r\nbody\r\n0\r\n\r\n{s}",
];

/// Whole requests that are not a combination of the above.
const OTHERS: [&str; 12] = [
    "PUT {p} HTTP/1.0\r\n{h}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{s}",
    "PUT {p} HTTP/1.0\r\n{h}\r\ncontent-length: 4\r\nconnection: keep-alive\r\n\r\nbody{s}",
    "GET {p} HTTP/1.1\r\n{h}\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n{s}",
    "GET {p} HTTP/1.1\r\n{h}\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 4\r\n\r\nbody{s}",
    "GET {p} HTTP/1.1\n{h}\n\n{s}",
    "GET {p}\r\n\r\n{s}",
    "GET {p} HTTP/2.0\r\n{h}\r\n\r\n{s}",
    "GET {p} HTTP/1.1 \r\n{h}\r\n\r\n{s}",
    "GET  {p} HTTP/1.1\r\n{h}\r\n\r\n{s}",
    "\r\n\r\nGET {p} HTTP/1.1\r\n{h}\r\n\r\n{s}",
    "GET {p} HTTP/1.1\r\n{h}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n{s}",
    "GET {p} HTTP/1.1\r\n{h}\r\n\r\nGET {p} HTTP/1.1\r\n{h}\r\n\r\n{s}PUT {p} HTTP/1.1\r\n{h}\r\ncontent-length: 4\r\n\r\nbody{s}",
];

/// Returns the bytes of every case over HTTP/1.
fn http1_cases() -> Vec<String> {
    let (credential, token) = job_header();
    let credential = format!("host: x\r\n{credential}: {token}");
    let mut cases = Vec::new();
    for framing in FRAMINGS {
        for body in BODIES {
            let body = body.replace("{s}", SMUGGLED);
            let framing = framing.replace("{n}", &body.len().to_string());
            cases.push(format!("PUT {PATH} HTTP/1.1\r\n{credential}\r\n{framing}\r\n\r\n{body}"));
        }
    }
    for request in OTHERS {
        cases.push(request.replace("{p}", PATH).replace("{h}", &credential).replace("{s}", SMUGGLED));
    }
    cases
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Returns the headers of every case over HTTP/2, as names and values on the wire.
fn http2_cases() -> Vec<Vec<(String, String)>> {
    let (credential, token) = job_header();
    let base = vec![
        header(":method", "PUT"),
        header(":scheme", "http"),
        header(":path", PATH),
        header(":authority", "x"),
        header(credential, &token),
    ];
    let mut cases = vec![base.clone()];
    let injected =
        ["a\r\nx-smuggled: 1", "a\nx-smuggled: 1", "a\rx-smuggled: 1", "a\0b", "a\r\n\r\nGET /666 HTTP/1.1\r\n"];
    for text in injected {
        for index in 0..4 {
            let mut case = base.clone();
            case[index].1.push_str(text);
            cases.push(case);
        }
        for (name, value) in [("x-value", text), (text, "value"), ("content-length", text), ("host", text)] {
            cases.push([base.clone(), vec![header(name, value)]].concat());
        }
    }
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("connection", "x-smuggled"),
        ("upgrade", "h2c"),
        ("content-length", "4"),
        ("content-length", "99"),
        ("te", "chunked"),
        ("X-UPPER", "1"),
        ("x y", "1"),
        ("x:y", "1"),
        ("", "1"),
        (":path", "/api/v4/projects/666/jobs"),
        (":method", "GET"),
        (":x-smuggled", "1"),
        ("host", "evil.example"),
    ] {
        cases.push([base.clone(), vec![header(name, value)]].concat());
    }
    cases
}

/// Encodes a string literal of HPACK (RFC 7541, 5.2).
fn hpack_text(text: &str) -> Vec<u8> {
    // A length of 127 and more continues in the next bytes (RFC 7541, 5.1).
    let mut bytes = vec![u8::try_from(text.len().min(127)).unwrap()];
    if let Some(mut rest) = text.len().checked_sub(127) {
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).unwrap());
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Encodes a frame of HTTP/2 (RFC 9113, 4.1).
fn http2_frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Returns the bytes of a connection of HTTP/2 with one request. Headers are literals without indexing (RFC 7541, 6.2.2).
fn http2_bytes(headers: &[(String, String)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        block.extend(hpack_text(name));
        block.extend(hpack_text(value));
    }
    let settings = http2_frame(4, 0, 0, &[]);
    let headers = http2_frame(1, 4, 1, &block);
    let data = http2_frame(0, 1, 1, b"body");
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings, headers, data].concat()
}

/// Sends the bytes, and reads until the gateway closes the connection.
async fn send(address: SocketAddr, bytes: Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The gateway may close the connection before all bytes are sent.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// A request as a strict upstream reads it.
struct StrictRequest {
    head: String,
    has_body: bool,
}

/// Reads all requests of a connection. An incomplete request at the end does not count.
fn read_strictly(mut bytes: &[u8]) -> Vec<StrictRequest> {
    let mut requests = Vec::new();
    while let Some((request, rest)) = read_one(bytes) {
        requests.push(request);
        bytes = rest;
    }
    requests
}

/// Reads the first request. Returns it and the bytes after it, or none if it is incomplete.
fn read_one(bytes: &[u8]) -> Option<(StrictRequest, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
    let rest = &bytes[end + 4..];
    assert!(head.contains(" HTTP/1.1\r\n"), "{head:?}");
    assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0', '\x0b']), "{head:?}");
    let lengths: Vec<_> = head.split("\r\n").filter_map(|line| line.strip_prefix("content-length: ")).collect();
    let codings: Vec<_> = head.split("\r\n").filter_map(|line| line.strip_prefix("transfer-encoding: ")).collect();
    assert!(lengths.len() + codings.len() <= 1, "{head}");
    let rest = match (lengths.first(), codings.first()) {
        (Some(length), _) => rest.get(length.parse::<usize>().expect("a number")..)?,
        (None, Some(coding)) => {
            assert_eq!(*coding, "chunked", "{head}");
            after_chunks(rest)?
        }
        (None, None) => rest,
    };
    let has_body = !codings.is_empty() || lengths.first().is_some_and(|length| *length != "0");
    Some((StrictRequest { head, has_body }, rest))
}

/// Returns the bytes after a chunked body, or none if it is incomplete.
fn after_chunks(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).expect("no extension");
        bytes =
            bytes.get(end + 2 + size..end + 4 + size).and_then(|_| bytes[end + 2 + size..].strip_prefix(b"\r\n"))?;
        if size == 0 {
            return Some(bytes);
        }
    }
}

/// Checks every request that reached the upstream. Returns the number of requests.
fn check(setup: &Setup, upstream: &Upstream, is_http1: bool) -> usize {
    let asked = setup.world.fake.calls::<AuthorizeRequest>("authorize");
    let identities: HashSet<_> = asked.iter().map(|(asked, _)| identity(&asked.capture_id)).collect();
    assert!(asked.iter().all(|(asked, _)| asked.projects == ["42"]), "no other project was asked for");
    let received = upstream.requests();
    let mut used = HashSet::new();
    for received in &received {
        assert!(!received.target.contains("666") && !received.headers.contains_key("x-smuggled"), "{received:?}");
        let identity = received.headers[identity_header().key].to_str().unwrap().to_owned();
        assert!(identities.contains(&identity) && used.insert(identity), "a request without a decision: {received:?}");
    }
    if is_http1 {
        let strict: Vec<_> = upstream.bytes().iter().flat_map(|bytes| read_strictly(bytes)).collect();
        assert_eq!(strict.len(), received.len(), "another server reads the same requests");
        assert!(strict.iter().all(|request| request.head.contains(identity_header().key)));
        assert!(strict.iter().any(|request| request.has_body));
    }
    received.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upstream_receives_exactly_the_decided_requests() {
    log::install_at(Level::ERROR);
    let setup = Setup::start_with(|config| {
        // Connections end soon after their last request, and soon after a body that does not arrive.
        config.header_read_timeout_ms = 500;
        config.body_read_timeout_ms = 250;
        config.idle_timeout_ms = 500;
    })
    .await;
    setup.allow_without_captures();
    let http1: Vec<_> = http1_cases().into_iter().map(String::into_bytes).collect();
    let http2: Vec<_> = http2_cases().iter().map(|case| http2_bytes(case)).collect();
    let count = http1.len() + http2.len();
    assert!(count > 500, "{count} cases");
    let address = setup.world.address;
    let cases = http1.into_iter().chain(http2);
    futures::stream::iter(cases).for_each_concurrent(128, |bytes| send(address, bytes)).await;
    let reached = check(&setup, &setup.upstream, true);
    assert!(reached > 50 && reached < count, "{reached} requests of {count} cases reached the upstream");
}
