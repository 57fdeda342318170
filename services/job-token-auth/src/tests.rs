//! How the service ends.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use chassis::{
    client::PeerChannel,
    clock::Clock,
    config,
    db::{self, DatabaseLocation},
    identity::IdentityKeys,
};
use proto::paddock::contract::v1::Process;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    Deps, Service,
    config::{DEFAULTS, ProcessConfig},
    job_token::keys::SigningKeys,
};

/// Maximum time for the service to end.
const PATIENCE: Duration = Duration::from_secs(60);

async fn prepare(folder: &TempDir) -> Service {
    let defaults = [chassis::config::DEFAULTS, DEFAULTS];
    let ProcessConfig { mut job_token_auth, server, .. } = config::load(&defaults, None).unwrap();
    job_token_auth.captures.spool_folder = folder.path().join("spool");
    let location = DatabaseLocation::Sqlite(folder.path().join("jobs.sqlite"));
    let keys = IdentityKeys::generate().unwrap();
    let registry = PeerChannel::new(
        &job_token_auth.runner_registry,
        Process::JobTokenAuth,
        Process::RunnerRegistry,
        keys.clone(),
        Clock::system(),
    );
    let deps = Deps {
        config: job_token_auth,
        server,
        database: db::connect(&location, 5).await.unwrap(),
        keys,
        signing: SigningKeys::from_seeds(&(1..33).collect::<Vec<u8>>().into(), None).unwrap(),
        registry: registry.unwrap(),
        redis_url: None,
        clock: Clock::system(),
    };
    Service::prepare(deps).await.unwrap()
}

async fn listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap()
}

#[tokio::test]
async fn a_background_task_that_panics_ends_the_service_with_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = prepare(&folder).await;
    service.captures.spawn("flusher of partition 7", async { panic!("it is broken") });
    let serving = service.serve(listener().await, CancellationToken::new());
    let error = tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("`flusher of partition 7`") && error.contains("it is broken"), "{error}");
}

#[tokio::test]
async fn a_background_task_that_ends_too_early_ends_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let service = prepare(&folder).await;
    service.captures.spawn("shipper", async {});
    let serving = service.serve(listener().await, CancellationToken::new());
    let error = tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("`shipper` of captures ended before shutdown"), "{error}");
}

#[tokio::test]
async fn a_service_that_is_asked_to_stop_ends_without_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let service = prepare(&folder).await;
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, service.serve(listener().await, shutdown)).await.unwrap().unwrap();
}
