//! The paths of users, groups and projects. They share one table, so that two objects cannot have the same path, and
//! one look-up resolves a path.

use sea_orm::entity::prelude::*;

/// A row of `routes`. Exactly one of the ids is set.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "routes")]
pub struct Model {
    /// The full path in lower case.
    #[sea_orm(primary_key, auto_increment = false)]
    pub path_key: String,
    /// The user whose personal namespace has the path.
    pub user_id: Option<i64>,
    /// The group that has the path.
    pub group_id: Option<i64>,
    /// The project that has the path.
    pub project_id: Option<i64>,
}

/// Queries write their joins themselves.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
