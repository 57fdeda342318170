//! Bodies of 64 MiB are streamed with back-pressure in both directions: the gateway does not buffer them.

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
use http_body_util::BodyExt as _;
use proto::paddock::job_token::v1::FlushRequest;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tracing::Level;

use crate::support::{
    clients_of_both_protocols, log,
    protected::{JOBS, Setup, UPLOAD, job_header, raw_request},
    upstream::{answer, streamed, whole},
};

const CHUNK: usize = 64 << 10;
const CHUNKS: usize = 1024;

/// The maximum number of bytes between the two ends: in buffers of the gateway, of HTTP, and of the sockets.
const MAX_IN_FLIGHT: usize = 24 << 20;

/// Returns a stream of 64 MiB, and the number of chunks that were read of it.
fn large() -> (impl futures::Stream<Item = Result<Bytes, io::Error>> + Send + use<>, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let chunk = Bytes::from(vec![7; CHUNK]);
    let chunks = stream::iter(0..CHUNKS).map(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(chunk.clone())
    });
    (chunks, taken)
}

/// Reads a stream to its end, and checks that its source was never far ahead. Returns the number of bytes.
async fn read_with_backpressure(
    mut body: impl futures::Stream<Item = Result<Bytes, reqwest::Error>> + Unpin,
    taken: &AtomicUsize,
) -> usize {
    let mut read = 0;
    while let Some(chunk) = body.next().await {
        read += chunk.unwrap().len();
        let ahead = (taken.load(Ordering::SeqCst) * CHUNK).saturating_sub(read);
        assert!(ahead < MAX_IN_FLIGHT, "{ahead} bytes are buffered");
    }
    read
}

#[tokio::test]
async fn a_large_answer_is_streamed_with_backpressure() {
    log::install_at(Level::ERROR);
    let setup = Setup::start().await;
    for (index, client) in clients_of_both_protocols().into_iter().enumerate() {
        let (chunks, taken) = large();
        let chunks = std::sync::Mutex::new(Some(chunks));
        setup.upstream.on(move |_| {
            let chunks = chunks.lock().unwrap().take().expect("one request");
            async move { answer(200, &[], "").map(|_| streamed(chunks)) }
        });
        let (header, token) = job_header();
        let request = client.get(setup.world.url(JOBS)).header(header, token);
        let answer = request.send().await.unwrap();
        assert_eq!(setup.world.fake.calls::<FlushRequest>("flush").len(), index + 1, "recorded before the first byte");
        assert!(taken.load(Ordering::SeqCst) * CHUNK < MAX_IN_FLIGHT, "the client has read nothing");
        assert_eq!(read_with_backpressure(answer.bytes_stream(), &taken).await, CHUNKS * CHUNK);
    }
}

#[tokio::test]
async fn a_large_request_is_streamed_with_backpressure() {
    log::install_at(Level::ERROR);
    let setup = Setup::start().await;
    let (is_reading, reading) = tokio::sync::watch::channel(false);
    setup.upstream.on_streamed(move |request| {
        let mut reading = reading.clone();
        async move {
            reading.wait_for(|is_reading| *is_reading).await.unwrap();
            let mut body = request.into_body();
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
            }
            answer(201, &[], "").map(|_| whole(read.to_string()))
        }
    });
    for client in clients_of_both_protocols() {
        is_reading.send_replace(false);
        let (chunks, taken) = large();
        let (header, token) = job_header();
        let request = client.put(setup.world.url(UPLOAD)).header(header, token);
        let sending = tokio::spawn(request.body(reqwest::Body::wrap_stream(chunks)).send());
        // The upstream reads nothing. The gateway may read what fits into the buffers, and no more.
        let mut last = 0;
        for _ in 0..20_000 {
            tokio::task::yield_now().await;
            last = taken.load(Ordering::SeqCst);
        }
        assert!(last * CHUNK < MAX_IN_FLIGHT, "{last} chunks were read of a body that the upstream does not read");
        is_reading.send_replace(true);
        let answer = sending.await.unwrap().unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (201, (CHUNKS * CHUNK).to_string()));
    }
}

/// The number of clients that never read.
const CLIENTS: usize = 200;

#[tokio::test]
async fn clients_that_never_read_are_cut_off() {
    log::install_at(Level::ERROR);
    let setup = Setup::start_with(|config| config.client_pause_timeout_ms = 1000).await;
    let started = Arc::new(AtomicUsize::new(0));
    // Each body has a reference, so that the count of references is the number of live bodies.
    let reference = Arc::new(());
    let count = started.clone();
    let shared = reference.clone();
    setup.upstream.on(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let held = shared.clone();
        let chunk = Bytes::from(vec![7; CHUNK]);
        let chunks = stream::repeat_with(move || {
            let _ = &held;
            Ok(chunk.clone())
        });
        async move { answer(200, &[], "").map(|_| streamed(chunks)) }
    });
    let request = raw_request("GET", JOBS, "");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(setup.world.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
    }
    let all_are_cut_off = async {
        // The test and the script of the upstream have a reference each.
        while started.load(Ordering::SeqCst) < CLIENTS || Arc::strong_count(&reference) > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all_are_cut_off).await.expect("every answer is cut off");
}
