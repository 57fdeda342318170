//! An upstream that speaks HTTP/1.1 and HTTP/2, answers as the test scripts it, and records requests and bytes.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, Method, Request, Response, Version, request::Parts};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

type ResponseFuture = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Script = Arc<dyn Fn(Request<Incoming>, RequestLog) -> ResponseFuture + Send + Sync>;

/// A request that the upstream received.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    pub verb: Method,
    /// Path and query, unchanged.
    pub target: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub has_trailers: bool,
}

/// The requests, and the bytes of each connection.
#[derive(Clone, Default)]
pub struct RequestLog {
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
    bytes: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// The upstream. It stops when it is dropped.
pub struct Upstream {
    pub address: SocketAddr,
    log: RequestLog,
    script: Arc<Mutex<Script>>,
    _stop: DropGuard,
}

/// Returns an answer with its whole body.
pub fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(whole(body)).unwrap()
}

/// Returns a body of one frame.
pub fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Returns a body that is streamed, one frame for each chunk.
pub fn streamed(chunks: impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static) -> Body {
    StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

impl Upstream {
    /// Starts an upstream that answers every request with 200.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = RequestLog::default();
        let stop = CancellationToken::new();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(recorded(|_| async { answer(200, &[], "ok") })));
        let serving = serve(listener, script.clone(), log.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        Self { address, log, script, _stop: stop.drop_guard() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Scripts the answers from now on. The upstream reads the body first.
    pub fn on<F>(&self, respond: impl Fn(Parts) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        *self.script.lock().unwrap() = recorded(respond);
    }

    /// Scripts the answers from now on. The script reads the body; the request is not recorded.
    pub fn on_streamed<F>(&self, respond: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        *self.script.lock().unwrap() = Arc::new(move |request, _| Box::pin(respond(request)));
    }

    /// Scripts one answer for all requests from now on.
    pub fn answers(&self, status: u16, headers: &'static [(&'static str, &'static str)], body: &'static str) {
        self.on(move |_| async move { answer(status, headers, body) });
    }

    /// Returns the requests so far.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.log.requests.lock().unwrap().clone()
    }

    /// Returns the requests so far, and forgets them.
    pub fn take_requests(&self) -> Vec<ReceivedRequest> {
        std::mem::take(&mut self.log.requests.lock().unwrap())
    }

    /// Returns the bytes that were received, by connection.
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        self.log.bytes.lock().unwrap().clone()
    }
}

/// Starts an upstream that answers with raw bytes: on each connection a list of texts, one for each request; then it closes
/// the connection. Returns its URL and the number of requests.
pub async fn scripted(connections: Vec<Vec<&'static str>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        for answers in connections {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut answers = answers.into_iter();
                while read_head(&mut stream).await {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let Some(answer) = answers.next() else { return };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if answers.len() == 0 && answer.ends_with("early") {
                        return;
                    }
                }
            });
        }
    });
    (url, count)
}

async fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return false };
        head.push(byte);
    }
    true
}

async fn serve(listener: TcpListener, script: Arc<Mutex<Script>>, log: RequestLog) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, script.clone(), log.clone()));
    }
}

fn recorded<F>(respond: impl Fn(Parts) -> F + Send + Sync + 'static) -> Script
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let respond = Arc::new(respond);
    Arc::new(move |request: Request<Incoming>, log: RequestLog| {
        let respond = respond.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await else { return answer(400, &[], "the body broke off") };
            log.requests.lock().unwrap().push(ReceivedRequest {
                verb: parts.method.clone(),
                target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
                version: parts.version,
                headers: parts.headers.clone(),
                has_trailers: body.trailers().is_some(),
                body: body.to_bytes(),
            });
            respond(parts).await
        })
    })
}

async fn connection(stream: TcpStream, script: Arc<Mutex<Script>>, log: RequestLog) {
    let number = {
        let mut connections = log.bytes.lock().unwrap();
        connections.push(Vec::new());
        connections.len() - 1
    };
    let io = TokioIo::new(RecordedStream { stream, number, bytes: log.bytes.clone() });
    let service = service_fn(move |request| {
        let answering = script.lock().unwrap().clone()(request, log.clone());
        async move { Ok::<_, Infallible>(answering.await) }
    });
    // The gateway may close the connection at any time.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(io, service).await;
}

/// A stream whose received bytes are recorded.
struct RecordedStream {
    stream: TcpStream,
    number: usize,
    bytes: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// The maximum number of bytes to record: enough for every test that reads them, and little for the tests that send gigabytes.
const MAX_RECORDED: usize = 8 << 20;

impl AsyncRead for RecordedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let mut connections = self.bytes.lock().unwrap();
        let bytes = &mut connections[self.number];
        if bytes.len() < MAX_RECORDED {
            bytes.extend_from_slice(&buffer.filled()[before..]);
        }
        drop(connections);
        polled
    }
}

impl AsyncWrite for RecordedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
