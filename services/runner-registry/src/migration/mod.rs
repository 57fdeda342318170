//! The schema, built in steps; the same code creates it on SQLite and on Postgres. A released step is never changed: a
//! change of the schema is a further step, and the version before it must still run on the new schema.

use sea_orm::DatabaseConnection;
use sea_orm_migration::prelude::*;

mod m20261123_000001_directory;
mod m20261123_000002_runners;
mod m20261127_000003_rotation;
mod m20261127_000004_token_events;

/// Lists the steps in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_directory::Migration),
            Box::new(m20261123_000002_runners::Migration),
            Box::new(m20261127_000003_rotation::Migration),
            Box::new(m20261127_000004_token_events::Migration),
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
