//! What an upstream, and clients that do not read, can hold; and connections that break at the wrong moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};

use super::records::line;
use crate::support::{
    protected::{JOBS, Setup, Told, job_header},
    raw, send, unique_id,
    upstream::{Body, Upstream, answer, scripted},
};

/// A shipped route that takes a body.
const UPLOAD: &str = "/api/v4/projects/42/packages/generic/name/1.0/file.bin";

/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// A body without an end, and the number of pieces that were taken of it.
fn endless(taken: &Arc<AtomicUsize>) -> Body {
    let taken = taken.clone();
    let piece = Bytes::from(vec![7; 64 << 10]);
    let pieces = stream::repeat_with(move || {
        taken.fetch_add(1, Ordering::SeqCst);
        Ok(Frame::data(piece.clone()))
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// The bytes of a request for jobs.
fn request(path: &str, id: &str) -> String {
    let (header, token) = job_header();
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\n{header}: {token}\r\n\r\n")
}

#[tokio::test]
async fn an_upstream_serves_no_more_at_a_time_than_it_may() {
    let mut setup = Setup::start_with(|config| config.upstream_max_connections = 1).await;
    let taken = Arc::new(AtomicUsize::new(0));
    setup.upstream.on(move |_| {
        let body = endless(&taken);
        async move { answer(200, &[], "").map(|_| body) }
    });
    let held = setup.get(JOBS).send().await.unwrap();
    // Were it let through, its body would have no end.
    let refused = setup.get(JOBS).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(refused.text().await.unwrap().contains("upstream_busy"));
    assert_eq!(send(setup.world.get("/-/liveness")).await.status, 200);
    drop(held);
    setup.upstream.answers(200, &[], "ok");
    assert_eq!(send(setup.get(JOBS)).await.status, 200, "the place is free again");
    assert_eq!(setup.told().await, Told { authorize: 3, flush: 2, discard: 1 });
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_too_long_is_cut_off() {
    let setup = Setup::start_with(|config| {
        config.client_pause_timeout_ms = 200;
        config.upstream_max_connections = 2;
    })
    .await;
    let taken = Arc::new(AtomicUsize::new(0));
    setup.upstream.on(move |_| {
        let body = endless(&taken);
        async move { answer(200, &[], "").map(|_| body) }
    });
    let ids = [unique_id(), unique_id()];
    let mut http1 = TcpStream::connect(setup.world.address).await.unwrap();
    http1.write_all(request(JOBS, &ids[0]).as_bytes()).await.unwrap();
    let (header, token) = job_header();
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let http2 = http2.get(format!("http://{}{JOBS}", setup.world.address)).header("x-request-id", &ids[1]);
    let _http2 = http2.header(header, token).send().await.unwrap();
    for id in &ids {
        let line = tokio::time::timeout(DEADLINE, line(id)).await.expect("a line");
        assert_eq!((&line["cut_off"], &line["level"]), (&json!("client_paused"), &json!("INFO")), "{line}");
    }
    setup.upstream.answers(200, &[], "ok");
    assert_eq!(send(setup.get(JOBS)).await.status, 200, "both places are free again");
}

#[tokio::test]
async fn clients_that_do_not_read_hold_up_nobody_else_of_an_http2_upstream() {
    let upstream = Upstream::start().await;
    let table = format!(
        "[upstreams.store]\nurl = \"{}\"\nprotocol = \"h2\"\n[[routes]]\nmethod = \"GET\"\npath = \"/p/{{id}}/{{x}}\"\n\
         projects = [\"id\"]\npolicies = []\nupstream = \"store\"\n",
        upstream.url()
    );
    let setup = Setup::with_table(&table).await;
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
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
        // What the system keeps for a client is small, too: what it does not read stands still at the upstream.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = socket.connect(setup.world.address).await.unwrap();
        client.write_all(request("/p/42/large", "x").as_bytes()).await.unwrap();
        held.push(client);
    }
    // Others are served while these come to stand still, and when they do; long before these are cut off.
    let soon = DEADLINE / 3;
    let (mut before, mut still) = (0, 0);
    while still < 50 {
        let small = tokio::time::timeout(soon, send(setup.get("/p/42/small"))).await;
        assert_eq!(small.expect("an answer").body, "small");
        let now = taken.load(Ordering::SeqCst);
        still = if now == before && upstream.seen().len() > held.len() { still + 1 } else { 0 };
        before = now;
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_read_that_met_a_closing_connection_is_sent_once_more_and_nothing_else_is() {
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

/// Sends a large upload as simple clients do: all of it, and then they read.
async fn upload(setup: &Setup) -> raw::Outcome {
    let (header, token) = job_header();
    let length = 30 << 20;
    let head = format!(
        "PUT {UPLOAD} HTTP/1.1\r\nhost: x\r\n{header}: {token}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
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
