//! Where the steps of captures are applied: one interface, two implementations.

use std::{fmt, future::Future, time::Duration};

use sea_orm::DbErr;

use super::{database::DatabaseStore, op::Queued, redis::batch::RedisStore};

/// The store, as the writer of one partition holds it.
pub enum Store {
    /// The database of the service.
    Database(DatabaseStore),
    /// Redis.
    Redis(Box<RedisStore>),
}

impl Store {
    /// Applies all steps in order, or none. After an error the same steps are to be tried again.
    ///
    /// # Errors
    /// If the store cannot be reached, or refuses. Whether the steps were applied is then unknown.
    pub async fn apply(&mut self, batch: &[Queued]) -> Result<(), StoreError> {
        match self {
            Self::Database(store) => in_time(store.apply(batch)).await,
            Self::Redis(store) => store.apply(batch).await,
        }
    }
}

/// How long the database may take for a transaction. The machine of a database can vanish without a word.
const TRANSACTION: Duration = Duration::from_secs(30);

/// Waits for a transaction, but not for ever.
///
/// # Errors
/// Those of the database, or if it does not answer in time. Whether the transaction took place is then unknown.
pub async fn in_time<T>(transaction: impl Future<Output = Result<T, DbErr>>) -> Result<T, StoreError> {
    let late = |_| Err(StoreError::Late);
    tokio::time::timeout(TRANSACTION, transaction).await.map(|done| Ok(done?)).unwrap_or_else(late)
}

/// Why a store did not do what it was asked.
#[derive(Debug)]
pub enum StoreError {
    /// The database failed.
    Database(DbErr),
    /// Redis failed.
    Redis(redis::RedisError),
    /// The database did not answer in time.
    Late,
    /// Redis is not set up as it must be.
    Setup(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => write!(f, "database: {error}"),
            Self::Redis(error) => write!(f, "redis: {error}"),
            Self::Late => write!(f, "database: no answer within {} s", TRANSACTION.as_secs()),
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
