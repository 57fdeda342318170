//! What was last heard of projects, for lists that name them after their end.

use std::collections::HashMap;

use chassis::clock::Clock;
use moka::future::Cache;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectionTrait, DatabaseConnection, EntityTrait as _, QueryFilter as _,
    sea_query::OnConflict,
};
use time::OffsetDateTime;

use proto::timestamp::millis;

use crate::{
    entity::known_project::{ActiveModel, Column, Entity},
    error::Result,
};

/// Of how many projects the process knows what is written already.
const CAPACITY: u64 = 100_000;

/// What this process heard of projects. Clones share it.
#[derive(Clone)]
pub struct KnownProjects {
    database: DatabaseConnection,
    clock: Clock,
    written: Cache<i64, String>,
}

impl KnownProjects {
    /// Nothing was heard yet.
    #[must_use]
    pub fn new(database: DatabaseConnection, clock: Clock) -> Self {
        Self { database, clock, written: Cache::new(CAPACITY) }
    }

    /// Remembers the path of a project. Nothing depends on it but how lists name the project once it is gone, so that a
    /// failure is logged and no more.
    pub async fn remember(&self, id: i64, full_path: &str) {
        if self.written.get(&id).await.is_some_and(|written| written == full_path) {
            return;
        }
        match remember(&self.database, id, full_path, self.clock.now()).await {
            Ok(()) => self.written.insert(id, full_path.to_owned()).await,
            Err(error) => tracing::warn!(%error, project_id = id, "cannot remember the path of a project"),
        }
    }
}

async fn remember(db: &impl ConnectionTrait, id: i64, full_path: &str, now: OffsetDateTime) -> Result<()> {
    let row = ActiveModel { id: Set(id), full_path: Set(full_path.to_owned()), seen_at: Set(millis(now)) };
    let replace = OnConflict::column(Column::Id).update_columns([Column::FullPath, Column::SeenAt]).to_owned();
    Entity::insert(row).on_conflict(replace).exec_without_returning(db).await?;
    Ok(())
}

/// The paths of those of the projects that were ever heard of, by their ids.
pub async fn paths(db: &impl ConnectionTrait, ids: impl IntoIterator<Item = i64>) -> Result<HashMap<i64, String>> {
    let rows = Entity::find().filter(Column::Id.is_in(ids)).all(db).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.full_path)).collect())
}
