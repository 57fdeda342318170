//! A project, in a group or in a user's personal namespace. Its path is unique regardless of case because its route is.

use sea_orm::entity::prelude::*;

use super::Visibility;

/// A row of `projects`. Times are milliseconds since the Unix epoch. Exactly one of `group_id` and `owner_id` is set.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "projects")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The group it lives in.
    pub group_id: Option<i64>,
    /// The user in whose personal namespace it lives.
    pub owner_id: Option<i64>,
    /// The name.
    pub name: String,
    /// The last segment of the path.
    pub path: String,
    /// The path of its namespace and its own, joined by `/`.
    pub full_path: String,
    /// The description.
    pub description: Option<String>,
    /// Who may see it.
    pub visibility: Visibility,
    /// The user that created it. None: the user is gone.
    pub creator_id: Option<i64>,
    /// Seconds that a new token of the project's runners is valid. None: no limit here.
    pub runner_token_expiration_interval: Option<i64>,
    /// When the project was created.
    pub created_at: i64,
}

/// Queries write their joins themselves.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
