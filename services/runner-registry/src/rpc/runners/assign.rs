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
    store::{self, runners},
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
    let permissions = access::to_runner(state, user, &runner).await?;
    if !permissions.may_administer_runner(runner.runner_type) {
        return Err(Error::AccessDenied);
    }
    runners::assign(&state.database, runner.id, project.id, state.clock.now()).await?;
    Ok(runner)
}

/// Takes a runner from a project of the caller; not from the one that owns it.
///
/// All is decided under the locks of one transaction: the deletion of the project that owns the runner makes another
/// project the owner.
pub async fn unassign(state: &State, user: &User, project: &project::Model, runner_id: i64) -> Result<()> {
    let tx = store::begin(&state.database).await?;
    let runner = runners::lock(&tx, runner_id).await?.ok_or(Error::RunnerNotFound)?;
    let project_ids = runners::lock_assignments(&tx, runner.id).await?;
    if !project_ids.contains(&project.id) {
        return Err(Error::RunnerNotFound);
    }
    if runner.locked && !user.admin {
        return Err(Error::RunnerLocked);
    }
    if project_ids.first() == Some(&project.id) {
        return Err(Error::RunnerOwnedByProject);
    }
    runners::unassign(&tx, runner.id, project.id).await?;
    tx.commit().await?;
    Ok(())
}
