//! `paddock check`: reports what is wrong with an installation of the embedded default, and what to do.

mod captures;
mod local;
mod private_file;
mod redis;
mod report;
mod secrets;
mod server;

use std::process::ExitCode;

use chassis::config::ConfigError;

use self::report::{Finding, Report};
use crate::{config::Config, output::Format};

/// Runs every check that is possible and prints the findings. The exit code is a failure if something is broken.
pub async fn check(config: Result<Config, ConfigError>, format: Format) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    match config {
        Ok(config) => {
            report.add(Finding::good("configuration", "the configuration has no mistakes"));
            check_installation(&config, &mut report).await;
        }
        Err(error) => {
            let remedy = "Correct the setting in the file or the environment.";
            for problem in error.problems {
                report.add(Finding::bad("configuration", problem, remedy));
            }
        }
    }
    report.print(format)?;
    Ok(if report.has_bad() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn check_installation(config: &Config, report: &mut Report) {
    let is_installed = local::check(config, report);
    if is_installed {
        redis::check(config, report).await;
    }
    server::check(config, report).await;
}
