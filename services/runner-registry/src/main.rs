//! The process `runner-registry`.

use std::path::PathBuf;

use anyhow::Context as _;
use chassis::{clock::Clock, config, db, identity::IdentityKeys, process, secrets::SecretStore, telemetry};
use proto::paddock::contract::v1::Process;
use runner_registry::{
    Deps,
    config::{DEFAULTS, ProcessConfig},
    seal::SealKeys,
};
use tokio::net::TcpListener;

/// Owns runner records, their tokens, and the directory they belong to.
#[derive(clap::Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file. Without one the defaults and the environment count.
    #[arg(long, env = "PADDOCK_CONFIG")]
    config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = <Arguments as clap::Parser>::parse();
    let config: ProcessConfig = config::load(&[chassis::config::DEFAULTS, DEFAULTS], arguments.config.as_deref())?;
    let telemetry = telemetry::init(&config.telemetry, Process::RunnerRegistry)?;
    let secrets = SecretStore::open(&config.secrets.folder);
    let registry = config.runner_registry;
    let shutdown = process::shutdown_signal()?;
    let deps = Deps {
        keys: IdentityKeys::load(&secrets)?,
        seal: SealKeys::load(&secrets)?,
        database: db::connect(&registry.database(&secrets)?, registry.max_connections).await.context("database")?,
        server: config.server,
        clock: Clock::system(),
        config: registry.clone(),
    };
    let listener = TcpListener::bind(&registry.listen).await.with_context(|| registry.listen.clone())?;
    tracing::info!(address = registry.listen, "serving gRPC");
    let metrics = if registry.metrics_listen.is_empty() {
        None
    } else {
        Some(TcpListener::bind(&registry.metrics_listen).await.with_context(|| registry.metrics_listen.clone())?)
    };
    let serve_metrics = async {
        if let Some(metrics) = metrics {
            telemetry.serve_metrics(metrics, shutdown.clone()).await;
        }
    };
    let (served, ()) = tokio::join!(runner_registry::run(deps, listener, shutdown.clone()), serve_metrics);
    telemetry.shutdown().await;
    Ok(served?)
}
