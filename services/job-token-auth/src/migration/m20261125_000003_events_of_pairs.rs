//! Indexes that find the events of a pair in the order of their times.

use chassis::db::columns::{self, index};
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The names are short, since PostgreSQL would truncate names made of all columns.
const INDEXES: [(&str, [&str; 4]); 2] = [
    ("ix_access_events_inbound_pairs", ["target_project_id", "origin_project_id", "accessed_at", "id"]),
    ("ix_access_events_outbound_pairs", ["origin_project_id", "target_project_id", "accessed_at", "id"]),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let indexes = INDEXES.map(|(name, columns)| index("access_events", &columns).name(name).to_owned());
        columns::create(manager, Vec::new(), indexes.into()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, _) in INDEXES {
            manager.drop_index(Index::drop().name(name).table("access_events").to_owned()).await?;
        }
        Ok(())
    }
}
