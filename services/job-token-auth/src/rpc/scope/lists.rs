//! The lists of allowed projects and groups.

use chassis::db::paging::{Paged, Window};
use proto::paddock::{
    directory::v1::{GroupDescription, ProjectDescription},
    job_token::v1::{AllowedGroup, AllowedProject, ObjectState},
};

use super::grant_request::grant_fields;
use crate::{
    allowlist::rules::Grant,
    error::Result,
    rpc::{State, state::UserCall},
    store::allowlists::{self, AllowlistEntry, AllowlistKind},
};

impl State {
    /// Lists the allowed projects: the project itself, then its entries.
    pub(super) async fn allowed_projects(
        &self,
        project: &str,
        window: Window,
        call: &UserCall,
    ) -> Result<Paged<AllowedProject>> {
        let project_id = self.administered_project(project, call).await?.id;
        let itself = AllowlistEntry { target_id: project_id, grant: Grant::Everything, autopopulated: false };
        let entries = allowlists::list(&self.database, AllowlistKind::Projects, project_id).await?;
        let page = window.slice(std::iter::once(itself).chain(entries).collect());
        let ids: Vec<_> = page.items.iter().map(|entry| entry.target_id).collect();
        let mut found = self.directory.projects(&ids, Some(&call.user), &call.context).await?;
        Ok(page.map(|entry| allowed_project(found.remove(&entry.target_id), &entry)))
    }

    /// Lists the allowed groups.
    pub(super) async fn allowed_groups(
        &self,
        project: &str,
        window: Window,
        call: &UserCall,
    ) -> Result<Paged<AllowedGroup>> {
        let project_id = self.administered_project(project, call).await?.id;
        let page = window.slice(allowlists::list(&self.database, AllowlistKind::Groups, project_id).await?);
        let ids: Vec<_> = page.items.iter().map(|entry| entry.target_id).collect();
        let mut found = self.directory.groups(&ids, Some(&call.user), &call.context).await?;
        Ok(page.map(|entry| allowed_group(found.remove(&entry.target_id), &entry)))
    }
}

fn allowed_project(found: Option<ProjectDescription>, entry: &AllowlistEntry) -> AllowedProject {
    let state = object_state(found.as_ref().map(|found| found.visible));
    let project = found.filter(|found| found.visible).and_then(|found| found.project).unwrap_or_default();
    let (default_permissions, job_token_policies) = grant_fields(&entry.grant);
    AllowedProject {
        id: entry.target_id,
        description: project.description,
        name: if_visible(state, project.name),
        name_with_namespace: if_visible(state, project.name_with_namespace),
        path: if_visible(state, project.path),
        path_with_namespace: if_visible(state, project.path_with_namespace),
        default_permissions,
        job_token_policies,
        autopopulated: entry.autopopulated,
        state: state.into(),
        created_at: project.created_at,
        web_url: None,
    }
}

fn allowed_group(found: Option<GroupDescription>, entry: &AllowlistEntry) -> AllowedGroup {
    let state = object_state(found.as_ref().map(|found| found.visible));
    let group = found.filter(|found| found.visible).and_then(|found| found.group).unwrap_or_default();
    let (default_permissions, job_token_policies) = grant_fields(&entry.grant);
    AllowedGroup {
        id: entry.target_id,
        name: if_visible(state, group.name),
        path: if_visible(state, group.path),
        full_path: if_visible(state, group.full_path),
        default_permissions,
        job_token_policies,
        autopopulated: entry.autopopulated,
        state: state.into(),
        web_url: None,
    }
}

/// Returns the state of a project or group. None: it does not exist.
fn object_state(visible: Option<bool>) -> ObjectState {
    match visible {
        Some(true) => ObjectState::Visible,
        Some(false) => ObjectState::Hidden,
        None => ObjectState::Deleted,
    }
}

fn if_visible(state: ObjectState, text: String) -> Option<String> {
    (state == ObjectState::Visible).then_some(text)
}
