//! Checks a Redis for an operator before captures are kept in it.

use std::sync::Arc;

use chassis::secrets::SecretBytes;

use super::{
    connection::{Connector, PartitionConnection, is_refusal},
    keys::PartitionKeys,
};
use crate::{capture::failure::StoreError, config::RedisConfig};

/// What is wrong with a Redis.
#[derive(Debug)]
pub enum RedisProblem {
    /// It, or its URL, is not set up as it must be: job-token-auth does not start.
    Setup(String),
    /// It does not answer: captures wait until it does.
    Unreachable(String),
    /// It does not show its settings.
    Hidden(String),
}

/// Checks Redis as job-token-auth does before it keeps captures there.
///
/// # Errors
/// What is wrong with it.
pub async fn inspect(config: &RedisConfig, urls: &SecretBytes) -> Result<(), RedisProblem> {
    let connector =
        Connector::new(config, urls).map_err(|problem| RedisProblem::Setup(format!("the URL of redis {problem}")))?;
    let keys = PartitionKeys::new(&config.key_prefix, 0);
    let mut connection = PartitionConnection::new(Arc::new(connector), &keys.stream);
    let checked = if config.require_fsync {
        connection.check_settings().await
    } else {
        connection.open().await.map(|_| ()).map_err(StoreError::from)
    };
    match checked {
        Ok(()) => Ok(()),
        Err(StoreError::Redis(error)) => Err(classify_error(&error)),
        Err(other) => Err(RedisProblem::Setup(other.to_string())),
    }
}

fn classify_error(error: &redis::RedisError) -> RedisProblem {
    let text = error.to_string();
    if is_refusal(error) {
        RedisProblem::Setup(text)
    } else if error.is_io_error() || error.is_timeout() {
        RedisProblem::Unreachable(text)
    } else {
        RedisProblem::Hidden(text)
    }
}
