//! The settings of the instance: a table of one row, which the migration creates.

use sea_orm::entity::prelude::*;

/// The id of the only row.
pub const ID: i64 = 1;

/// The row of `application_settings`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "application_settings")]
pub struct Model {
    /// Always [`ID`].
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// Seconds that a new token of an instance runner is valid. None: no limit here.
    pub runner_token_expiration_interval: Option<i64>,
    /// Seconds that a new token of a group runner is valid. None: no limit here.
    pub group_runner_token_expiration_interval: Option<i64>,
    /// Seconds that a new token of a project runner is valid. None: no limit here.
    pub project_runner_token_expiration_interval: Option<i64>,
}

/// Queries write their joins themselves.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
