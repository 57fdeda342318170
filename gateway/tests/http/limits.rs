//! Limits of what a client can use, and their answers.

use proto::paddock::runner::v1::VerifyRunnerRequest;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{World, http2_client, raw, send, token};

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_whether_its_size_is_announced_or_not() {
    let world = World::start_with(|config| config.max_body_bytes = 2000).await;
    let largest =
        token::runner_body(&format!(",\"x\":\"{}\"", "a".repeat(2000 - token::runner_body(",\"x\":\"\"").len())));
    assert_eq!(largest.len(), 2000);
    for (body, status) in [(largest.clone(), 200), (format!("{largest} "), 413), ("a".repeat(3 << 20), 413)] {
        let announced =
            world.post("/api/v4/runners/verify").header("content-type", "application/json").body(body.clone());
        let answer = send(announced).await;
        assert_eq!(answer.status, status);
        let pieces: Vec<_> = body.as_bytes().chunks(700).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let streamed = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
        let streamed = world.post("/api/v4/runners/verify").header("content-type", "application/json").body(streamed);
        assert_eq!(send(streamed).await.status, status);
        if status == 413 {
            assert_eq!(answer.refusal(), (413, "body_too_large".into()));
            assert_eq!(answer.json()["message"], json!("413 Request Entity Too Large"));
        }
    }
    assert_eq!(world.fake.calls::<VerifyRunnerRequest>("verify_runner").len(), 2);
}

#[tokio::test]
async fn a_message_that_the_registry_would_refuse_is_too_large_for_the_gateway_too() {
    let world = World::start_with(|config| config.max_body_bytes = 8 << 20).await;
    let (header, user) = token::user_header();
    for (size, status) in [(3 << 20, 201), (5 << 20, 413)] {
        let body = json!({"runner_type": "instance_type", "description": "a".repeat(size)});
        let answer = send(world.post("/api/v4/user/runners").header(header, &user).json(&body)).await;
        assert_eq!(answer.status, status, "{size}");
    }
}

#[tokio::test]
async fn a_client_that_asks_before_sending_too_much_is_answered_at_once() {
    let world = World::start().await;
    let head =
        "POST /api/v4/runners/verify HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 99999999\r\n\r\n";
    assert_eq!(raw::exchange(world.address, head.as_bytes()).await.unwrap().status, 413);
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let world = World::start_with(|config| config.max_header_bytes = 8192).await;
    for (headers, status) in [
        (format!("x-large: {}\r\n", "a".repeat(7000)), 200),
        (format!("x-large: {}\r\n", "a".repeat(9000)), 431),
        ("a: b\r\n".repeat(150), 431),
    ] {
        assert_eq!(raw::request(world.address, "GET", "/-/liveness", &headers).await.status, status);
    }
    let http2 = http2_client();
    let answer = send(http2.get(world.url("/-/liveness")).header("x-large", "a".repeat(9000))).await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_times_out() {
    let world = World::start_with(|config| config.body_read_timeout_ms = 100).await;
    let head = "POST /api/v4/runners/verify HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc";
    let answer = raw::exchange(world.address, head.as_bytes()).await.unwrap();
    assert_eq!(answer.refusal(), (408, "request_timeout".into()));
}

#[tokio::test]
async fn a_client_that_sends_no_complete_request_times_out() {
    let world = World::start_with(|config| config.header_read_timeout_ms = 100).await;
    for start in
        ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nhost: x\r\n", "GET /-/liveness HTTP/1.1\r\nhost: x\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        // Reads until the gateway closes the connection.
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        assert_eq!(String::from_utf8_lossy(&all).contains("200 OK"), start.ends_with("\r\n\r\n"), "{start}");
    }
}

#[tokio::test]
async fn a_silent_http2_connection_is_closed() {
    let world = World::start_with(|config| config.idle_timeout_ms = 100).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    // Frame type 7 is GOAWAY (RFC 9113, 6.8).
    assert!(all.windows(4).any(|frame| frame[3] == 7), "the gateway said goodbye");
}

#[tokio::test]
async fn a_connection_over_the_limit_waits() {
    let world = World::start_with(|config| config.max_connections = 1).await;
    let mut first = TcpStream::connect(world.address).await.unwrap();
    first.write_all(b"GET /-/liveness HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut some = [0; 12];
    first.read_exact(&mut some).await.unwrap();
    let mut second = TcpStream::connect(world.address).await.unwrap();
    second.write_all(b"GET /-/liveness HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    drop(first);
    assert_eq!(raw::read(&mut second).await.unwrap().status, 200);
}
