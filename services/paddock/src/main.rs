//! The program `paddock`: all services in one process, and the operator's commands.

mod api;
mod check;
mod config;
mod data_folder;
mod job;
mod root_token;
mod serve;

use std::{path::PathBuf, process::ExitCode};

use chassis::process;
use clap::{Parser, Subcommand};
use proto::paddock::contract::v1::Process;

/// The credential plane for CI runners.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The configuration file. Without one the defaults and the environment count.
    #[arg(long, global = true, env = "PADDOCK_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs all services in one process, with everything it keeps in one folder.
    Serve,
    /// Says what is wrong with an installation, and what to do. Exits with 1 if something is broken.
    Check {
        /// How the findings are printed.
        #[arg(short, long, value_enum, default_value = "text")]
        output: check::Format,
    },
    /// Makes a new token for the first administrator, in place of a lost one. Stop `paddock serve` first.
    RootToken,
    /// Issues the tokens of jobs, and ends them.
    Job(job::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    process::exit_code(Process::Paddock.name(), run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = config::load(arguments.config.as_deref());
    match arguments.command {
        Command::Serve => serve::serve(config?).await?,
        Command::RootToken => root_token::replace(&config?).await?,
        Command::Job(arguments) => job::run(arguments, &config?).await?,
        Command::Check { output } => return check::check(config, output).await,
    }
    Ok(ExitCode::SUCCESS)
}
