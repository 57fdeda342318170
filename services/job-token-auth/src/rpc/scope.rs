//! The scope of a project and its allowlists.

use std::collections::{BTreeSet, HashSet};

use chassis::{
    access::{CallContext, User},
    db::paging::{Paged, Window},
    status::Refusal,
};
use prost_types::FieldMask;
use proto::paddock::{
    contract::v1::Reason,
    directory::v1::{GroupDescription, Project, ProjectDescription},
    job_token::v1::{
        AllowGroupRequest, AllowGroupResponse, AllowProjectRequest, AllowProjectResponse, AllowedGroup, AllowedProject,
        DisallowGroupRequest, DisallowGroupResponse, DisallowProjectRequest, DisallowProjectResponse, GetScopeRequest,
        GetScopeResponse, JobTokenPolicy, ListAllowedGroupsRequest, ListAllowedGroupsResponse,
        ListAllowedProjectsRequest, ListAllowedProjectsResponse, ObjectState, UpdateAllowedGroupRequest,
        UpdateAllowedGroupResponse, UpdateAllowedProjectRequest, UpdateAllowedProjectResponse, UpdateScopeRequest,
        UpdateScopeResponse, scope_service_server::ScopeService,
    },
};
use tonic::{Request, Response, Status};

use super::{State, by_user};
use crate::{
    error::{Error, Result},
    scope::Grant,
    store::allowlists::{self, Added, Entry, Kind},
};

/// The service.
pub struct Scope(pub State);

#[tonic::async_trait]
impl ScopeService for Scope {
    async fn get_scope(&self, request: Request<GetScopeRequest>) -> Result<Response<GetScopeResponse>, Status> {
        let (user, context, request) = by_user(request)?;
        let project_id = self.0.administered_id(&request.id, &user, &context).await?;
        let inbound_enabled = allowlists::is_enabled(&self.0.database, project_id).await?;
        Ok(Response::new(GetScopeResponse { inbound_enabled, outbound_enabled: false }))
    }

    async fn update_scope(
        &self,
        request: Request<UpdateScopeRequest>,
    ) -> Result<Response<UpdateScopeResponse>, Status> {
        let (user, context, request) = by_user(request)?;
        let project_id = self.0.administered_id(&request.id, &user, &context).await?;
        allowlists::set_enabled(&self.0.database, project_id, request.enabled).await?;
        self.0.facts.scope_changed();
        tracing::info!(project_id, user_id = user.id, inbound_enabled = request.enabled, "changed a job token scope");
        Ok(Response::new(UpdateScopeResponse {}))
    }

    async fn list_allowed_projects(
        &self,
        request: Request<ListAllowedProjectsRequest>,
    ) -> Result<Response<ListAllowedProjectsResponse>, Status> {
        let (user, context, request) = by_user(request)?;
        let window = Window::new(request.page, request.per_page)?;
        let Paged { items, page } = self.0.allowed_projects(&request.id, window, &user, &context).await?;
        Ok(Response::new(ListAllowedProjectsResponse { projects: items, page: Some(page) }))
    }

    async fn list_allowed_groups(
        &self,
        request: Request<ListAllowedGroupsRequest>,
    ) -> Result<Response<ListAllowedGroupsResponse>, Status> {
        let (user, context, request) = by_user(request)?;
        let window = Window::new(request.page, request.per_page)?;
        let Paged { items, page } = self.0.allowed_groups(&request.id, window, &user, &context).await?;
        Ok(Response::new(ListAllowedGroupsResponse { groups: items, page: Some(page) }))
    }

    async fn allow_project(
        &self,
        request: Request<AllowProjectRequest>,
    ) -> Result<Response<AllowProjectResponse>, Status> {
        let (user, context, request) = by_user(request)?;
        let wish = Wish::new(request.default_permissions, &request.job_token_policies, None)?;
        let target_id = request.target_project_id;
        let (source_project_id, grant) =
            self.0.allow(Kind::Projects, &request.id, target_id, wish, &user, &context).await?;
        let (default_permissions, job_token_policies) = parts(&grant);
        Ok(Response::new(AllowProjectResponse {
            source_project_id,
            target_project_id: target_id,
            default_permissions,
            job_token_policies,
        }))
    }

