//! The schema, built step by step; the same code makes it on SQLite and on Postgres. A released step is never changed:
//! a change of the schema is a further step, written so that the version before it still runs beside it.

use sea_orm::{ConnectionTrait as _, DatabaseBackend, DatabaseConnection};
use sea_orm_migration::prelude::*;

mod columns;
mod m20261123_000001_directory;
mod m20261123_000002_runners;

/// Knows every step, in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m20261123_000001_directory::Migration), Box::new(m20261123_000002_runners::Migration)]
    }
}

/// The key of the lock that a process holds while it changes the schema. Nothing else uses it.
const LOCK: i64 = 0x0070_6164_646f_636b;

/// Brings the schema up to date. Processes that start at the same moment take turns.
///
/// # Errors
/// Those of the database.
pub async fn up(database: &DatabaseConnection) -> Result<(), DbErr> {
    let tx = chassis::db::begin_write(database).await?;
    if tx.get_database_backend() == DatabaseBackend::Postgres {
        tx.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    }
    Migrator::up(&tx, None).await?;
    tx.commit().await
}
