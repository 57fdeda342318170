//! The program `paddock`: all services in one process, and the operator's commands.

mod config;
mod data_folder;
mod serve;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The credential plane for CI runners.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs all services in one process, with everything it keeps in one folder.
    Serve {
        /// The configuration file. Without one the defaults and the environment count.
        #[arg(long, env = "PADDOCK_CONFIG")]
        config: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Serve { config } => serve::serve(config::load(config.as_deref())?).await,
    }
}
