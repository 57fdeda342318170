//! The process `job-token-auth`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, anyhow};
use chassis::{client::PeerChannel, clock::Clock, config, db, identity::IdentityKeys, process, secrets, telemetry};
use job_token_auth::{
    Deps, Service,
    config::{DEFAULTS, ProcessConfig},
    job_token::keys::SigningKeys,
};
use proto::paddock::contract::v1::Process;

/// Decides what a CI job token may reach in another project, and logs every such access.
#[derive(clap::Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file. Without one, the defaults and the environment apply.
    #[arg(long, env = "PADDOCK_CONFIG")]
    config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let served = run(<Arguments as clap::Parser>::parse()).await;
    process::exit_code(Process::JobTokenAuth.name(), served.map(|()| ExitCode::SUCCESS))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let defaults = [chassis::config::DEFAULTS, DEFAULTS];
    let foreign = Process::Paddock.top_settings();
    let config: ProcessConfig = config::load_shared(&defaults, foreign, arguments.config.as_deref())?;
    let telemetry = telemetry::init(&config.telemetry, Process::JobTokenAuth)?;
    let shutdown = process::shutdown_signal()?;
    let store = secrets::SecretStore::open(&config.secrets.folder);
    let auth = config.job_token_auth;
    let clock = Clock::system();
    let keys = IdentityKeys::load(&store)?;
    let signing = SigningKeys::load(&store)?;
    let redis_url = auth.redis_url(&store)?;
    let database = db::connect(&auth.database(&store)?, auth.max_connections).await.context("database")?;
    let peer = &auth.runner_registry;
    let registry = PeerChannel::new(peer, Process::JobTokenAuth, Process::RunnerRegistry, keys.clone(), clock.clone());
    let registry = registry.map_err(|fault| anyhow!("job_token_auth.runner_registry: {}", fault.detail()))?;
    tokio::spawn(keys.clone().watch(store.clone(), shutdown.clone()));
    tokio::spawn(signing.clone().watch(store, shutdown.clone()));

    let listener = process::listen(&auth.listen).await?;
    telemetry.expose_metrics(&auth.metrics_listen, shutdown.clone()).await?;
    let deps = Deps { config: auth, server: config.server, database, keys, signing, registry, redis_url, clock };
    let service = Service::prepare(deps).await?;
    process::announce_ready(Process::JobTokenAuth.name());
    let served = service.serve(listener, shutdown).await;
    telemetry.shutdown().await;
    Ok(served?)
}
