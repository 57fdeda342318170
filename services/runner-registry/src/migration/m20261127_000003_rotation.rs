//! Which generation of the token each manager was seen with, and when a token began to retire. `overlap_ends_at` is not
//! read any more; a later release drops it.

use chassis::db::columns::time_null;
use sea_orm_migration::{prelude::*, schema::integer};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let retired_at = Table::alter().table("runner_tokens").add_column(time_null("retired_at")).to_owned();
        manager.alter_table(retired_at).await?;
        let generation = integer("generation").default(0).take();
        let generation = Table::alter().table("runner_managers").add_column(generation).to_owned();
        manager.alter_table(generation).await?;
        // Before, only the current token authenticated, so every manager has seen it.
        let seen = "UPDATE runner_managers SET generation = COALESCE((SELECT MAX(generation) FROM runner_tokens \
                    WHERE runner_tokens.runner_id = runner_managers.runner_id AND runner_tokens.state = 2), 0)";
        manager.get_connection().execute_unprepared(seen).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let generation = Table::alter().table("runner_managers").drop_column("generation").to_owned();
        manager.alter_table(generation).await?;
        let retired_at = Table::alter().table("runner_tokens").drop_column("retired_at").to_owned();
        manager.alter_table(retired_at).await
    }
}
