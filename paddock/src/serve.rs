//! `paddock serve`: runs all services in one process. They call each other over gRPC with signed identities, as separate
//! processes do, on loopback ports that the system chooses.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use chassis::{
    client::PeerChannel,
    clock::Clock,
    identity::IdentityKeys,
    process,
    secrets::SecretStore,
    telemetry::{self, Telemetry},
};
use job_token_auth::job_token::keys::SigningKeys;
use proto::paddock::contract::v1::Process;
use runner_registry::SealKeys;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{api, config::Config, data_folder::DataFolder};

/// The metric that identifies a running server. Its label is the id of the identity key that the server signs with.
pub const INSTANCE_METRIC: &str = "paddock_instance";

/// The wait between two readiness probes of a service.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// Runs until SIGTERM or SIGINT, or until a service fails.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let telemetry = telemetry::init(&config.telemetry, Process::Paddock)?;
    let stopped = run_services(&config, &telemetry).await;
    telemetry.shutdown().await;
    stopped
}

/// Runs the gateway and both services until one of them ends, or until shutdown.
async fn run_services(config: &Config, telemetry: &Telemetry) -> anyhow::Result<()> {
    let folder = DataFolder::open(&config.data)?;
    let rest =
        process::listen(&format!("127.0.0.1:{}", config.port)).await.context("set PADDOCK_PORT to a free port")?;
    let shutdown = process::shutdown_signal()?;
    let metrics_server = telemetry.expose_metrics(&config.paddock.metrics_listen, shutdown.clone()).await;
    metrics_server.context("metrics: set PADDOCK_PADDOCK__METRICS_LISTEN to another address")?;

    let secrets = folder.open_secrets()?;
    let keys = IdentityKeys::load(&secrets)?;
    if let Some(id) = keys.key_ids().into_iter().next() {
        metrics::gauge!(INSTANCE_METRIC, "identity_key" => id).set(1.0);
    }
    let registry = registry_deps(config, &folder, keys.clone(), SealKeys::load(&secrets)?).await?;
    let is_new =
        runner_registry::bootstrap_root(&registry.database, &registry.clock, |token| folder.write_root_token(token))
            .await?;
    if is_new {
        tracing::info!(file = %folder.root_token().display(), "created the user root and wrote its token");
    }
    let (registry_listener, registry_endpoint) = listen_on_loopback().await?;
    let (auth_listener, auth_endpoint) = listen_on_loopback().await?;
    let auth = auth_deps(config, &folder, &secrets, keys.clone(), &registry_endpoint).await?;
    tokio::spawn(auth.signing.clone().watch(secrets, shutdown.clone()));
    let gateway = gateway_deps(config, registry_endpoint, auth_endpoint, &keys)?;
    let address = rest.local_addr()?;
    tracing::info!(%address, data = %config.data.display(), "starting the services");
    let announced = shutdown.run_until_cancelled(announce_when_ready(gateway.peers.clone(), address));

    // A service stops after its callers, because their last requests still need it. When one service ends, all end.
    let auth_shutdown = CancellationToken::new();
    let registry_shutdown = CancellationToken::new();
    let gateway = async {
        let served = gateway::run(gateway, rest, shutdown.clone()).await;
        auth_shutdown.cancel();
        served.context("the gateway failed")
    };
    let auth = async {
        let served = job_token_auth::run(auth, auth_listener, auth_shutdown.clone()).await;
        shutdown.cancel();
        registry_shutdown.cancel();
        served.context("job-token-auth failed")
    };
    let registry = async {
        let served = runner_registry::run(registry, registry_listener, registry_shutdown.clone()).await;
        shutdown.cancel();
        served.context("runner-registry failed")
    };
    let (gateway, auth, registry, _) = tokio::join!(gateway, auth, registry, announced);
    registry.and(auth).and(gateway)
}

/// Announces the process as ready when both services answer over gRPC and the gateway is ready.
async fn announce_when_ready(peers: gateway::Peers, rest: SocketAddr) {
    // The services come first, because the gateway caches what it finds for a moment.
    for peer in [&peers.registry, &peers.job_token_auth] {
        while peer.check().await.is_err() {
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }
    while api::readiness(&format!("http://{rest}")).await.is_err() {
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
    process::announce_ready(Process::Paddock.name());
}

async fn registry_deps(
    config: &Config,
    folder: &DataFolder,
    keys: IdentityKeys,
    seal: SealKeys,
) -> anyhow::Result<runner_registry::Deps> {
    let registry = config.runner_registry.clone();
    let database = folder.connect_registry(registry.max_connections).await?;
    Ok(runner_registry::Deps {
        config: registry,
        server: config.server.clone(),
        database,
        keys,
        seal,
        clock: Clock::system(),
    })
}

async fn auth_deps(
    config: &Config,
    folder: &DataFolder,
    secrets: &SecretStore,
    keys: IdentityKeys,
    registry_endpoint: &str,
) -> anyhow::Result<job_token_auth::Deps> {
    let mut auth = config.job_token_auth.clone();
    auth.captures.spool_folder = folder.spool();
    auth.runner_registry.endpoint = registry_endpoint.to_owned();
    let clock = Clock::system();
    let database = folder.connect_job_token_auth(auth.max_connections).await?;
    let registry = PeerChannel::new(
        &auth.runner_registry,
        Process::JobTokenAuth,
        Process::RunnerRegistry,
        keys.clone(),
        clock.clone(),
    );
    Ok(job_token_auth::Deps {
        redis_url: auth.redis_url(secrets)?,
        registry: registry.map_err(|fault| anyhow::anyhow!("{}", fault.detail()))?,
        config: auth,
        server: config.server.clone(),
        database,
        keys,
        signing: SigningKeys::load(secrets)?,
        clock,
    })
}

fn gateway_deps(
    config: &Config,
    registry_endpoint: String,
    auth_endpoint: String,
    keys: &IdentityKeys,
) -> anyhow::Result<gateway::Deps> {
    let clock = Clock::system();
    let mut config = config.gateway();
    config.runner_registry.endpoint = registry_endpoint;
    config.job_token_auth.endpoint = auth_endpoint;
    let peers = gateway::Peers::new(&config, keys, &clock).map_err(|fault| anyhow::anyhow!("{}", fault.detail()))?;
    Ok(gateway::Deps { config, peers, clock })
}

/// Listens on a free loopback port. Returns the listener and its URL.
async fn listen_on_loopback() -> anyhow::Result<(TcpListener, String)> {
    let listener = process::listen("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    Ok((listener, endpoint))
}
