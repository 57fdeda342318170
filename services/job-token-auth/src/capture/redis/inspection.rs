//! What an operator wants to know of a Redis before captures are kept in it.

use std::sync::Arc;

use chassis::secrets::SecretBytes;

use super::connection::{Connector, Link};
use crate::{capture::start::is_refusal, capture::store::StoreError, config::Redis};

/// What is wrong with a Redis.
#[derive(Debug)]
pub enum RedisProblem {
    /// It, or its URL, is not set up as it must be: job-token-auth does not start.
    Setup(String),
    /// It does not answer: captures wait until it does.
    Unreachable(String),
    /// It lets nobody see how it is set up.
    Hidden(String),
}

/// Asks Redis what it is asked at the start, and whether it deletes captures when its memory is full.
///
/// # Errors
/// What is wrong with it.
pub async fn inspect(config: &Redis, urls: &SecretBytes) -> Result<(), RedisProblem> {
    let connector = Connector::new(config, urls);
    let connector = connector.map_err(|problem| RedisProblem::Setup(format!("the URL of redis {problem}")))?;
    let mut link = Link::new(Arc::new(connector));
    link.durable().await.map_err(|error| match error {
        StoreError::Redis(error) => of(&error),
        StoreError::Setup(problem) => RedisProblem::Setup(problem),
        StoreError::Database(error) => RedisProblem::Setup(error.to_string()),
    })?;
    let policies = link.eviction_policies().await.map_err(|error| of(&error))?;
    match policies.iter().find(|policy| *policy != "noeviction") {
        None => Ok(()),
        Some(policy) => Err(RedisProblem::Setup(format!(
            "redis has maxmemory-policy {policy}, with which it may delete captures when its memory is full: set \
             maxmemory-policy noeviction in redis.conf"
        ))),
    }
}

fn of(error: &redis::RedisError) -> RedisProblem {
    let text = error.to_string();
    if is_refusal(error) {
        RedisProblem::Setup(text)
    } else if error.is_io_error() || error.is_timeout() {
        RedisProblem::Unreachable(text)
    } else {
        RedisProblem::Hidden(text)
    }
}
