//! The rank and role of a caller towards a runner.

use chassis::access::User;
use proto::role::Role;

use crate::{
    directory::permission::Permissions,
    entity::runner,
    error::{Error, Result},
    rpc::State,
    store::runners,
};

/// Returns the rank and role of a caller towards a runner. The creator of a project runner without a project counts as
/// its maintainer.
pub async fn to_runner(state: &State, user: &User, runner: &runner::Model) -> Result<Permissions> {
    let role = match user.admin {
        true => None,
        false => runners::role(&state.database, user.id, runner).await?,
    };
    let abandoned = role.is_none()
        && !user.admin
        && runner.creator_id == Some(user.id)
        && runners::is_unassigned(&state.database, runner).await?;
    Ok(Permissions { admin: user.admin, role: role.or(abandoned.then_some(Role::Maintainer)) })
}

/// The runner, if the caller sees it.
pub async fn seen_runner(state: &State, user: &User, id: i64) -> Result<(runner::Model, Permissions)> {
    let runner = runners::find(&state.database, id).await?;
    let permissions = to_runner(state, user, &runner).await?;
    if permissions.may_see_runner(runner.runner_type) { Ok((runner, permissions)) } else { Err(Error::AccessDenied) }
}

/// The runner, if the caller may change it.
pub async fn administered_runner(state: &State, user: &User, id: i64) -> Result<(runner::Model, Permissions)> {
    let runner = runners::find(&state.database, id).await?;
    let permissions = to_runner(state, user, &runner).await?;
    if permissions.may_administer_runner(runner.runner_type) {
        Ok((runner, permissions))
    } else {
        Err(Error::AccessDenied)
    }
}
