//! `paddock check`: says what is wrong with an installation of the embedded default, and what to do about it.

mod local;
mod report;
mod server;

use std::path::Path;

use crate::config;
pub use report::Format;
use report::{Finding, Report};

/// Runs every check that can be run, prints the findings, and tells whether all is well.
pub async fn check(config_file: Option<&Path>, format: Format) -> anyhow::Result<bool> {
    let mut report = Report::default();
    match config::load(config_file) {
        Ok(config) => {
            report.add(Finding::good("configuration", "the configuration has no mistakes"));
            local::check(&config, &mut report);
            server::check(&config, &mut report).await;
        }
        Err(error) => {
            for problem in error.problems {
                report.add(Finding::bad("configuration", problem, "Correct the setting in the file or the environment."));
            }
        }
    }
    report.print(format)?;
    Ok(report.is_good())
}
