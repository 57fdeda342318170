//! Whether the Redis that shall hold captures can be relied on.

use chassis::secrets::SecretStore;
use job_token_auth::capture::{RedisProblem, inspect_redis};

use super::report::{Finding, Report};
use crate::{config::Config, data_folder};

/// Asks Redis, if captures are kept there. That its URL is missing or cannot be used is told among the secrets.
pub async fn check(config: &Config, report: &mut Report) {
    let auth = &config.job_token_auth;
    let Ok(Some(url)) = auth.redis_url(&SecretStore::open(data_folder::secrets(&config.data))) else { return };
    report.add(match inspect_redis(&auth.captures.redis, &url).await {
        Ok(()) => Finding::good("redis", "redis answers and keeps what it takes"),
        Err(RedisProblem::Setup(problem)) => {
            let remedy = "Set Redis up as docs/how-to/keep-captures-in-redis.md says, or correct its URL.";
            Finding::bad("redis", problem, remedy)
        }
        Err(RedisProblem::Unreachable(problem)) => {
            let remedy =
                "Start Redis, or correct its URL; until it answers, job tokens of strict routes are answered 503.";
            Finding::bad("redis", format!("redis does not answer: {problem}"), remedy)
        }
        Err(RedisProblem::Hidden(problem)) => {
            let remedy = "See to it that appendonly is yes, appendfsync always and maxmemory-policy noeviction.";
            Finding::warning("redis", format!("redis does not show its settings: {problem}"), remedy)
        }
    });
}
