//! The schema, built step by step; the same code makes it on SQLite and on Postgres. A released step is never changed:
//! a change of the schema is a further step, written so that the version before it still runs beside it.
//!
//! Times are whole milliseconds since the Unix epoch: one form on both databases, compared as numbers.

use sea_orm::DatabaseConnection;
use sea_orm_migration::prelude::*;

mod m20261124_000001_jobs_and_allowlists;
mod m20261124_000002_captures_and_log;
mod m20261125_000003_events_of_pairs;

/// Knows every step, in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261124_000001_jobs_and_allowlists::Migration),
            Box::new(m20261124_000002_captures_and_log::Migration),
            Box::new(m20261125_000003_events_of_pairs::Migration),
        ]
    }
}

/// Brings the schema up to date. Processes that start at the same moment take turns.
///
/// # Errors
/// Those of the database.
pub async fn up(database: &DatabaseConnection) -> Result<(), DbErr> {
    chassis::db::migrate::<Migrator>(database).await
}
