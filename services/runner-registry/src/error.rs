//! The errors of the registry, and the one table from them to the reasons of the contract.

use std::collections::BTreeMap;

use chassis::{
    db::error::DatabaseFailure,
    status::{Fault, Refusal, Rejection},
};
use proto::paddock::contract::v1::Reason;
use sea_orm::DbErr;
use time::OffsetDateTime;

/// The result of a function that a handler calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Seconds after which a client that rotates too often may try again. Its programs hold a lock while they wait, so it is
/// well below a minute.
const ROTATION_RETRY_SECONDS: u32 = 30;

/// Why a call fails. A client can cause every variant but the last two.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text does not have the form of a personal access token: prefix, length, alphabet or checksum are wrong.
    #[error("the user token is malformed")]
    UserTokenMalformed,
    /// No personal access token has this digest.
    #[error("the user token is unknown")]
    UserTokenUnknown,
    /// The personal access token has expired.
    #[error("the user token has expired")]
    UserTokenExpired,
    /// The personal access token was revoked.
    #[error("the user token was revoked")]
    UserTokenRevoked,
    /// The text is a token of another kind.
    #[error("the token is no user token")]
    UserTokenWrongKind,
    /// The text does not have the form of a runner token: prefix, length, alphabet or checksum are wrong.
    #[error("the runner token is malformed")]
    RunnerTokenMalformed,
    /// No runner token has this digest.
    #[error("the runner token is unknown")]
    RunnerTokenUnknown,
    /// The runner of the token was deleted.
    #[error("the runner {runner_id} was removed")]
    RunnerRemoved {
        /// The id that the runner had.
        runner_id: i64,
        /// When it was deleted.
        removed_at: OffsetDateTime,
    },
    /// The runner token has expired.
    #[error("the runner token has expired")]
    RunnerTokenExpired,
    /// The successor of the runner token is in use.
    #[error("the runner token is superseded")]
    RunnerTokenSuperseded,
    /// A reset by runner id revoked the runner token.
    #[error("the runner token was revoked")]
    RunnerTokenRevoked,
    /// The text is a token of another kind.
    #[error("the token is no runner token")]
    RunnerTokenWrongKind,
    /// The rotation deadline of the runner token has passed.
    #[error("the rotation deadline has passed")]
    RotationDeadlinePassed,
    /// The runner has minted more tokens lately than its managers need.
    #[error("the runner token is rotated too often")]
    RotationLimited,
    /// The project runner is assigned to no project.
    #[error("the runner is assigned to no project")]
    RunnerUnassigned,
    /// A registration token was presented.
    #[error("registration tokens are not accepted")]
    RegistrationDisallowed,
    /// The caller sees the object but may not do this with it.
    #[error("access denied")]
    AccessDenied,
    /// The caller may not create or change this.
    #[error("insufficient permissions")]
    InsufficientPermissions,
    /// A group runner cannot be assigned.
    #[error("the runner is a group runner")]
    RunnerIsGroupRunner,
    /// An instance runner cannot be assigned.
    #[error("the runner is an instance runner")]
    RunnerIsInstanceRunner,
    /// The runner is locked to its projects.
    #[error("the runner is locked")]
    RunnerLocked,
    /// The runner serves further projects.
    #[error("the runner serves more than one project")]
    RunnerSharedByProjects,
    /// The runner belongs to the project that it should be taken from.
    #[error("the project owns the runner")]
    RunnerOwnedByProject,
    /// The runner serves the project already.
    #[error("the runner is already assigned to the project")]
    RunnerAlreadyAssigned,
    /// No such project, or the caller may not see it.
    #[error("project not found")]
    ProjectNotFound,
    /// No such group, or the caller may not see it.
    #[error("group not found")]
    GroupNotFound,
    /// No such user.
    #[error("user not found")]
    UserNotFound,
    /// No such runner.
    #[error("runner not found")]
    RunnerNotFound,
    /// The runner has no manager with this system id.
    #[error("runner manager not found")]
    RunnerManagerNotFound,
    /// The user is not a direct member of the object.
    #[error("member not found")]
    MemberNotFound,
    /// The user has a role in the object already.
    #[error("member exists")]
    MemberExists,
    /// The group would have no owner.
    #[error("the group would have no owner")]
    LastOwner,
    /// These required parameters are missing.
    #[error("parameters are missing: {0:?}")]
    ParameterMissing(Vec<&'static str>),
    /// All of these parameters are missing, and at least one is required.
    #[error("one of the parameters is needed: {0:?}")]
    NoParameter(&'static [&'static str]),
    /// A parameter has a value that is not allowed. The text is for the caller: `status does not have a valid value`.
    #[error("a parameter is invalid: {0}")]
    ParameterInvalid(String),
    /// The deprecated parameter `scope` of a list has an unknown value.
    #[error("the scope is invalid")]
    ScopeInvalid,
    /// The record would not be valid.
    #[error("validation failed: {0:?}")]
    ValidationFailed(FieldErrors),
    /// The parameters contradict each other or the settings in force. The text is for the caller.
    #[error("bad request: {0}")]
    BadRequest(String),
    /// Another call changed the same record at the same time.
    #[error("conflict")]
    Conflict,
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] DbErr),
    /// A mistake in this program, or in data that only it writes.
    #[error("fault: {}", .0.detail())]
    Fault(Fault),
}

