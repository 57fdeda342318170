//! The life of a runner token: whether a presented token authenticates, and what its rotation returns.
//!
//! A rotation never locks a runner out. The presented token stays valid until its successor is first used, it expires,
//! or the overlap window ends. A repeated rotation inside that time returns the same successor. So a lost response, a
//! crash before saving, and managers that share one token all lead to the same token.

use time::{Duration, OffsetDateTime};

use crate::entity::runner_token::TokenState;

/// The fields that decide about a token. Each instant belongs to the time after it: at its expiry a token has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its state.
    pub state: TokenState,
    /// From this instant on it does not authenticate.
    pub expires_at: Option<OffsetDateTime>,
    /// From this instant on it gets no new successor.
    pub rotation_deadline: Option<OffsetDateTime>,
    /// From this instant on it does not authenticate because it was rotated. None: it was not rotated.
    pub overlap_ends_at: Option<OffsetDateTime>,
}

/// Why a known token does not authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InactiveReason {
    /// It has expired.
    Expired,
    /// Its successor has replaced it.
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
    /// It does not authenticate.
    Refused(InactiveReason),
}

/// Decides whether a token authenticates.
#[must_use]
pub fn authenticate(token: &Token, now: OffsetDateTime) -> Authentication {
    match token.state {
        TokenState::Revoked => Authentication::Refused(InactiveReason::Revoked),
        TokenState::Superseded => Authentication::Refused(InactiveReason::Superseded),
        TokenState::Current if has_passed(token.overlap_ends_at, now) => {
            Authentication::Refused(InactiveReason::Superseded)
        }
        TokenState::Current | TokenState::Successor if has_passed(token.expires_at, now) => {
            Authentication::Refused(InactiveReason::Expired)
        }
        TokenState::Current => Authentication::Accepted,
        TokenState::Successor => Authentication::AcceptedAsSuccessor,
    }
}

fn has_passed(instant: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    instant.is_some_and(|instant| now >= instant)
}

/// What a rotation returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// A new successor.
    Mint,
    /// The successor that was returned before.
    SameSuccessor,
    /// Nothing: the token does not authenticate.
    Refused(InactiveReason),
    /// Nothing: the runner is a project runner without a project.
    Unassigned,
    /// Nothing: the deadline has passed. The token still authenticates.
    DeadlinePassed,
}

/// Decides what the rotation of a token returns. A presented successor must have been promoted first. `successor` is
/// the unused successor, if there is one.
#[must_use]
pub fn rotate(token: &Token, successor: Option<&Token>, unassigned: bool, now: OffsetDateTime) -> Rotation {
    if let Authentication::Refused(reason) = authenticate(token, now) {
        return Rotation::Refused(reason);
    }
    if unassigned {
        return Rotation::Unassigned;
    }
    // A successor that expired before its first use would lock the runner out, so it is replaced.
    if successor.is_some_and(|successor| authenticate(successor, now) == Authentication::AcceptedAsSuccessor) {
        return Rotation::SameSuccessor;
    }
    if has_passed(token.rotation_deadline, now) {
        return Rotation::DeadlinePassed;
    }
    Rotation::Mint
}

/// Returns the end of the overlap for a token that gets a successor now. A further successor does not extend the window
/// of the first one.
#[must_use]
pub fn overlap_ends_at(token: &Token, overlap: Duration, now: OffsetDateTime) -> OffsetDateTime {
    token.overlap_ends_at.unwrap_or_else(|| now.saturating_add(overlap))
}

#[cfg(test)]
mod tests;
