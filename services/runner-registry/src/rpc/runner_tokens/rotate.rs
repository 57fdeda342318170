//! The rotation of a token. A call that needs no new successor takes no lock. A new successor is minted under the lock
//! of the runner, so that two calls never mint two.

use chassis::secrets::SecretText;
use proto::timestamp;
use sea_orm::{ConnectionTrait, DatabaseTransaction};
use time::OffsetDateTime;

use super::{
    authenticate::{Authenticated, Purpose, authenticate},
    contact::Contact,
    heartbeat,
};
use crate::{
    entity::runner_token::{self, TokenState},
    error::{Error, Result},
    rpc::{State, token_events},
    runner::{
        expiry,
        rotation::{self, Authentication, Rotation},
        seal::{SealKeys, TokenRow},
        token::RunnerToken,
        token_event::Finding,
    },
    store::{
        self, intervals, managers, removed_tokens,
        runner_token_events::{EventCaller, NewEvent},
        runner_tokens, runners,
    },
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
    /// Its generation.
    pub generation: i32,
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
    let authenticated = authenticate(state, text, contact, Purpose::Rotation).await?;
    heartbeat::record(state, &authenticated, contact).await;
    let caller = contact.event_caller();
    let answer = successor(state, &authenticated, &caller).await;
    record_unchanged(state, &authenticated, &caller, &answer).await;
    answer
}

/// Returns the successor of a token that authenticates.
async fn successor(state: &State, authenticated: &Authenticated, caller: &EventCaller) -> Result<Answer> {
    let Authenticated { token, runner, now, .. } = authenticated;
    let now = *now;
    // Decide without a lock if no write is needed, so that refused clients do not delay the others. Read the token
    // again together with its successor: one that ended meanwhile must not get the successor of another token.
    if runners::is_unassigned(&state.database, runner).await? {
        return Err(Error::RunnerUnassigned);
    }
    let rows = runner_tokens::successor_and(&state.database, runner.id, token.id).await?;
    let token = find_presented_token(&state.database, &rows, token, now).await?;
    check_still_authenticates(state, &state.database, token, now).await?;
    match repeated_successor(&state.seal, token, find_successor(&rows), true, now)? {
        Some(same) => Ok(Answer::Repeated(same)),
        None => mint_successor(state, token, caller, now).await,
    }
}

/// Records the event of a rotation that changed nothing. That of a minted token is recorded with it.
async fn record_unchanged(state: &State, authenticated: &Authenticated, caller: &EventCaller, answer: &Result<Answer>) {
    let token = &authenticated.token;
    let event = match answer {
        Ok(Answer::Repeated(same)) => {
            let runner_id = token.runner_id;
            NewEvent { runner_id, generation: same.generation, finding: Finding::DELIVERED_AGAIN, caller }
        }
        Err(Error::RunnerUnassigned | Error::RotationDeadlinePassed | Error::RotationLimited) => {
            NewEvent::of(token, Finding::REFUSED, caller)
        }
        Ok(Answer::Minted(_)) | Err(_) => return,
    };
    token_events::record_alone(state, event, authenticated.now).await;
}

/// Checks a token that authenticated once more, because its state can have changed meanwhile.
async fn check_still_authenticates(
    state: &State,
    db: &impl ConnectionTrait,
    token: &runner_token::Model,
    now: OffsetDateTime,
) -> Result<()> {
    let overlap = state.config.rotation.overlap();
    match rotation::authenticate(&token.into(), overlap, now) {
        Authentication::Accepted => Ok(()),
        Authentication::Retiring if managers::is_awaited(db, token, overlap, now).await? => Ok(()),
        Authentication::Retiring => Err(Error::RunnerTokenSuperseded),
        Authentication::Refused(reason) => Err(reason.into()),
        Authentication::AcceptedAsSuccessor => Err(Error::internal("a promoted token is a successor again")),
    }
}

/// Returns the successor that was returned before, or none if a new one is to be minted.
fn repeated_successor(
    seal: &SealKeys,
    token: &runner_token::Model,
    successor: Option<&runner_token::Model>,
    may_mint: bool,
    now: OffsetDateTime,
) -> Result<Option<Rotated>> {
    let opened = successor.and_then(|successor| open_successor(seal, successor));
    let usable = successor.filter(|_| opened.is_some()).map(rotation::Token::from);
    match rotation::rotate(&token.into(), usable.as_ref(), may_mint, now) {
        Rotation::Mint => Ok(None),
        Rotation::SameSuccessor => Ok(opened),
        Rotation::DeadlinePassed => Err(Error::RotationDeadlinePassed),
        Rotation::Limited => Err(Error::RotationLimited),
    }
}

