//! A user's role in a group or a project. The role in a group holds in everything below it.

use proto::role::Role;
use sea_orm::entity::prelude::*;

/// A row of `members`. Exactly one of `group_id` and `project_id` is set.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "members")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The user.
    pub user_id: i64,
    /// The group.
    pub group_id: Option<i64>,
    /// The project.
    pub project_id: Option<i64>,
    /// The number of the role.
    pub access_level: i32,
}

impl Model {
    /// The role; none if this version does not know its number.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        Role::from_number(self.access_level)
    }
}

/// Queries write their joins themselves.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
