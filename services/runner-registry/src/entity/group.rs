//! A group. Its path is unique regardless of case because its route is; its ancestors are in `group_ancestors`.

use sea_orm::entity::prelude::*;

use super::Visibility;

/// A row of `groups`. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "groups")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The parent group; it never changes. None: a top-level group.
    pub parent_id: Option<i64>,
    /// The name.
    pub name: String,
    /// The last segment of the path.
    pub path: String,
    /// The paths of all ancestors and its own, joined by `/`.
    pub full_path: String,
    /// The description.
    pub description: Option<String>,
    /// Who may see it.
    pub visibility: Visibility,
    /// Seconds that a new token of the group's own runners is valid. None: no limit here.
    pub runner_token_expiration_interval: Option<i64>,
    /// Seconds that a new token of a descendant group's runners is valid. None: no limit here.
    pub subgroup_runner_token_expiration_interval: Option<i64>,
    /// Seconds that a new token of the runners of projects below is valid. None: no limit here.
    pub project_runner_token_expiration_interval: Option<i64>,
    /// When the group was created.
    pub created_at: i64,
}

/// Queries write their joins themselves.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
