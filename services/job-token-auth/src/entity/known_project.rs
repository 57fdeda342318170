//! What was last heard of a project, for lists that name it after its end.

use sea_orm::entity::prelude::*;

/// A row of `known_projects`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "known_projects")]
pub struct Model {
    /// The id that runner-registry gave it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// The full path.
    pub full_path: String,
    /// When it was seen, in milliseconds since the Unix epoch.
    pub seen_at: i64,
}

/// The project itself is in another database.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
