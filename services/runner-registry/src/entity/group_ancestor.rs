//! The closure of the group tree: one row for each group and ancestor, and one for the group itself. Groups never move,
//! so the rows of a group are written once, when it is created.

use sea_orm::entity::prelude::*;

/// A row of `group_ancestors`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "group_ancestors")]
pub struct Model {
    /// The group.
    #[sea_orm(primary_key, auto_increment = false)]
    pub group_id: i64,
    /// The ancestor, or the group itself.
    #[sea_orm(primary_key, auto_increment = false)]
    pub ancestor_id: i64,
    /// How many steps up the ancestor is; 0: the group itself.
    pub distance: i32,
}

/// The joins that queries use.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// To the group that is the ancestor.
    #[sea_orm(belongs_to = "super::group::Entity", from = "Column::AncestorId", to = "super::group::Column::Id")]
    Ancestor,
}

impl ActiveModelBehavior for ActiveModel {}
