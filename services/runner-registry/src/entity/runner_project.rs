//! The assignment of a project runner to a project. The surviving assignment with the smallest id is the owner's.

use sea_orm::entity::prelude::*;

/// A row of `runner_projects`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runner_projects")]
pub struct Model {
    /// The id; a later assignment has a greater one.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The runner.
    pub runner_id: i64,
    /// The project.
    pub project_id: i64,
    /// When it was assigned.
    pub created_at: TimeDateTimeWithTimeZone,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
