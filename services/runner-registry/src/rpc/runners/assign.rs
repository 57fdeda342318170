//! The assignment of project runners to projects.

use chassis::access::User;

use super::access;
use crate::{
    entity::{
        project,
        runner::{self, RunnerType},
    },
    error::{Error, Result},
    rpc::State,
    store::runners,
};

/// Assigns a runner to a further project of the caller.
pub async fn assign(state: &State, user: &User, project: &project::Model, runner_id: i64) -> Result<runner::Model> {
    let runner = runners::find(&state.database, runner_id).await?;
    match runner.runner_type {
        RunnerType::Instance => return Err(Error::RunnerIsInstanceRunner),
        RunnerType::Group => return Err(Error::RunnerIsGroupRunner),
        RunnerType::Project => {}
    }
    if runner.locked && !user.admin {
        return Err(Error::RunnerLocked);
    }
    let standing = access::to_runner(state, user, &runner).await?;
    if !standing.may_administer_runner(runner.runner_type) {
        return Err(Error::AccessDenied);
    }
    runners::assign(&state.database, runner.id, project.id, state.clock.now()).await?;
    Ok(runner)
}

/// Takes a runner from a project of the caller; not from the one that owns it.
pub async fn unassign(state: &State, user: &User, project: &project::Model, runner_id: i64) -> Result<()> {
    let runner = runners::find(&state.database, runner_id).await?;
    if !runners::is_assigned(&state.database, runner.id, project.id).await? {
        return Err(Error::RunnerNotFound);
    }
    if runner.locked && !user.admin {
        return Err(Error::RunnerLocked);
    }
    if runners::owner_project(&state.database, runner.id).await? == Some(project.id) {
        return Err(Error::RunnerOwnedByProject);
    }
    runners::unassign(&state.database, runner.id, project.id).await
}
