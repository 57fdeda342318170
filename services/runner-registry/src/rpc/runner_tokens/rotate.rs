//! The rotation of a token. What needs no new successor is answered without a lock; a new one is minted under the lock of
//! its runner, so that two calls never mint two.

use chassis::secrets::SecretText;
use sea_orm::DatabaseTransaction;
use time::{Duration, OffsetDateTime};

use super::{
    authenticate::{Authenticated, authenticate},
    contact::{self, Contact},
};
use crate::{
    entity::runner_token::{self, TokenState},
    error::{Error, Result},
    expiry,
    rotation::{self, Rotation},
    rpc::State,
    seal::{Place, SealKeys},
    store::{self, intervals, tokens},
    token::RunnerToken,
};

const ROTATIONS: &str = "paddock_rotations_total";

/// Says what the metric of rotations means.
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
    /// From when on it does not authenticate.
    pub expires_at: Option<OffsetDateTime>,
}

/// An answer with a successor, and whether it is a new one.
enum Answer {
    Minted(Rotated),
    Repeated(Rotated),
}

/// Rotates a token.
pub async fn rotate(state: &State, text: &str, contact: &Contact) -> Result<Rotated> {
    let answer = answer(state, text, contact).await;
    metrics::counter!(ROTATIONS, "result" => result(&answer)).increment(1);
    answer.map(|(Answer::Minted(rotated) | Answer::Repeated(rotated))| rotated)
}

async fn answer(state: &State, text: &str, contact: &Contact) -> Result<Answer> {
    let authenticated = authenticate(state, text, contact).await?;
    contact::record(state, &authenticated, contact).await;
    let Authenticated { token, runner, now, .. } = authenticated;
    // What needs no write is decided without a lock, so that clients that are refused do not hold up the others. The token is
    // read again with its successor: one that was superseded in between must not get the successor of another token.
    let rows = match token.overlap_ends_at {
        Some(_) => tokens::living_and(&state.database, runner.id, token.id).await?,
        None => vec![token.clone()],
    };
    let unassigned = store::runners::is_unassigned(&state.database, &runner).await?;
    match decide(&state.seal, presented(&rows, &token)?, &rows, unassigned, now)? {
        Some(same) => Ok(Answer::Repeated(same)),
        None => mint(state, &token, now).await,
    }
}

/// The successor that was returned before, or none if a new one is to be minted.
fn decide(
    seal: &SealKeys,
    token: &runner_token::Model,
    rows: &[runner_token::Model],
    unassigned: bool,
    now: OffsetDateTime,
) -> Result<Option<Rotated>> {
    let successor = successor(rows);
    let opened = successor.and_then(|successor| open(seal, successor));
    let usable = successor.filter(|_| opened.is_some()).map(rotation::Token::from);
    match rotation::rotate(&token.into(), usable.as_ref(), unassigned, now) {
        Rotation::Mint => Ok(None),
        Rotation::SameSuccessor => Ok(opened),
        Rotation::Refused(dead) => Err(dead.into()),
        Rotation::Unassigned => Err(Error::RunnerUnassigned),
        Rotation::DeadlinePassed => Err(Error::RotationDeadlinePassed),
    }
}

/// The presented token as it is now.
fn presented<'a>(rows: &'a [runner_token::Model], token: &runner_token::Model) -> Result<&'a runner_token::Model> {
    rows.iter().find(|row| row.id == token.id).ok_or(Error::RunnerTokenUnknown)
}

fn successor(rows: &[runner_token::Model]) -> Option<&runner_token::Model> {
    rows.iter().find(|row| row.state == TokenState::Successor)
}

/// Opens a sealed successor. One that does not open is of no use to anybody, so it is replaced.
fn open(seal: &SealKeys, successor: &runner_token::Model) -> Option<Rotated> {
    let (sealed, key_id) = (successor.sealed.as_ref()?, successor.sealed_key_id.as_ref()?);
    match seal.open(sealed, key_id, place(successor.runner_id, successor.generation)) {
        Ok(text) => Some(Rotated { text, expires_at: successor.expires_at }),
        Err(error) => {
            tracing::warn!(%error, runner_id = successor.runner_id, key_id, "sealed successor is replaced");
            None
        }
    }
}

fn place(runner_id: i64, generation: i32) -> Place {
    Place { runner_id, generation }
}

/// Mints a successor, unless another call did so in the meantime: everything is read and decided again under the lock.
async fn mint(state: &State, token: &runner_token::Model, now: OffsetDateTime) -> Result<Answer> {
    let tx = store::begin(&state.database).await?;
    let runner = tokens::lock_runner(&tx, token.runner_id).await?.ok_or(Error::RunnerTokenUnknown)?;
    let rows = tokens::living_and(&tx, runner.id, token.id).await?;
    let token = presented(&rows, token)?;
    let scope = intervals::scope(&tx, intervals::Owner::of(&runner)?).await?;
    if let Some(same) = decide(&state.seal, token, &rows, scope.is_unassigned(), now)? {
        tx.commit().await?;
        return Ok(Answer::Repeated(same));
    }
    if successor(&rows).is_some() {
        tokens::discard_successor(&tx, runner.id, now).await?;
    }
    let begins_as = make_room(&tx, token, state.config.rotation.overlap(), now).await?;
    let minted = RunnerToken::generate(runner.runner_type).map_err(Error::internal)?;
    let generation = tokens::next_generation(&rows)?;
    let sealed = (begins_as == TokenState::Successor)
        .then(|| state.seal.seal(minted.expose(), place(runner.id, generation)))
        .transpose()
        .map_err(Error::internal)?;
    let interval = expiry::interval(&intervals::instance(&tx).await?, &scope);
    let new = tokens::NewToken {
        runner_id: runner.id,
        generation,
        digest: minted.digest(),
        state: begins_as,
        predecessor_id: Some(token.id),
        expires_at: expiry::expires_at(now, interval),
        rotation_deadline: None,
        sealed,
    };
    let row = tokens::insert(&tx, new, now).await?;
    tx.commit().await?;
    tracing::info!(runner_id = runner.id, generation, expires_at = ?row.expires_at, "runner token rotated");
    Ok(Answer::Minted(Rotated { text: minted.expose().to_owned().into(), expires_at: row.expires_at }))
}

/// Says until when the rotated token stays valid, and what the new one begins as. Without an overlap the new one takes the
/// place at once: a window of no length would still be open to a call that arrived a moment earlier and waited for the lock,
/// and to a process whose clock is behind.
async fn make_room(
    tx: &DatabaseTransaction,
    token: &runner_token::Model,
    overlap: Duration,
    now: OffsetDateTime,
) -> Result<TokenState> {
    if overlap.is_zero() {
        tokens::supersede(tx, token.runner_id, now).await?;
        return Ok(TokenState::Current);
    }
    tokens::set_overlap(tx, token.id, rotation::overlap_ends_at(&token.into(), overlap, now)).await?;
    Ok(TokenState::Successor)
}

/// The label of the outcome in the metric.
fn result(answer: &Result<Answer>) -> &'static str {
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
