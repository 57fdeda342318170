//! Captures: the record of an access from the decision to the log.
//!
//! ```text
//! begin ─▶ pending ──flush──▶ recorded ──▶ log (every event + pair view)
//!             ├── discard ──▶ gone
//!             └── no verdict within the deadline ──▶ unresolved (kept, reported, never counted as an access)
//! ```
//!
//! Each partition has one writer. Every step of a capture goes through it, in order, as part of a batch that the store applies
//! whole or not at all. Applying a step twice has no further effect, so a writer whose answer was lost tries again.
//!
//! Inside this room arrows point down only:
//!
//! ```text
//! mod                                           what the handlers call
//! start                                         builds the parts, starts and stops the tasks
//! maintenance, writer                           tasks
//! flusher, gap_watch, store                     a task, and what tasks use
//! database, redis, spool                        where captures and records are kept
//! metrics, queue
//! failure, outage, step, supervisor
//! log                                           writes the log; owns its tables
//! ```

mod database;
mod failure;
mod flusher;
mod gap_watch;
mod log;
mod maintenance;
mod metrics;
mod outage;
mod queue;
mod redis;
mod spool;
mod start;
mod step;
mod store;
mod supervisor;
mod writer;

use std::{sync::Arc, time::Duration};

use chassis::{clock::Clock, secrets::SecretBytes, status::Fault};
use proto::{
    paddock::job_token::v1::{Capture, CaptureMode, FlushRequest},
    timestamp::millis,
};
use tokio_util::sync::CancellationToken;

pub use self::{
    log::LogDatabase,
    redis::inspection::{RedisProblem, inspect as inspect_redis},
};
use self::{queue::StepQueues, spool::Spool, start::Started, step::Step, supervisor::Supervisor};
use crate::{
    config::CaptureConfig,
    error::{Error, Result},
};

/// The captures of this process. Clones share them.
#[derive(Clone)]
pub struct Captures(Arc<Inner>);

struct Inner {
    queues: StepQueues,
    spool: Spool,
    /// How long a capture may be without a verdict.
    deadline: Duration,
    clock: Clock,
    supervisor: Supervisor,
}

impl Captures {
    /// Opens the store of captures and starts the background tasks, which run until `stopped`.
    ///
    /// # Errors
    /// If the store cannot be used as it is set up. A Redis that does not answer at the moment is waited for.
    pub async fn start(
        config: &CaptureConfig,
        redis_url: Option<&SecretBytes>,
        log: LogDatabase,
        clock: Clock,
        stopped: CancellationToken,
    ) -> Result<Self> {
        let started = start::start(config, redis_url, log, clock.clone(), stopped).await?;
        let Started { queues, spool, supervisor } = started;
        let deadline = Duration::from_secs(config.deadline_seconds.into());
        Ok(Self(Arc::new(Inner { queues, spool, deadline, clock, supervisor })))
    }

    /// Writes a pending capture, as durably as its mode promises.
    ///
    /// # Errors
    /// A fault with the reason `CAPTURE_UNAVAILABLE` if it cannot be kept as its mode promises; the access must then not go on.
    pub async fn begin(&self, capture: &Capture) -> Result<(), Fault> {
        check_id(&capture.id)?;
        let deadline = millis(self.0.clock.now() + self.0.deadline);
        let begin = Step::Begin { capture: capture.clone(), deadline };
        match capture.mode() {
            CaptureMode::Strict | CaptureMode::Unspecified => self.apply(capture.mode(), begin).await,
            // The flush brings the record itself. Without the pending capture only a request without a verdict is missed.
            CaptureMode::Spool | CaptureMode::BestEffort => {
                self.offer("begin", begin);
                Ok(())
            }
        }
    }

    /// Records that the request succeeded, as durably as the capture's mode promises. A repeated call records nothing twice.
    ///
    /// # Errors
    /// As [`Captures::begin`]; the request must then not be answered with success.
    pub async fn flush(&self, capture: Capture, status: u16) -> Result<(), Fault> {
        check_id(&capture.id)?;
        let mode = capture.mode();
        let flush = FlushRequest { capture: Some(capture), status: status.into() };
        match mode {
            CaptureMode::Strict | CaptureMode::Unspecified => self.apply(mode, Step::Flush(flush)).await?,
            CaptureMode::Spool => {
                if !self.0.spool.append(&flush).await {
                    metrics::count_not_spooled();
                    self.apply(mode, Step::Flush(flush)).await?;
                }
            }
            CaptureMode::BestEffort => {
                if !self.offer("flush", Step::Flush(flush)) {
                    return Ok(());
                }
            }
        }
        metrics::count_recorded(mode);
        Ok(())
    }

    /// Forgets a pending capture whose request did not succeed.
    ///
    /// # Errors
    /// As [`Captures::begin`]; the capture then becomes unresolved.
    pub async fn discard(&self, id: &str) -> Result<(), Fault> {
        check_id(id)?;
        self.apply(CaptureMode::Unspecified, Step::Discard { id: id.to_owned() }).await?;
        metrics::count_discarded();
        Ok(())
    }

    /// Waits until a background task fails, forever if none does. The process must then end.
    pub async fn wait_for_failure(&self) {
        self.0.supervisor.wait_for_failure().await;
    }

    /// Waits until what is under way at `stopped` is written.
    ///
    /// # Errors
    /// If a background task failed; the error names it.
    pub async fn wait_until_stopped(&self) -> Result<()> {
        self.0.supervisor.wait().await.map_err(Error::internal)
    }

    /// Starts one more background task, for tests of what happens when it fails.
    #[cfg(test)]
    pub(crate) fn spawn(&self, task: &str, work: impl Future<Output = ()> + Send + 'static) {
        self.0.supervisor.spawn(task, work);
    }

    async fn apply(&self, mode: CaptureMode, step: Step) -> Result<(), Fault> {
        let applied = self.0.queues.apply(step).await;
        applied.inspect_err(|error| metrics::count_failed(mode, error.label())).map_err(Fault::from)
    }

    /// Queues the step if there is room. Returns false, and counts it as dropped, if there is none.
    fn offer(&self, label: &'static str, step: Step) -> bool {
        let is_queued = self.0.queues.offer(step).is_ok();
        if !is_queued {
            metrics::count_dropped(label, 1);
        }
        is_queued
    }
}

/// Checks an id. The gateway chooses ids and they are keys of tables, so a malformed one is a fault of ours.
fn check_id(id: &str) -> Result<(), Fault> {
    if step::is_capture_id(id) { Ok(()) } else { Err(Fault::internal("the id of a capture is not a UUID")) }
}
