//! What the log keeps of a capture.

use proto::paddock::job_token::v1::{Capture, FlushRequest};

/// The record of one capture.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A request that succeeded.
    Access(FlushRequest),
    /// A request without a verdict.
    Unresolved(Capture),
}

impl Record {
    /// Returns the capture; none if an access came without one.
    pub fn capture(&self) -> Option<&Capture> {
        match self {
            Self::Access(flush) => flush.capture.as_ref(),
            Self::Unresolved(capture) => Some(capture),
        }
    }
}
