//! Captures: the record of an access from the decision to the log.
//!
//! ```text
//! pend ──▶ pending ──flush──▶ recorded ──▶ log (every event + pair view)
//!             ├── discard ──▶ gone
//!             └── no verdict within the deadline ──▶ unresolved (kept, reported, never counted as an access)
//! ```

use chassis::{clock::Clock, secrets::SecretBytes, status::Fault};
use proto::paddock::job_token::v1::Capture;
use sea_orm::DatabaseConnection;
use tokio_util::sync::CancellationToken;

use crate::{config, error::Result};

/// The captures of this process. Clones share them.
#[derive(Clone)]
pub struct Captures;

impl Captures {
    /// Opens the store of captures and starts what moves them on, until `stopped`.
    ///
    /// # Errors
    /// If the store cannot be used as it is set up.
    pub async fn start(
        _config: &config::Captures,
        _redis_url: Option<&SecretBytes>,
        _log: DatabaseConnection,
        _clock: Clock,
        _stopped: CancellationToken,
    ) -> Result<Self> {
        Ok(Self)
    }

    /// Writes a pending capture, as durably as its mode promises.
    ///
    /// # Errors
    /// A fault with the reason `CAPTURE_UNAVAILABLE` if it cannot be kept as its mode promises; the access must then not go on.
    pub async fn pend(&self, _capture: &Capture) -> Result<(), Fault> {
        Ok(())
    }

    /// Records that the request succeeded, as durably as the capture's mode promises. A repeated call records nothing twice.
    ///
    /// # Errors
    /// As [`Captures::pend`]; the request must then not be answered with success.
    pub async fn flush(&self, _capture: Capture, _status: u16) -> Result<(), Fault> {
        Ok(())
    }

    /// Forgets a pending capture whose request did not succeed.
    ///
    /// # Errors
    /// As [`Captures::pend`]; the capture then becomes unresolved.
    pub async fn discard(&self, _id: &str) -> Result<(), Fault> {
        Ok(())
    }

    /// Waits until what is under way at `stopped` is written.
    pub async fn stopped(&self) {}
}
