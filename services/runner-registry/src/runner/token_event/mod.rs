//! Which event the use of a token is, and how much attention it asks for.
//!
//! A system id is a name and not a credential, so an event proves nothing. `high` means that a caller that is not a known
//! manager has a copy of the token. What an ordinary fleet does is never `high`. `docs/explanation/tokens.md` lists the
//! events.

use proto::paddock::runner::v1 as message;
use time::{Duration, OffsetDateTime};

use super::rotation::InactiveReason;
use crate::entity::runner_token_event::{TokenEventGrade, TokenEventKind};

/// Calls with the old token that a manager sends within this time after its own move are no event: they were on their way
/// while another worker of the same program used the new token.
pub const CALLS_IN_FLIGHT: Duration = Duration::seconds(60);

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What happened.
    pub kind: TokenEventKind,
    /// How much attention it asks for.
    pub grade: TokenEventGrade,
}

impl Finding {
    const fn of(kind: TokenEventKind, grade: TokenEventGrade) -> Self {
        Self { kind, grade }
    }

    /// A user created the token.
    pub const CREATED: Self = Self::of(TokenEventKind::Created, TokenEventGrade::Info);
    /// A rotation made the token.
    pub const MINTED: Self = Self::of(TokenEventKind::Minted, TokenEventGrade::Info);
    /// A rotation returned the unused token again.
    pub const DELIVERED_AGAIN: Self = Self::of(TokenEventKind::DeliveredAgain, TokenEventGrade::Info);
    /// A reset by runner id ended the token.
    pub const REVOKED: Self = Self::of(TokenEventKind::Revoked, TokenEventGrade::Info);
    /// A rotation of the token was refused.
    pub const REFUSED: Self = Self::of(TokenEventKind::Refused, TokenEventGrade::Notice);
    /// A rotation, which names no manager, was the first use of the token.
    pub const FIRST_USED_BY_ROTATION: Self = Self::of(TokenEventKind::FirstUsed, TokenEventGrade::Info);

    /// A known manager was the first to use the token.
    pub const FIRST_USED_BY_MANAGER: Self = Self::first_use(true, true);

    const NEW_MANAGER: Self = Self::of(TokenEventKind::NewManager, TokenEventGrade::Info);
    const WENT_BACK: Self = Self::of(TokenEventKind::WentBack, TokenEventGrade::Notice);

    /// The first use of a token that a rotation made, by a caller that may be a manager. A manager polls before its token is
    /// due, so one that is not known did not get the token from a rotation. If it is alone it harms nobody.
    #[must_use]
    pub const fn first_use(is_known: bool, has_other_managers: bool) -> Self {
        let is_stranger = !is_known && has_other_managers;
        let grade = if is_stranger { TokenEventGrade::High } else { TokenEventGrade::Info };
        Self::of(TokenEventKind::FirstUsed, grade)
    }

    /// The first contact of a manager with a token that is in use. `is_first_user`: a rotation made the token, and no manager
    /// has been seen with it or a newer one yet; so only a rotation can have been its first use.
    #[must_use]
    pub fn arrival(is_first_user: bool, has_other_managers: bool) -> Self {
        if is_first_user && has_other_managers { Self::first_use(false, true) } else { Self::NEW_MANAGER }
    }

    const fn used_after_end(grade: TokenEventGrade) -> Self {
        Self::of(TokenEventKind::UsedAfterEnd, grade)
    }

    /// A refused use of a token; none if it is no event.
    #[must_use]
    pub fn refused_use(
        reason: InactiveReason,
        token_generation: i32,
        presenter: &Presenter,
        now: OffsetDateTime,
    ) -> Option<Self> {
        match (reason, presenter) {
            (InactiveReason::Expired | InactiveReason::Revoked, _) => {
                Some(Self::used_after_end(TokenEventGrade::Notice))
            }
            (InactiveReason::Superseded, Presenter::Manager { generation, moved_at, .. })
                if *generation > token_generation =>
            {
                let is_in_flight = moved_at.is_some_and(|moved_at| now - moved_at < CALLS_IN_FLIGHT);
                (!is_in_flight).then_some(Self::WENT_BACK)
            }
            (InactiveReason::Superseded, Presenter::Manager { is_named: true, .. } | Presenter::Rotation) => {
                Some(Self::used_after_end(TokenEventGrade::Notice))
            }
            (InactiveReason::Superseded, Presenter::Manager { .. } | Presenter::Stranger) => {
                Some(Self::used_after_end(TokenEventGrade::High))
            }
        }
    }
}

