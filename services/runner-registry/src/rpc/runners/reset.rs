//! The reset of a token by runner id. It is meant for leaked tokens, so it has no overlap and ignores the deadline.

use proto::{paddock::runner::v1::ResetRunnerAuthenticationTokenResponse, timestamp};

use crate::{
    entity::runner_token::TokenState,
    error::{Error, Result},
    rpc::{State, token_events},
    runner::{expiry, token::RunnerToken, token_event::Finding},
    store::{
        self, intervals,
        runner_token_events::{EventCaller, NewEvent},
        runner_tokens, runners,
    },
};

/// Revokes every token of a runner and makes a new one.
pub async fn reset(
    state: &State,
    caller: &EventCaller,
    runner_id: i64,
) -> Result<ResetRunnerAuthenticationTokenResponse> {
    let now = state.clock.now();
    let tx = store::begin(&state.database).await?;
    let runner = runners::lock(&tx, runner_id).await?.ok_or(Error::RunnerNotFound)?;
    let scope = intervals::scope(&tx, intervals::Owner::of(&runner)?).await?;
    if scope.is_unassigned() {
        return Err(Error::RunnerUnassigned);
    }
    let generation = runner_tokens::next_generation(&tx, runner.id).await?;
    runner_tokens::revoke(&tx, runner.id, now).await?;
    let token = RunnerToken::generate(runner.runner_type).map_err(Error::internal)?;
    let interval = expiry::interval(&intervals::instance(&tx).await?, &scope);
    let interval = expiry::spread(interval, state.config.rotation.spread_percent);
    let new = runner_tokens::NewToken {
        runner_id: runner.id,
        generation,
        digest: token.digest(),
        state: TokenState::Current,
        predecessor_id: None,
        expires_at: expiry::expires_at(now, interval),
        rotation_deadline: None,
        sealed: None,
    };
    let row = runner_tokens::insert(&tx, new, now).await?;
    let revoked = NewEvent { generation: generation - 1, ..NewEvent::of(&row, Finding::REVOKED, caller) };
    token_events::record(&tx, revoked, now).await?;
    token_events::record(&tx, NewEvent::of(&row, Finding::CREATED, caller), now).await?;
    tx.commit().await?;
    tracing::info!(runner_id = runner.id, generation, "runner token reset by runner id");
    let token_expires_at = row.expires_at.map(timestamp::from_millis);
    Ok(ResetRunnerAuthenticationTokenResponse { token: token.expose().to_owned(), token_expires_at })
}
