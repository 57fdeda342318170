//! The rotation of a token. A call that needs no new successor takes no lock. A new successor is minted under the lock
//! of the runner, so that two calls never mint two.

use chassis::secrets::SecretText;
use proto::timestamp;
use sea_orm::DatabaseTransaction;
use time::{Duration, OffsetDateTime};

use super::{
    authenticate::{Authenticated, authenticate},
    contact::Contact,
    heartbeat,
};
use crate::{
    entity::runner_token::{self, TokenState},
    error::{Error, Result},
    rpc::State,
    runner::{
        expiry,
        rotation::{self, Rotation},
        seal::{SealKeys, TokenRow},
        token::RunnerToken,
    },
    store::{self, intervals, runner_tokens, runners},
};

const ROTATIONS: &str = "paddock_rotations_total";

/// Describes the metric of rotations.
pub fn describe_metrics() {
    metrics::describe_counter!(
        ROTATIONS,
        "rotations of runner tokens, by result: minted, repeated, or why there was none"
    );
}

/// The successor, as it is returned.
#[derive(Debug)]
pub struct Rotated {
    /// The token.
    pub text: SecretText,
    /// From this instant on it does not authenticate.
    pub expires_at: Option<OffsetDateTime>,
}

/// A returned successor, new or returned before.
enum Answer {
    Minted(Rotated),
    Repeated(Rotated),
}

/// Rotates a token.
pub async fn rotate(state: &State, text: &str, contact: &Contact) -> Result<Rotated> {
    let answer = authenticate_and_rotate(state, text, contact).await;
    metrics::counter!(ROTATIONS, "result" => result_label(&answer)).increment(1);
    answer.map(|(Answer::Minted(rotated) | Answer::Repeated(rotated))| rotated)
}

async fn authenticate_and_rotate(state: &State, text: &str, contact: &Contact) -> Result<Answer> {
    let authenticated = authenticate(state, text, contact).await?;
    heartbeat::record(state, &authenticated, contact).await;
    let Authenticated { token, runner, now, .. } = authenticated;
    // Decide without a lock if no write is needed, so that refused clients do not delay the others. Read the token
    // again together with its successor: one that was superseded meanwhile must not get the successor of another token.
    let rows = match token.overlap_ends_at {
        Some(_) => runner_tokens::active_and(&state.database, runner.id, token.id).await?,
        None => vec![token.clone()],
    };
    let unassigned = runners::is_unassigned(&state.database, &runner).await?;
    match repeated_successor(&state.seal, find_presented_token(&rows, &token)?, &rows, unassigned, now)? {
        Some(same) => Ok(Answer::Repeated(same)),
        None => mint_successor(state, &token, now).await,
    }
}

/// Returns the successor that was returned before, or none if a new one is to be minted.
fn repeated_successor(
    seal: &SealKeys,
    token: &runner_token::Model,
    rows: &[runner_token::Model],
    unassigned: bool,
    now: OffsetDateTime,
) -> Result<Option<Rotated>> {
    let successor = find_successor(rows);
    let opened = successor.and_then(|successor| open_successor(seal, successor));
    let usable = successor.filter(|_| opened.is_some()).map(rotation::Token::from);
    match rotation::rotate(&token.into(), usable.as_ref(), unassigned, now) {
        Rotation::Mint => Ok(None),
        Rotation::SameSuccessor => Ok(opened),
        Rotation::Refused(reason) => Err(reason.into()),
        Rotation::Unassigned => Err(Error::RunnerUnassigned),
        Rotation::DeadlinePassed => Err(Error::RotationDeadlinePassed),
    }
}

/// Returns the presented token as it was read last.
fn find_presented_token<'a>(
    rows: &'a [runner_token::Model],
    token: &runner_token::Model,
) -> Result<&'a runner_token::Model> {
    rows.iter().find(|row| row.id == token.id).ok_or(Error::RunnerTokenUnknown)
}

fn find_successor(rows: &[runner_token::Model]) -> Option<&runner_token::Model> {
    rows.iter().find(|row| row.state == TokenState::Successor)
}

