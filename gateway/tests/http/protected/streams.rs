//! Bodies of any size pass in both directions, only as fast as they are taken; and what comes with them.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
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
    protected::{JOBS, Setup, Told, identity_header, job_header},
    raw, send,
    upstream::{Body, answer},
};

/// A shipped route that takes a body.
const UPLOAD: &str = "/api/v4/projects/42/packages/generic/name/1.0/file.bin";

fn streamed(pieces: impl futures::Stream<Item = Result<Bytes, io::Error>> + Send + 'static) -> Body {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

fn clients() -> [reqwest::Client; 2] {
    [reqwest::Client::new(), reqwest::Client::builder().http2_prior_knowledge().build().unwrap()]
}

#[tokio::test]
async fn a_connection_is_not_idle_while_an_answer_streams() {
    let idle = Duration::from_millis(50);
    let setup = Setup::start_with(|config| config.idle_timeout_ms = 50).await;
    setup.upstream.on(move |_| async move {
        let pieces = stream::unfold(0, move |number| async move {
            // Several times what an idle connection is given.
            let _ = tokio::time::timeout(idle * 2, std::future::pending::<()>()).await;
            (number < 4).then(|| (Ok(Bytes::from("piece")), number + 1))
        });
        answer(200, &[], "").map(|_| streamed(pieces))
    });
    for client in clients() {
        let (header, token) = job_header();
        let request = client.get(format!("http://{}{JOBS}", setup.world.address)).header(header, token);
        assert_eq!(send(request).await.body, "piece".repeat(4));
    }
}

#[tokio::test]
async fn both_directions_flow_at_once() {
    let setup = Setup::start().await;
    setup.upstream.on_streamed(|request| async {
        let echo = request.into_body().map_err(io::Error::other).boxed_unsync();
        answer(200, &[], "").map(|_| echo)
    });
    let (sender, pieces) = tokio::sync::mpsc::channel::<Result<Bytes, io::Error>>(1);
    let pieces = stream::unfold(pieces, |mut pieces| async { pieces.recv().await.map(|piece| (piece, pieces)) });
    let request = setup.request("PUT", UPLOAD).body(reqwest::Body::wrap_stream(pieces));
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
        let seen = setup.upstream.take().remove(0);
        let sent = seen.headers.get("content-length").map(|length| length.to_str().unwrap());
        assert_eq!((seen.verb.as_str(), sent, seen.body.as_ref()), (verb, length, body.as_bytes()));
        assert!(!seen.headers.contains_key("transfer-encoding") && !seen.has_trailers);
    }
    let head = [("content-length", "1234"), ("etag", "\"x\"")];
    setup.upstream.on(move |_| async move { answer(200, &head, "") });
    let answer = send(setup.request("HEAD", UPLOAD)).await;
    assert_eq!((answer.status, answer.header("content-length"), answer.header("etag")), (200, "1234", "\"x\""));
    assert_eq!(setup.upstream.take().remove(0).verb, "HEAD");
}

