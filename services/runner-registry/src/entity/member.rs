//! A user's role in a group or a project. The role in a group holds in everything below it.

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
    /// The role.
    pub access_level: AccessLevel,
}

/// A role; a greater one includes the smaller ones. Source of the numbers:
/// <https://docs.gitlab.com/api/access_requests/>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum AccessLevel {
    /// Sees the object.
    #[sea_orm(num_value = 10)]
    Guest,
    /// Sees its code.
    #[sea_orm(num_value = 20)]
    Reporter,
    /// Changes its code.
    #[sea_orm(num_value = 30)]
    Developer,
    /// Administers a project.
    #[sea_orm(num_value = 40)]
    Maintainer,
    /// Administers a group, deletes a project.
    #[sea_orm(num_value = 50)]
    Owner,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
