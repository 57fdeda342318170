//! A user. The username is unique regardless of case because the user's route is.

use sea_orm::entity::prelude::*;

/// A row of `users`. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The name for logging in, and the path of the personal namespace.
    pub username: String,
    /// The full name.
    pub name: String,
    /// The e-mail address, lower case.
    #[sea_orm(unique)]
    pub email: String,
    /// Whether the user is an administrator.
    pub admin: bool,
    /// When the user was created.
    pub created_at: i64,
}

/// Queries write their joins themselves.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
