//! Look-ups of projects, groups and users in runner-registry.

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

/// The maximum number of ids in one call; see the limit of runner-registry.
const BATCH: usize = 100;

/// Look-ups in runner-registry, without a cache.
#[derive(Clone)]
pub struct Directory {
    registry: PeerChannel,
}

impl Directory {
    /// Creates look-ups over a channel.
    #[must_use]
    pub fn new(registry: PeerChannel) -> Self {
        Self { registry }
    }

    /// Returns a project, by its id or its full path, with the access of a user to it.
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
        Ok(self.client().get_project_access(own_request(request, context)).await?.into_inner())
    }

    /// Returns the projects with these ids that exist, by their ids.
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

    /// As [`Self::projects`], without the descriptions and other long texts of the projects.
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
            let response = self.client().describe_projects(own_request(request, context)).await?.into_inner();
            let by_id = response.projects.into_iter().filter_map(|found| Some((found.project.as_ref()?.id, found)));
            found.extend(by_id);
        }
        Ok(found)
    }

    /// Returns the groups with these ids that exist, by their ids.
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
            let response = self.client().describe_groups(own_request(request, context)).await?.into_inner();
            found.extend(response.groups.into_iter().filter_map(|found| Some((found.group.as_ref()?.id, found))));
        }
        Ok(found)
    }

    /// Returns the users with these ids that exist, by their ids.
    ///
    /// # Errors
    /// A fault.
    pub async fn users(&self, ids: &[i64], context: &CallContext) -> Result<HashMap<i64, UserDescription>> {
        let mut found = HashMap::new();
        for ids in ids.chunks(BATCH) {
            let request = DescribeUsersRequest { ids: ids.to_vec() };
            let response = self.client().describe_users(own_request(request, context)).await?.into_inner();
            found.extend(response.users.into_iter().map(|user| (user.id, user)));
        }
        Ok(found)
    }

    fn client(&self) -> DirectoryServiceClient<PeerChannel> {
        DirectoryServiceClient::new(self.registry.clone())
    }
}

/// Makes a request in the name of this process, with the context of the call that it serves.
fn own_request<T>(message: T, context: &CallContext) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let caller = Caller::Process(Process::JobTokenAuth);
    request.extensions_mut().insert(CallContext { caller, ..context.clone() });
    request
}
