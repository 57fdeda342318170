//! The process `runner-registry`.

use std::path::PathBuf;

use anyhow::Context as _;
use chassis::{clock::Clock, config, db, identity::IdentityKeys, process, secrets::SecretStore, telemetry};
use proto::paddock::contract::v1::Process;
use runner_registry::{
    Deps,
    config::{DEFAULTS, ProcessConfig},
    migration,
    seal::SealKeys,
};

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
    let shutdown = process::shutdown_signal()?;
    let secrets = SecretStore::open(&config.secrets.folder);
    let registry = config.runner_registry;
    let keys = IdentityKeys::load(&secrets)?;
    let seal = SealKeys::load(&secrets)?;
    let database = db::connect(&registry.database(&secrets)?, registry.max_connections).await.context("database")?;
    migration::up(&database).await.context("database")?;
    tokio::spawn(keys.clone().watch(secrets, shutdown.clone()));

    let listener = process::listen(&registry.listen).await?;
    telemetry.expose_metrics(&registry.metrics_listen, shutdown.clone()).await?;
    process::announce_ready(Process::RunnerRegistry.name());
    let deps = Deps { config: registry, server: config.server, database, keys, seal, clock: Clock::system() };
    let served = runner_registry::run(deps, listener, shutdown).await;
    telemetry.shutdown().await;
    Ok(served?)
}
