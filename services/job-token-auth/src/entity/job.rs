//! A job. Nothing else of its token is stored.

use proto::paddock::job_token::v1::JobStatus;
use sea_orm::entity::prelude::*;

/// A row of `jobs`. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "jobs")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The project of the job.
    pub project_id: i64,
    /// The user that the job runs for.
    pub user_id: i64,
    /// The status, by its number in the contract.
    pub status: i16,
    /// The name in the pipeline.
    pub name: Option<String>,
    /// The stage in the pipeline.
    pub stage: Option<String>,
    /// The branch or tag.
    pub r#ref: Option<String>,
    /// When the job was created.
    pub created_at: i64,
    /// When the job started.
    pub started_at: Option<i64>,
    /// When the job finished.
    pub finished_at: Option<i64>,
    /// When the token expires.
    pub token_expires_at: i64,
}

impl Model {
    /// Returns the status; unspecified for a status that this version does not know. Tokens are not valid then.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        JobStatus::try_from(i32::from(self.status)).unwrap_or(JobStatus::Unspecified)
    }
}

/// Jobs have no references to other tables.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
