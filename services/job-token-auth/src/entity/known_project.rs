//! The last known path of a project, for lists that name deleted projects.

use sea_orm::entity::prelude::*;

/// A row of `known_projects`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "known_projects")]
pub struct Model {
    /// The id of the project in runner-registry.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// The last known full path.
    pub full_path: String,
    /// When the path was stored, in milliseconds since the Unix epoch.
    pub seen_at: i64,
}

/// The projects are in another database.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