    async fn allow_group(&self, request: Request<AllowGroupRequest>) -> Result<Response<AllowGroupResponse>, Status> {
        let (user, context, request) = by_user(request)?;
        let wish = Wish::new(request.default_permissions, &request.job_token_policies, None)?;
        let target_id = request.target_group_id;
        let (source_project_id, grant) =
            self.0.allow(Kind::Groups, &request.id, target_id, wish, &user, &context).await?;
        let (default_permissions, job_token_policies) = parts(&grant);
        Ok(Response::new(AllowGroupResponse {
            source_project_id,
            target_group_id: target_id,
            default_permissions,
            job_token_policies,
        }))
    }

    async fn update_allowed_project(
        &self,
        request: Request<UpdateAllowedProjectRequest>,
    ) -> Result<Response<UpdateAllowedProjectResponse>, Status> {
        let (user, context, request) = by_user(request)?;
        let wish = Wish::new(request.default_permissions, &request.job_token_policies, request.update_mask.as_ref())?;
        let target_id = request.target_project_id;
        let (source_project_id, grant) =
            self.0.change(Kind::Projects, &request.id, target_id, wish, &user, &context).await?;
        let (default_permissions, job_token_policies) = parts(&grant);
        Ok(Response::new(UpdateAllowedProjectResponse {
            source_project_id,
            target_project_id: target_id,
            default_permissions,
            job_token_policies,
        }))
    }

    async fn update_allowed_group(
        &self,
        request: Request<UpdateAllowedGroupRequest>,
    ) -> Result<Response<UpdateAllowedGroupResponse>, Status> {
        let (user, context, request) = by_user(request)?;
        let wish = Wish::new(request.default_permissions, &request.job_token_policies, request.update_mask.as_ref())?;
        let target_id = request.target_group_id;
        let (source_project_id, grant) =
            self.0.change(Kind::Groups, &request.id, target_id, wish, &user, &context).await?;
        let (default_permissions, job_token_policies) = parts(&grant);
        Ok(Response::new(UpdateAllowedGroupResponse {
            source_project_id,
            target_group_id: target_id,
            default_permissions,
            job_token_policies,
        }))
    }

    async fn disallow_project(
        &self,
        request: Request<DisallowProjectRequest>,
    ) -> Result<Response<DisallowProjectResponse>, Status> {
        let (user, context, request) = by_user(request)?;
        self.0.disallow(Kind::Projects, &request.id, request.target_project_id, &user, &context).await?;
        Ok(Response::new(DisallowProjectResponse {}))
    }

    async fn disallow_group(
        &self,
        request: Request<DisallowGroupRequest>,
    ) -> Result<Response<DisallowGroupResponse>, Status> {
        let (user, context, request) = by_user(request)?;
        self.0.disallow(Kind::Groups, &request.id, request.target_group_id, &user, &context).await?;
        Ok(Response::new(DisallowGroupResponse {}))
    }
}

impl State {
    async fn administered_id(&self, project: &str, user: &User, context: &CallContext) -> Result<i64> {
        Ok(self.administered_project(project, user, context).await?.id)
    }

    async fn administered_project(&self, project: &str, user: &User, context: &CallContext) -> Result<Project> {
        let project = self.administered(project, user, context).await?.project;
        project.ok_or_else(|| Error::internal("an answer on a project is without the project"))
    }

    /// The project itself, then the entries.
    async fn allowed_projects(
        &self,
        project: &str,
        window: Window,
        user: &User,
        context: &CallContext,
    ) -> Result<Paged<AllowedProject>> {
        let own = self.administered_project(project, user, context).await?;
        let itself = Entry { target_id: own.id, grant: Grant::Everything, autopopulated: false };
        let others = allowlists::list(&self.database, Kind::Projects, own.id).await?;
        let page = window.slice(std::iter::once(itself).chain(others).collect());
        let ids: Vec<_> = page.items.iter().map(|entry| entry.target_id).collect();
        let mut found = self.directory.projects(&ids, Some(user), context).await?;
        Ok(page.map(|entry| allowed_project(found.remove(&entry.target_id), &entry)))
    }

    async fn allowed_groups(
        &self,
        project: &str,
        window: Window,
        user: &User,
        context: &CallContext,
    ) -> Result<Paged<AllowedGroup>> {
        let own = self.administered_id(project, user, context).await?;
        let page = window.slice(allowlists::list(&self.database, Kind::Groups, own).await?);
        let ids: Vec<_> = page.items.iter().map(|entry| entry.target_id).collect();
        let mut found = self.directory.groups(&ids, Some(user), context).await?;
        Ok(page.map(|entry| allowed_group(found.remove(&entry.target_id), &entry)))
    }

