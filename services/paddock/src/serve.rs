//! `paddock serve`: the services, wired as they are when they run apart — over gRPC with signed identities — but on
//! loopback ports that nobody has to configure.

use anyhow::Context as _;
use chassis::{
    client::{ClientConfig, PeerChannel},
    clock::Clock,
    db::{self, DatabaseConnection, DatabaseLocation},
    identity::IdentityKeys,
    process, telemetry,
};
use proto::paddock::contract::v1::Process;
use runner_registry::{seal::SealKeys, token::UserToken};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{config::Config, data_folder::DataFolder};

/// Runs until SIGTERM or SIGINT, or until a service fails.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let telemetry = telemetry::init(&config.telemetry, Process::Paddock)?;
    let stopped = run(&config, &telemetry).await;
    telemetry.shutdown().await;
    stopped
}

async fn run(config: &Config, telemetry: &telemetry::Telemetry) -> anyhow::Result<()> {
    let folder = DataFolder::open(&config.data)?;
    let rest =
        process::listen(&format!("127.0.0.1:{}", config.port)).await.context("set PADDOCK_PORT to a free port")?;
    let shutdown = process::shutdown_signal()?;
    let metrics = telemetry.expose_metrics(&config.paddock.metrics_listen, shutdown.clone()).await;
    metrics.context("metrics: set PADDOCK_PADDOCK__METRICS_LISTEN to another address")?;

    let secrets = folder.secrets()?;
    let keys = IdentityKeys::load(&secrets)?;
    let registry = registry_deps(config, &folder, keys.clone(), SealKeys::load(&secrets)?).await?;
    let keep = |token: &UserToken| folder.write_root_token(token);
    if runner_registry::bootstrap_root(&registry.database, &registry.clock, keep).await? {
        tracing::info!(file = %folder.root_token().display(), "created the user root and wrote its token");
    }

    let (grpc, endpoint) = loopback().await?;
    let gateway = gateway_deps(config, &endpoint, keys)?;
    tracing::info!(address = %rest.local_addr()?, data = %config.data.display(), "serving REST");
    process::announce_ready(Process::Paddock.name());

    // The registry outlives the gateway, whose last requests still need it; and neither goes on without the other.
    let registry_shutdown = CancellationToken::new();
    let gateway = async {
        let served = gateway::run(gateway, rest, shutdown.clone()).await;
        registry_shutdown.cancel();
        served.context("the gateway failed")
    };
    let registry = async {
        let served = runner_registry::run(registry, grpc, registry_shutdown.clone()).await;
        shutdown.cancel();
        served.context("runner-registry failed")
    };
    let (gateway, registry) = tokio::join!(gateway, registry);
    registry.and(gateway)
}

async fn registry_deps(
    config: &Config,
    folder: &DataFolder,
    keys: IdentityKeys,
    seal: SealKeys,
) -> anyhow::Result<runner_registry::Deps> {
    let registry = config.runner_registry.clone();
    let database = open_database(folder, registry.max_connections).await?;
    Ok(runner_registry::Deps {
        config: registry,
        server: config.server.clone(),
        database,
        keys,
        seal,
        clock: Clock::system(),
    })
}

/// The database in the data folder.
pub async fn open_database(folder: &DataFolder, max_connections: u32) -> anyhow::Result<DatabaseConnection> {
    let location = DatabaseLocation::Sqlite(folder.database());
    db::connect(&location, max_connections).await.context("cannot open the database")
}

fn gateway_deps(config: &Config, endpoint: &str, keys: IdentityKeys) -> anyhow::Result<gateway::Deps> {
    let clock = Clock::system();
    let peer = ClientConfig { endpoint: endpoint.to_owned(), ..config.gateway.runner_registry.clone() };
    let registry = PeerChannel::new(&peer, Process::Gateway, Process::RunnerRegistry, keys, clock.clone())
        .map_err(|fault| anyhow::anyhow!("{}", fault.detail()))?;
    Ok(gateway::Deps { config: config.gateway.clone(), registry, clock })
}

/// A port of the system's choice, and the address to reach it.
async fn loopback() -> anyhow::Result<(TcpListener, String)> {
    let listener = process::listen("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    Ok((listener, endpoint))
}
