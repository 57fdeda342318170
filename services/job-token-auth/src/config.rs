//! The settings of the section `job_token_auth`, and those of the process around it.

use std::{path::PathBuf, time::Duration};

use chassis::{
    client::ClientConfig,
    config::{Problems, Validate},
    db::{DatabaseKind, DatabaseLocation},
    secrets::{SecretBytes, SecretError, SecretStore, SecretsConfig},
    server::ServerConfig,
    telemetry::TelemetryConfig,
};
use proto::paddock::contract::v1::Secret;
use serde::Deserialize;

/// The documented default settings of this crate.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// Maximum number of partitions in Redis.
pub const MAX_PARTITIONS: u16 = 64;

/// The settings of the section `job_token_auth`. `config.default.toml` says what each means.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// The address and port of gRPC.
    pub listen: String,
    /// The address and port of `/metrics`; empty: not served.
    pub metrics_listen: String,
    /// The kind of database.
    pub database: DatabaseKind,
    /// The file of the SQLite database.
    pub sqlite_path: PathBuf,
    /// Maximum number of connections to the database.
    pub max_connections: u32,
    /// How long answers of other services and of the database are cached, in milliseconds.
    pub cache_ms: u64,
    /// How to reach runner-registry.
    pub runner_registry: ClientConfig,
    /// See [`CaptureConfig`].
    pub captures: CaptureConfig,
}

/// Where captures are kept until they are in the log.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum CaptureStoreKind {
    /// In the database of the service.
    Database,
    /// In Redis.
    Redis,
}

/// How captures are kept.
#[derive(Clone, Debug, Deserialize)]
pub struct CaptureConfig {
    /// The kind of store.
    pub store: CaptureStoreKind,
    /// Maximum time that a request may be without a verdict, in seconds.
    pub deadline_seconds: u32,
    /// Maximum time that a request waits for the store, in milliseconds.
    pub timeout_ms: u64,
    /// Maximum number of captures that wait in memory for the store.
    pub queue_length: usize,
    /// The folder of the spool.
    pub spool_folder: PathBuf,
    /// Maximum size of the spool, in bytes.
    pub spool_max_bytes: u64,
    /// Interval at which overdue captures and gaps are looked for, in milliseconds.
    pub maintenance_interval_ms: u64,
    /// See [`RedisConfig`].
    pub redis: RedisConfig,
}

/// How Redis is reached.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RedisKind {
    /// One server.
    Single,
    /// The master that the sentinels name.
    Sentinel,
    /// A cluster.
    Cluster,
}

/// The Redis that holds captures.
#[derive(Clone, Debug, Deserialize)]
pub struct RedisConfig {
    /// How it is reached.
    pub kind: RedisKind,
    /// The name of the master that the sentinels watch.
    pub sentinel_master: String,
    /// Whether the sentinels require the user and the password of the URLs too.
    pub sentinel_authenticates: bool,
    /// The prefix of every key.
    pub key_prefix: String,
    /// How many partitions the captures have.
    pub partitions: u16,
    /// Whether to refuse a Redis that can lose what it has confirmed.
    pub require_fsync: bool,
    /// How many replicas must have a capture before it counts as kept.
    pub replicas: u16,
}

/// Every setting that the process `job-token-auth` reads.
#[derive(Clone, Debug, Deserialize)]
pub struct ProcessConfig {
    /// The settings of the service.
    pub job_token_auth: Config,
    /// The settings of its server.
    pub server: ServerConfig,
    /// The settings of logs, spans and metrics.
    pub telemetry: TelemetryConfig,
    /// Where the secrets are.
    pub secrets: SecretsConfig,
}

impl Config {
    /// Returns where the database is; the URL of a server comes from the secrets.
    ///
    /// # Errors
    /// If the secret is missing or broken.
    pub fn database(&self, secrets: &SecretStore) -> Result<DatabaseLocation, SecretError> {
        match self.database {
            DatabaseKind::Sqlite => Ok(DatabaseLocation::Sqlite(self.sqlite_path.clone())),
            DatabaseKind::Postgres => secrets.require(Secret::JobTokenAuthDatabaseUrl).map(DatabaseLocation::Postgres),
        }
    }

    /// Returns the URL of the Redis that holds captures; none when the database holds them.
    ///
    /// # Errors
    /// If the secret is missing or broken.
    pub fn redis_url(&self, secrets: &SecretStore) -> Result<Option<SecretBytes>, SecretError> {
        match self.captures.store {
            CaptureStoreKind::Database => Ok(None),
            CaptureStoreKind::Redis => secrets.require(Secret::CapturesRedisUrl).map(Some),
        }
    }

    /// Returns how long answers of other services and of the database are cached.
    #[must_use]
    pub fn max_lag(&self) -> Duration {
        Duration::from_millis(self.cache_ms)
    }
}

impl Validate for Config {
    fn validate(&self, problems: &mut Problems) {
        let connections = (1..=1000).contains(&self.max_connections);
        problems.require(connections, "job_token_auth.max_connections", "must be between 1 and 1000");
        problems.require(self.cache_ms <= 1000, "job_token_auth.cache_ms", "must be at most 1000");
        let is_sqlite = problems.is_read("job_token_auth.database") && self.database == DatabaseKind::Sqlite;
        let path = !is_sqlite || !self.sqlite_path.as_os_str().is_empty();
        problems.require(path, "job_token_auth.sqlite_path", "must not be empty");
        problems.inside("job_token_auth.runner_registry", &self.runner_registry);
        problems.inside("job_token_auth.captures", &self.captures);
    }
}

impl Validate for CaptureConfig {
    fn validate(&self, problems: &mut Problems) {
        require_between(problems, "deadline_seconds", self.deadline_seconds.into(), 5, 86_400);
        require_between(problems, "timeout_ms", self.timeout_ms, 100, 60_000);
        require_between(problems, "queue_length", self.queue_length as u64, 1, 1 << 24);
        require_between(problems, "spool_max_bytes", self.spool_max_bytes, 1 << 16, 1 << 50);
        require_between(problems, "maintenance_interval_ms", self.maintenance_interval_ms, 10, 60_000);
        require_between(problems, "redis.partitions", self.redis.partitions.into(), 1, MAX_PARTITIONS.into());
        require_between(problems, "redis.replicas", self.redis.replicas.into(), 0, 8);
        problems.require(!self.spool_folder.as_os_str().is_empty(), "spool_folder", "must name a folder");
        let prefix = &self.redis.key_prefix;
        let prefix_is_plain = !prefix.is_empty() && prefix.bytes().all(is_plain_key_byte);
        problems.require(prefix_is_plain, "redis.key_prefix", "must be letters, digits, `-`, `_`, `:` and `.`");
        let has_sentinels = problems.is_read("redis.kind") && self.redis.kind == RedisKind::Sentinel;
        let names_master = !has_sentinels || !self.redis.sentinel_master.is_empty();
        problems.require(names_master, "redis.sentinel_master", "must not be empty");
    }
}

fn require_between(problems: &mut Problems, name: &str, value: u64, least: u64, most: u64) {
    let is_between = (least..=most).contains(&value);
    problems.require(is_between, name, format!("must be between {least} and {most}"));
}

fn is_plain_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.')
}

impl Validate for ProcessConfig {
    fn validate(&self, problems: &mut Problems) {
        self.job_token_auth.validate(problems);
        self.server.validate(problems);
        self.telemetry.validate(problems);
    }
}
