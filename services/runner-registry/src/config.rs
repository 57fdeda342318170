//! The settings of the section `runner_registry`, and those of the process around it.

use std::path::PathBuf;

use chassis::{
    config::{Problems, Validate},
    db::{DatabaseKind, DatabaseLocation},
    secrets::{SecretError, SecretStore, SecretsConfig},
    server::ServerConfig,
    telemetry::TelemetryConfig,
};
use proto::paddock::contract::v1::Secret;
use serde::Deserialize;
use time::Duration;

/// The documented default settings of this crate.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// The settings of the section `runner_registry`. `config.default.toml` says what each means.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// The address where gRPC is served.
    pub listen: String,
    /// The address where `/metrics` is served; empty: nowhere.
    pub metrics_listen: String,
    /// Which database is used.
    pub database: DatabaseKind,
    /// The file of the SQLite database.
    pub sqlite_path: PathBuf,
    /// The file for the token of the first user; empty: no first user is created.
    pub root_token_file: PathBuf,
    /// The greatest number of connections to the database.
    pub max_connections: u32,
    /// See [`Rotation`].
    pub rotation: Rotation,
    /// See [`Heartbeat`].
    pub heartbeat: Heartbeat,
}

/// How runner tokens are rotated.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Rotation {
    /// Seconds without a contact after which a manager loses a retiring token without an expiry.
    pub overlap_seconds: u32,
    /// By up to which part of its life a computed expiry is earlier, in percent. The part is random.
    pub spread_percent: u8,
}

/// How often a contact is recorded.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Heartbeat {
    /// The least time between two writes for one runner, manager or personal access token, in seconds.
    pub write_interval_seconds: u32,
}

/// Every setting that the process `runner-registry` reads.
#[derive(Clone, Debug, Deserialize)]
pub struct ProcessConfig {
    /// The settings of the service.
    pub runner_registry: Config,
    /// The settings of its server.
    pub server: ServerConfig,
    /// The settings of logs, spans and metrics.
    pub telemetry: TelemetryConfig,
    /// The settings of the secrets.
    pub secrets: SecretsConfig,
}

impl Rotation {
    /// How long a manager that is not seen keeps a retiring token without an expiry.
    #[must_use]
    pub fn overlap(self) -> Duration {
        Duration::seconds(self.overlap_seconds.into())
    }
}

impl Heartbeat {
    /// The least time between two writes of a contact.
    #[must_use]
    pub fn write_interval(self) -> Duration {
        Duration::seconds(self.write_interval_seconds.into())
    }
}

impl Config {
    /// Returns the location of the database; the URL of a server comes from the secrets.
    ///
    /// # Errors
    /// If the secret is missing or broken.
    pub fn database(&self, secrets: &SecretStore) -> Result<DatabaseLocation, SecretError> {
        match self.database {
            DatabaseKind::Sqlite => Ok(DatabaseLocation::Sqlite(self.sqlite_path.clone())),
            DatabaseKind::Postgres => secrets.require(Secret::RegistryDatabaseUrl).map(DatabaseLocation::Postgres),
        }
    }
}

impl Validate for Config {
    fn validate(&self, problems: &mut Problems) {
        let connections = (1..=1000).contains(&self.max_connections);
        problems.require(connections, "runner_registry.max_connections", "must be between 1 and 1000");
        let overlap = self.rotation.overlap_seconds <= 604_800;
        problems.require(overlap, "runner_registry.rotation.overlap_seconds", "must be at most 604800");
        let spread = self.rotation.spread_percent <= 50;
        problems.require(spread, "runner_registry.rotation.spread_percent", "must be at most 50");
        let interval = self.heartbeat.write_interval_seconds <= 3600;
        problems.require(interval, "runner_registry.heartbeat.write_interval_seconds", "must be at most 3600");
        let overlap = is_overlap_seen(self.rotation.overlap_seconds, self.heartbeat.write_interval_seconds);
        let problem = "must be 0, or at least twice runner_registry.heartbeat.write_interval_seconds";
        problems.require(overlap, "runner_registry.rotation.overlap_seconds", problem);
        let is_sqlite = problems.is_read("runner_registry.database") && self.database == DatabaseKind::Sqlite;
        let path = !is_sqlite || !self.sqlite_path.as_os_str().is_empty();
        problems.require(path, "runner_registry.sqlite_path", "must not be empty");
    }
}

/// Reports whether the records of contacts are close enough for the overlap. It counts from the last record, so a manager that
/// polls must have a newer one before the overlap is over.
fn is_overlap_seen(overlap_seconds: u32, write_interval_seconds: u32) -> bool {
    overlap_seconds == 0 || overlap_seconds / 2 >= write_interval_seconds
}

impl Validate for ProcessConfig {
    fn validate(&self, problems: &mut Problems) {
        self.runner_registry.validate(problems);
        self.server.validate(problems);
        self.telemetry.validate(problems);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<ProcessConfig, chassis::config::ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        chassis::config::load(&[chassis::config::DEFAULTS, DEFAULTS], Some(file.path()))
    }

    #[test]
    fn an_overlap_is_at_least_two_records_of_contacts_long() {
        let settings = |overlap: u32, interval: u32| {
            format!(
                "[runner_registry.rotation]\noverlap_seconds = {overlap}\n\
                 [runner_registry.heartbeat]\nwrite_interval_seconds = {interval}\n"
            )
        };
        for (overlap, interval) in [(0, 3600), (120, 60), (1, 0), (7200, 3600), (604_800, 60)] {
            assert!(load(&settings(overlap, interval)).is_ok(), "{overlap} {interval}");
        }
        for (overlap, interval) in [(119, 60), (1, 60), (7199, 3600)] {
            let problems = load(&settings(overlap, interval)).unwrap_err().to_string();
            assert!(problems.contains("runner_registry.rotation.overlap_seconds: must be 0"), "{problems}");
        }
    }
}