/// Opens a sealed successor. One that does not open is useless, so the caller replaces it.
fn open_successor(seal: &SealKeys, successor: &runner_token::Model) -> Option<Rotated> {
    let sealed = successor.sealed.as_ref()?;
    let key_id = successor.sealed_key_id.as_ref()?;
    match seal.open(sealed, key_id, TokenRow { runner_id: successor.runner_id, generation: successor.generation }) {
        Ok(text) => Some(Rotated { text, expires_at: successor.expires_at.map(timestamp::time) }),
        Err(error) => {
            tracing::warn!(%error, runner_id = successor.runner_id, key_id, "sealed successor is replaced");
            None
        }
    }
}

/// Mints a successor, unless another call did so meanwhile: everything is read and decided again under the lock.
async fn mint_successor(state: &State, token: &runner_token::Model, now: OffsetDateTime) -> Result<Answer> {
    let tx = store::begin(&state.database).await?;
    let runner = runners::lock(&tx, token.runner_id).await?.ok_or(Error::RunnerTokenUnknown)?;
    let rows = runner_tokens::active_and(&tx, runner.id, token.id).await?;
    let token = find_presented_token(&rows, token)?;
    let scope = intervals::scope(&tx, intervals::Owner::of(&runner)?).await?;
    if let Some(same) = repeated_successor(&state.seal, token, &rows, scope.is_unassigned(), now)? {
        tx.commit().await?;
        return Ok(Answer::Repeated(same));
    }
    if find_successor(&rows).is_some() {
        runner_tokens::discard_successor(&tx, runner.id, now).await?;
    }
    let first_state = end_rotated_token(&tx, token, state.config.rotation.overlap(), now).await?;
    let minted = RunnerToken::generate(runner.runner_type).map_err(Error::internal)?;
    let generation = runner_tokens::next_generation(&rows)?;
    let sealed = (first_state == TokenState::Successor)
        .then(|| state.seal.seal(minted.expose(), TokenRow { runner_id: runner.id, generation }))
        .transpose()
        .map_err(Error::internal)?;
    let interval = expiry::interval(&intervals::instance(&tx).await?, &scope);
    let new = runner_tokens::NewToken {
        runner_id: runner.id,
        generation,
        digest: minted.digest(),
        state: first_state,
        predecessor_id: Some(token.id),
        expires_at: expiry::expires_at(now, interval),
        rotation_deadline: None,
        sealed,
    };
    let row = runner_tokens::insert(&tx, new, now).await?;
    tx.commit().await?;
    let expires_at = row.expires_at.map(timestamp::time);
    tracing::info!(runner_id = runner.id, generation, ?expires_at, "runner token rotated");
    Ok(Answer::Minted(Rotated { text: minted.expose().to_owned().into(), expires_at }))
}

/// Ends the rotated token, at once or after the overlap, and returns the state in which the new token begins. Without
/// an overlap the new token is current at once: an empty window would still admit a call that arrived earlier and
/// waited for the lock, and a process whose clock is behind.
async fn end_rotated_token(
    tx: &DatabaseTransaction,
    token: &runner_token::Model,
    overlap: Duration,
    now: OffsetDateTime,
) -> Result<TokenState> {
    if overlap.is_zero() {
        runner_tokens::supersede(tx, token.runner_id, now).await?;
        return Ok(TokenState::Current);
    }
    runner_tokens::set_overlap(tx, token.id, rotation::overlap_ends_at(&token.into(), overlap, now)).await?;
    Ok(TokenState::Successor)
}

/// The label of the outcome in the metric.
fn result_label(answer: &Result<Answer>) -> &'static str {
    match answer {
        Ok(Answer::Minted(_)) => "minted",
        Ok(Answer::Repeated(_)) => "repeated",
        Err(Error::RunnerTokenExpired) => "expired",
        Err(Error::RunnerTokenSuperseded) => "superseded",
        Err(Error::RunnerTokenRevoked) => "revoked",
        Err(Error::RunnerUnassigned) => "unassigned",
        Err(Error::RotationDeadlinePassed) => "deadline_passed",
        Err(Error::Database(_) | Error::Fault(_)) => "failed",
        Err(_) => "not_authenticated",
    }
}
