//! Checks the Redis that holds captures: whether it answers, and whether it keeps what it acknowledges.

use chassis::secrets::SecretStore;
use job_token_auth::capture::{RedisProblem, inspect_redis};

use super::report::{Finding, Report};
use crate::{config::Config, data_folder};

/// Checks Redis if it holds captures. A missing or unusable URL is a finding of the check of secrets.
pub async fn check(config: &Config, report: &mut Report) {
    let auth = &config.job_token_auth;
    let secrets = SecretStore::open(data_folder::secrets_folder(&config.data));
    let Ok(Some(url)) = auth.redis_url(&secrets) else { return };
    let result = inspect_redis(&auth.captures.redis, &url).await;
    report.add(redis_finding(result));
}

fn redis_finding(result: Result<(), RedisProblem>) -> Finding {
    match result {
        Ok(()) => Finding::good("redis", "redis answers and keeps what it takes"),
        Err(RedisProblem::Setup(problem)) => {
            let remedy = "Set up Redis as docs/how-to/keep-captures-in-redis.md says, or correct its URL.";
            Finding::bad("redis", problem, remedy)
        }
        Err(RedisProblem::Unreachable(problem)) => {
            let remedy =
                "Start Redis, or correct its URL; until it answers, job tokens of strict routes are answered 503.";
            Finding::bad("redis", format!("redis does not answer: {problem}"), remedy)
        }
        Err(RedisProblem::Hidden(problem)) => {
            let remedy = "Check that appendonly is yes, appendfsync always and maxmemory-policy noeviction.";
            Finding::warning("redis", format!("redis does not show its settings: {problem}"), remedy)
        }
    }
}
