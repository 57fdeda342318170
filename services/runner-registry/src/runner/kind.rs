//! How tokens and messages name the types of runners.

use proto::paddock::runner::v1::RunnerType as Message;

use crate::entity::runner::RunnerType;

impl RunnerType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Instance, Self::Group, Self::Project];

    /// Returns the digit that names the type in a token.
    #[must_use]
    pub const fn digit(self) -> char {
        match self {
            Self::Instance => '1',
            Self::Group => '2',
            Self::Project => '3',
        }
    }

    /// Returns the type that a digit names in a token.
    #[must_use]
    pub fn from_digit(digit: char) -> Option<Self> {
        Self::ALL.into_iter().find(|runner_type| runner_type.digit() == digit)
    }

    /// Returns the type that a message names; none for an unset one.
    #[must_use]
    pub fn from_message(message: Message) -> Option<Self> {
        match message {
            Message::Unspecified => None,
            Message::InstanceType => Some(Self::Instance),
            Message::GroupType => Some(Self::Group),
            Message::ProjectType => Some(Self::Project),
        }
    }

    /// Returns the type as messages name it.
    #[must_use]
    pub const fn message(self) -> Message {
        match self {
            Self::Instance => Message::InstanceType,
            Self::Group => Message::GroupType,
            Self::Project => Message::ProjectType,
        }
    }
}
