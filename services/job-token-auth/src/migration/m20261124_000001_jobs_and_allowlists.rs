//! Jobs, the scope of each project with its allowlists, and the last known paths of projects.

use chassis::db::columns::{self, NAME, index, table};
use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = vec![
            jobs_table(),
            scopes_table(),
            allowlist_table("allowlist_projects", "target_project_id"),
            allowlist_table("allowlist_groups", "target_group_id"),
            known_projects_table(),
        ];
        let indexes = vec![
            index("jobs", &["project_id"]),
            index("jobs", &["status"]),
            index("allowlist_projects", &["target_project_id"]),
            index("allowlist_groups", &["target_group_id"]),
        ];
        columns::create(manager, tables, indexes).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        columns::drop(manager, &["known_projects", "allowlist_groups", "allowlist_projects", "scopes", "jobs"]).await
    }
}

/// Nothing else of a job token is stored.
fn jobs_table() -> TableCreateStatement {
    table("jobs")
        .col(big_integer("project_id"))
        .col(big_integer("user_id"))
        .col(small_integer("status"))
        .col(string_len_null("name", NAME))
        .col(string_len_null("stage", NAME))
        .col(string_len_null("ref", NAME))
        .col(big_integer("created_at"))
        .col(big_integer_null("started_at"))
        .col(big_integer_null("finished_at"))
        .col(big_integer("token_expires_at"))
        .to_owned()
}

/// A project without a row has the default: its allowlists apply.
fn scopes_table() -> TableCreateStatement {
    Table::create()
        .table("scopes")
        .col(big_integer("project_id").primary_key())
        .col(boolean("inbound_enabled"))
        .to_owned()
}

/// `source_project_id` is the project of the allowlist, as in GitLab. `policies` are names separated by commas.
fn allowlist_table(name: &'static str, target: &'static str) -> TableCreateStatement {
    Table::create()
        .table(name)
        .col(big_integer("source_project_id"))
        .col(big_integer(target))
        .col(boolean("default_permissions"))
        .col(text("policies"))
        .col(boolean("autopopulated"))
        .col(big_integer_null("added_by_id"))
        .col(big_integer("created_at"))
        .primary_key(Index::create().col("source_project_id").col(target))
        .to_owned()
}

/// The last known paths of projects, for lists that name deleted projects.
fn known_projects_table() -> TableCreateStatement {
    Table::create()
        .table("known_projects")
        .col(big_integer("id").primary_key())
        .col(text("full_path"))
        .col(big_integer("seen_at"))
        .to_owned()
}
