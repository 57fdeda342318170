//! The sources of a decision: the tables of this service, and runner-registry.

use std::future::Future;

use chassis::access::CallContext;
use proto::paddock::{contract::v1::Reason, directory::v1::GetProjectAccessResponse, job_token::v1::JobStatus};
use sea_orm::DatabaseConnection;

use crate::{
    allowlist::rules::{Origin, Scope},
    directory::Directory,
    error::{Error, Result},
    store::{allowlists, jobs},
};

/// The fields of a job that its token depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// The project of the job.
    pub project_id: i64,
    /// The user that the job runs for.
    pub user_id: i64,
    /// The status of the job.
    pub status: JobStatus,
}

/// Where a decision gets its data from.
pub trait Sources: Send + Sync {
    /// Returns the job; none if it does not exist.
    fn job(&self, id: i64) -> impl Future<Output = Result<Option<JobRecord>>> + Send;

    /// Returns the project with an id or a full path, and the access of the user to it; none if it does not exist.
    fn project_access(
        &self,
        project: &str,
        user_id: i64,
        context: &CallContext,
    ) -> impl Future<Output = Result<Option<GetProjectAccessResponse>>> + Send;

    /// Returns the part of the scope of a project that applies to jobs of the origin.
    fn scope(&self, project_id: i64, origin: &Origin) -> impl Future<Output = Result<Scope>> + Send;
}

/// The tables of the service, and runner-registry.
pub struct LiveSources {
    /// The database with jobs and allowlists.
    pub database: DatabaseConnection,
    /// The look-ups in runner-registry.
    pub directory: Directory,
}

impl Sources for LiveSources {
    async fn job(&self, id: i64) -> Result<Option<JobRecord>> {
        let job = jobs::find(&self.database, id).await?;
        Ok(job.map(|job| JobRecord { project_id: job.project_id, user_id: job.user_id, status: job.status() }))
    }

    async fn project_access(
        &self,
        project: &str,
        user_id: i64,
        context: &CallContext,
    ) -> Result<Option<GetProjectAccessResponse>> {
        match self.directory.project(project, Some(user_id), context).await {
            Ok(access) => Ok(Some(access)),
            Err(Error::Refused(refusal)) if refusal.reason() == Reason::ProjectNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn scope(&self, project_id: i64, origin: &Origin) -> Result<Scope> {
        allowlists::scope_for(&self.database, project_id, origin).await
    }
}
