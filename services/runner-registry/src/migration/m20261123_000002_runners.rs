//! Runners, the projects they are assigned to, the programs that use them, and their tokens.

use chassis::db::columns::{self, cascade, index, set_null, table, time, time_null, unique};
use sea_orm_migration::{prelude::*, schema::*};

/// The length of a text that a runner program reports.
const INFO: u32 = 256;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = vec![runners_table(), runner_projects_table(), runner_managers_table(), runner_tokens_table()];
        let indexes = vec![
            index("runners", &["group_id"]),
            index("runners", &["creator_id"]),
            unique("runner_projects", &["runner_id", "project_id"]),
            index("runner_projects", &["project_id"]),
            unique("runner_managers", &["runner_id", "system_id"]),
            unique("runner_tokens", &["runner_id", "generation"]),
            index("runner_tokens", &["runner_id", "state"]),
            one_active_token_per_state(),
        ];
        columns::create(manager, tables, indexes).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        columns::drop(manager, &["runner_tokens", "runner_managers", "runner_projects", "runners"]).await
    }
}

fn runners_table() -> TableCreateStatement {
    table("runners")
        .col(small_integer("runner_type"))
        .col(text_null("description"))
        .col(string_len_null("name", INFO))
        .col(text_null("maintenance_note"))
        .col(boolean("paused"))
        .col(boolean("locked"))
        .col(small_integer("access_level"))
        .col(boolean("run_untagged"))
        .col(integer_null("maximum_timeout"))
        .col(json_binary("tag_list"))
        .col(big_integer_null("creator_id"))
        .col(big_integer_null("group_id"))
        .col(time("created_at"))
        .col(time_null("contacted_at"))
        .col(string_len_null("version", INFO))
        .col(string_len_null("revision", INFO))
        .col(string_len_null("platform", INFO))
        .col(string_len_null("architecture", INFO))
        .foreign_key(&mut set_null("runners", "creator_id", "users"))
        .foreign_key(&mut cascade("runners", "group_id", "groups"))
        .to_owned()
}

/// The deletion of a project deletes its assignments only: the runners stay, unassigned.
fn runner_projects_table() -> TableCreateStatement {
    table("runner_projects")
        .col(big_integer("runner_id"))
        .col(big_integer("project_id"))
        .col(time("created_at"))
        .foreign_key(&mut cascade("runner_projects", "runner_id", "runners"))
        .foreign_key(&mut cascade("runner_projects", "project_id", "projects"))
        .to_owned()
}

fn runner_managers_table() -> TableCreateStatement {
    table("runner_managers")
        .col(big_integer("runner_id"))
        .col(string_len("system_id", 64))
        .col(string_len_null("version", INFO))
        .col(string_len_null("revision", INFO))
        .col(string_len_null("platform", INFO))
        .col(string_len_null("architecture", INFO))
        .col(string_len_null("executor", INFO))
        .col(string_len_null("ip_address", 45))
        .col(time("created_at"))
        .col(time("contacted_at"))
        .foreign_key(&mut cascade("runner_managers", "runner_id", "runners"))
        .to_owned()
}

fn runner_tokens_table() -> TableCreateStatement {
    table("runner_tokens")
        .col(big_integer("runner_id"))
        .col(integer("generation"))
        .col(var_binary_uniq("digest", 32))
        .col(small_integer("state"))
        .col(big_integer_null("predecessor_id"))
        .col(time_null("expires_at"))
        .col(time_null("rotation_deadline"))
        .col(time("created_at"))
        .col(time_null("overlap_ends_at"))
        .col(blob_null("sealed"))
        .col(string_len_null("sealed_key_id", 64))
        .col(time_null("promoted_at"))
        .col(time_null("superseded_at"))
        .foreign_key(&mut cascade("runner_tokens", "runner_id", "runners"))
        .to_owned()
}

/// A runner has at most one successor (1) and one current token (2), even if two requests meet.
fn one_active_token_per_state() -> IndexCreateStatement {
    Index::create()
        .name("ux_runner_tokens_active")
        .table("runner_tokens")
        .col("runner_id")
        .col("state")
        .unique()
        .and_where(Expr::col("state").is_in([1, 2]))
        .to_owned()
}
