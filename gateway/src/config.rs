//! The settings of the gateway. `config.default.toml` documents each one.

use std::time::Duration;

use chassis::{
    client::ClientConfig,
    config::{Problems, Validate, is_listen_address},
    secrets::SecretsConfig,
    telemetry::TelemetryConfig,
};
use serde::Deserialize;

use crate::{
    connection::forwarded_for::TrustedProxies,
    credential::exchange,
    guard::settings::{GuardConfig, LimitsConfig},
    proxy::{
        ProxySettings,
        body::PauseLimits,
        upstream::{self, Protocol, UpstreamSettings},
    },
};

/// The documented default settings.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// The section `gateway`.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// Where REST is served.
    pub listen: String,
    /// Where metrics are served; empty: nowhere.
    pub metrics_listen: String,
    /// The address under which clients reach the gateway; empty: the Host header of the request.
    pub external_url: String,
    /// The proxies whose X-Forwarded-For is trusted, separated by commas; empty: none.
    pub trusted_proxies: String,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// The memory for bodies that come in several chunks, of all requests together, in bytes.
    pub max_body_memory_bytes: usize,
    /// The largest request line with headers, in bytes.
    pub max_header_bytes: usize,
    /// How long a client may take for the headers of a request, in milliseconds.
    pub header_read_timeout_ms: u64,
    /// How long a client may take for a body, in milliseconds.
    pub body_read_timeout_ms: u64,
    /// How long a request may take once it is read, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long a connection without requests is kept, in milliseconds.
    pub idle_timeout_ms: u64,
    /// Connections at the same time.
    pub max_connections: usize,
    /// Requests at the same time on one HTTP/2 connection.
    pub http2_max_concurrent_streams: u32,
    /// Streams that an HTTP/2 client may open and reset before they are handled.
    pub http2_max_pending_reset_streams: usize,
    /// How often an HTTP/2 client gets a ping, in milliseconds.
    pub http2_keep_alive_interval_ms: u64,
    /// How long it may take to answer a ping, in milliseconds.
    pub http2_keep_alive_timeout_ms: u64,
    /// How long requests that are under way may take after SIGTERM, in milliseconds.
    pub drain_timeout_ms: u64,
    /// How long the user of a token is cached, in milliseconds.
    pub identity_cache_ms: u64,
    /// The upstream of the protected routes, for example `http://127.0.0.1:3000`; empty: they are not served.
    pub upstream: String,
    /// The file with the table of protected routes; empty: the one that is shipped.
    pub protected_routes_file: String,
    /// How long an upstream may take for the head of its response, in milliseconds.
    pub upstream_timeout_ms: u64,
    /// How long an upstream may pause in the body of its response, in milliseconds.
    pub upstream_pause_timeout_ms: u64,
    /// Requests at the same time to one upstream, and so connections.
    pub upstream_max_connections: usize,
    /// How long a connection to an upstream is kept without requests, in milliseconds.
    pub upstream_idle_timeout_ms: u64,
    /// How long a client may stop reading a response, in milliseconds.
    pub client_pause_timeout_ms: u64,
    /// How long the record of an access may take before its request is answered 503, in milliseconds.
    pub capture_flush_timeout_ms: u64,
    /// The storm guard.
    pub guard: GuardConfig,
    /// Limits that GitLab has, too.
    pub limits: LimitsConfig,
    /// The connection to runner-registry.
    pub runner_registry: ClientConfig,
    /// The connection to job-token-auth.
    pub job_token_auth: ClientConfig,
}

/// Every setting that the process `gateway` reads.
#[derive(Clone, Debug, Deserialize)]
pub struct ProcessConfig {
    /// The settings of logs, spans and metrics.
    pub telemetry: TelemetryConfig,
    /// Where the secrets are.
    pub secrets: SecretsConfig,
    /// The settings of the gateway itself.
    pub gateway: Config,
}

impl Validate for ProcessConfig {
    fn validate(&self, problems: &mut Problems) {
        self.telemetry.validate(problems);
        self.gateway.validate(problems);
    }
}

