//! The metrics endpoint, on a separate port: it is for the operator, not for clients.

use std::{convert::Infallible, time::Duration};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Time between two runs that empty the buffers of the histograms; without them the buffers would grow until a scrape.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Time to wait after the operating system has refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn serve(metrics: PrometheusHandle, listener: TcpListener, shutdown: CancellationToken) {
    let upkeep = metrics.clone();
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            upkeep.run_upkeep();
        }
    }));
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            // The usual cause is a lack of file descriptors: the next attempt would fail at once.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let metrics = metrics.clone();
        let service = service_fn(move |request| {
            let answer = metrics_response(&metrics, &request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(connection));
    }
}

fn metrics_response(metrics: &PrometheusHandle, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if request.method() == Method::GET && request.uri().path() == "/metrics" {
        *response.body_mut() = Full::from(metrics.render());
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    let format = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, format);
    response
}
