//! One generation of a runner's token. Only its digest is stored, and the text of a successor, sealed, until it is
//! promoted.

use sea_orm::entity::prelude::*;

/// A row of `runner_tokens`. Times are milliseconds since the Unix epoch. A runner has at most one successor and one
/// current token; an index holds that.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runner_tokens")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The runner.
    pub runner_id: i64,
    /// The number of the generation, from 1.
    pub generation: i32,
    /// The SHA-256 digest of the token, 32 bytes.
    #[sea_orm(unique)]
    pub digest: Vec<u8>,
    /// Its state.
    pub state: TokenState,
    /// The token that it succeeds. None: the first one, or one that an administrator's reset made.
    pub predecessor_id: Option<i64>,
    /// From this instant on it does not authenticate. None: never.
    pub expires_at: Option<i64>,
    /// From this instant on it cannot be rotated. None: no deadline.
    pub rotation_deadline: Option<i64>,
    /// When it was minted.
    pub created_at: i64,
    /// The text of a successor, sealed; erased when it is promoted.
    pub sealed: Option<Vec<u8>>,
    /// The id of the key that sealed it.
    pub sealed_key_id: Option<String>,
    /// When the successor was first used and became current.
    pub promoted_at: Option<i64>,
    /// When it began to retire: its successor was first used, or it was replaced before its own first use.
    pub retired_at: Option<i64>,
    /// When it was superseded or revoked.
    pub superseded_at: Option<i64>,
}

/// The state of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum TokenState {
    /// Minted by a rotation, not used yet.
    #[sea_orm(num_value = 1)]
    Successor,
    /// The token of the runner.
    #[sea_orm(num_value = 2)]
    Current,
    /// Ended by a rotation without an overlap.
    #[sea_orm(num_value = 3)]
    Superseded,
    /// Replaced by a reset by runner id.
    #[sea_orm(num_value = 4)]
    Revoked,
    /// Replaced by a rotation. It works until it expires, for managers that used it before and have not moved on.
    #[sea_orm(num_value = 5)]
    Retiring,
}

/// The joins that queries use.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// To the runner.
    #[sea_orm(belongs_to = "super::runner::Entity", from = "Column::RunnerId", to = "super::runner::Column::Id")]
    Runner,
    /// To the managers of the runner.
    #[sea_orm(
        belongs_to = "super::runner_manager::Entity",
        from = "Column::RunnerId",
        to = "super::runner_manager::Column::RunnerId"
    )]
    Manager,
}

impl ActiveModelBehavior for ActiveModel {}
