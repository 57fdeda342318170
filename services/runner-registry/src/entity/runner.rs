//! A runner. Its tokens are in `runner_tokens`, the programs that use them in `runner_managers`.

use sea_orm::entity::prelude::*;

use super::StringList;

/// A row of `runners`. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runners")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// What it serves.
    pub runner_type: RunnerType,
    /// The description.
    pub description: Option<String>,
    /// The name that the runner program reports.
    pub name: Option<String>,
    /// A note for its maintainers.
    pub maintenance_note: Option<String>,
    /// Whether it gets no jobs.
    pub paused: bool,
    /// Whether it cannot be assigned to further projects.
    pub locked: bool,
    /// Which jobs it takes.
    pub access_level: RunnerAccessLevel,
    /// Whether it takes jobs without tags.
    pub run_untagged: bool,
    /// The longest time in seconds that it works on one job.
    pub maximum_timeout: Option<i32>,
    /// The tags by which jobs select it.
    #[sea_orm(column_type = "JsonBinary")]
    pub tag_list: StringList,
    /// The user that created it. None: the user is gone.
    pub creator_id: Option<i64>,
    /// The group of a group runner; none for the other types.
    pub group_id: Option<i64>,
    /// When it was created.
    pub created_at: i64,
    /// When it last contacted the registry.
    pub contacted_at: Option<i64>,
    /// The version of the manager seen last.
    pub version: Option<String>,
    /// The revision of the manager seen last.
    pub revision: Option<String>,
    /// The platform of the manager seen last.
    pub platform: Option<String>,
    /// The architecture of the manager seen last.
    pub architecture: Option<String>,
}

/// What a runner serves. The numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum RunnerType {
    /// Every project of the instance.
    #[sea_orm(num_value = 1)]
    Instance,
    /// Every project of one group and its descendants.
    #[sea_orm(num_value = 2)]
    Group,
    /// The projects it is assigned to.
    #[sea_orm(num_value = 3)]
    Project,
}

/// Which jobs a runner takes. The numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum RunnerAccessLevel {
    /// Jobs of every ref.
    #[sea_orm(num_value = 1)]
    NotProtected,
    /// Jobs of protected refs only.
    #[sea_orm(num_value = 2)]
    RefProtected,
}

/// Queries write their joins themselves.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