/// Who presents a token that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presenter {
    /// A known manager.
    Manager {
        /// Whether it sends a system id. If not, all programs of the runner that send none are one manager.
        is_named: bool,
        /// The newest generation that it was seen with.
        generation: i32,
        /// When it was first seen with that generation.
        moved_at: Option<OffsetDateTime>,
    },
    /// A caller of the rotation, which names no manager: one that did not save its new token, or a thief.
    Rotation,
    /// Any other caller: a system id that is not known, or none.
    Stranger,
}

impl TokenEventKind {
    /// Returns the kind that a message names; none for an unset one.
    #[must_use]
    pub fn from_message(message: message::TokenEventKind) -> Option<Self> {
        match message {
            message::TokenEventKind::Unspecified => None,
            message::TokenEventKind::Created => Some(Self::Created),
            message::TokenEventKind::Minted => Some(Self::Minted),
            message::TokenEventKind::DeliveredAgain => Some(Self::DeliveredAgain),
            message::TokenEventKind::FirstUsed => Some(Self::FirstUsed),
            message::TokenEventKind::NewManager => Some(Self::NewManager),
            message::TokenEventKind::WentBack => Some(Self::WentBack),
            message::TokenEventKind::UsedAfterEnd => Some(Self::UsedAfterEnd),
            message::TokenEventKind::Revoked => Some(Self::Revoked),
            message::TokenEventKind::Refused => Some(Self::Refused),
        }
    }

    /// Returns the kind as messages name it.
    #[must_use]
    pub const fn message(self) -> message::TokenEventKind {
        match self {
            Self::Created => message::TokenEventKind::Created,
            Self::Minted => message::TokenEventKind::Minted,
            Self::DeliveredAgain => message::TokenEventKind::DeliveredAgain,
            Self::FirstUsed => message::TokenEventKind::FirstUsed,
            Self::NewManager => message::TokenEventKind::NewManager,
            Self::WentBack => message::TokenEventKind::WentBack,
            Self::UsedAfterEnd => message::TokenEventKind::UsedAfterEnd,
            Self::Revoked => message::TokenEventKind::Revoked,
            Self::Refused => message::TokenEventKind::Refused,
        }
    }

    /// Returns the name of the kind, as REST and the metric write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Minted => "minted",
            Self::DeliveredAgain => "delivered_again",
            Self::FirstUsed => "first_used",
            Self::NewManager => "new_manager",
            Self::WentBack => "went_back",
            Self::UsedAfterEnd => "used_after_end",
            Self::Revoked => "revoked",
            Self::Refused => "refused",
        }
    }
}

impl TokenEventGrade {
    /// Returns the grade that a message names; none for an unset one.
    #[must_use]
    pub fn from_message(message: message::TokenEventGrade) -> Option<Self> {
        match message {
            message::TokenEventGrade::Unspecified => None,
            message::TokenEventGrade::Info => Some(Self::Info),
            message::TokenEventGrade::Notice => Some(Self::Notice),
            message::TokenEventGrade::High => Some(Self::High),
        }
    }

    /// Returns the grade as messages name it.
    #[must_use]
    pub const fn message(self) -> message::TokenEventGrade {
        match self {
            Self::Info => message::TokenEventGrade::Info,
            Self::Notice => message::TokenEventGrade::Notice,
            Self::High => message::TokenEventGrade::High,
        }
    }

    /// Returns the name of the grade, as REST and the metric write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::High => "high",
        }
    }
}

#[cfg(test)]
mod tests;
