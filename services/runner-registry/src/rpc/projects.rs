//! Projects.

use chassis::{access::User, db::paging::Paged};
use proto::{
    paddock::directory::v1::{
        CreateProjectRequest, CreateProjectResponse, DeleteProjectRequest, DeleteProjectResponse, GetProjectRequest,
        GetProjectResponse, ListProjectsRequest, ListProjectsResponse, Namespace as NamespaceMessage, Project,
        UpdateProjectRequest, UpdateProjectResponse, project_service_server::ProjectService,
    },
    timestamp,
};
use tonic::{Request, Response, Status};

use super::{
    State, by_user,
    convert::{
        changed_interval, changed_visibility, check_interval, check_texts, listing, visibility, visibility_message,
    },
    mask::Mask,
    objects,
};
use crate::{
    directory::{paths, permission::Permissions},
    entity::{Visibility, project::Model},
    error::{Error, FieldErrors, Result},
    store::projects::{self, Changes, LocatedProject, Namespace, NamespaceId, New},
};

/// The greatest length of a description.
const MAX_DESCRIPTION: usize = 2000;

const INTERVAL: &str = "runner_token_expiration_interval";

/// The service.
pub struct Projects(pub State);

#[tonic::async_trait]
impl ProjectService for Projects {
    async fn list_projects(
        &self,
        request: Request<ListProjectsRequest>,
    ) -> Result<Response<ListProjectsResponse>, Status> {
        let (user, request) = by_user(request)?;
        let listing = listing(&user, request.page, request.per_page, request.search.as_deref())?;
        let db = &self.0.database;
        let Paged { items, page } = projects::list(db, listing).await?;
        let projects = projects::locate(db, items).await?.into_iter().map(message).collect();
        Ok(Response::new(ListProjectsResponse { projects, page: Some(page) }))
    }

    async fn get_project(&self, request: Request<GetProjectRequest>) -> Result<Response<GetProjectResponse>, Status> {
        let (user, request) = by_user(request)?;
        let project = objects::project(&self.0.database, &user, &request.id).await?.model;
        Ok(Response::new(GetProjectResponse { project: Some(self.project_message(project).await?) }))
    }

    async fn create_project(
        &self,
        request: Request<CreateProjectRequest>,
    ) -> Result<Response<CreateProjectResponse>, Status> {
        let (user, request) = by_user(request)?;
        let project = self.insert_project(&user, request).await?;
        Ok(Response::new(CreateProjectResponse { project: Some(self.project_message(project).await?) }))
    }

    async fn update_project(
        &self,
        request: Request<UpdateProjectRequest>,
    ) -> Result<Response<UpdateProjectResponse>, Status> {
        let (user, request) = by_user(request)?;
        let db = &self.0.database;
        let project = objects::project(db, &user, &request.id).await?.check(Permissions::may_maintain_project)?;
        let project = projects::update(db, project, project_changes(request)?).await?;
        Ok(Response::new(UpdateProjectResponse { project: Some(self.project_message(project).await?) }))
    }

    async fn delete_project(
        &self,
        request: Request<DeleteProjectRequest>,
    ) -> Result<Response<DeleteProjectResponse>, Status> {
        let (user, request) = by_user(request)?;
        let db = &self.0.database;
        let project = objects::project(db, &user, &request.id).await?.check(Permissions::may_delete_project)?;
        projects::delete(db, &project).await?;
        Ok(Response::new(DeleteProjectResponse {}))
    }
}

impl Projects {
    async fn insert_project(&self, user: &User, request: CreateProjectRequest) -> Result<Model> {
        let db = &self.0.database;
        let namespace = match request.namespace_id {
            None => NamespaceId::User(user.id),
            Some(id) => {
                let group = objects::group_by_number(db, user, id).await?;
                NamespaceId::Group(group.check_creation(Permissions::may_create_in_group)?.id)
            }
        };
        projects::create(db, new_project(namespace, request)?, user.id, self.0.clock.now()).await
    }

    async fn project_message(&self, project: Model) -> Result<Project> {
        let located = projects::locate(&self.0.database, vec![project]).await?.pop();
        located.map(message).ok_or(Error::ProjectNotFound)
    }
}

fn new_project(namespace: NamespaceId, request: CreateProjectRequest) -> Result<New> {
    let visibility = request.visibility.map_or(Ok(Visibility::Private), visibility)?;
    let (name, path) = match (request.name, request.path) {
        (None, None) => return Err(Error::NoParameter(&["name", "path"])),
        (Some(name), Some(path)) => (name, path),
        (Some(name), None) => (name.clone(), paths::from_name(&name)),
        (None, Some(path)) => (path.clone(), path),
    };
    let mut errors = FieldErrors::default();
    check_texts(&mut errors, Some(&name), Some(&path), request.description.as_deref(), MAX_DESCRIPTION);
    check_interval(&mut errors, INTERVAL, request.runner_token_expiration_interval);
    errors.check()?;
    Ok(New {
        namespace,
        name,
        path,
        description: request.description,
        visibility,
        runner_token_expiration_interval: request.runner_token_expiration_interval,
    })
}

fn project_changes(request: UpdateProjectRequest) -> Result<Changes> {
    let mask = Mask::new(request.update_mask);
    let mut errors = FieldErrors::default();
    let interval = request.runner_token_expiration_interval;
    let changes = Changes {
        name: mask.value("name", request.name),
        path: mask.value("path", request.path),
        description: mask.clearable("description", request.description),
        visibility: changed_visibility(&mask, request.visibility)?,
        runner_token_expiration_interval: changed_interval(&mut errors, &mask, INTERVAL, interval),
    };
    let description = changes.description.as_ref().and_then(Option::as_deref);
    check_texts(&mut errors, changes.name.as_deref(), changes.path.as_deref(), description, MAX_DESCRIPTION);
    errors.check()?;
    Ok(changes)
}

/// The project as messages carry it.
pub fn message(located: LocatedProject) -> Project {
    let name_with_namespace = located.name_with_namespace();
    let LocatedProject { project, namespace } = located;
    Project {
        id: project.id,
        description: project.description,
        name: project.name,
        name_with_namespace,
        path: project.path,
        path_with_namespace: project.full_path,
        created_at: Some(timestamp::from_millis(project.created_at)),
        web_url: None,
        namespace: Some(namespace_message(namespace)),
        visibility: visibility_message(project.visibility),
        creator_id: project.creator_id,
        runner_token_expiration_interval: project.runner_token_expiration_interval,
    }
}

fn namespace_message(namespace: Namespace) -> NamespaceMessage {
    match namespace {
        Namespace::Group(group, _) => NamespaceMessage {
            id: group.id,
            name: group.name,
            path: group.path,
            kind: "group".to_owned(),
            full_path: group.full_path,
        },
        Namespace::User(user) => NamespaceMessage {
            id: user.id,
            name: user.name,
            path: user.username.clone(),
            kind: "user".to_owned(),
            full_path: user.username,
        },
    }
}
