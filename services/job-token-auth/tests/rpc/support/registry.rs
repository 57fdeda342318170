//! A fake runner-registry whose content the test sets. The real one has its own tests.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use chassis::{
    clock::Clock,
    identity::IdentityKeys,
    server::{GrpcServer, ServerConfig, ServerError},
    status::{Fault, Refusal},
};
use prost_types::Timestamp;
use proto::paddock::{
    contract::v1::{Process, Reason},
    directory::v1::{
        DescribeGroupsRequest, DescribeGroupsResponse, DescribeProjectsRequest, DescribeProjectsResponse,
        DescribeUsersRequest, DescribeUsersResponse, GetProjectAccessRequest, GetProjectAccessResponse, Group,
        GroupDescription, Project, ProjectDescription, UserDescription, Visibility,
        directory_service_server::{DirectoryService, DirectoryServiceServer},
    },
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// A fake runner-registry. Clones share its content.
#[derive(Clone, Default)]
pub struct Registry(Arc<Shared>);

#[derive(Default)]
struct Shared {
    directory: Mutex<Directory>,
    down: AtomicBool,
    calls: AtomicUsize,
}

#[derive(Default)]
struct Directory {
    users: HashMap<i64, UserDescription>,
    /// Each with its parent.
    groups: HashMap<i64, Group>,
    projects: HashMap<i64, ProjectRow>,
    /// By user and project.
    project_roles: HashMap<(i64, i64), i32>,
    /// By user and group. They only make the group visible.
    group_roles: HashMap<(i64, i64), i32>,
}

#[derive(Clone)]
struct ProjectRow {
    project: Project,
    group_id: Option<i64>,
}

impl Registry {
    /// Serves it.
    pub async fn serve(
        &self,
        keys: IdentityKeys,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> (SocketAddr, JoinHandle<Result<(), ServerError>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = GrpcServer::new(Process::RunnerRegistry, ServerConfig::default(), keys, clock);
        let server = server.add_service(DirectoryServiceServer::new(self.clone()));
        (address, tokio::spawn(server.serve(listener, shutdown)))
    }

    /// Adds a user.
    pub fn user(&self, id: i64, username: &str, is_admin: bool) {
        let name = format!("{username} the user");
        self.directory().users.insert(id, UserDescription { id, username: username.to_owned(), name, is_admin });
    }

    /// Adds a group.
    pub fn group(&self, id: i64, full_path: &str, parent_id: Option<i64>, visibility: Visibility) {
        let path = full_path.rsplit('/').next().unwrap().to_owned();
        let group = Group {
            id,
            name: path.to_uppercase(),
            path,
            full_path: full_path.to_owned(),
            parent_id,
            visibility: visibility.into(),
            ..Group::default()
        };
        self.directory().groups.insert(id, group);
    }

    /// Adds a project, or replaces it.
    pub fn project(&self, id: i64, full_path: &str, group_id: Option<i64>, visibility: Visibility) {
        let path = full_path.rsplit('/').next().unwrap().to_owned();
        let project = Project {
            id,
            name: path.to_uppercase(),
            name_with_namespace: full_path.to_uppercase().replace('/', " / "),
            path,
            path_with_namespace: full_path.to_owned(),
            visibility: visibility.into(),
            created_at: Some(Timestamp { seconds: 1_700_000_000 + id, nanos: 0 }),
            ..Project::default()
        };
        self.directory().projects.insert(id, ProjectRow { project, group_id });
    }

    /// Sets the role of a user in a project; none removes it.
    pub fn role(&self, user_id: i64, project_id: i64, role: Option<i32>) {
        let roles = &mut self.directory().project_roles;
        match role {
            Some(role) => roles.insert((user_id, project_id), role),
            None => roles.remove(&(user_id, project_id)),
        };
    }

    /// Sets the role of a user in a group.
    pub fn group_role(&self, user_id: i64, group_id: i64, role: i32) {
        self.directory().group_roles.insert((user_id, group_id), role);
    }

    /// Deletes a project.
    pub fn delete_project(&self, id: i64) {
        self.directory().projects.remove(&id);
    }

    /// Deletes a group.
    pub fn delete_group(&self, id: i64) {
        self.directory().groups.remove(&id);
    }

    /// Deletes a user.
    pub fn delete_user(&self, id: i64) {
        self.directory().users.remove(&id);
    }

    /// Sets whether all calls fail.
    pub fn set_down(&self, down: bool) {
        self.0.down.store(down, SeqCst);
    }

    /// Returns the number of calls.
    pub fn calls(&self) -> usize {
        self.0.calls.load(SeqCst)
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.0.directory.lock().unwrap()
    }

    fn answer(&self) -> Result<MutexGuard<'_, Directory>, Status> {
        self.0.calls.fetch_add(1, SeqCst);
        if self.0.down.load(SeqCst) {
            return Err(Fault::unavailable("the test says so").into());
        }
        Ok(self.directory())
    }
}

impl Directory {
    fn find(&self, reference: &str) -> Option<&ProjectRow> {
        match reference.parse() {
            Ok(id) => self.projects.get(&id),
            Err(_) => self.projects.values().find(|row| row.project.path_with_namespace == reference),
        }
    }

    fn ancestors(&self, group_id: Option<i64>) -> Vec<i64> {
        std::iter::successors(group_id, |id| self.groups.get(id)?.parent_id).collect()
    }

    fn sees(&self, visibility: Visibility, has_role: bool, admin: bool) -> bool {
        admin || has_role || visibility != Visibility::Private
    }
}

/// Refuses more ids than the contract allows in one call.
fn check_count(ids: &[i64]) -> Result<(), Status> {
    if ids.len() <= 100 { Ok(()) } else { Err(Refusal::new(Reason::ParameterInvalid).into()) }
}

#[tonic::async_trait]
impl DirectoryService for Registry {
    async fn get_project_access(
        &self,
        request: Request<GetProjectAccessRequest>,
    ) -> Result<Response<GetProjectAccessResponse>, Status> {
        let directory = self.answer()?;
        let GetProjectAccessRequest { project, user_id } = request.into_inner();
        let row = directory.find(&project).ok_or_else(|| Refusal::new(Reason::ProjectNotFound))?;
        let user = user_id.and_then(|id| directory.users.get(&id));
        Ok(Response::new(GetProjectAccessResponse {
            project: Some(row.project.clone()),
            ancestor_group_ids: directory.ancestors(row.group_id),
            access_level: user.and_then(|user| directory.project_roles.get(&(user.id, row.project.id)).copied()),
            user_exists: user.is_some(),
            user_is_admin: user.is_some_and(|user| user.is_admin),
            username: user.map(|user| user.username.clone()).unwrap_or_default(),
        }))
    }

    async fn describe_projects(
        &self,
        request: Request<DescribeProjectsRequest>,
    ) -> Result<Response<DescribeProjectsResponse>, Status> {
        let directory = self.answer()?;
        let DescribeProjectsRequest { ids, viewer_id, viewer_is_admin, names_only } = request.into_inner();
        check_count(&ids)?;
        let mut projects = Vec::new();
        for row in ids.iter().filter_map(|id| directory.projects.get(id)) {
            let has_role = viewer_id.is_some_and(|user| directory.project_roles.contains_key(&(user, row.project.id)));
            projects.push(ProjectDescription {
                visible: directory.sees(row.project.visibility(), has_role, viewer_is_admin),
                project: Some(match names_only {
                    true => Project { name_with_namespace: String::new(), ..row.project.clone() },
                    false => row.project.clone(),
                }),
                ancestor_group_ids: directory.ancestors(row.group_id),
            });
        }
        Ok(Response::new(DescribeProjectsResponse { projects }))
    }

    async fn describe_groups(
        &self,
        request: Request<DescribeGroupsRequest>,
    ) -> Result<Response<DescribeGroupsResponse>, Status> {
        let directory = self.answer()?;
        let DescribeGroupsRequest { ids, viewer_id, viewer_is_admin } = request.into_inner();
        check_count(&ids)?;
        let mut groups = Vec::new();
        for group in ids.iter().filter_map(|id| directory.groups.get(id)) {
            let has_role = viewer_id.is_some_and(|user| directory.group_roles.contains_key(&(user, group.id)));
            let visible = directory.sees(group.visibility(), has_role, viewer_is_admin);
            groups.push(GroupDescription { visible, group: Some(group.clone()) });
        }
        Ok(Response::new(DescribeGroupsResponse { groups }))
    }

    async fn describe_users(
        &self,
        request: Request<DescribeUsersRequest>,
    ) -> Result<Response<DescribeUsersResponse>, Status> {
        let directory = self.answer()?;
        check_count(&request.get_ref().ids)?;
        let users = request.get_ref().ids.iter().filter_map(|id| directory.users.get(id)).cloned().collect();
        Ok(Response::new(DescribeUsersResponse { users }))
    }
}
