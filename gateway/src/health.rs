//! Whether the gateway is alive, and whether it can serve: every service must respond, be built from the same contract,
//! and have the same keys.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use proto::{contract::DIGEST, paddock::contract::v1::Process};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use crate::{output::JSON, peers::Peers};

/// How long a result is cached. Anyone may ask for it, so that asking must cost the services nothing.
const MAX_AGE: Duration = Duration::from_secs(1);

/// How long a check may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The checks and their last result.
pub struct Health {
    peers: Peers,
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Health {
    /// Returns the checks of these services.
    pub fn new(peers: &Peers) -> Self {
        Self { peers: peers.clone(), last: Mutex::new(None) }
    }

    /// Returns the page for a process that is alive.
    pub fn liveness() -> Response<Full<Bytes>> {
        json_page(StatusCode::OK, &json!({"status": "ok"}))
    }

    /// Returns the page with the version and the contract of the process.
    pub fn health() -> Response<Full<Bytes>> {
        let process = Process::Gateway.name();
        let body =
            json!({"status": "ok", "process": process, "version": env!("CARGO_PKG_VERSION"), "contract": DIGEST});
        json_page(StatusCode::OK, &body)
    }

    /// Returns the page that says whether the process can serve, and if not, what is missing.
    pub async fn readiness(&self) -> Response<Full<Bytes>> {
        match self.check_services().await {
            Ok(()) => json_page(StatusCode::OK, &json!({"status": "ok"})),
            Err(message) => {
                json_page(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "failed", "message": message}))
            }
        }
    }

    /// Checks the services, or returns the cached result. Concurrent callers share one check.
    async fn check_services(&self) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < MAX_AGE
        {
            return result.clone();
        }
        let checks = self.peers.all().map(|(process, peer)| async move {
            match tokio::time::timeout(TIMEOUT, peer.check()).await {
                Ok(checked) => checked.map_err(|problem| problem.to_string()),
                Err(_) => Err(format!("{} does not answer", process.name())),
            }
        });
        let result: Result<(), String> = futures::future::join_all(checks).await.into_iter().collect();
        let was = last.as_ref().map(|(_, result)| result.clone());
        if let Err(message) = &result
            && was.as_ref() != Some(&result)
        {
            tracing::warn!(problem = message, "not ready");
        }
        *last = Some((Instant::now(), result.clone()));
        result
    }
}

fn json_page(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}