impl Validate for Config {
    fn validate(&self, problems: &mut Problems) {
        let address = "must be an address with a port, for example 127.0.0.1:8080";
        problems.require(is_listen_address(&self.listen), "gateway.listen", address);
        let metrics = self.metrics_listen.is_empty() || is_listen_address(&self.metrics_listen);
        problems.require(metrics, "gateway.metrics_listen", address);
        problems.require(
            is_base_url(&self.external_url),
            "gateway.external_url",
            "must be a URL without query, or empty",
        );
        if let Err(problem) = TrustedProxies::parse(&self.trusted_proxies) {
            problems.require(false, "gateway.trusted_proxies", problem);
        }
        self.validate_limits(problems);
        self.validate_upstreams(problems);
        problems.inside("gateway.guard", &self.guard);
        problems.inside("gateway.limits", &self.limits);
        problems.inside("gateway.runner_registry", &self.runner_registry);
        problems.inside("gateway.job_token_auth", &self.job_token_auth);
    }
}

impl Config {
    /// Returns the settings of an upstream, as far as the table of protected routes does not change them.
    pub(crate) fn upstream_settings(&self) -> UpstreamSettings {
        UpstreamSettings {
            protocol: Protocol::default(),
            max_connections: self.upstream_max_connections,
            idle_timeout: Duration::from_millis(self.upstream_idle_timeout_ms),
            keep_alive_interval: Duration::from_millis(self.http2_keep_alive_interval_ms),
            keep_alive_timeout: Duration::from_millis(self.http2_keep_alive_timeout_ms),
            ca_file: String::new(),
            strip_headers: Vec::new(),
        }
    }

    /// Returns the settings of the proxy in front of protected upstreams.
    pub(crate) fn proxy_settings(&self) -> ProxySettings {
        let scheme = self.external_url.get(..6);
        ProxySettings {
            turn_timeout: Duration::from_millis(self.request_timeout_ms),
            head_timeout: Duration::from_millis(self.upstream_timeout_ms),
            response_pauses: PauseLimits {
                upstream: Duration::from_millis(self.upstream_pause_timeout_ms),
                client: Duration::from_millis(self.client_pause_timeout_ms),
            },
            request_pause: Duration::from_millis(self.body_read_timeout_ms),
            tunnel_idle_timeout: Duration::from_millis(self.idle_timeout_ms),
            flush_timeout: Duration::from_millis(self.capture_flush_timeout_ms),
            is_https: scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:")),
        }
    }

    fn validate_limits(&self, problems: &mut Problems) {
        require_range(problems, "max_body_bytes", self.max_body_bytes as u64, 1024, 64 << 20);
        let least = if problems.is_read("gateway.max_body_bytes") { self.max_body_bytes as u64 } else { 0 };
        require_range(problems, "max_body_memory_bytes", self.max_body_memory_bytes as u64, least, 1 << 40);
        // hyper refuses a smaller buffer, and HTTP/2 counts the size with 32 bits.
        require_range(problems, "max_header_bytes", self.max_header_bytes as u64, 8192, 1 << 20);
        require_range(problems, "header_read_timeout_ms", self.header_read_timeout_ms, 100, 600_000);
        require_range(problems, "body_read_timeout_ms", self.body_read_timeout_ms, 100, 600_000);
        require_range(problems, "request_timeout_ms", self.request_timeout_ms, 1, 600_000);
        require_range(problems, "idle_timeout_ms", self.idle_timeout_ms, 100, 3_600_000);
        require_range(problems, "max_connections", self.max_connections as u64, 1, 1 << 20);
        require_range(problems, "http2_max_concurrent_streams", self.http2_max_concurrent_streams.into(), 1, 10_000);
        require_range(
            problems,
            "http2_max_pending_reset_streams",
            self.http2_max_pending_reset_streams as u64,
            1,
            10_000,
        );
        require_range(problems, "http2_keep_alive_interval_ms", self.http2_keep_alive_interval_ms, 100, 3_600_000);
        require_range(problems, "http2_keep_alive_timeout_ms", self.http2_keep_alive_timeout_ms, 100, 600_000);
        require_range(problems, "drain_timeout_ms", self.drain_timeout_ms, 0, 3_600_000);
        let most = u64::try_from(exchange::MAX_AGE.as_millis()).unwrap_or(u64::MAX);
        require_range(problems, "identity_cache_ms", self.identity_cache_ms, 1, most);
    }

