//! The program `paddock`: all services in one process, and the operator's commands.

mod check;
mod config;
mod data_folder;
mod serve;

use std::{path::PathBuf, process::ExitCode};

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
    /// Says what is wrong with an installation, and what to do. Exits with 1 if something is broken.
    Check {
        /// The configuration file. Without one the defaults and the environment count.
        #[arg(long, env = "PADDOCK_CONFIG")]
        config: Option<PathBuf>,
        /// How the findings are printed.
        #[arg(short, long, value_enum, default_value = "text")]
        output: check::Format,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Serve { config } => serve::serve(config::load(config.as_deref())?).await.map(|()| ExitCode::SUCCESS),
        Command::Check { config, output } => {
            let good = check::check(config.as_deref(), output).await?;
            Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}
