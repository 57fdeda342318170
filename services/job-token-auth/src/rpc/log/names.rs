//! How the log names projects: as the caller may see them, and by their ids alone when they are hidden or gone.

use std::collections::{BTreeSet, HashMap};

use chassis::access::{CallContext, User};
use proto::paddock::{
    directory::v1::{Project, ProjectDescription},
    job_token::v1::{LoggedProject, ObjectState},
};

use crate::{error::Result, rpc::State, store::known_projects};

/// How many ids one statement names.
const BATCH: usize = 1000;

/// What is known of projects.
pub struct Names {
    /// Those that exist.
    found: HashMap<i64, ProjectDescription>,
    /// The last known paths of those that do not, for administrators.
    gone: HashMap<i64, String>,
    /// Whether the caller is an administrator.
    is_admin: bool,
}

impl Names {
    /// Asks for what is known of the projects.
    ///
    /// # Errors
    /// A fault.
    pub async fn of(
        state: &State,
        ids: impl IntoIterator<Item = i64>,
        user: &User,
        context: &CallContext,
    ) -> Result<Self> {
        let ids: Vec<i64> = BTreeSet::from_iter(ids).into_iter().collect();
        let found = state.directory.project_names(&ids, Some(user), context).await?;
        let mut gone = HashMap::new();
        if user.admin {
            let missing: Vec<_> = ids.into_iter().filter(|id| !found.contains_key(id)).collect();
            for ids in missing.chunks(BATCH) {
                gone.extend(known_projects::paths(&state.database, ids.iter().copied()).await?);
            }
        }
        Ok(Self { found, gone, is_admin: user.admin })
    }

    /// The projects that exist.
    pub fn found(&self) -> &HashMap<i64, ProjectDescription> {
        &self.found
    }

    /// Whether the caller sees the project. Of one that is deleted only administrators can be said to.
    pub fn sees(&self, id: i64) -> bool {
        self.is_admin || self.found.get(&id).is_some_and(|found| found.visible)
    }

    /// The project as the log shows it.
    pub fn project(&self, id: i64) -> LoggedProject {
        let Some(found) = self.found.get(&id) else {
            let state = ObjectState::Deleted.into();
            return LoggedProject { id, path_with_namespace: self.gone.get(&id).cloned(), state, ..Default::default() };
        };
        match &found.project {
            Some(project) if found.visible => visible(project),
            _ => LoggedProject { id, state: ObjectState::Hidden.into(), ..Default::default() },
        }
    }
}

fn visible(project: &Project) -> LoggedProject {
    LoggedProject {
        id: project.id,
        name: Some(project.name.clone()),
        path: Some(project.path.clone()),
        path_with_namespace: Some(project.path_with_namespace.clone()),
        state: ObjectState::Visible.into(),
    }
}
