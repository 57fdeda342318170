//! The settings of `paddock serve`: its own, and those of the services that it runs.

use std::path::{Path, PathBuf};

use chassis::{
    config::{ConfigError, Problems, Validate, is_listen_address},
    db::DatabaseKind,
    server::ServerConfig,
    telemetry::TelemetryConfig,
};
use serde::Deserialize;

/// All settings. The file `config.default.toml` of each crate documents them.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// The port on 127.0.0.1 that serves REST.
    pub port: u16,
    /// The folder for all data.
    pub data: PathBuf,
    /// The URL of the upstream behind the protected routes. Empty: `gateway.upstream` applies.
    pub upstream: String,
    /// The settings of this process alone.
    pub paddock: PaddockConfig,
    /// The settings of logs, spans and metrics.
    pub telemetry: TelemetryConfig,
    /// The settings of the gRPC server between the services.
    pub server: ServerConfig,
    /// The settings of the gateway.
    pub gateway: gateway::Config,
    /// The settings of job-token-auth.
    pub job_token_auth: job_token_auth::Config,
    /// The settings of runner-registry.
    pub runner_registry: runner_registry::Config,
}

/// The settings of the section `paddock`.
#[derive(Clone, Debug, Deserialize)]
pub struct PaddockConfig {
    /// The address of `/metrics`. Empty: it is not served.
    pub metrics_listen: String,
}

impl Config {
    /// Returns the settings of the gateway, with the upstream from the setting `upstream` here.
    pub fn gateway(&self) -> gateway::Config {
        let mut gateway = self.gateway.clone();
        if !self.upstream.is_empty() {
            gateway.upstream.clone_from(&self.upstream);
        }
        gateway
    }
}

impl Validate for Config {
    fn validate(&self, problems: &mut Problems) {
        problems.require(!self.data.as_os_str().is_empty(), "data", "must name a folder");
        let must_be_sqlite =
            "`paddock serve` keeps everything in its data folder; run the services apart for another database";
        let is_sqlite = self.runner_registry.database == DatabaseKind::Sqlite;
        problems.require(is_sqlite, "runner_registry.database", must_be_sqlite);
        let is_sqlite = self.job_token_auth.database == DatabaseKind::Sqlite;
        problems.require(is_sqlite, "job_token_auth.database", must_be_sqlite);
        let metrics = &self.paddock.metrics_listen;
        let is_address = metrics.is_empty() || is_listen_address(metrics);
        problems.require(is_address, "paddock.metrics_listen", "must be an address with a port, or empty");
        if !self.upstream.is_empty()
            && let Some(problem) = gateway::upstream_problem(&self.upstream)
        {
            problems.push("upstream", problem);
        }
        self.telemetry.validate(problems);
        self.server.validate(problems);
        self.gateway.validate(problems);
        self.job_token_auth.validate(problems);
        self.runner_registry.validate(problems);
    }
}

/// Loads the settings.
///
/// # Errors
/// Reports every mistake in them.
pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    let defaults = [
        chassis::config::DEFAULTS,
        gateway::DEFAULTS,
        job_token_auth::config::DEFAULTS,
        runner_registry::config::DEFAULTS,
        include_str!("../config.default.toml"),
    ];
    chassis::config::load(&defaults, file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proto::paddock::contract::v1::Process;

    use super::*;

    fn problems_of(config: &Config) -> String {
        let mut problems = Problems::default();
        config.validate(&mut problems);
        format!("{problems:?}")
    }

    #[test]
    fn the_other_processes_skip_exactly_the_settings_outside_sections() {
        let (top, _) = include_str!("../config.default.toml").split_once("\n[").unwrap();
        let settings = top.lines().filter(|line| !line.starts_with('#'));
        let names: Vec<_> = settings.filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
        assert_eq!(names, Process::Paddock.top_settings());
    }

    #[test]
    fn the_short_name_of_the_upstream_follows_the_same_rules() {
        let mut config = load(None).unwrap();
        assert_eq!(config.gateway().upstream, "");
        config.gateway.upstream = "http://one:1".to_owned();
        assert_eq!(config.gateway().upstream, "http://one:1");
        config.upstream = "http://two:2".to_owned();
        assert_eq!(config.gateway().upstream, "http://two:2");
        assert!(!problems_of(&config).contains("upstream"));
        config.upstream = "two".to_owned();
        let problems = problems_of(&config);
        assert!(problems.contains("upstream") && !problems.contains("gateway.upstream"), "{problems}");
        config.gateway.upstream = "one".to_owned();
        assert!(problems_of(&config).contains("gateway.upstream"));
    }
}
