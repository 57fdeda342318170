//! The assignment of a project runner to a project. The project of the oldest assignment owns the runner.

use sea_orm::entity::prelude::*;

/// A row of `runner_projects`. Times are milliseconds since the Unix epoch.
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
    pub created_at: i64,
}

/// The joins that queries use.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// To the project.
    #[sea_orm(belongs_to = "super::project::Entity", from = "Column::ProjectId", to = "super::project::Column::Id")]
    Project,
}

impl ActiveModelBehavior for ActiveModel {}