/// The texts of a failed validation by field, in the wording of GitLab: `path` → `has already been taken`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FieldErrors(BTreeMap<&'static str, Vec<String>>);

impl FieldErrors {
    /// Adds a text to a field.
    pub fn push(&mut self, field: &'static str, text: impl Into<String>) {
        self.0.entry(field).or_default().push(text.into());
    }

    /// Returns every text with its field, ordered by field.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().flat_map(|(field, texts)| texts.iter().map(|text| (*field, text.as_str())))
    }

    /// Reports whether there are no texts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails if there are texts.
    ///
    /// # Errors
    /// [`Error::ValidationFailed`] with all texts.
    pub fn check(self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(Error::ValidationFailed(self)) }
    }
}

impl Error {
    /// A fault with the reason `INTERNAL`. The text is for the log.
    #[must_use]
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        Self::Fault(Fault::internal(detail))
    }

    /// One field is not valid.
    #[must_use]
    pub fn invalid(field: &'static str, text: impl Into<String>) -> Self {
        let mut fields = FieldErrors::default();
        fields.push(field, text);
        Self::ValidationFailed(fields)
    }

    /// Converts an error of the database. If a row with the same unique value exists, it is `meaning`.
    #[must_use]
    pub fn on_unique(error: DbErr, meaning: Self) -> Self {
        match DatabaseFailure::of(&error) {
            DatabaseFailure::UniqueViolation => meaning,
            _ => error.into(),
        }
    }

    /// Converts an error of the database. If the row that a reference needs was deleted, it is `meaning`.
    #[must_use]
    pub fn on_gone(error: DbErr, meaning: Self) -> Self {
        match DatabaseFailure::of(&error) {
            DatabaseFailure::ForeignKeyViolation => meaning,
            _ => error.into(),
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::UserTokenMalformed => Reason::UserTokenMalformed,
            Self::UserTokenUnknown => Reason::UserTokenUnknown,
            Self::UserTokenExpired => Reason::UserTokenExpired,
            Self::UserTokenRevoked => Reason::UserTokenRevoked,
            Self::UserTokenWrongKind => Reason::UserTokenWrongKind,
            Self::RunnerTokenMalformed => Reason::RunnerTokenMalformed,
            Self::RunnerTokenUnknown => Reason::RunnerTokenUnknown,
            Self::RunnerRemoved { .. } => Reason::RunnerRemoved,
            Self::RunnerTokenExpired => Reason::RunnerTokenExpired,
            Self::RunnerTokenSuperseded => Reason::RunnerTokenSuperseded,
            Self::RunnerTokenRevoked => Reason::RunnerTokenRevoked,
            Self::RunnerTokenWrongKind => Reason::RunnerTokenWrongKind,
            Self::RotationDeadlinePassed => Reason::RotationDeadlinePassed,
            Self::RotationLimited => Reason::RotationLimited,
            Self::RunnerUnassigned => Reason::RunnerUnassigned,
            Self::RegistrationDisallowed => Reason::RegistrationDisallowed,
            Self::AccessDenied => Reason::AccessDenied,
            Self::InsufficientPermissions => Reason::InsufficientPermissions,
            Self::RunnerIsGroupRunner => Reason::RunnerIsGroupRunner,
            Self::RunnerIsInstanceRunner => Reason::RunnerIsInstanceRunner,
            Self::RunnerLocked => Reason::RunnerLocked,
            Self::RunnerSharedByProjects => Reason::RunnerSharedByProjects,
            Self::RunnerOwnedByProject => Reason::RunnerOwnedByProject,
            Self::RunnerAlreadyAssigned => Reason::RunnerAlreadyAssigned,
            Self::ProjectNotFound => Reason::ProjectNotFound,
            Self::GroupNotFound => Reason::GroupNotFound,
            Self::UserNotFound => Reason::UserNotFound,
            Self::RunnerNotFound => Reason::RunnerNotFound,
            Self::RunnerManagerNotFound => Reason::RunnerManagerNotFound,
            Self::MemberNotFound => Reason::MemberNotFound,
            Self::MemberExists => Reason::MemberExists,
            Self::LastOwner => Reason::LastOwner,
            Self::ParameterMissing(_) | Self::NoParameter(_) => Reason::ParameterMissing,
            Self::ParameterInvalid(_) => Reason::ParameterInvalid,
            Self::ValidationFailed(_) => Reason::ValidationFailed,
            Self::BadRequest(_) | Self::ScopeInvalid => Reason::BadRequest,
            Self::Conflict => Reason::Conflict,
            Self::Database(error) => DatabaseFailure::of(error).reason(),
            Self::Fault(fault) => fault.reason(),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        let reason = error.reason();
        let refusal = Refusal::new(reason);
        let precise = match error {
            Error::Database(error) => return error.into(),
            Error::Fault(fault) => return fault.into(),
            Error::RunnerRemoved { removed_at, .. } => {
                let message = format!("{} on {}", refusal.spec().message, removed_at.date());
                refusal.with_message(message)
            }
            Error::RotationLimited => refusal.with_retry_after(ROTATION_RETRY_SECONDS),
            Error::ParameterMissing(names) => {
                let texts: Vec<_> = names.iter().map(|name| format!("{name} is missing")).collect();
                refusal.with_message(texts.join(", "))
            }
            Error::NoParameter(names) => {
                let text = format!("{} are missing, at least one parameter must be provided", names.join(", "));
                refusal.with_message(text)
            }
            Error::ParameterInvalid(text) => refusal.with_message(text),
            Error::ScopeInvalid => refusal.with_message("Scope contains invalid value"),
            Error::BadRequest(text) => {
                let message = format!("{} - {text}", refusal.spec().message);
                refusal.with_message(message)
            }
            Error::ValidationFailed(FieldErrors(fields)) => fields
                .into_iter()
                .flat_map(|(field, texts)| texts.into_iter().map(move |text| (field, text)))
                .fold(refusal, |refusal, (field, text)| refusal.with_field(field, text)),
            _ => refusal,
        };
        precise.into()
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Rejection::from(error).into()
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn refusal(error: Error) -> Refusal {
        match Rejection::from(error) {
            Rejection::Refusal(refusal) => refusal,
            Rejection::Fault(fault) => panic!("{fault:?}"),
        }
    }

    #[test]
    fn a_refusal_says_what_the_caller_can_use() {
        let cases = [
            (Error::GroupNotFound, "group_not_found", "404 Group Not Found"),
            (Error::ParameterMissing(vec!["a", "b"]), "parameter_missing", "a is missing, b is missing"),
            (
                Error::NoParameter(&["a", "b"]),
                "parameter_missing",
                "a, b are missing, at least one parameter must be provided",
            ),
            (Error::ParameterInvalid("a is invalid".to_owned()), "parameter_invalid", "a is invalid"),
            (
                Error::RunnerRemoved { runner_id: 14, removed_at: datetime!(2026-11-27 23:59:59 UTC) },
                "runner_removed",
                "403 Forbidden - runner removed on 2026-11-27",
            ),
            (Error::BadRequest("why".to_owned()), "bad_request", "400 Bad request - why"),
            (Error::Conflict, "conflict", "409 Conflict"),
        ];
        for (error, code, message) in cases {
            let refusal = refusal(error);
            assert_eq!((refusal.spec().code, refusal.message()), (code, message));
        }
        let mut errors = FieldErrors::default();
        errors.push("path", "is short");
        errors.push("name", "is long");
        errors.push("path", "is odd");
        let refusal = refusal(Error::ValidationFailed(errors));
        let fields: Vec<_> = refusal.fields().iter().map(|(field, texts)| (field.as_str(), texts.len())).collect();
        assert_eq!(fields, [("name", 1), ("path", 2)]);
    }
}
