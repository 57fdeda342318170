//! A token of a runner that was deleted, kept for a while so that a refusal can say so.

use sea_orm::entity::prelude::*;

/// A row of `removed_runner_tokens`. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "removed_runner_tokens")]
pub struct Model {
    /// The SHA-256 digest of the token, 32 bytes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub digest: Vec<u8>,
    /// The id that the runner had.
    pub runner_id: i64,
    /// When the runner was deleted.
    pub removed_at: i64,
}

/// Queries write their joins themselves.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
