//! Bodies of 64 MiB pass in both directions only as fast as they are taken: nothing piles up in the gateway.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use proto::paddock::job_token::v1::FlushRequest;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tracing::Level;

use crate::support::{
    log,
    protected::{JOBS, Setup, job_header},
    upstream::{Body, answer, whole},
};

const PIECE: usize = 64 << 10;
const PIECES: usize = 1024;

/// What may lie between the two ends: buffers of the gateway, of HTTP, and of the sockets.
const UNDER_WAY: usize = 24 << 20;

/// A shipped route that takes a body.
const UPLOAD: &str = "/api/v4/projects/42/packages/generic/name/1.0/file.bin";

/// 64 MiB in pieces, and how many of its pieces were taken.
fn large() -> (impl futures::Stream<Item = Result<Bytes, io::Error>> + Send + use<>, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let piece = Bytes::from(vec![7; PIECE]);
    let pieces = stream::iter(0..PIECES).map(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(piece.clone())
    });
    (pieces, taken)
}

fn streamed(pieces: impl futures::Stream<Item = Result<Bytes, io::Error>> + Send + 'static) -> Body {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// Reads a stream of bytes to its end, and checks that what was taken from its source was never far ahead.
async fn read_closely(
    mut body: impl futures::Stream<Item = Result<Bytes, reqwest::Error>> + Unpin,
    taken: &AtomicUsize,
) -> usize {
    let mut read = 0;
    while let Some(piece) = body.next().await {
        read += piece.unwrap().len();
        let ahead = (taken.load(Ordering::SeqCst) * PIECE).saturating_sub(read);
        assert!(ahead < UNDER_WAY, "{ahead} bytes are held somewhere");
    }
    read
}

fn clients() -> [reqwest::Client; 2] {
    [reqwest::Client::new(), reqwest::Client::builder().http2_prior_knowledge().build().unwrap()]
}

#[tokio::test]
async fn a_large_answer_passes_as_fast_as_it_is_read_and_no_faster() {
    log::install_at(Level::ERROR);
    let setup = Setup::start().await;
    for (index, client) in clients().into_iter().enumerate() {
        let (pieces, taken) = large();
        let pieces = std::sync::Mutex::new(Some(pieces));
        setup.upstream.on(move |_| {
            let pieces = pieces.lock().unwrap().take().expect("one request");
            async move { answer(200, &[], "").map(|_| streamed(pieces)) }
        });
        let (header, token) = job_header();
        let request = client.get(format!("http://{}{JOBS}", setup.world.address)).header(header, token);
        let answer = request.send().await.unwrap();
        assert_eq!(setup.world.fake.calls::<FlushRequest>("flush").len(), index + 1, "recorded before the first byte");
        assert!(taken.load(Ordering::SeqCst) * PIECE < UNDER_WAY, "nobody has read a byte");
        assert_eq!(read_closely(answer.bytes_stream(), &taken).await, PIECES * PIECE);
    }
}

#[tokio::test]
async fn a_large_body_passes_as_fast_as_it_is_taken_and_no_faster() {
    log::install_at(Level::ERROR);
    let setup = Setup::start().await;
    let (go, wait) = tokio::sync::watch::channel(false);
    setup.upstream.on_streamed(move |request| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|go| *go).await.unwrap();
            let mut body = request.into_body();
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
            }
            answer(201, &[], "").map(|_| whole(read.to_string()))
        }
    });
    for client in clients() {
        go.send_replace(false);
        let (pieces, taken) = large();
        let (header, token) = job_header();
        let request = client.put(format!("http://{}{UPLOAD}", setup.world.address)).header(header, token);
        let sending = tokio::spawn(request.body(reqwest::Body::wrap_stream(pieces)).send());
        // The upstream reads nothing: what it takes to fill every buffer on the way is taken, and then no more.
        let mut last = 0;
        for _ in 0..20_000 {
            tokio::task::yield_now().await;
            last = taken.load(Ordering::SeqCst);
        }
        assert!(last * PIECE < UNDER_WAY, "{last} pieces were taken of a body that nobody reads");
        go.send_replace(true);
        let answer = sending.await.unwrap().unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (201, (PIECES * PIECE).to_string()));
    }
}

/// Clients that ask and never read.
const DEAF: usize = 200;

#[tokio::test]
async fn clients_that_never_read_hold_nothing_for_long() {
    log::install_at(Level::ERROR);
    let setup = Setup::start_with(|config| config.client_pause_timeout_ms = 1000).await;
    let (begun, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
    let (count, hold) = (begun.clone(), held.clone());
    setup.upstream.on(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let (hold, piece) = (hold.clone(), Bytes::from(vec![7; PIECE]));
        let pieces = stream::repeat_with(move || {
            let _ = &hold;
            Ok(piece.clone())
        });
        async move { answer(200, &[], "").map(|_| streamed(pieces)) }
    });
    let (header, token) = job_header();
    let request = format!("GET {JOBS} HTTP/1.1\r\nhost: x\r\n{header}: {token}\r\n\r\n");
    let mut clients = Vec::new();
    for _ in 0..DEAF {
        let mut client = TcpStream::connect(setup.world.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
    }
    let all_let_go = async {
        // One is the upstream's own.
        while begun.load(Ordering::SeqCst) < DEAF || Arc::strong_count(&held) > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all_let_go).await.expect("every answer is cut off");
}
