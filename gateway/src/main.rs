//! The process `gateway`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::anyhow;
use chassis::{
    clock::Clock,
    identity::IdentityKeys,
    process::{announce_ready, listen, shutdown_signal},
    secrets::SecretStore,
    telemetry,
};
use clap::Parser;
use gateway::ProcessConfig;
use proto::paddock::contract::v1::Process;

/// Serves GitLab's REST API for runners, and asks the services behind it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// A file with settings; the others keep their defaults.
    #[arg(long, env = "PADDOCK_CONFIG")]
    config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let served = run(Arguments::parse()).await;
    chassis::process::exit_code(Process::Gateway.name(), served.map(|()| ExitCode::SUCCESS))
}

async fn run(Arguments { config: file }: Arguments) -> anyhow::Result<()> {
    let defaults = [chassis::config::DEFAULTS, gateway::DEFAULTS];
    let foreign = Process::Paddock.top_settings();
    let config = chassis::config::load_shared(&defaults, foreign, file.as_deref())?;
    let ProcessConfig { telemetry, secrets, gateway: config } = config;
    let telemetry = telemetry::init(&telemetry, Process::Gateway)?;
    let shutdown = shutdown_signal()?;
    let clock = Clock::system();
    let secrets = SecretStore::open(&secrets.folder);
    let keys = IdentityKeys::load(&secrets)?;
    tokio::spawn(keys.clone().watch(secrets, shutdown.clone()));
    let peers = gateway::Peers::new(&config, &keys, &clock).map_err(|fault| anyhow!("gateway: {}", fault.detail()))?;
    telemetry.expose_metrics(&config.metrics_listen, shutdown.clone()).await?;
    let listener = listen(&config.listen).await?;
    let service = gateway::Service::prepare(gateway::Deps { config, peers, clock })?;
    announce_ready(Process::Gateway.name());
    service.serve(listener, shutdown).await;
    telemetry.shutdown().await;
    Ok(())
}