    async fn allow(
        &self,
        kind: Kind,
        project: &str,
        target_id: i64,
        wish: Wish,
        user: &User,
        context: &CallContext,
    ) -> Result<(i64, Grant)> {
        let own = self.administered_id(project, user, context).await?;
        let grant = wish.grant(None)?;
        self.check_target(kind, target_id, user, context).await?;
        if kind == Kind::Projects && target_id == own {
            return Err(Refusal::new(Reason::AllowlistEntryExists).into());
        }
        let entry = Entry { target_id, grant, autopopulated: false };
        self.add_entry(kind, own, &entry, user, context).await?;
        self.changed_entry(own, kind, target_id, user, "added");
        Ok((own, entry.grant))
    }

    /// Entries for what is deleted leave an allowlist that is full. That they are deleted is found out without the lock: it
    /// stays true.
    async fn add_entry(
        &self,
        kind: Kind,
        project_id: i64,
        entry: &Entry,
        user: &User,
        context: &CallContext,
    ) -> Result<()> {
        let added = Added { by: user.id, at: self.clock.now() };
        let full = match allowlists::add(&self.database, kind, project_id, entry, &[], added).await {
            Err(Error::Refused(refusal)) if refusal.reason() == Reason::AllowlistFull => refusal,
            other => return other,
        };
        let gone = self.gone(kind, project_id, context).await?;
        if gone.is_empty() {
            return Err(full.into());
        }
        allowlists::add(&self.database, kind, project_id, entry, &gone, added).await?;
        tracing::info!(
            project_id,
            ?kind,
            count = gone.len(),
            "removed entries for what is deleted from a full allowlist"
        );
        Ok(())
    }

    /// The targets of an allowlist that are deleted.
    ///
    /// # Errors
    /// A fault.
    pub async fn gone(&self, kind: Kind, project_id: i64, context: &CallContext) -> Result<Vec<i64>> {
        let entries = allowlists::list(&self.database, kind, project_id).await?;
        let ids: Vec<_> = entries.iter().map(|entry| entry.target_id).collect();
        let found: HashSet<_> = match kind {
            Kind::Projects => self.directory.projects(&ids, None, context).await?.into_keys().collect(),
            Kind::Groups => self.directory.groups(&ids, None, context).await?.into_keys().collect(),
        };
        Ok(ids.into_iter().filter(|id| !found.contains(id)).collect())
    }

    /// The user must see what the entry is for.
    async fn check_target(&self, kind: Kind, id: i64, user: &User, context: &CallContext) -> Result<()> {
        match kind {
            Kind::Projects => {
                let found = self.directory.projects(&[id], Some(user), context).await?.remove(&id);
                let found = found.filter(|found| found.visible).and_then(|found| found.project);
                let project = found.ok_or_else(|| Refusal::new(Reason::AllowlistProjectNotFound))?;
                self.known.remember(id, &project.path_with_namespace).await;
            }
            Kind::Groups => {
                let found = self.directory.groups(&[id], Some(user), context).await?.remove(&id);
                found.filter(|found| found.visible).ok_or_else(|| Refusal::new(Reason::AllowlistGroupNotFound))?;
            }
        }
        Ok(())
    }

    async fn change(
        &self,
        kind: Kind,
        project: &str,
        target_id: i64,
        wish: Wish,
        user: &User,
        context: &CallContext,
    ) -> Result<(i64, Grant)> {
        let own = self.administered_id(project, user, context).await?;
        let to = |now: &Grant| wish.grant(Some(now));
        let grant = allowlists::change(&self.database, kind, own, target_id, to).await?;
        self.changed_entry(own, kind, target_id, user, "changed");
        Ok((own, grant))
    }

    async fn disallow(
        &self,
        kind: Kind,
        project: &str,
        target_id: i64,
        user: &User,
        context: &CallContext,
    ) -> Result<()> {
        let own = self.administered_id(project, user, context).await?;
        allowlists::remove(&self.database, kind, own, target_id).await?;
        self.changed_entry(own, kind, target_id, user, "removed");
        Ok(())
    }

    fn changed_entry(&self, project_id: i64, kind: Kind, target_id: i64, user: &User, what: &str) {
        self.facts.scope_changed();
        tracing::info!(project_id, ?kind, target_id, user_id = user.id, what, "changed an allowlist");
    }
}

/// What a caller says that an entry should grant.
struct Wish {
    default_permissions: Option<bool>,
    /// None: nothing was said of them.
    policies: Option<BTreeSet<JobTokenPolicy>>,
}

