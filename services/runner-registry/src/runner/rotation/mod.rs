//! The life of a runner token: whether a presented token authenticates, and what its rotation returns.
//!
//! A rotation never locks a runner program out, even if several programs (managers) share the token. It adds a successor
//! and takes nothing away. The first use of the successor makes it the current token; the token before it *retires*: it
//! stays valid for the managers that used it before and have not moved to a newer one. Time alone ends no token whose
//! successor is unused. `docs/explanation/tokens.md` has the states and the cases.

use time::{Duration, OffsetDateTime};

use crate::entity::runner_token::TokenState;

/// A manager counts as waiting for a new token if it was seen within this time.
pub const AWAITED_WITHIN: Duration = Duration::days(7);

/// The time over which minted tokens are limited.
pub const MINT_WINDOW: Duration = Duration::minutes(10);

/// How many tokens may be minted within [`MINT_WINDOW`] in addition to one per manager.
const MINTS_BESIDE_MANAGERS: u64 = 10;

/// The fields that decide about a token. Each instant belongs to the time after it: at its expiry a token has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its state.
    pub state: TokenState,
    /// The number of the generation.
    pub generation: i32,
    /// When it was minted.
    pub created_at: OffsetDateTime,
    /// From this instant on it does not authenticate.
    pub expires_at: Option<OffsetDateTime>,
    /// From this instant on it gets no new successor.
    pub rotation_deadline: Option<OffsetDateTime>,
    /// When it began to retire.
    pub retired_at: Option<OffsetDateTime>,
}

/// Why a known token does not authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InactiveReason {
    /// It has expired.
    Expired,
    /// A newer token has replaced it.
    Superseded,
    /// It was revoked.
    Revoked,
}

/// Whether a presented token authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// It authenticates.
    Accepted,
    /// It authenticates. It is a successor, and its first use makes it the current token.
    AcceptedAsSuccessor,
    /// It authenticates for managers that have not moved on; see [`may_use_retiring`].
    Retiring,
    /// It does not authenticate.
    Refused(InactiveReason),
}

/// Decides whether a token authenticates. Without an overlap no retiring token does, as with GitLab.
#[must_use]
pub fn authenticate(token: &Token, overlap: Duration, now: OffsetDateTime) -> Authentication {
    match token.state {
        TokenState::Revoked => Authentication::Refused(InactiveReason::Revoked),
        TokenState::Superseded => Authentication::Refused(InactiveReason::Superseded),
        TokenState::Retiring if overlap.is_zero() => Authentication::Refused(InactiveReason::Superseded),
        _ if has_passed(token.expires_at, now) => Authentication::Refused(InactiveReason::Expired),
        TokenState::Current => Authentication::Accepted,
        TokenState::Successor => Authentication::AcceptedAsSuccessor,
        TokenState::Retiring => Authentication::Retiring,
    }
}

fn has_passed(instant: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    instant.is_some_and(|instant| now >= instant)
}

/// The fields that decide whether a manager may use a retiring token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manager {
    /// The newest generation that it was seen with.
    pub generation: i32,
    /// When it was last seen.
    pub contacted_at: OffsetDateTime,
}

/// Reports whether a known manager may use a retiring token: the newest generation that it was seen with is not newer.
/// A token without an expiry works until the manager has not been seen for the overlap: the stock client never rotates such a
/// token, so a manager that polls must not lose it.
///
/// Nobody becomes known by a retiring token, so such a manager was known before the token began to retire. That needs no
/// comparison of times, and so holds when a clock jumps. The system id that names the manager is no credential: it gives no
/// more than the token gave before.
#[must_use]
pub fn may_use_retiring(token: &Token, manager: &Manager, overlap: Duration, now: OffsetDateTime) -> bool {
    if manager.generation > token.generation {
        return false;
    }
    let last_needed = token.retired_at.map_or(manager.contacted_at, |retired_at| retired_at.max(manager.contacted_at));
    token.expires_at.is_some() || now < last_needed.saturating_add(overlap)
}

/// What a rotation returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// A new successor. An unused one that exists retires.
    Mint,
    /// The successor that was returned before.
    SameSuccessor,
    /// Nothing: the deadline has passed. The token still authenticates.
    DeadlinePassed,
    /// Nothing: too many tokens were minted lately. The token still authenticates.
    Limited,
}

/// Decides what the rotation of a token that authenticates returns. `successor` is the unused successor, if there is one
/// that can be opened. `may_mint` is the answer of [`may_mint`].
#[must_use]
pub fn rotate(token: &Token, successor: Option<&Token>, may_mint: bool, now: OffsetDateTime) -> Rotation {
    let remainder = successor.map_or(Remainder::Nothing, |successor| Remainder::of(successor, now));
    let deadline_passed = has_passed(token.rotation_deadline, now);
    match remainder {
        Remainder::AtLeastHalf => Rotation::SameSuccessor,
        // A manager may be off for longer than the rest of this life, so it gets a fresh token if that is possible.
        Remainder::LessThanHalf if deadline_passed || !may_mint => Rotation::SameSuccessor,
        _ if deadline_passed => Rotation::DeadlinePassed,
        _ if !may_mint => Rotation::Limited,
        _ => Rotation::Mint,
    }
}

/// How much of the life of a successor is left.
enum Remainder {
    AtLeastHalf,
    LessThanHalf,
    Nothing,
}

impl Remainder {
    fn of(successor: &Token, now: OffsetDateTime) -> Self {
        let Some(expires_at) = successor.expires_at else { return Self::AtLeastHalf };
        let remaining = expires_at - now;
        let lifetime = expires_at - successor.created_at;
        match remaining {
            _ if !remaining.is_positive() => Self::Nothing,
            _ if remaining >= lifetime / 2 => Self::AtLeastHalf,
            _ => Self::LessThanHalf,
        }
    }
}

/// Reports whether the runner may mint one more token by rotation, after `minted` within [`MINT_WINDOW`]. A program whose
/// clock runs ahead by more than the life of a token rotates without end; each manager may rotate once.
#[must_use]
pub fn may_mint(minted: u64, managers: u64) -> bool {
    minted < managers.saturating_add(MINTS_BESIDE_MANAGERS)
}

#[cfg(test)]
mod tests;
