//! Look-ups of projects, groups and users for other processes.

use proto::{
    paddock::directory::v1::{
        DescribeGroupsRequest, DescribeGroupsResponse, DescribeProjectsRequest, DescribeProjectsResponse,
        DescribeUsersRequest, DescribeUsersResponse, GetProjectAccessRequest, GetProjectAccessResponse, Group,
        GroupDescription, Project, ProjectDescription, UserDescription, directory_service_server::DirectoryService,
    },
    role::Role,
};
use tonic::{Request, Response, Status};

use super::{State, groups, projects};
use crate::{
    directory::paths::ObjectId,
    error::{Error, Result},
    store::{
        self,
        lookups::{self, Viewer},
    },
};

/// How many objects one call may ask for. With it, even the longest texts fit into one answer.
const MAX_IDS: usize = 100;

/// The service.
pub struct Directory(pub State);

#[tonic::async_trait]
impl DirectoryService for Directory {
    async fn get_project_access(
        &self,
        request: Request<GetProjectAccessRequest>,
    ) -> Result<Response<GetProjectAccessResponse>, Status> {
        let request = request.into_inner();
        let db = &self.0.database;
        let id = ObjectId::parse(&request.project).ok_or(Error::ProjectNotFound)?;
        let (located, ancestor_group_ids) = lookups::project(db, &id).await?.ok_or(Error::ProjectNotFound)?;
        let user = match request.user_id {
            Some(user_id) => lookups::user_in_project(db, user_id, &located.project).await?,
            None => None,
        };
        let mut response = GetProjectAccessResponse {
            project: Some(projects::message(located)),
            ancestor_group_ids,
            ..Default::default()
        };
        if let Some((user, role)) = user {
            response.access_level = role.map(Role::number);
            response.user_exists = true;
            response.user_is_admin = user.admin;
            response.username = user.username;
        }
        Ok(Response::new(response))
    }

    async fn describe_projects(
        &self,
        request: Request<DescribeProjectsRequest>,
    ) -> Result<Response<DescribeProjectsResponse>, Status> {
        let request = request.into_inner();
        check_count(&request.ids)?;
        let db = &self.0.database;
        let viewer = viewer_from_request(request.viewer_id, request.viewer_is_admin);
        let (found, visible) = lookups::projects(db, &request.ids, viewer).await?;
        let group_ids = found.iter().filter_map(|located| located.project.group_id).collect();
        let ancestors = lookups::ancestors(db, group_ids).await?;
        let projects = found.into_iter().map(|located| {
            let group_id = located.project.group_id;
            ProjectDescription {
                visible: visible.contains(&located.project.id),
                ancestor_group_ids: group_id.and_then(|id| ancestors.get(&id).cloned()).unwrap_or_default(),
                project: Some(project_message(located, request.names_only)),
            }
        });
        Ok(Response::new(DescribeProjectsResponse { projects: projects.collect() }))
    }

    async fn describe_groups(
        &self,
        request: Request<DescribeGroupsRequest>,
    ) -> Result<Response<DescribeGroupsResponse>, Status> {
        let request = request.into_inner();
        check_count(&request.ids)?;
        let db = &self.0.database;
        let viewer = viewer_from_request(request.viewer_id, request.viewer_is_admin);
        let (found, visible) = lookups::groups(db, &request.ids, viewer).await?;
        let mut names = store::groups::full_names(db, found.iter().map(|group| group.id).collect()).await?;
        let groups = found.into_iter().filter_map(|group| {
            let visible = visible.contains(&group.id);
            let group = Group { description: None, ..groups::message(names.remove(&group.id)?, group) };
            Some(GroupDescription { group: Some(group), visible })
        });
        Ok(Response::new(DescribeGroupsResponse { groups: groups.collect() }))
    }

    async fn describe_users(
        &self,
        request: Request<DescribeUsersRequest>,
    ) -> Result<Response<DescribeUsersResponse>, Status> {
        let ids = request.into_inner().ids;
        check_count(&ids)?;
        let users = lookups::users(&self.0.database, &ids).await?.into_iter().map(|user| UserDescription {
            id: user.id,
            username: user.username,
            name: user.name,
            is_admin: user.admin,
        });
        Ok(Response::new(DescribeUsersResponse { users: users.collect() }))
    }
}

fn project_message(located: store::projects::LocatedProject, names_only: bool) -> Project {
    let project = projects::message(located);
    if !names_only {
        return project;
    }
    Project { description: None, name_with_namespace: String::new(), ..project }
}

fn viewer_from_request(id: Option<i64>, is_admin: bool) -> Viewer {
    match id {
        _ if is_admin => Viewer::Admin,
        Some(id) => Viewer::User(id),
        None => Viewer::SignedOut,
    }
}

fn check_count(ids: &[i64]) -> Result<()> {
    if ids.len() <= MAX_IDS {
        return Ok(());
    }
    Err(Error::ParameterInvalid("ids does not have a valid value".to_owned()))
}