impl Wish {
    /// An empty list is one that was sent only if the mask says so.
    fn new(default_permissions: Option<bool>, numbers: &[i32], mask: Option<&FieldMask>) -> Result<Self, Refusal> {
        let policies = policies(numbers)?;
        let is_sent = mask.is_some_and(|mask| mask.paths.iter().any(|path| path == "job_token_policies"));
        let policies = (is_sent || !policies.is_empty()).then(|| policies.into_iter().collect());
        Ok(Self { default_permissions, policies })
    }

    /// What the entry then grants. To list policies beside default permissions would look like a limit and be none, so that
    /// it is refused. Without default permissions the list may be empty: the entry then grants nothing, and so takes from a
    /// project what an entry for its group would grant. Of what nothing is said, that stays as it is.
    fn grant(self, now: Option<&Grant>) -> Result<Grant, Refusal> {
        let Self { default_permissions, policies } = self;
        if now.is_some() && default_permissions.is_none() && policies.is_none() {
            let text = "default_permissions, job_token_policies are missing, at least one parameter must be provided";
            return Err(Refusal::new(Reason::ParameterMissing).with_message(text));
        }
        let everything = default_permissions.unwrap_or(now.is_none_or(|now| *now == Grant::Everything));
        match (everything, policies, now) {
            (true, Some(policies), _) if !policies.is_empty() => {
                Err(invalid("job_token_policies can only be given when default_permissions is false"))
            }
            (true, ..) => Ok(Grant::Everything),
            (false, Some(policies), _) => Ok(Grant::Policies(policies)),
            (false, None, Some(now @ Grant::Policies(_))) => Ok(now.clone()),
            (false, None, _) => Ok(Grant::Policies(BTreeSet::new())),
        }
    }
}

/// The policies of a message.
///
/// # Errors
/// A refusal with `PARAMETER_INVALID` for a number that the contract does not have.
pub fn policies(numbers: &[i32]) -> Result<Vec<JobTokenPolicy>, Refusal> {
    let policy = |number: &i32| {
        let policy = JobTokenPolicy::try_from(*number).ok().filter(|policy| *policy != JobTokenPolicy::Unspecified);
        policy.ok_or_else(|| invalid("job_token_policies does not have a valid value"))
    };
    numbers.iter().map(policy).collect()
}

/// A refusal with `PARAMETER_INVALID`.
pub fn invalid(text: &str) -> Refusal {
    Refusal::new(Reason::ParameterInvalid).with_message(text)
}

/// A grant as the messages write it.
fn parts(grant: &Grant) -> (bool, Vec<i32>) {
    match grant {
        Grant::Everything => (true, Vec::new()),
        Grant::Policies(policies) => (false, policies.iter().map(|policy| *policy as i32).collect()),
    }
}

fn allowed_project(found: Option<ProjectDescription>, entry: &Entry) -> AllowedProject {
    let state = state(found.as_ref().map(|found| found.visible));
    let project = found.filter(|found| found.visible).and_then(|found| found.project).unwrap_or_default();
    let (default_permissions, job_token_policies) = parts(&entry.grant);
    let shown = |text: String| (state == ObjectState::Visible).then_some(text);
    AllowedProject {
        id: entry.target_id,
        description: project.description,
        name: shown(project.name),
        name_with_namespace: shown(project.name_with_namespace),
        path: shown(project.path),
        path_with_namespace: shown(project.path_with_namespace),
        default_permissions,
        job_token_policies,
        autopopulated: entry.autopopulated,
        state: state.into(),
        created_at: project.created_at,
        web_url: None,
    }
}

fn allowed_group(found: Option<GroupDescription>, entry: &Entry) -> AllowedGroup {
    let state = state(found.as_ref().map(|found| found.visible));
    let group = found.filter(|found| found.visible).and_then(|found| found.group).unwrap_or_default();
    let (default_permissions, job_token_policies) = parts(&entry.grant);
    let shown = |text: String| (state == ObjectState::Visible).then_some(text);
    AllowedGroup {
        id: entry.target_id,
        name: shown(group.name),
        path: shown(group.path),
        full_path: shown(group.full_path),
        default_permissions,
        job_token_policies,
        autopopulated: entry.autopopulated,
        state: state.into(),
        web_url: None,
    }
}

fn state(visible: Option<bool>) -> ObjectState {
    match visible {
        Some(true) => ObjectState::Visible,
        Some(false) => ObjectState::Hidden,
        None => ObjectState::Deleted,
    }
}
