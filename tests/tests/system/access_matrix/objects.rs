//! The objects that the callers request. They belong to the owner, and no other user may see them.

use serde_json::json;

use super::callers::Callers;
use crate::fixtures;

/// One object of each kind.
pub struct Objects {
    pub group: i64,
    pub project: i64,
    /// A project that the runner is not assigned to.
    pub other_project: i64,
    /// A project that the runner is assigned to and that does not own it.
    pub assigned: i64,
    pub runner: i64,
    pub user: i64,
    /// A direct member of the group and of the project.
    pub member: i64,
    /// The entries in the allowlist of the project.
    pub allowed_project: i64,
    pub allowed_group: i64,
    /// A running job of the project.
    pub job: i64,
}

impl Objects {
    pub async fn make(callers: &Callers) -> Self {
        let owner = &callers.owner;
        let group = fixtures::group(owner).await;
        let project = fixtures::project(owner).await;
        let other_project = fixtures::project(owner).await;
        let runner = fixtures::runner(owner, project).await.0;
        let assigned = fixtures::project(owner).await;
        owner.post(&format!("/projects/{assigned}/runners"), json!({ "runner_id": runner })).await.ok(201);
        let member = fixtures::user(&callers.root).await;
        for owner_path in [format!("/groups/{group}"), format!("/projects/{project}")] {
            let reporter = json!({ "user_id": member, "access_level": 20 });
            owner.post(&format!("{owner_path}/members"), reporter).await.ok(201);
        }
        let allowed_project = fixtures::project(owner).await;
        let allowed_group = fixtures::group(owner).await;
        let scope = format!("/projects/{project}/job_token_scope");
        let entry = json!({ "target_project_id": allowed_project });
        owner.post(&format!("{scope}/allowlist"), entry).await.ok(201);
        let entry = json!({ "target_group_id": allowed_group });
        owner.post(&format!("{scope}/groups_allowlist"), entry).await.ok(201);
        let job = fixtures::job(&callers.root, project, member).await.0;
        let user = fixtures::user(&callers.root).await;
        Self { group, project, other_project, assigned, runner, user, member, allowed_project, allowed_group, job }
    }
}
