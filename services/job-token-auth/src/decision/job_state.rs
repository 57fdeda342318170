//! The state of the job of a token.

use std::sync::Arc;

use chassis::{access::CallContext, status::Refusal};
use proto::paddock::{contract::v1::Reason, job_token::v1::JobStatus};

use super::sources::Sources;
use crate::{
    allowlist::rules::{Origin, Target},
    error::Result,
    job_token::token::Claims,
};

/// The state of the job of a token.
#[derive(Clone, Debug)]
pub enum JobState {
    /// The job does not exist, or its project or user are not those of the token.
    Unknown,
    /// The job does not run.
    NotRunning,
    /// The project of the job was deleted.
    ProjectDeleted,
    /// The user of the job was deleted.
    UserDeleted,
    /// The job runs.
    Running(Arc<RunningJob>),
}

/// A job that runs, with its project and its user.
#[derive(Clone, Debug)]
pub struct RunningJob {
    /// The project of the job.
    pub origin: Origin,
    /// The name of the user that the job runs for.
    pub username: String,
}

impl JobState {
    /// Reads the state of the job that a token names.
    ///
    /// # Errors
    /// A fault.
    pub async fn read(sources: &impl Sources, claims: &Claims, context: &CallContext) -> Result<Self> {
        let Some(job) = sources.job(claims.job_id).await? else { return Ok(Self::Unknown) };
        if job.project_id != claims.project_id || job.user_id != claims.user_id {
            return Ok(Self::Unknown);
        }
        if job.status != JobStatus::Running {
            return Ok(Self::NotRunning);
        }
        let access = sources.project_access(&job.project_id.to_string(), job.user_id, context).await?;
        let Some(access) = access else { return Ok(Self::ProjectDeleted) };
        if !access.user_exists {
            return Ok(Self::UserDeleted);
        }
        let project = Target::try_from(&access)?;
        let origin = Origin { id: project.id, full_path: project.full_path, ancestors: access.ancestor_group_ids };
        Ok(Self::Running(Arc::new(RunningJob { origin, username: access.username })))
    }

    /// Returns the job if it runs.
    ///
    /// # Errors
    /// A refusal with `JOB_TOKEN_INVALID`, `JOB_NOT_RUNNING`, `JOB_PROJECT_DELETED` or `JOB_USER_DELETED`.
    pub fn running(&self, claims: &Claims) -> Result<&Arc<RunningJob>, Refusal> {
        let (reason, problem) = match self {
            Self::Running(job) => return Ok(job),
            Self::Unknown => (Reason::JobTokenInvalid, "does not exist as the token says"),
            Self::NotRunning => (Reason::JobNotRunning, "does not run"),
            Self::ProjectDeleted => (Reason::JobProjectDeleted, "has lost its project"),
            Self::UserDeleted => (Reason::JobUserDeleted, "has lost its user"),
        };
        let detail = format!("job {} of project {} {problem}", claims.job_id, claims.project_id);
        Err(Refusal::new(reason).with_detail(detail))
    }
}
