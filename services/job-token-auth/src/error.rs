//! The errors of job-token-auth, and the one table from them to the reasons of the contract.

use std::fmt;

use chassis::{
    db::error::DatabaseFailure,
    status::{Fault, Refusal, Rejection},
};
use proto::paddock::contract::v1::Reason;
use sea_orm::DbErr;

/// The result of a function that a handler calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A refusal that a client can cause, with its texts.
    #[error("refused: {}", .0.spec().code)]
    Refused(Refusal),
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] DbErr),
    /// A mistake in this program, or a peer that does not answer.
    #[error("{}", .0.detail())]
    Failed(Fault),
}

impl Error {
    /// A fault with the reason `INTERNAL`. The text is for the log.
    pub fn internal(detail: impl fmt::Display) -> Self {
        Self::Failed(Fault::internal(detail))
    }

    /// The reason of the contract.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Failed(fault) => fault.reason(),
            Self::Database(error) => DatabaseFailure::of(error).reason(),
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
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Failed(fault) => fault.into(),
            Error::Database(error) => error.into(),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Rejection::from(error).into()
    }
}
