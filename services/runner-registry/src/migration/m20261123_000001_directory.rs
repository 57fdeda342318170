//! Users and their tokens, groups, projects, members, paths, and the settings of the instance.

use chassis::db::columns::{self, NAME, cascade, exactly_one, index, set_null, table, time, time_null, unique};
use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = vec![
            users_table(),
            personal_access_tokens_table(),
            groups_table(),
            group_ancestors_table(),
            projects_table(),
            routes_table(),
            members_table(),
            application_settings_table(),
        ];
        let indexes = vec![
            index("personal_access_tokens", &["user_id"]),
            index("groups", &["parent_id"]),
            index("group_ancestors", &["ancestor_id"]),
            index("projects", &["group_id"]),
            index("projects", &["owner_id"]),
            index("projects", &["creator_id"]),
            unique("routes", &["user_id"]),
            unique("routes", &["group_id"]),
            unique("routes", &["project_id"]),
            unique("members", &["user_id", "group_id"]),
            unique("members", &["user_id", "project_id"]),
            index("members", &["group_id"]),
            index("members", &["project_id"]),
        ];
        columns::create(manager, tables, indexes).await?;
        let settings =
            Query::insert().into_table("application_settings").columns(["id"]).values_panic([1.into()]).to_owned();
        manager.execute(settings).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = [
            "application_settings",
            "members",
            "routes",
            "projects",
            "group_ancestors",
            "groups",
            "personal_access_tokens",
            "users",
        ];
        columns::drop(manager, &tables).await
    }
}

/// The username needs no unique index, because its route is unique.
fn users_table() -> TableCreateStatement {
    table("users")
        .col(string_len("username", NAME))
        .col(string_len("name", NAME))
        .col(string_len_uniq("email", NAME))
        .col(boolean("admin"))
        .col(time("created_at"))
        .to_owned()
}

fn personal_access_tokens_table() -> TableCreateStatement {
    table("personal_access_tokens")
        .col(big_integer("user_id"))
        .col(string_len("name", NAME))
        .col(var_binary_uniq("digest", 32))
        .col(json_binary("scopes"))
        .col(time_null("expires_at"))
        .col(time_null("revoked_at"))
        .col(time("created_at"))
        .col(time_null("last_used_at"))
        .foreign_key(&mut cascade("personal_access_tokens", "user_id", "users"))
        .to_owned()
}

fn groups_table() -> TableCreateStatement {
    table("groups")
        .col(big_integer_null("parent_id"))
        .col(string_len("name", NAME))
        .col(string_len("path", NAME))
        .col(string_len("full_path", NAME))
        .col(text_null("description"))
        .col(small_integer("visibility"))
        .col(big_integer_null("runner_token_expiration_interval"))
        .col(big_integer_null("subgroup_runner_token_expiration_interval"))
        .col(big_integer_null("project_runner_token_expiration_interval"))
        .col(time("created_at"))
        .foreign_key(&mut cascade("groups", "parent_id", "groups"))
        .to_owned()
}

fn group_ancestors_table() -> TableCreateStatement {
    Table::create()
        .table("group_ancestors")
        .col(big_integer("group_id"))
        .col(big_integer("ancestor_id"))
        .col(integer("distance"))
        .primary_key(Index::create().col("group_id").col("ancestor_id"))
        .foreign_key(&mut cascade("group_ancestors", "group_id", "groups"))
        .foreign_key(&mut cascade("group_ancestors", "ancestor_id", "groups"))
        .to_owned()
}

fn projects_table() -> TableCreateStatement {
    table("projects")
        .col(big_integer_null("group_id"))
        .col(big_integer_null("owner_id"))
        .col(string_len("name", NAME))
        .col(string_len("path", NAME))
        .col(string_len("full_path", NAME))
        .col(text_null("description"))
        .col(small_integer("visibility"))
        .col(big_integer_null("creator_id"))
        .col(big_integer_null("runner_token_expiration_interval"))
        .col(time("created_at"))
        .check(exactly_one(&["group_id", "owner_id"]))
        .foreign_key(&mut cascade("projects", "group_id", "groups"))
        .foreign_key(&mut cascade("projects", "owner_id", "users"))
        .foreign_key(&mut set_null("projects", "creator_id", "users"))
        .to_owned()
}

fn routes_table() -> TableCreateStatement {
    Table::create()
        .table("routes")
        .col(string_len("path_key", NAME).primary_key().take())
        .col(big_integer_null("user_id"))
        .col(big_integer_null("group_id"))
        .col(big_integer_null("project_id"))
        .check(exactly_one(&["user_id", "group_id", "project_id"]))
        .foreign_key(&mut cascade("routes", "user_id", "users"))
        .foreign_key(&mut cascade("routes", "group_id", "groups"))
        .foreign_key(&mut cascade("routes", "project_id", "projects"))
        .to_owned()
}

fn members_table() -> TableCreateStatement {
    table("members")
        .col(big_integer("user_id"))
        .col(big_integer_null("group_id"))
        .col(big_integer_null("project_id"))
        .col(integer("access_level"))
        .check(exactly_one(&["group_id", "project_id"]))
        .foreign_key(&mut cascade("members", "user_id", "users"))
        .foreign_key(&mut cascade("members", "group_id", "groups"))
        .foreign_key(&mut cascade("members", "project_id", "projects"))
        .to_owned()
}

/// The check allows one row only.
fn application_settings_table() -> TableCreateStatement {
    Table::create()
        .table("application_settings")
        .col(big_integer("id").primary_key().take())
        .col(big_integer_null("runner_token_expiration_interval"))
        .col(big_integer_null("group_runner_token_expiration_interval"))
        .col(big_integer_null("project_runner_token_expiration_interval"))
        .check(Expr::col("id").eq(1))
        .to_owned()
}
