//! An upstream that speaks real HTTP/1.1 and HTTP/2, answers as the test says, and remembers what it saw, down to the
//! bytes.

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
use http::{HeaderMap, Method, Request, Response, Version, request::Parts};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
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

type Playing = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Script = Arc<dyn Fn(Request<Incoming>, Log) -> Playing + Send + Sync>;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub verb: Method,
    /// Path and query as they came.
    pub target: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub has_trailers: bool,
}

#[derive(Clone, Default)]
pub struct Log {
    seen: Arc<Mutex<Vec<Seen>>>,
    bytes: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// The upstream. It stops when it is dropped.
pub struct Upstream {
    pub address: SocketAddr,
    log: Log,
    script: Arc<Mutex<Script>>,
    _stop: DropGuard,
}

/// An answer in one piece.
pub fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(whole(body)).unwrap()
}

/// A body in one piece.
pub fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

impl Upstream {
    /// An upstream that answers everything with 200.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (log, stop) = (Log::default(), CancellationToken::new());
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(recorded(|_| async { answer(200, &[], "ok") })));
        let (played, logged, stopped) = (script.clone(), log.clone(), stop.clone());
        tokio::spawn(stopped.run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, played.clone(), logged.clone()));
            }
        }));
        Self { address, log, script, _stop: stop.drop_guard() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Says what is answered from now on, once the body has been read.
    pub fn on<F>(&self, play: impl Fn(Parts) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        *self.script.lock().unwrap() = recorded(play);
    }

    /// Says what is answered from now on to requests whose bodies are the test's business.
    pub fn on_streamed<F>(&self, play: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        *self.script.lock().unwrap() = Arc::new(move |request, _| Box::pin(play(request)));
    }

    /// Always answers this, without a body of interest.
    pub fn answers(&self, status: u16, headers: &'static [(&'static str, &'static str)], body: &'static str) {
        self.on(move |_| async move { answer(status, headers, body) });
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }

    /// Forgets the requests so far, and returns them.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.log.seen.lock().unwrap())
    }

    /// Every byte that came, by connection.
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        self.log.bytes.lock().unwrap().clone()
    }
}

/// An upstream that answers byte by byte: on its first connection the first texts, one for each request, then it closes
/// it; and so on. Says where it is and how many requests have come.
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

fn recorded<F>(play: impl Fn(Parts) -> F + Send + Sync + 'static) -> Script
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let play = Arc::new(play);
    Arc::new(move |request: Request<Incoming>, log: Log| {
        let play = play.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await else { return answer(400, &[], "the body broke off") };
            log.seen.lock().unwrap().push(Seen {
                verb: parts.method.clone(),
                target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
                version: parts.version,
                headers: parts.headers.clone(),
                has_trailers: body.trailers().is_some(),
                body: body.to_bytes(),
            });
            play(parts).await
        })
    })
}

async fn connection(stream: TcpStream, script: Arc<Mutex<Script>>, log: Log) {
    let number = {
        let mut connections = log.bytes.lock().unwrap();
        connections.push(Vec::new());
        connections.len() - 1
    };
    let io = TokioIo::new(Tapped { stream, number, bytes: log.bytes.clone() });
    let service = service_fn(move |request| {
        let playing = script.lock().unwrap().clone()(request, log.clone());
        async move { Ok::<_, Infallible>(playing.await) }
    });
    // The gateway closes connections as it pleases.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(io, service).await;
}

/// A stream whose incoming bytes are kept.
struct Tapped {
    stream: TcpStream,
    number: usize,
    bytes: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// Enough for every test that looks at bytes, and little for those that send millions.
const KEPT: usize = 8 << 20;

impl AsyncRead for Tapped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let mut connections = self.bytes.lock().unwrap();
        let bytes = &mut connections[self.number];
        if bytes.len() < KEPT {
            bytes.extend_from_slice(&buffer.filled()[before..]);
        }
        drop(connections);
        polled
    }
}

impl AsyncWrite for Tapped {
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
