//! Why a store of captures or the log did not do what it was asked.

use std::{fmt, future::Future, time::Duration};

use sea_orm::DbErr;

/// Maximum time for a database transaction. The machine of a database can vanish without closing its connections.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// An error of a store of captures, or of the log.
#[derive(Debug)]
pub enum StoreError {
    /// The database failed.
    Database(DbErr),
    /// Redis failed.
    Redis(redis::RedisError),
    /// The database did not answer in time.
    DatabaseTimeout,
    /// Redis is not set up as it must be.
    Setup(String),
}

/// Waits for a database transaction, up to a limit.
///
/// # Errors
/// Database errors, or [`StoreError::DatabaseTimeout`]. After a timeout it is unknown whether the transaction was committed.
pub async fn in_time<T>(transaction: impl Future<Output = Result<T, DbErr>>) -> Result<T, StoreError> {
    match tokio::time::timeout(TRANSACTION_TIMEOUT, transaction).await {
        Ok(outcome) => outcome.map_err(StoreError::Database),
        Err(_) => Err(StoreError::DatabaseTimeout),
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => write!(f, "database: {error}"),
            Self::Redis(error) => write!(f, "redis: {error}"),
            Self::DatabaseTimeout => write!(f, "database: no answer within {} s", TRANSACTION_TIMEOUT.as_secs()),
            Self::Setup(problem) => f.write_str(problem),
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}

impl From<redis::RedisError> for StoreError {
    fn from(error: redis::RedisError) -> Self {
        Self::Redis(error)
    }
}
