//! An upstream that streams as many bytes as the last segment of the path says, and allows every request that a proxy asks
//! about.

use std::{convert::Infallible, net::SocketAddr};

use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    header::CONTENT_LENGTH,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The size of a chunk of a stream.
const CHUNK: usize = 64 << 10;

static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// The path at which the other proxies ask whether a request is allowed.
pub const AUTHORIZATION: &str = "/authorize";

pub async fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.expect("a free port");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let path = request.uri().path();
    if path.starts_with(AUTHORIZATION) {
        return Ok(Response::new(Full::default().boxed()));
    }
    let size: usize = path.rsplit('/').next().and_then(|size| size.parse().ok()).unwrap_or_default();
    let body = if size <= CHUNK {
        Full::new(Bytes::from_static(&ZEROS[..size])).boxed()
    } else {
        let chunks = (0..size / CHUNK).map(|_| Ok(Frame::data(Bytes::from_static(&ZEROS))));
        BodyExt::boxed(StreamBody::new(stream::iter(chunks)))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_LENGTH, size.into());
    Ok(response)
}
