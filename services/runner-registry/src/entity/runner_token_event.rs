//! An event in the life of a runner's tokens. Repetitions within an hour share a row.

use sea_orm::entity::prelude::*;

/// A row of `runner_token_events`. Times are milliseconds since the Unix epoch. An index holds that there is one row for
/// each runner, generation, kind, system id, address and hour.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runner_token_events")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The runner.
    pub runner_id: i64,
    /// The generation of the token.
    pub generation: i32,
    /// What happened.
    pub kind: TokenEventKind,
    /// The highest grade of its repetitions.
    pub grade: TokenEventGrade,
    /// The system id that the caller sent; empty: none.
    pub system_id: String,
    /// The address of the caller; empty: not known.
    pub ip_address: String,
    /// The hour of the first repetition, in hours since the Unix epoch.
    pub hour: i64,
    /// The user agent of the last caller.
    pub user_agent: Option<String>,
    /// The user who created or revoked the token.
    pub actor_id: Option<i64>,
    /// When it happened first.
    pub first_at: i64,
    /// When it happened last.
    pub last_at: i64,
    /// How often it happened.
    pub count: i64,
}

/// What happened to a token, or with it. The numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum TokenEventKind {
    /// A user created it, with the runner or by a reset by runner id.
    #[sea_orm(num_value = 1)]
    Created,
    /// A rotation made it.
    #[sea_orm(num_value = 2)]
    Minted,
    /// A repeated rotation returned it again.
    #[sea_orm(num_value = 3)]
    DeliveredAgain,
    /// A token that a rotation made was used for the first time.
    #[sea_orm(num_value = 4)]
    FirstUsed,
    /// A manager that was not known before used the current token.
    #[sea_orm(num_value = 5)]
    NewManager,
    /// A manager that had moved to a newer token presented it.
    #[sea_orm(num_value = 6)]
    WentBack,
    /// It was presented after its end, or by a caller for whom it does not work any more.
    #[sea_orm(num_value = 7)]
    UsedAfterEnd,
    /// A reset by runner id ended it, together with every older token.
    #[sea_orm(num_value = 8)]
    Revoked,
    /// Its rotation was refused.
    #[sea_orm(num_value = 9)]
    Refused,
}

/// How much an event asks for attention. The numbers are those of the contract; a higher one asks for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum TokenEventGrade {
    /// Part of the ordinary life of a token.
    #[sea_orm(num_value = 1)]
    Info,
    /// A runner program is not configured well, or missed a change of its token.
    #[sea_orm(num_value = 2)]
    Notice,
    /// A caller that is not a known manager of the runner uses a copy of its token.
    #[sea_orm(num_value = 3)]
    High,
}

/// Queries write their joins themselves.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
