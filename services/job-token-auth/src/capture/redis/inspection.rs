//! What an operator wants to know of a Redis before captures are kept in it.

use std::sync::Arc;

use chassis::secrets::SecretBytes;

use super::{
    Keys,
    connection::{Connector, Link},
};
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

/// Asks Redis what it is asked before captures are kept in it.
///
/// # Errors
/// What is wrong with it.
pub async fn inspect(config: &Redis, urls: &SecretBytes) -> Result<(), RedisProblem> {
    let connector = Connector::new(config, urls);
    let connector = connector.map_err(|problem| RedisProblem::Setup(format!("the URL of redis {problem}")))?;
    let mut link = Link::new(Arc::new(connector), &Keys::new(&config.key_prefix, 0).stream);
    let answer = if config.require_fsync {
        link.examine().await
    } else {
        link.get().await.map(|_| ()).map_err(StoreError::from)
    };
    answer.map_err(|error| match error {
        StoreError::Redis(error) => of(&error),
        other => RedisProblem::Setup(other.to_string()),
    })
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
