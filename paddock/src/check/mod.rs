//! `paddock check`: says what is wrong with an installation of the embedded default, and what to do about it.

mod captures;
mod local;
mod redis;
mod report;
mod secrets;
mod server;

use std::process::ExitCode;

use chassis::config::ConfigError;

use crate::config::Config;
pub use report::Format;
use report::{Finding, Report};

/// The metric by which a running server tells whose it is, with the id of the identity key that it serves with.
pub const INSTANCE_METRIC: &str = "paddock_instance";

/// Runs every check that can be run, prints the findings, and tells whether all is well.
pub async fn check(config: Result<Config, ConfigError>, format: Format) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    match config {
        Ok(config) => {
            report.add(Finding::good("configuration", "the configuration has no mistakes"));
            if local::check(&config, &mut report) {
                redis::check(&config, &mut report).await;
            }
            server::check(&config, &mut report).await;
        }
        Err(error) => {
            for problem in error.problems {
                report.add(Finding::bad(
                    "configuration",
                    problem,
                    "Correct the setting in the file or the environment.",
                ));
            }
        }
    }
    report.print(format)?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
