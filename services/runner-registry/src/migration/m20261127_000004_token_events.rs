//! What happened to the tokens of runners, the tokens of runners that were deleted, and when a manager moved to the
//! generation that it uses.

use chassis::db::columns::{self, cascade, index, set_null, table, time, time_null, unique};
use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let same_event = ["runner_id", "generation", "kind", "system_id", "ip_address", "hour"];
        let indexes = vec![
            unique("runner_token_events", &same_event),
            index("runner_token_events", &["actor_id"]),
            index("removed_runner_tokens", &["removed_at"]),
        ];
        columns::create(manager, vec![runner_token_events_table(), removed_runner_tokens_table()], indexes).await?;
        let moved_at = Table::alter().table("runner_managers").add_column(time_null("moved_at")).to_owned();
        manager.alter_table(moved_at).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let moved_at = Table::alter().table("runner_managers").drop_column("moved_at").to_owned();
        manager.alter_table(moved_at).await?;
        columns::drop(manager, &["removed_runner_tokens", "runner_token_events"]).await
    }
}

/// `system_id` and `ip_address` are empty and not null if there is none: in a unique index, two nulls are different.
fn runner_token_events_table() -> TableCreateStatement {
    table("runner_token_events")
        .col(big_integer("runner_id"))
        .col(integer("generation"))
        .col(small_integer("kind"))
        .col(small_integer("grade"))
        .col(string_len("system_id", 64))
        .col(string_len("ip_address", 45))
        .col(big_integer("hour"))
        .col(string_len_null("user_agent", 256))
        .col(big_integer_null("actor_id"))
        .col(time("first_at"))
        .col(time("last_at"))
        .col(big_integer("count"))
        .foreign_key(&mut cascade("runner_token_events", "runner_id", "runners"))
        .foreign_key(&mut set_null("runner_token_events", "actor_id", "users"))
        .to_owned()
}

/// The runner does not exist any more, so its id refers to no row.
fn removed_runner_tokens_table() -> TableCreateStatement {
    Table::create()
        .table("removed_runner_tokens")
        .col(var_binary("digest", 32).primary_key().take())
        .col(big_integer("runner_id"))
        .col(time("removed_at"))
        .to_owned()
}
