//! What the callers ask for. It belongs to the owner; nobody else may see it.

use serde_json::json;

use super::callers::Callers;
use crate::world;

/// One of each kind.
pub struct Objects {
    pub group: i64,
    pub project: i64,
    /// A project that the runner is not assigned to.
    pub other_project: i64,
    /// A project that the runner is assigned to and that does not own it.
    pub assigned: i64,
    pub runner: i64,
    pub user: i64,
}

impl Objects {
    pub async fn make(callers: &Callers) -> Self {
        let owner = &callers.owner;
        let (group, project, other_project) =
            (world::group(owner).await, world::project(owner).await, world::project(owner).await);
        let runner = world::runner(owner, project).await.0;
        let assigned = world::project(owner).await;
        owner.post(&format!("/projects/{assigned}/runners"), json!({ "runner_id": runner })).await.ok(201);
        Self { group, project, other_project, assigned, runner, user: world::user(&callers.root).await }
    }
}
