//! The process `runner-registry`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use chassis::{clock::Clock, config, db, identity::IdentityKeys, process, secrets, telemetry};
use proto::paddock::contract::v1::Process;
use runner_registry::{
    Deps, SealKeys, bootstrap_root_into,
    config::{DEFAULTS, ProcessConfig},
    migration,
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
async fn main() -> ExitCode {
    let served = run(<Arguments as clap::Parser>::parse()).await;
    process::exit_code(Process::RunnerRegistry.name(), served.map(|()| ExitCode::SUCCESS))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let defaults = [chassis::config::DEFAULTS, DEFAULTS];
    let foreign = Process::Paddock.top_settings();
    let config: ProcessConfig = config::load_shared(&defaults, foreign, arguments.config.as_deref())?;
    let telemetry = telemetry::init(&config.telemetry, Process::RunnerRegistry)?;
    let shutdown = process::shutdown_signal()?;
    let store = secrets::SecretStore::open(&config.secrets.folder);
    let registry = config.runner_registry;
    let keys = IdentityKeys::load(&store)?;
    let seal = SealKeys::load(&store)?;
    let database = db::connect(&registry.database(&store)?, registry.max_connections).await.context("database")?;
    migration::up(&database).await.context("database")?;
    if !registry.root_token_file.as_os_str().is_empty() {
        bootstrap_root_into(&database, &Clock::system(), &registry.root_token_file).await?;
    }
    tokio::spawn(keys.clone().watch(store, shutdown.clone()));

    let listener = process::listen(&registry.listen).await?;
    telemetry.expose_metrics(&registry.metrics_listen, shutdown.clone()).await?;
    process::announce_ready(Process::RunnerRegistry.name());
    let deps = Deps { config: registry, server: config.server, database, keys, seal, clock: Clock::system() };
    let served = runner_registry::run(deps, listener, shutdown).await;
    telemetry.shutdown().await;
    Ok(served?)
}
