//! The last known paths of projects, for lists that name deleted projects.

use std::collections::HashMap;

use chassis::clock::Clock;
use moka::future::Cache;
use proto::timestamp::millis;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectionTrait, DatabaseConnection, EntityTrait as _, QueryFilter as _,
    sea_query::OnConflict,
};
use time::OffsetDateTime;

use crate::{
    entity::known_project::{ActiveModel, Column, Entity},
    error::Result,
};

/// The maximum number of projects whose written path is cached.
const CAPACITY: u64 = 100_000;

/// Stores the paths of projects. Clones share the cache.
#[derive(Clone)]
pub struct KnownProjects {
    database: DatabaseConnection,
    clock: Clock,
    /// The paths that are in the table already.
    written: Cache<i64, String>,
}

impl KnownProjects {
    /// Creates the store, with an empty cache.
    #[must_use]
    pub fn new(database: DatabaseConnection, clock: Clock) -> Self {
        Self { database, clock, written: Cache::new(CAPACITY) }
    }

    /// Stores the path of a project. Only the name of the project in lists after its deletion depends on it, so a failure is logged
    /// and otherwise ignored.
    pub async fn remember(&self, id: i64, full_path: &str) {
        if self.written.get(&id).await.is_some_and(|written| written == full_path) {
            return;
        }
        match upsert_path(&self.database, id, full_path, self.clock.now()).await {
            Ok(()) => self.written.insert(id, full_path.to_owned()).await,
            Err(error) => tracing::warn!(%error, project_id = id, "cannot remember the path of a project"),
        }
    }
}

async fn upsert_path(db: &impl ConnectionTrait, id: i64, full_path: &str, now: OffsetDateTime) -> Result<()> {
    let row = ActiveModel { id: Set(id), full_path: Set(full_path.to_owned()), seen_at: Set(millis(now)) };
    let replace = OnConflict::column(Column::Id).update_columns([Column::FullPath, Column::SeenAt]).to_owned();
    Entity::insert(row).on_conflict(replace).exec_without_returning(db).await?;
    Ok(())
}

/// Returns the stored paths of the projects, by their ids.
pub async fn paths(db: &impl ConnectionTrait, ids: impl IntoIterator<Item = i64>) -> Result<HashMap<i64, String>> {
    let rows = Entity::find().filter(Column::Id.is_in(ids)).all(db).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.full_path)).collect())
}
