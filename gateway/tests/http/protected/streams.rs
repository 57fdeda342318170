//! Bodies are streamed in both directions with their headers; upgrades become tunnels.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use proto::paddock::job_token::v1::FlushRequest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    clients_of_both_protocols,
    protected::{CallCounts, JOBS, Setup, UPLOAD, identity_header, job_header, raw_request},
    raw, send,
    upstream::{answer, streamed},
};

#[tokio::test]
async fn a_connection_is_not_idle_while_an_answer_streams() {
    let idle = Duration::from_millis(50);
    let setup = Setup::start_with(|config| config.idle_timeout_ms = 50).await;
    setup.upstream.on(move |_| async move {
        let chunks = stream::unfold(0, move |number| async move {
            // Longer than the timeout of an idle connection.
            let _ = tokio::time::timeout(idle * 2, std::future::pending::<()>()).await;
            (number < 4).then(|| (Ok(Bytes::from("chunk")), number + 1))
        });
        answer(200, &[], "").map(|_| streamed(chunks))
    });
    for client in clients_of_both_protocols() {
        let (header, token) = job_header();
        let request = client.get(setup.world.url(JOBS)).header(header, token);
        assert_eq!(send(request).await.body, "chunk".repeat(4));
    }
}

#[tokio::test]
async fn both_directions_flow_at_once() {
    let setup = Setup::start().await;
    setup.upstream.on_streamed(|request| async {
        let echo = request.into_body().map_err(io::Error::other).boxed_unsync();
        answer(200, &[], "").map(|_| echo)
    });
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, io::Error>>(1);
    let chunks =
        stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|chunk| (chunk, receiver)) });
    let request = setup.request("PUT", UPLOAD).body(reqwest::Body::wrap_stream(chunks));
    sender.send(Ok(Bytes::from("ping"))).await.unwrap();
    let mut answer = request.send().await.unwrap();
    for _ in 0..3 {
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "ping");
        sender.send(Ok(Bytes::from("ping"))).await.unwrap();
    }
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "ping");
    drop(sender);
    assert_eq!(answer.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn bodies_keep_their_length_and_their_verb() {
    let setup = Setup::start().await;
    for (verb, body, length) in [("PUT", "content", Some("7")), ("PUT", "", Some("0")), ("GET", "", None)] {
        send(setup.request(verb, UPLOAD).body(body)).await;
        let received = setup.upstream.take_requests().remove(0);
        let sent = received.headers.get("content-length").map(|length| length.to_str().unwrap());
        assert_eq!((received.verb.as_str(), sent, received.body.as_ref()), (verb, length, body.as_bytes()));
        assert!(!received.headers.contains_key("transfer-encoding") && !received.has_trailers);
    }
    let head = [("content-length", "1234"), ("etag", "\"x\"")];
    setup.upstream.on(move |_| async move { answer(200, &head, "") });
    let answer = send(setup.request("HEAD", UPLOAD)).await;
    assert_eq!((answer.status, answer.header("content-length"), answer.header("etag")), (200, "1234", "\"x\""));
    assert_eq!(setup.upstream.take_requests().remove(0).verb, "HEAD");
}

#[tokio::test]
async fn hop_by_hop_headers_and_identities_are_removed_in_both_directions() {
    let setup = Setup::start().await;
    let ours = identity_header().key;
    setup.upstream.on(move |_| async move {
        let mut response =
            answer(200, &[("keep-alive", "timeout=5"), ("etag", "\"x\""), ("x-request-id", "theirs")], "x");
        response.headers_mut().insert(ours, HeaderValue::from_static("leaked"));
        let mut trailers = HeaderMap::new();
        trailers.insert(ours, HeaderValue::from_static("leaked"));
        let frames = [Ok(Frame::data(Bytes::from("x"))), Ok(Frame::trailers(trailers))];
        response.headers_mut().insert("trailer", HeaderValue::from_static(ours));
        response.map(|_| StreamBody::new(stream::iter(frames)).boxed_unsync())
    });
    let (header, token) = job_header();
    let headers = format!("{header}: {token}\r\nte: trailers\r\nx-request-id: mine\r\n");
    let answer = raw::request(setup.world.address, "GET", JOBS, &headers).await;
    assert_eq!((answer.status, answer.header("etag"), answer.header("x-request-id")), (200, "\"x\"", "mine"));
    assert!(!answer.headers.contains_key(ours) && !answer.headers.contains_key("keep-alive"));
    assert!(!answer.headers.contains_key("trailer") && !answer.body.contains("leaked"), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_asks_before_sending_is_answered_before_it_sends() {
    let setup = Setup::start().await;
    let (_, token) = job_header();
    let head = raw_request("PUT", UPLOAD, "expect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n");
    let mut stream = TcpStream::connect(setup.world.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    assert_eq!(raw::read(&mut stream).await.unwrap().status, 200);
    let received = setup.upstream.take_requests().remove(0);
    assert_eq!((received.body.as_ref(), received.headers.contains_key("expect")), (b"body".as_slice(), false));
    let refused = raw::exchange(setup.world.address, head.replace(&token, "nonsense").as_bytes()).await.unwrap();
    assert_eq!(refused.status, 401, "without a 100 response");
}

#[tokio::test]
async fn a_client_that_stops_sending_times_out() {
    let mut setup = Setup::start_with(|config| config.body_read_timeout_ms = 100).await;
    let head = raw_request("PUT", UPLOAD, "content-length: 9\r\nconnection: close\r\n");
    let answer = raw::exchange(setup.world.address, (head + "half").as_bytes()).await.unwrap();
    assert_eq!(answer.refusal(), (408, "request_timeout".into()));
    assert_eq!(setup.stop().await, CallCounts { authorize: 1, flush: 0, discard: 1 });
    assert!(setup.upstream.requests().is_empty(), "the upstream never saw a complete request");
}

#[tokio::test]
async fn a_client_that_uploads_reads_its_refusal() {
    let setup = Setup::start().await;
    for client in clients_of_both_protocols() {
        let (header, _) = job_header();
        let request = client.put(setup.world.url(UPLOAD)).header(header, "nonsense");
        assert_eq!(send(request.body(vec![0; 4 << 20])).await.refusal(), (401, "job_token_malformed".into()));
    }
}

const UPGRADED: &str = "[[routes]]\nmethod = \"GET\"\npath = \"/p/{id}/tunnel\"\nprojects = [\"id\"]\npolicies = []\n\
    upgrade = \"echo\"\n";

#[tokio::test]
async fn an_upgrade_is_refused_unless_the_route_allows_it() {
    let mut setup = Setup::start().await;
    for headers in [
        "connection: upgrade, close\r\nupgrade: websocket\r\n",
        "connection: close\r\nupgrade: h2c\r\n",
        "connection: Upgrade, close\r\n",
    ] {
        let request = raw_request("GET", JOBS, headers);
        let answer = raw::exchange(setup.world.address, request.as_bytes()).await.unwrap();
        assert_eq!(answer.refusal(), (400, "upgrade_refused".into()), "{headers}");
    }
    assert_eq!(setup.stop().await, CallCounts { authorize: 0, flush: 0, discard: 0 });
}

#[tokio::test]
async fn an_allowed_upgrade_becomes_a_tunnel_once_it_is_recorded() {
    let mut setup = Setup::with_table(UPGRADED).await;
    setup.upstream.on_streamed(|mut request| async move {
        assert_eq!(request.headers()["upgrade"], "echo");
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            let mut four = [0; 4];
            stream.read_exact(&mut four).await.unwrap();
            stream.write_all(&four).await.unwrap();
        });
        answer(101, &[("connection", "upgrade"), ("upgrade", "echo")], "")
    });
    let request = raw_request("GET", "/p/42/tunnel", "connection: upgrade\r\nupgrade: echo\r\n");
    let mut stream = TcpStream::connect(setup.world.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: echo"), "{head}");
    assert_eq!(setup.world.fake.calls::<FlushRequest>("flush").remove(0).0.status, 101);
    stream.write_all(b"ping").await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"ping");
    assert_eq!(setup.stop().await, CallCounts { authorize: 1, flush: 1, discard: 0 });
}

async fn refusal_of_upgrade(setup: &Setup, protocol: &str) -> (u16, String) {
    let headers = format!("connection: upgrade, close\r\nupgrade: {protocol}\r\n");
    let request = raw_request("GET", "/p/42/tunnel", &headers);
    raw::exchange(setup.world.address, request.as_bytes()).await.unwrap().refusal()
}

#[tokio::test]
async fn only_the_protocol_of_the_route_is_accepted() {
    let setup = Setup::with_table(UPGRADED).await;
    for protocol in ["h2c", "echo, h2c", "echo/1", ""] {
        assert_eq!(refusal_of_upgrade(&setup, protocol).await, (400, "upgrade_refused".into()), "{protocol}");
    }
    assert!(setup.upstream.requests().is_empty());
    setup.upstream.answers(101, &[("connection", "upgrade"), ("upgrade", "other")], "");
    assert_eq!(refusal_of_upgrade(&setup, "Echo").await, (502, "upstream_unavailable".into()));
}

#[tokio::test]
async fn a_tunnel_keeps_its_slot_until_it_is_idle() {
    let setup = Setup::with_table_and(UPGRADED, |config| {
        config.upstream_max_connections = 1;
        config.idle_timeout_ms = 2000;
    })
    .await;
    setup.upstream.on_streamed(|mut request| async move {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        answer(101, &[("connection", "upgrade"), ("upgrade", "ECHO")], "")
    });
    let request = raw_request("GET", "/p/42/tunnel", "connection: upgrade\r\nupgrade: echo\r\n");
    let mut stream = TcpStream::connect(setup.world.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    setup.upstream.answers(200, &[], "ok");
    let next = raw_request("GET", "/p/42/tunnel", "connection: close\r\n");
    let answer = raw::exchange(setup.world.address, next.as_bytes()).await.unwrap();
    assert_eq!(answer.refusal(), (503, "upstream_busy".into()));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(String::from_utf8(rest).unwrap().contains("upgrade: ECHO"), "the answer of the upstream");
    let answer = raw::exchange(setup.world.address, next.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "the tunnel ended, its slot is free");
}