    fn validate_upstreams(&self, problems: &mut Problems) {
        if !self.upstream.is_empty()
            && let Err(problem) = upstream::parse_address(&self.upstream)
        {
            problems.require(false, "gateway.upstream", problem);
        }
        require_range(problems, "upstream_timeout_ms", self.upstream_timeout_ms, 1, 3_600_000);
        require_range(problems, "upstream_pause_timeout_ms", self.upstream_pause_timeout_ms, 1, 3_600_000);
        let connections = self.upstream_max_connections as u64;
        require_range(problems, "upstream_max_connections", connections, 1, upstream::MAX_CONNECTIONS as u64);
        require_range(problems, "upstream_idle_timeout_ms", self.upstream_idle_timeout_ms, 1, 3_600_000);
        require_range(problems, "client_pause_timeout_ms", self.client_pause_timeout_ms, 1, 3_600_000);
        require_range(problems, "capture_flush_timeout_ms", self.capture_flush_timeout_ms, 1, 600_000);
    }
}

fn require_range(problems: &mut Problems, name: &str, value: u64, least: u64, most: u64) {
    let is_inside = (least..=most).contains(&value);
    problems.require(is_inside, &format!("gateway.{name}"), format!("must be between {least} and {most}"));
}

fn is_base_url(text: &str) -> bool {
    let parsed = text.parse::<http::Uri>();
    text.is_empty()
        || parsed.is_ok_and(|url| url.scheme().is_some() && url.query().is_none() && !text.contains(['<', '>']))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[derive(Deserialize)]
    struct Settings {
        gateway: Config,
    }

    impl Validate for Settings {
        fn validate(&self, problems: &mut Problems) {
            self.gateway.validate(problems);
        }
    }

    fn problems(file: &str) -> Vec<String> {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        written.write_all(file.as_bytes()).unwrap();
        let loaded = chassis::config::load::<Settings>(&[DEFAULTS], Some(written.path()));
        loaded.map(|_| Vec::new()).unwrap_or_else(|error| error.problems)
    }

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(problems(""), Vec::<String>::new());
    }

    #[test]
    fn every_value_that_makes_no_sense_is_named() {
        let file = "[gateway]\nlisten = \"nowhere\"\nmetrics_listen = \":1\"\n\
            external_url = \"example.com\"\nmax_header_bytes = 1\n\
            max_body_bytes = 2000\nmax_body_memory_bytes = 1999\nidentity_cache_ms = 1001\nmax_connections = 0\n\
            upstream = \"ftp://x\"\ntrusted_proxies = \"10.0.0.0/8, x\"\n\
            upstream_timeout_ms = 0\nupstream_pause_timeout_ms = 0\ncapture_flush_timeout_ms = 0\n\
            upstream_max_connections = 32768\nupstream_idle_timeout_ms = 0\nclient_pause_timeout_ms = 0\n\
            [gateway.guard]\nfailures = 0\nwindow_seconds = 3601\naddress_failures = 0\nmax_entries = 999\n\
            exempt_addresses = \"x\"\n[gateway.limits]\nrunner_jobs_request_api_limit = 10000001\n\
            [gateway.runner_registry]\ndeadline_ms = 0\n";
        let found = problems(file);
        let expected = [
            "gateway.listen",
            "gateway.metrics_listen",
            "gateway.external_url",
            "gateway.trusted_proxies",
            "gateway.max_header_bytes",
            "gateway.max_body_memory_bytes",
            "gateway.identity_cache_ms",
            "gateway.max_connections",
            "gateway.upstream",
            "gateway.upstream_timeout_ms",
            "gateway.upstream_pause_timeout_ms",
            "gateway.upstream_max_connections",
            "gateway.upstream_idle_timeout_ms",
            "gateway.client_pause_timeout_ms",
            "gateway.capture_flush_timeout_ms",
            "gateway.guard.failures",
            "gateway.guard.window_seconds",
            "gateway.guard.address_failures",
            "gateway.guard.max_entries",
            "gateway.guard.exempt_addresses",
            "gateway.limits.runner_jobs_request_api_limit",
            "gateway.runner_registry.deadline_ms",
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for name in expected {
            assert!(found.iter().any(|problem| problem.starts_with(&format!("{name}:"))), "{name}: {found:?}");
        }
    }

    #[test]
    fn urls_and_empty_addresses_are_taken() {
        for line in [
            "external_url = \"https://ci.example.com/x\"",
            "metrics_listen = \"\"",
            "listen = \"localhost:80\"",
            "listen = \"[::1]:80\"",
            "upstream = \"https://gitlab.example.com\"",
        ] {
            assert_eq!(problems(&format!("[gateway]\n{line}\n")), Vec::<String>::new(), "{line}");
        }
    }
}
