//! The life of a runner token: what a presented token is worth at a moment, and what its rotation answers.
//!
//! A rotation never locks a runner out. The presented token stays valid until its successor is first used, it expires, or
//! the overlap window ends; a repeated rotation inside that time returns the same successor, so that a lost answer, a crash
//! before saving and a fleet of managers that share one token all come to the same token.

use time::{Duration, OffsetDateTime};

use crate::entity::runner_token::TokenState;

/// What decides about a token. Every instant belongs to the time after it: a token is expired at its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Where it stands.
    pub state: TokenState,
    /// From when on it does not authenticate.
    pub expires_at: Option<OffsetDateTime>,
    /// From when on it gets no new successor.
    pub rotation_deadline: Option<OffsetDateTime>,
    /// From when on it does not authenticate because it was rotated. None: it was not rotated.
    pub overlap_ends_at: Option<OffsetDateTime>,
}

/// Why a known token does not authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    /// Its time is over.
    Expired,
    /// Its successor took its place.
    Superseded,
    /// It was revoked.
    Revoked,
}

/// What a presented token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// It authenticates.
    Accepted,
    /// It authenticates, and as the first use of a successor this makes it the runner's token.
    AcceptedAsSuccessor,
    /// It does not authenticate.
    Refused(Dead),
}

/// Decides whether a token authenticates.
#[must_use]
pub fn authenticate(token: &Token, now: OffsetDateTime) -> Authentication {
    match token.state {
        TokenState::Revoked => Authentication::Refused(Dead::Revoked),
        TokenState::Superseded => Authentication::Refused(Dead::Superseded),
        TokenState::Current if has_passed(token.overlap_ends_at, now) => Authentication::Refused(Dead::Superseded),
        TokenState::Current | TokenState::Successor if has_passed(token.expires_at, now) => {
            Authentication::Refused(Dead::Expired)
        }
        TokenState::Current => Authentication::Accepted,
        TokenState::Successor => Authentication::AcceptedAsSuccessor,
    }
}

fn has_passed(instant: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    instant.is_some_and(|instant| now >= instant)
}

/// What a rotation answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// A new successor.
    Mint,
    /// The successor that was returned before.
    SameSuccessor,
    /// Nothing: the token does not authenticate.
    Refused(Dead),
    /// Nothing: the runner is a project runner without a project.
    Unassigned,
    /// Nothing: the deadline has passed. The token still authenticates.
    DeadlinePassed,
}

/// Decides what the rotation of a token answers. A presented successor is promoted first and then decided on as a current
/// token; `successor` is the unused one, if there is one.
#[must_use]
pub fn rotate(token: &Token, successor: Option<&Token>, unassigned: bool, now: OffsetDateTime) -> Rotation {
    if let Authentication::Refused(dead) = authenticate(token, now) {
        return Rotation::Refused(dead);
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

/// When a token that gets a successor now stops to authenticate, its expiry aside. The window of a first successor is not
/// opened again for the next one.
#[must_use]
pub fn overlap_ends_at(token: &Token, overlap: Duration, now: OffsetDateTime) -> OffsetDateTime {
    token.overlap_ends_at.unwrap_or_else(|| now.saturating_add(overlap))
}

#[cfg(test)]
mod tests;
