//! A runner program that uses the token of a runner. The id of its machine tells it from the others.

use sea_orm::entity::prelude::*;

/// A row of `runner_managers`. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runner_managers")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The runner.
    pub runner_id: i64,
    /// The id that the program keeps for its machine, at most 64 characters.
    pub system_id: String,
    /// Its version.
    pub version: Option<String>,
    /// Its revision.
    pub revision: Option<String>,
    /// Its platform.
    pub platform: Option<String>,
    /// Its architecture.
    pub architecture: Option<String>,
    /// Its executor.
    pub executor: Option<String>,
    /// The address it was last seen from.
    pub ip_address: Option<String>,
    /// The highest generation of the runner's token that it was seen with.
    pub generation: i32,
    /// When it was first seen with that generation. None: before this was recorded.
    pub moved_at: Option<i64>,
    /// When it was first seen.
    pub created_at: i64,
    /// When it was last seen.
    pub contacted_at: i64,
}

/// Queries write their joins themselves.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
