//! The database of the log, with a limit on how many capture tasks use it at once: whatever the number of partitions, requests
//! find a free connection too.

use std::{ops::Deref, sync::Arc};

use sea_orm::DatabaseConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The database of the log. Clones share the write slots.
#[derive(Clone)]
pub struct LogDatabase {
    database: DatabaseConnection,
    slots: Arc<Semaphore>,
}

/// The right to use one connection, until this is dropped.
pub struct WriteSlot {
    database: DatabaseConnection,
    /// None only if the semaphore were closed, which never happens.
    _permit: Option<OwnedSemaphorePermit>,
}

impl LogDatabase {
    /// Limits capture tasks to half of the `max_connections` that the pool of this database has.
    #[must_use]
    pub fn new(database: DatabaseConnection, max_connections: u32) -> Self {
        let slots = usize::try_from(max_connections / 2).unwrap_or(usize::MAX);
        Self { database, slots: Arc::new(Semaphore::new(slots.clamp(1, Semaphore::MAX_PERMITS))) }
    }

    /// Returns the database without a slot, for the start and for the writer of the database store, of which there is one.
    pub fn database(&self) -> &DatabaseConnection {
        &self.database
    }

    /// Waits for a free write slot.
    pub async fn acquire(&self) -> WriteSlot {
        let permit = Arc::clone(&self.slots).acquire_owned().await.ok();
        WriteSlot { database: self.database.clone(), _permit: permit }
    }
}

impl Deref for WriteSlot {
    type Target = DatabaseConnection;

    fn deref(&self) -> &DatabaseConnection {
        &self.database
    }
}
