//! The migrations of the schema, the same for SQLite and PostgreSQL. A released migration never changes. A new migration must keep the
//! schema usable for the version before it.
//!
//! Times are integers: milliseconds since the Unix epoch, the same on both databases.

use sea_orm::DatabaseConnection;
use sea_orm_migration::prelude::*;

mod m20261124_000001_jobs_and_allowlists;
mod m20261124_000002_captures_and_log;
mod m20261125_000003_events_of_pairs;

/// Lists the migrations in order.
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

/// Migrates the schema to the latest version. Processes that start at the same time take turns.
///
/// # Errors
/// Those of the database.
pub async fn up(database: &DatabaseConnection) -> Result<(), DbErr> {
    chassis::db::migrate::<Migrator>(database).await
}
