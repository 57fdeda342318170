//! The log as the tasks of captures use it: a few at a time, whatever the number of partitions, so that requests find a
//! connection to the database too.

use std::{ops::Deref, sync::Arc};

use sea_orm::DatabaseConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The database of the log. Clones share their turns.
#[derive(Clone)]
pub struct Log {
    database: DatabaseConnection,
    turns: Arc<Semaphore>,
}

/// The right to use one connection, until this is dropped.
pub struct Turn {
    database: DatabaseConnection,
    /// None only if the semaphore were closed, which nobody does.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Log {
    /// The log in this database, whose pool has so many connections. Half of them are for others.
    #[must_use]
    pub fn new(database: DatabaseConnection, max_connections: u32) -> Self {
        let turns = usize::try_from(max_connections / 2).unwrap_or(usize::MAX);
        Self { database, turns: Arc::new(Semaphore::new(turns.clamp(1, Semaphore::MAX_PERMITS))) }
    }

    /// The database, for the one task that has no others beside it.
    pub fn database(&self) -> &DatabaseConnection {
        &self.database
    }

    /// Waits for a turn.
    pub async fn turn(&self) -> Turn {
        Turn { database: self.database.clone(), _permit: Arc::clone(&self.turns).acquire_owned().await.ok() }
    }
}

impl Deref for Turn {
    type Target = DatabaseConnection;

    fn deref(&self) -> &DatabaseConnection {
        &self.database
    }
}
