//! The facts as they are now.

use chassis::access::CallContext;
use proto::paddock::{contract::v1::Reason, directory::v1::GetProjectAccessResponse};
use sea_orm::DatabaseConnection;

use super::{JobFacts, Sources};
use crate::{
    directory::Directory,
    error::{Error, Result},
    scope::{Origin, Scope},
    store::{allowlists, jobs},
};

/// The tables of the service, and runner-registry.
pub struct Live {
    /// Where jobs and allowlists are.
    pub database: DatabaseConnection,
    /// What runner-registry knows.
    pub directory: Directory,
}

impl Sources for Live {
    async fn job(&self, id: i64) -> Result<Option<JobFacts>> {
        let job = jobs::find(&self.database, id).await?;
        Ok(job.map(|job| JobFacts { project_id: job.project_id, user_id: job.user_id, status: job.status() }))
    }

    async fn access(
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
