//! A server behind protected routes. The query of a request says how to answer it; the server remembers all requests.
//!
//! `?answer=302` gives the status; `&location=URL` the header; `&bytes=N` the length of the body; `&pause=MILLISECONDS` a pause
//! before the head; `&streams=true` a body in pieces with pauses between them; `&breaks=true` a body that ends early. Without
//! a query: 302 to an object store.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, sync::oneshot};

use crate::REQUEST_ID;

/// The default location of an artifact.
pub const LOCATION: &str = "https://objects.example.com/artifact.zip?signature=abc";

/// The pause between the pieces of a streamed body.
const STREAM_PAUSE: Duration = Duration::from_millis(20);

/// A request as it arrived, with the status of its answer.
#[derive(Clone, Debug)]
pub struct Received {
    /// The verb.
    pub verb: String,
    /// The path with its query, byte by byte.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The status of the answer.
    pub status: u16,
}

/// The requests so far.
#[derive(Debug, Default)]
struct Memory {
    /// The complete requests. Not kept if a test sends too many.
    requests: Vec<Received>,
    /// The statuses alone, by the ids of the requests.
    statuses: HashMap<String, Vec<u16>>,
    keeps_requests: bool,
    /// How many requests have arrived, answered or not.
    arrivals: usize,
}

/// A running upstream. Dropping it stops it.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    memory: Arc<Mutex<Memory>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Starts an upstream that remembers every request completely.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), true)
    }

    /// Starts an upstream that remembers only the id and the status of each request.
    #[must_use]
    pub fn start_for_many() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), false)
    }

    /// Runs it on a separate thread, so that a test that blocks does not stop it from answering.
    fn start_at(address: SocketAddr, keeps_requests: bool) -> Self {
        let memory = Arc::new(Mutex::new(Memory { keeps_requests, ..Memory::default() }));
        let (stop, stopped) = oneshot::channel();
        let (address_sender, address_receiver) = std::sync::mpsc::channel();
        let kept = Arc::clone(&memory);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await.expect("a free port");
                let address = listener.local_addr().expect("its address");
                address_sender.send(address).expect("the starting thread waits for the address");
                tokio::select! {
                    () = accept(listener, kept) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = address_receiver.recv().expect("the upstream starts");
        Self { address, memory, stop: Some(stop), thread: Some(thread) }
    }

    /// The URL, in the form of the setting.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, in the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.memory.lock().unwrap().requests.clone()
    }

    /// How many requests have arrived, answered or not.
    #[must_use]
    pub fn arrivals(&self) -> usize {
        self.memory.lock().unwrap().arrivals
    }

    /// The statuses of the answers to the request with this id: more than one if it arrived more than once.
    #[must_use]
    pub fn statuses(&self, request_id: &str) -> Vec<u16> {
        self.memory.lock().unwrap().statuses.get(request_id).cloned().unwrap_or_default()
    }

    /// Stops it. Connections are then refused.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends");
        }
    }

    /// Starts it again on the same port. It forgets the earlier requests.
    pub fn start_again(&mut self) {
        let keeps_requests = self.memory.lock().unwrap().keeps_requests;
        *self = Self::start_at(self.address, keeps_requests);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn accept(listener: TcpListener, memory: Arc<Mutex<Memory>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let memory = Arc::clone(&memory);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&memory)));
            // A client may close its connection early.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Body = StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, &'static str>>>;

async fn answer(request: Request<Incoming>, memory: Arc<Mutex<Memory>>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let requested = RequestedAnswer::from_query(head.uri.query().unwrap_or_default());
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    memory.lock().unwrap().arrivals += 1;
    if requested.pause > Duration::ZERO {
        pause(requested.pause).await;
    }
    {
        let mut memory = memory.lock().unwrap();
        if let Some(id) = head.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()) {
            memory.statuses.entry(id.to_owned()).or_default().push(requested.status);
        }
        if memory.keeps_requests {
            let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
            let verb = head.method.to_string();
            let headers = head.headers;
            let status = requested.status;
            memory.requests.push(Received { verb, target, headers, body, status });
        }
    }
    Ok(requested.response())
}

/// Waits for this time.
async fn pause(time: Duration) {
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

/// The answer that a request asks for.
#[derive(Debug)]
struct RequestedAnswer {
    status: u16,
    location: String,
    bytes: usize,
    pause: Duration,
    streams: bool,
    breaks: bool,
}

impl RequestedAnswer {
    fn from_query(query: &str) -> Self {
        let values: HashMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        Self {
            status: number(&values, "answer").unwrap_or(302),
            location: (*values.get("location").unwrap_or(&LOCATION)).to_owned(),
            bytes: number(&values, "bytes").unwrap_or(16),
            pause: Duration::from_millis(number(&values, "pause").unwrap_or(0)),
            streams: values.contains_key("streams"),
            breaks: values.contains_key("breaks"),
        }
    }

    fn response(self) -> Response<Body> {
        let has_body = self.status != 204 && self.status != 304;
        let mut response = Response::builder().status(self.status).header("x-upstream", "yes");
        if (300..400).contains(&self.status) && self.status != 304 {
            response = response.header("location", &self.location);
        }
        if self.status == 206 {
            response = response.header("content-range", format!("bytes 0-{}/{}", self.bytes - 1, self.bytes * 2));
        }
        if has_body && !self.streams {
            response = response.header("content-length", self.bytes);
        }
        let body = if has_body { self.body() } else { stream::empty().boxed() };
        response.body(StreamBody::new(body)).expect("a response")
    }

    fn body(&self) -> stream::BoxStream<'static, Result<Frame<Bytes>, &'static str>> {
        let length = self.bytes;
        let breaks = self.breaks;
        if breaks {
            let half = Frame::data(Bytes::from(vec![b'x'; length / 2]));
            // After a pause, so that the head is sent before the body breaks off.
            let end = stream::once(async {
                pause(STREAM_PAUSE).await;
                Err("broken off")
            });
            return stream::iter([Ok(half)]).chain(end).boxed();
        }
        if self.streams {
            return pieces(length).boxed();
        }
        stream::iter([Ok(Frame::data(Bytes::from(vec![b'x'; length])))]).boxed()
    }
}

/// The number in a parameter.
fn number<N: std::str::FromStr>(values: &HashMap<&str, &str>, name: &str) -> Option<N> {
    values.get(name)?.parse().ok()
}

/// Four pieces with pauses between them.
fn pieces(length: usize) -> impl Stream<Item = Result<Frame<Bytes>, &'static str>> {
    stream::iter(0..4).then(move |_| async move {
        pause(STREAM_PAUSE).await;
        Ok(Frame::data(Bytes::from(vec![b'x'; length / 4])))
    })
}
