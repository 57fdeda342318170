//! A job. Its row is all that is kept of its token.

use proto::paddock::job_token::v1::JobStatus;
use sea_orm::entity::prelude::*;

/// A row of `jobs`. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "jobs")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Its project.
    pub project_id: i64,
    /// The user that it runs for.
    pub user_id: i64,
    /// Where it stands, by its number in the contract.
    pub status: i16,
    /// Its name in the pipeline.
    pub name: Option<String>,
    /// Its stage in the pipeline.
    pub stage: Option<String>,
    /// The branch or tag that it runs for.
    pub r#ref: Option<String>,
    /// When it was recorded.
    pub created_at: i64,
    /// When it began.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// When its token expires.
    pub token_expires_at: i64,
}

impl Model {
    /// Where it stands. A status that this version does not know is none in which a token is good.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        JobStatus::try_from(i32::from(self.status)).unwrap_or(JobStatus::Unspecified)
    }
}

/// Jobs refer to nothing in this database.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
