//! What a runner serves, as the domain files and the token form use it.

use proto::paddock::runner::v1::RunnerType as Message;

/// What a runner serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunnerType {
    /// Every project of the instance.
    Instance,
    /// Every project of one group and its descendants.
    Group,
    /// The projects that it is assigned to.
    Project,
}

impl RunnerType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Instance, Self::Group, Self::Project];

    /// The digit that names the type in a token, in messages and in the database.
    #[must_use]
    pub const fn digit(self) -> u8 {
        match self {
            Self::Instance => 1,
            Self::Group => 2,
            Self::Project => 3,
        }
    }

    /// The type that a digit names in a token.
    #[must_use]
    pub fn from_digit(digit: char) -> Option<Self> {
        let digit = digit.to_digit(10)?;
        Self::ALL.into_iter().find(|runner_type| u32::from(runner_type.digit()) == digit)
    }

    /// The type that a message names; none for an unset or unknown one.
    #[must_use]
    pub fn from_message(message: Message) -> Option<Self> {
        match message {
            Message::Unspecified => None,
            Message::InstanceType => Some(Self::Instance),
            Message::GroupType => Some(Self::Group),
            Message::ProjectType => Some(Self::Project),
        }
    }

    /// The type as messages name it.
    #[must_use]
    pub fn message(self) -> Message {
        match self {
            Self::Instance => Message::InstanceType,
            Self::Group => Message::GroupType,
            Self::Project => Message::ProjectType,
        }
    }
}
