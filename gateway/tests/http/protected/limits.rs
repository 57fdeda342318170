//! Limits for upstreams and for clients that do not read, and connections that break.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};

use crate::support::{
    http2_client,
    log::access_line,
    protected::{CallCounts, JOBS, Setup, UPLOAD, job_header, raw_request, store_table},
    raw, send, unique_id,
    upstream::{Body, Upstream, answer, scripted, streamed},
};

/// The maximum time that a test waits.
const DEADLINE: Duration = Duration::from_secs(60);

/// Returns an endless body. Counts the chunks that were read of it.
fn endless(read: &Arc<AtomicUsize>) -> Body {
    let read = read.clone();
    let chunk = Bytes::from(vec![7; 64 << 10]);
    streamed(stream::repeat_with(move || {
        read.fetch_add(1, Ordering::SeqCst);
        Ok(chunk.clone())
    }))
}

/// Answers every request with an endless body.
fn answer_endlessly(upstream: &Upstream) {
    let read = Arc::new(AtomicUsize::new(0));
    upstream.on(move |_| {
        let body = endless(&read);
        async move { answer(200, &[], "").map(|_| body) }
    });
}

/// Returns the bytes of a GET with this request id.
fn get_with_id(path: &str, id: &str) -> String {
    raw_request("GET", path, &format!("x-request-id: {id}\r\n"))
}

#[tokio::test]
async fn an_upstream_has_a_maximum_of_concurrent_requests() {
    let mut setup = Setup::start_with(|config| config.upstream_max_connections = 1).await;
    answer_endlessly(&setup.upstream);
    let held = setup.get(JOBS).send().await.unwrap();
    // If the gateway forwarded it, its body would have no end.
    let refused = setup.get(JOBS).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(refused.text().await.unwrap().contains("upstream_busy"));
    assert_eq!(send(setup.world.get("/-/liveness")).await.status, 200);
    drop(held);
    setup.upstream.answers(200, &[], "ok");
    assert_eq!(send(setup.get(JOBS)).await.status, 200, "the slot is free again");
    assert_eq!(setup.stop().await, CallCounts { authorize: 3, flush: 2, discard: 1 });
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_off() {
    let setup = Setup::start_with(|config| {
        config.client_pause_timeout_ms = 200;
        config.upstream_max_connections = 2;
    })
    .await;
    answer_endlessly(&setup.upstream);
    let ids = [unique_id(), unique_id()];
    let mut http1 = TcpStream::connect(setup.world.address).await.unwrap();
    http1.write_all(get_with_id(JOBS, &ids[0]).as_bytes()).await.unwrap();
    let (header, token) = job_header();
    let http2 = http2_client();
    let http2 = http2.get(setup.world.url(JOBS)).header("x-request-id", &ids[1]);
    let _http2 = http2.header(header, token).send().await.unwrap();
    for id in &ids {
        let line = tokio::time::timeout(DEADLINE, access_line(id)).await.expect("a line");
        assert_eq!((&line["cut_off"], &line["level"]), (&json!("client_paused"), &json!("INFO")), "{line}");
    }
    setup.upstream.answers(200, &[], "ok");
    assert_eq!(send(setup.get(JOBS)).await.status, 200, "both slots are free again");
}

#[tokio::test]
async fn clients_that_do_not_read_do_not_block_others_of_an_http2_upstream() {
    let upstream = Upstream::start().await;
    let table = store_table(&upstream.url(), "protocol = \"h2\"", "GET", "/p/{id}/{x}");
    let setup = Setup::with_table(&table).await;
    let read = Arc::new(AtomicUsize::new(0));
    let count = read.clone();
    upstream.on(move |parts| {
        let body = parts.uri.path().ends_with("large").then(|| endless(&count));
        async move {
            let answer = answer(200, &[], "small");
            match body {
                Some(body) => answer.map(|_| body),
                None => answer,
            }
        }
    });
    let mut held = Vec::new();
    for _ in 0..16 {
        // The receive buffer of the client is small, so that the body soon stops at the upstream.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = socket.connect(setup.world.address).await.unwrap();
        client.write_all(get_with_id("/p/42/large", "x").as_bytes()).await.unwrap();
        held.push(client);
    }
    // Other requests are served while these bodies fill the buffers, and after they have stopped, before they are cut off.
    let soon = DEADLINE / 3;
    let mut before = 0;
    let mut rounds_without_progress = 0;
    while rounds_without_progress < 50 {
        let small = tokio::time::timeout(soon, send(setup.get("/p/42/small"))).await;
        assert_eq!(small.expect("an answer").body, "small");
        let now = read.load(Ordering::SeqCst);
        let has_stopped = now == before && upstream.requests().len() > held.len();
        rounds_without_progress = if has_stopped { rounds_without_progress + 1 } else { 0 };
        before = now;
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn only_a_read_on_a_closing_connection_is_retried_and_only_once() {
    let cases = [
        ("GET", vec![vec![OK], vec![OK]], 200, 3),
        ("HEAD", vec![vec![OK], vec!["HTTP/1.1 200 OK\r\n\r\n"]], 200, 3),
        ("GET", vec![vec![OK], vec![], vec![OK]], 502, 3),
        ("GET", vec![vec![OK, "HTTP/1.1 2early"], vec![OK]], 502, 2),
        ("PUT", vec![vec![OK], vec![OK]], 502, 2),
        ("GET", vec![vec![], vec![OK]], 502, 1),
    ];
    for (verb, connections, status, requests) in cases {
        let shown = format!("{verb} {connections:?}");
        let is_first = connections[0].is_empty();
        let (url, count) = scripted(connections).await;
        let setup = Setup::start_with(|config| config.upstream = url).await;
        if !is_first {
            assert_eq!(send(setup.get(UPLOAD)).await.body, "ok", "{shown}");
        }
        assert_eq!(send(setup.request(verb, UPLOAD)).await.status, status, "{shown}");
        assert_eq!(count.load(Ordering::SeqCst), requests, "{shown}");
    }
}

/// Sends a large upload as simple clients do: they write all of it, and then read.
async fn upload(setup: &Setup) -> raw::Outcome {
    let length = 30 << 20;
    let head = raw_request("PUT", UPLOAD, &format!("content-length: {length}\r\nconnection: close\r\n"));
    let mut stream = TcpStream::connect(setup.world.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let written = stream.write_all(&vec![7; length]).await.map_err(|error| error.kind());
    raw::Outcome { written, answer: raw::read(&mut stream).await }
}

#[tokio::test]
async fn a_large_upload_reads_the_error_of_the_gateway_or_the_early_one_of_the_upstream() {
    let setup = Setup::start_with(|config| config.upstream = "http://127.0.0.1:1".into()).await;
    let outcome = upload(&setup).await;
    assert_eq!(outcome.written, Ok(()));
    assert_eq!(outcome.answer.unwrap().refusal(), (502, "upstream_unavailable".into()));
    for early in [
        "HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nearly",
        "HTTP/1.1 413 Too Large\r\nconnection: close\r\n\r\nearly",
    ] {
        let (url, _) = scripted(vec![vec![early]]).await;
        let setup = Setup::start_with(|config| config.upstream = url).await;
        let outcome = upload(&setup).await;
        assert_eq!(outcome.written, Ok(()), "{early}");
        let answer = outcome.answer.expect("an answer");
        assert!(answer.status == 413 && answer.body.contains("early"), "{answer:?}");
    }
}
