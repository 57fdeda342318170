//! What a call can be refused with, and the one table from there to the reasons of the contract.

use std::fmt;

use chassis::status::{Fault, Refusal, Rejection};
use proto::paddock::contract::v1::Reason;
use sea_orm::DbErr;

/// The outcome of whatever a handler calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A state that a client can bring about, with the texts for it.
    #[error("refused: {}", .0.spec().code)]
    Refused(Refusal),
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] DbErr),
    /// Something that cannot be is so, or something that is needed does not answer.
    #[error("{}", .0.detail())]
    Failed(Fault),
}

impl Error {
    /// Something that cannot be is so.
    pub fn internal(detail: impl fmt::Display) -> Self {
        Self::Failed(Fault::internal(detail))
    }

    /// The reason of the contract.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Failed(fault) => fault.reason(),
            Self::Database(DbErr::ConnectionAcquire(_) | DbErr::Conn(_)) => Reason::Unavailable,
            Self::Database(_) => Reason::Internal,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Refusal(refusal) => Self::Refused(refusal),
            Rejection::Fault(fault) => Self::Failed(fault),
        }
    }
}

/// A call to a peer that ended without an answer.
impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Rejection::from(status).into()
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        let reason = error.reason();
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Failed(fault) => fault.into(),
            Error::Database(error) => Fault::of(reason, error).into(),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Rejection::from(error).into()
    }
}