#[tokio::test]
async fn headers_of_one_connection_and_identities_end_at_the_gateway_in_both_directions() {
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
    let (header, token) = job_header();
    let head = |token: &str| {
        format!(
            "PUT {UPLOAD} HTTP/1.1\r\nhost: x\r\n{header}: {token}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\
             connection: close\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(setup.world.address).await.unwrap();
    stream.write_all(head(&token).as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    assert_eq!(raw::read(&mut stream).await.unwrap().status, 200);
    let seen = setup.upstream.take().remove(0);
    assert_eq!((seen.body.as_ref(), seen.headers.contains_key("expect")), (b"body".as_slice(), false));
    let refused = raw::exchange(setup.world.address, head("nonsense").as_bytes()).await.unwrap();
    assert_eq!(refused.status, 401, "without an invitation to send the body");
}

#[tokio::test]
async fn a_client_that_pauses_for_too_long_is_given_up() {
    let mut setup = Setup::start_with(|config| config.body_read_timeout_ms = 100).await;
    let (header, token) = job_header();
    let head = format!(
        "PUT {UPLOAD} HTTP/1.1\r\nhost: x\r\n{header}: {token}\r\ncontent-length: 9\r\nconnection: close\r\n\r\nhalf"
    );
    let answer = raw::exchange(setup.world.address, head.as_bytes()).await.unwrap();
    assert_eq!(answer.refusal(), (408, "request_timeout".into()));
    assert_eq!(setup.told().await, Told { authorize: 1, flush: 0, discard: 1 });
    assert!(setup.upstream.seen().is_empty(), "the upstream never saw a complete request");
}

#[tokio::test]
async fn a_refused_upload_reads_its_refusal() {
    let setup = Setup::start().await;
    for client in clients() {
        let (header, _) = job_header();
        let request = client.put(format!("http://{}{UPLOAD}", setup.world.address)).header(header, "nonsense");
        assert_eq!(send(request.body(vec![0; 4 << 20])).await.refusal(), (401, "job_token_malformed".into()));
    }
}

const UPGRADED: &str = "[[routes]]\nmethod = \"GET\"\npath = \"/p/{id}/tunnel\"\nprojects = [\"id\"]\npolicies = []\n\
    upgrade = \"echo\"\n";

#[tokio::test]
async fn an_upgrade_is_refused_unless_the_route_allows_it() {
    let mut setup = Setup::start().await;
    let (header, token) = job_header();
    for headers in [
        "connection: upgrade, close\r\nupgrade: websocket\r\n",
        "connection: close\r\nupgrade: h2c\r\n",
        "connection: Upgrade, close\r\n",
    ] {
        let request = format!("GET {JOBS} HTTP/1.1\r\nhost: x\r\n{header}: {token}\r\n{headers}\r\n");
        let answer = raw::exchange(setup.world.address, request.as_bytes()).await.unwrap();
        assert_eq!(answer.refusal(), (400, "upgrade_refused".into()), "{headers}");
    }
    assert_eq!(setup.told().await, Told { authorize: 0, flush: 0, discard: 0 });
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
    let (header, token) = job_header();
    let request = format!(
        "GET /p/42/tunnel HTTP/1.1\r\nhost: x\r\n{header}: {token}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
    );
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
    assert_eq!(setup.told().await, Told { authorize: 1, flush: 1, discard: 0 });
}

#[tokio::test]
async fn only_the_protocol_of_the_route_is_asked_for_and_agreed_to() {
    let setup = Setup::with_table(UPGRADED).await;
    let (header, token) = job_header();
    let ask = async |protocol: &str| {
        let request = format!(
            "GET /p/42/tunnel HTTP/1.1\r\nhost: x\r\n{header}: {token}\r\nconnection: upgrade, close\r\nupgrade: {protocol}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(setup.world.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        raw::read(&mut stream).await.unwrap().refusal()
    };
    for protocol in ["h2c", "echo, h2c", "echo/1", ""] {
        assert_eq!(ask(protocol).await, (400, "upgrade_refused".into()), "{protocol}");
    }
    assert!(setup.upstream.seen().is_empty());
    setup.upstream.answers(101, &[("connection", "upgrade"), ("upgrade", "other")], "");
    assert_eq!(ask("Echo").await, (502, "upstream_unavailable".into()));
}

#[tokio::test]
async fn a_tunnel_keeps_its_place_until_it_is_idle() {
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
    let (header, token) = job_header();
    let request = format!(
        "GET /p/42/tunnel HTTP/1.1\r\nhost: x\r\n{header}: {token}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
    );
    let mut stream = TcpStream::connect(setup.world.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    setup.upstream.answers(200, &[], "ok");
    let again = format!("GET /p/42/tunnel HTTP/1.1\r\nhost: x\r\n{header}: {token}\r\nconnection: close\r\n\r\n");
    let again = async || raw::exchange(setup.world.address, again.as_bytes()).await.expect("an answer");
    assert_eq!(again().await.refusal(), (503, "upstream_busy".into()));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(String::from_utf8(rest).unwrap().contains("upgrade: ECHO"), "what the upstream said");
    assert_eq!(again().await.status, 200, "the tunnel ended, its place is free");
}
