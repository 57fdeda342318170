//! What runner-registry knows of projects, groups and users.

use std::collections::HashMap;

use chassis::{
    access::{CallContext, Caller, User},
    client::PeerChannel,
};
use proto::paddock::{
    contract::v1::Process,
    directory::v1::{
        DescribeGroupsRequest, DescribeProjectsRequest, DescribeUsersRequest, GetProjectAccessRequest,
        GetProjectAccessResponse, GroupDescription, ProjectDescription, UserDescription,
        directory_service_client::DirectoryServiceClient,
    },
};

use crate::error::Result;

/// How many ids one call asks for: as many as it may.
const BATCH: usize = 100;

/// The look-ups, always fresh.
#[derive(Clone)]
pub struct Directory {
    registry: PeerChannel,
}

impl Directory {
    /// Look-ups over this channel.
    #[must_use]
    pub fn new(registry: PeerChannel) -> Self {
        Self { registry }
    }

    /// A project, by its id or its full path, and what a user is to it.
    ///
    /// # Errors
    /// A refusal with `PROJECT_NOT_FOUND` if there is no such project, or a fault.
    pub async fn project(
        &self,
        project: &str,
        user_id: Option<i64>,
        context: &CallContext,
    ) -> Result<GetProjectAccessResponse> {
        let request = GetProjectAccessRequest { project: project.to_owned(), user_id };
        Ok(self.client().get_project_access(by_us(request, context)).await?.into_inner())
    }

    /// The projects with these ids that exist, by their ids.
    ///
    /// # Errors
    /// A fault.
    pub async fn projects(
        &self,
        ids: &[i64],
        viewer: Option<&User>,
        context: &CallContext,
    ) -> Result<HashMap<i64, ProjectDescription>> {
        self.describe_projects(ids, viewer, false, context).await
    }

    /// As [`Self::projects`], without the long texts of the projects, which others write: lists of any length need none.
    ///
    /// # Errors
    /// A fault.
    pub async fn project_names(
        &self,
        ids: &[i64],
        viewer: Option<&User>,
        context: &CallContext,
    ) -> Result<HashMap<i64, ProjectDescription>> {
        self.describe_projects(ids, viewer, true, context).await
    }

    async fn describe_projects(
        &self,
        ids: &[i64],
        viewer: Option<&User>,
        names_only: bool,
        context: &CallContext,
    ) -> Result<HashMap<i64, ProjectDescription>> {
        let mut found = HashMap::new();
        for ids in ids.chunks(BATCH) {
            let request = DescribeProjectsRequest {
                ids: ids.to_vec(),
                viewer_id: viewer.map(|user| user.id),
                viewer_is_admin: viewer.is_some_and(|user| user.admin),
                names_only,
            };
            let answer = self.client().describe_projects(by_us(request, context)).await?.into_inner();
            let named = answer.projects.into_iter().filter_map(|found| Some((found.project.as_ref()?.id, found)));
            found.extend(named);
        }
        Ok(found)
    }

    /// The groups with these ids that exist, by their ids.
    ///
    /// # Errors
    /// A fault.
    pub async fn groups(
        &self,
        ids: &[i64],
        viewer: Option<&User>,
        context: &CallContext,
    ) -> Result<HashMap<i64, GroupDescription>> {
        let mut found = HashMap::new();
        for ids in ids.chunks(BATCH) {
            let request = DescribeGroupsRequest {
                ids: ids.to_vec(),
                viewer_id: viewer.map(|user| user.id),
                viewer_is_admin: viewer.is_some_and(|user| user.admin),
            };
            let answer = self.client().describe_groups(by_us(request, context)).await?.into_inner();
            found.extend(answer.groups.into_iter().filter_map(|found| Some((found.group.as_ref()?.id, found))));
        }
        Ok(found)
    }

    /// The users with these ids that exist, by their ids.
    ///
    /// # Errors
    /// A fault.
    pub async fn users(&self, ids: &[i64], context: &CallContext) -> Result<HashMap<i64, UserDescription>> {
        let mut found = HashMap::new();
        for ids in ids.chunks(BATCH) {
            let request = DescribeUsersRequest { ids: ids.to_vec() };
            let answer = self.client().describe_users(by_us(request, context)).await?.into_inner();
            found.extend(answer.users.into_iter().map(|user| (user.id, user)));
        }
        Ok(found)
    }

    fn client(&self) -> DirectoryServiceClient<PeerChannel> {
        DirectoryServiceClient::new(self.registry.clone())
    }
}

/// A call that this process makes for itself, on behalf of the request that it serves.
fn by_us<T>(message: T, context: &CallContext) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let caller = Caller::Process(Process::JobTokenAuth);
    request.extensions_mut().insert(CallContext { caller, ..context.clone() });
    request
}
