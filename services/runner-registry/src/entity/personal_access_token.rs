//! A personal access token. Only its digest is stored.

use sea_orm::entity::prelude::*;

use super::StringList;

/// A row of `personal_access_tokens`. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "personal_access_tokens")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The user that it belongs to.
    pub user_id: i64,
    /// The name that its owner gave it.
    pub name: String,
    /// The SHA-256 digest of the token, 32 bytes.
    #[sea_orm(unique)]
    pub digest: Vec<u8>,
    /// The names of its scopes.
    #[sea_orm(column_type = "JsonBinary")]
    pub scopes: StringList,
    /// From this instant on it does not authenticate. None: never.
    pub expires_at: Option<i64>,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
    /// When it was created.
    pub created_at: i64,
    /// When it last authenticated.
    pub last_used_at: Option<i64>,
}

/// The joins that queries use.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// To the user that it belongs to.
    #[sea_orm(belongs_to = "super::user::Entity", from = "Column::UserId", to = "super::user::Column::Id")]
    User,
}

impl Related<super::user::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::User.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
