//! The program `paddock`: runs all services in one process, and has the operator's commands.

mod api;
mod arguments;
mod check;
mod config;
mod data_folder;
mod job;
mod output;
mod root_token;
mod serve;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use chassis::process;
use proto::paddock::contract::v1::Process;

#[tokio::main]
async fn main() -> ExitCode {
    process::exit_code(Process::Paddock.name(), run(Arguments::of_process()).await)
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
