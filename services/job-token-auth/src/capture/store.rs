//! The store of captures: one interface, two implementations.

use super::{
    database::DatabaseStore,
    failure::{StoreError, in_time},
    redis::batch::RedisStore,
    step::QueuedStep,
};

/// The store, as the writer of one partition holds it.
pub enum Store {
    /// The database of the service.
    Database(DatabaseStore),
    /// Redis.
    Redis(Box<RedisStore>),
}

impl Store {
    /// Applies all steps in order, or none. After an error, try the same steps again.
    ///
    /// # Errors
    /// If the store cannot be reached, or refuses. Whether the steps were applied is then unknown.
    pub async fn apply(&mut self, batch: &[QueuedStep]) -> Result<(), StoreError> {
        match self {
            Self::Database(store) => in_time(store.apply(batch)).await,
            Self::Redis(store) => store.apply(batch).await,
        }
    }
}
