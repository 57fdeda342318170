//! The names of projects in the log. Projects that the caller does not see, or that are deleted, have an id only.

use std::collections::{BTreeSet, HashMap};

use proto::paddock::{
    directory::v1::{Project, ProjectDescription},
    job_token::v1::{LoggedProject, ObjectState},
};

use crate::{
    error::Result,
    rpc::{State, state::UserCall},
    store::known_projects,
};

/// The maximum number of ids in one statement.
const BATCH: usize = 1000;

/// The names of projects, as the caller may see them.
pub struct ProjectNames {
    /// The projects that exist.
    found: HashMap<i64, ProjectDescription>,
    /// For administrators: the last known paths of deleted projects.
    deleted_paths: HashMap<i64, String>,
    /// Whether the caller is an administrator.
    is_admin: bool,
}

impl ProjectNames {
    /// Fetches the names of the projects.
    ///
    /// # Errors
    /// A fault.
    pub async fn fetch(state: &State, ids: impl IntoIterator<Item = i64>, call: &UserCall) -> Result<Self> {
        let ids: Vec<i64> = BTreeSet::from_iter(ids).into_iter().collect();
        let found = state.directory.project_names(&ids, Some(&call.user), &call.context).await?;
        let mut deleted_paths = HashMap::new();
        if call.user.admin {
            let missing: Vec<_> = ids.into_iter().filter(|id| !found.contains_key(id)).collect();
            for ids in missing.chunks(BATCH) {
                deleted_paths.extend(known_projects::paths(&state.database, ids.iter().copied()).await?);
            }
        }
        Ok(Self { found, deleted_paths, is_admin: call.user.admin })
    }

    /// Returns the projects that exist.
    pub fn found(&self) -> &HashMap<i64, ProjectDescription> {
        &self.found
    }

    /// Reports whether the caller sees the project. Only administrators see deleted projects.
    pub fn is_visible(&self, id: i64) -> bool {
        self.is_admin || self.found.get(&id).is_some_and(|found| found.visible)
    }

    /// Returns the project as the log shows it.
    pub fn project(&self, id: i64) -> LoggedProject {
        let Some(found) = self.found.get(&id) else {
            return LoggedProject {
                id,
                path_with_namespace: self.deleted_paths.get(&id).cloned(),
                state: ObjectState::Deleted.into(),
                ..Default::default()
            };
        };
        match &found.project {
            Some(project) if found.visible => visible_project(project),
            _ => LoggedProject { id, state: ObjectState::Hidden.into(), ..Default::default() },
        }
    }
}

fn visible_project(project: &Project) -> LoggedProject {
    LoggedProject {
        id: project.id,
        name: Some(project.name.clone()),
        path: Some(project.path.clone()),
        path_with_namespace: Some(project.path_with_namespace.clone()),
        state: ObjectState::Visible.into(),
    }
}
