//! The reset of a token by runner id: the answer to a leak, so that no overlap and no deadline binds it.

use proto::paddock::runner::v1::ResetRunnerAuthenticationTokenResponse;
use proto::timestamp;

use crate::{
    entity::runner_token::TokenState,
    error::{Error, Result},
    expiry,
    rpc::State,
    store::{self, intervals, tokens},
    token::RunnerToken,
};

/// Revokes every token of a runner and makes a new one.
pub async fn reset(state: &State, runner_id: i64) -> Result<ResetRunnerAuthenticationTokenResponse> {
    let now = state.clock.now();
    let tx = store::begin(&state.database).await?;
    let runner = tokens::lock_runner(&tx, runner_id).await?.ok_or(Error::RunnerNotFound)?;
    let scope = intervals::scope(&tx, intervals::Owner::of(&runner)?).await?;
    if scope.is_unassigned() {
        return Err(Error::RunnerUnassigned);
    }
    let generation = tokens::next_generation(&tokens::living(&tx, runner.id).await?)?;
    tokens::revoke(&tx, runner.id, now).await?;
    let token = RunnerToken::generate(runner.runner_type).map_err(Error::internal)?;
    let interval = expiry::interval(&intervals::instance(&tx).await?, &scope);
    let new = tokens::NewToken {
        runner_id: runner.id,
        generation,
        digest: token.digest(),
        state: TokenState::Current,
        predecessor_id: None,
        expires_at: expiry::expires_at(now, interval),
        rotation_deadline: None,
        sealed: None,
    };
    let row = tokens::insert(&tx, new, now).await?;
    tx.commit().await?;
    tracing::info!(runner_id = runner.id, generation, "runner token reset by runner id");
    let token_expires_at = row.expires_at.map(timestamp::from_time);
    Ok(ResetRunnerAuthenticationTokenResponse { token: token.expose().to_owned(), token_expires_at })
}
