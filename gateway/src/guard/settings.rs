//! The settings of the storm guard, and of the limits that GitLab has under the same names.

use chassis::config::{Problems, Validate};
use serde::Deserialize;

use crate::connection::networks::Networks;

/// The section `gateway.guard`.
#[derive(Clone, Debug, Deserialize)]
pub struct GuardConfig {
    /// Whether the guard refuses calls.
    pub enabled: bool,
    /// Refused calls of one token on one method or protected route within the window, after which it is blocked.
    pub failures: u32,
    /// How long a failure counts, in seconds.
    pub window_seconds: u32,
    /// Failing tokens of one address within a minute, after which tokens without a success are refused from there.
    pub address_failures: u32,
    /// The addresses and networks without an address budget, separated by commas.
    pub exempt_addresses: String,
    /// The most tokens, and the most addresses, that are kept at the same time.
    pub max_entries: u64,
    /// How long an answer from memory is held back, in milliseconds.
    pub pause_ms: u32,
}

/// The section `gateway.limits`.
#[derive(Clone, Debug, Deserialize)]
pub struct LimitsConfig {
    /// Job requests of one runner token within a minute; 0: no limit.
    pub runner_jobs_request_api_limit: u32,
}

impl Validate for GuardConfig {
    fn validate(&self, problems: &mut Problems) {
        require_range(problems, "failures", self.failures.into(), 1, 10_000);
        require_range(problems, "window_seconds", self.window_seconds.into(), 1, 3600);
        require_range(problems, "address_failures", self.address_failures.into(), 1, 1_000_000);
        require_range(problems, "max_entries", self.max_entries, 1000, 10_000_000);
        require_range(problems, "pause_ms", self.pause_ms.into(), 0, 5000);
        if let Err(problem) = Networks::parse(&self.exempt_addresses) {
            problems.require(false, "exempt_addresses", problem);
        }
    }
}

impl Validate for LimitsConfig {
    fn validate(&self, problems: &mut Problems) {
        let limit = u64::from(self.runner_jobs_request_api_limit);
        require_range(problems, "runner_jobs_request_api_limit", limit, 0, 10_000_000);
    }
}

fn require_range(problems: &mut Problems, name: &str, value: u64, least: u64, most: u64) {
    let is_inside = (least..=most).contains(&value);
    problems.require(is_inside, name, format!("must be between {least} and {most}"));
}
