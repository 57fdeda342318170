//! Captures: the record of an access from the decision to the log.
//!
//! ```text
//! pend ──▶ pending ──flush──▶ recorded ──▶ log (every event + pair view)
//!             ├── discard ──▶ gone
//!             └── no verdict within the deadline ──▶ unresolved (kept, reported, never counted as an access)
//! ```
//!
//! Every step of every capture goes through one writer for each partition, in order, as part of a batch that the store applies
//! whole or not at all. A step may be applied twice without a further effect, so a writer whose answer was lost just tries again.

mod database;
mod flusher;
mod gaps;
mod log;
mod maintenance;
mod metrics;
mod op;
mod outage;
mod queue;
mod redis;
mod spool;
mod start;
mod store;
mod writer;

use std::{sync::Arc, time::Duration};

use chassis::{clock::Clock, secrets::SecretBytes, status::Fault};
use proto::paddock::job_token::v1::{Capture, CaptureMode, FlushRequest};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use proto::timestamp::millis;

use crate::{config, error::Result};
pub use log::Log;
use op::Op;
use queue::Queues;
pub use redis::inspection::{RedisProblem, inspect as inspect_redis};
use spool::Spool;

/// The captures of this process. Clones share them.
#[derive(Clone)]
pub struct Captures(Arc<Inner>);

struct Inner {
    queues: Queues,
    spool: Spool,
    /// How long a capture may be without a verdict.
    patience: Duration,
    clock: Clock,
    tasks: TaskTracker,
}

impl Captures {
    /// Opens the store of captures and starts what moves them on, until `stopped`.
    ///
    /// # Errors
    /// If the store cannot be used as it is set up. A Redis that does not answer at the moment is waited for.
    pub async fn start(
        config: &config::Captures,
        redis_url: Option<&SecretBytes>,
        log: Log,
        clock: Clock,
        stopped: CancellationToken,
    ) -> Result<Self> {
        start::start(config, redis_url, log, clock, stopped).await
    }

    /// Writes a pending capture, as durably as its mode promises.
    ///
    /// # Errors
    /// A fault with the reason `CAPTURE_UNAVAILABLE` if it cannot be kept as its mode promises; the access must then not go on.
    pub async fn pend(&self, capture: &Capture) -> Result<(), Fault> {
        check(&capture.id)?;
        let deadline = millis(self.0.clock.now() + self.0.patience);
        let pend = Op::Pend { capture: capture.clone(), deadline };
        match capture.mode() {
            CaptureMode::Strict | CaptureMode::Unspecified => self.counted(capture.mode(), pend).await,
            // The record itself comes with the flush; without the pending capture only a request without a verdict goes unseen.
            CaptureMode::Spool | CaptureMode::BestEffort => {
                self.offer("pend", pend);
                Ok(())
            }
        }
    }

    /// Records that the request succeeded, as durably as the capture's mode promises. A repeated call records nothing twice.
    ///
    /// # Errors
    /// As [`Captures::pend`]; the request must then not be answered with success.
    pub async fn flush(&self, capture: Capture, status: u16) -> Result<(), Fault> {
        check(&capture.id)?;
        let mode = capture.mode();
        let flush = FlushRequest { capture: Some(capture), status: status.into() };
        let accepted = match mode {
            CaptureMode::Strict | CaptureMode::Unspecified => self.counted(mode, Op::Flush(flush)).await.map(|()| true),
            CaptureMode::Spool if self.0.spool.append(&flush).await => Ok(true),
            CaptureMode::Spool => {
                metrics::not_spooled();
                self.counted(mode, Op::Flush(flush)).await.map(|()| true)
            }
            CaptureMode::BestEffort => Ok(self.offer("flush", Op::Flush(flush))),
        }?;
        if accepted {
            metrics::recorded(mode);
        }
        Ok(())
    }

    /// Forgets a pending capture whose request did not succeed.
    ///
    /// # Errors
    /// As [`Captures::pend`]; the capture then becomes unresolved.
    pub async fn discard(&self, id: &str) -> Result<(), Fault> {
        check(id)?;
        self.counted(CaptureMode::Unspecified, Op::Discard { id: id.to_owned() }).await?;
        metrics::discarded();
        Ok(())
    }

    /// Waits until what is under way at `stopped` is written.
    pub async fn stopped(&self) {
        self.0.tasks.wait().await;
    }

    async fn counted(&self, mode: CaptureMode, op: Op) -> Result<(), Fault> {
        self.0.queues.ask(op).await.inspect_err(|_| metrics::failed(mode))
    }

    fn offer(&self, step: &'static str, op: Op) -> bool {
        let queued = self.0.queues.offer(op);
        if !queued {
            metrics::dropped(step, 1);
        }
        queued
    }
}

/// The gateway chooses ids and they are keys of tables, so one that does not fit is a mistake of ours.
fn check(id: &str) -> Result<(), Fault> {
    if op::is_id(id) { Ok(()) } else { Err(Fault::internal("the id of a capture is not a UUID")) }
}