/// Returns the presented token as it was read last.
async fn find_presented_token<'a>(
    db: &impl ConnectionTrait,
    rows: &'a [runner_token::Model],
    presented: &runner_token::Model,
    now: OffsetDateTime,
) -> Result<&'a runner_token::Model> {
    match rows.iter().find(|row| row.id == presented.id) {
        Some(token) => Ok(token),
        None => Err(removed_tokens::refusal(db, &presented.digest, now).await?),
    }
}

fn find_successor(rows: &[runner_token::Model]) -> Option<&runner_token::Model> {
    rows.iter().find(|row| row.state == TokenState::Successor)
}

/// Opens a sealed successor. One that does not open is useless, so the caller replaces it.
fn open_successor(seal: &SealKeys, successor: &runner_token::Model) -> Option<Rotated> {
    let sealed = successor.sealed.as_ref()?;
    let key_id = successor.sealed_key_id.as_ref()?;
    match seal.open(sealed, key_id, TokenRow { runner_id: successor.runner_id, generation: successor.generation }) {
        Ok(text) => Some(Rotated {
            text,
            generation: successor.generation,
            expires_at: successor.expires_at.map(timestamp::time),
        }),
        Err(error) => {
            tracing::warn!(%error, runner_id = successor.runner_id, key_id, "sealed successor is replaced");
            None
        }
    }
}

/// Mints a successor, unless another call did so meanwhile: everything is read and decided again under the lock.
async fn mint_successor(
    state: &State,
    token: &runner_token::Model,
    caller: &EventCaller,
    now: OffsetDateTime,
) -> Result<Answer> {
    let tx = store::begin(&state.database).await?;
    let Some(runner) = runners::lock(&tx, token.runner_id).await? else {
        return Err(removed_tokens::refusal(&tx, &token.digest, now).await?);
    };
    let rows = runner_tokens::successor_and(&tx, runner.id, token.id).await?;
    let token = find_presented_token(&tx, &rows, token, now).await?;
    check_still_authenticates(state, &tx, token, now).await?;
    let scope = intervals::scope(&tx, intervals::Owner::of(&runner)?).await?;
    if scope.is_unassigned() {
        return Err(Error::RunnerUnassigned);
    }
    let may_mint = may_mint(&tx, runner.id, now).await?;
    if let Some(same) = repeated_successor(&state.seal, token, find_successor(&rows), may_mint, now)? {
        tx.commit().await?;
        return Ok(Answer::Repeated(same));
    }
    let first_state = make_room(&tx, state, runner.id, now).await?;
    let minted = RunnerToken::generate(runner.runner_type).map_err(Error::internal)?;
    let generation = runner_tokens::next_generation(&tx, runner.id).await?;
    let sealed = (first_state == TokenState::Successor)
        .then(|| state.seal.seal(minted.expose(), TokenRow { runner_id: runner.id, generation }))
        .transpose()
        .map_err(Error::internal)?;
    let interval = expiry::interval(&intervals::instance(&tx).await?, &scope);
    let interval = expiry::spread(interval, state.config.rotation.spread_percent);
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
    token_events::record(&tx, NewEvent::of(&row, Finding::MINTED, caller), now).await?;
    tx.commit().await?;
    let expires_at = row.expires_at.map(timestamp::time);
    tracing::info!(runner_id = runner.id, generation, ?expires_at, "runner token rotated");
    Ok(Answer::Minted(Rotated { text: minted.expose().to_owned().into(), generation, expires_at }))
}

async fn may_mint(tx: &DatabaseTransaction, runner_id: i64, now: OffsetDateTime) -> Result<bool> {
    let minted = runner_tokens::count_minted_lately(tx, runner_id, now).await?;
    // Most runners are far below the limit whatever the number of their managers is.
    Ok(rotation::may_mint(minted, 0)
        || rotation::may_mint(minted, managers::count_seen_lately(tx, runner_id, now).await?))
}

/// Makes room for a new token, and returns the state in which it begins: an unused successor retires. Without an overlap
/// every older token ends, and the new token is current at once.
async fn make_room(tx: &DatabaseTransaction, state: &State, runner_id: i64, now: OffsetDateTime) -> Result<TokenState> {
    let overlap = state.config.rotation.overlap();
    runner_tokens::delete_ended(tx, runner_id, overlap, now).await?;
    if overlap.is_zero() {
        runner_tokens::supersede(tx, runner_id, now).await?;
        return Ok(TokenState::Current);
    }
    runner_tokens::retire_successor(tx, runner_id, now).await?;
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
        Err(Error::RotationLimited) => "limited",
        Err(Error::Database(_) | Error::Fault(_)) => "failed",
        Err(_) => "not_authenticated",
    }
}
