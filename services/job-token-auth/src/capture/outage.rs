//! How a task lives with something that fails for a while: it tries again and again, and says so twice, when it begins and
//! when it ends.

use std::{fmt, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A stretch of failures, or none.
#[derive(Debug)]
pub struct Outage {
    what: &'static str,
    since: Option<Instant>,
    wait: Duration,
}

impl Outage {
    /// No failure yet; `what` says what cannot be done when there is one.
    pub fn new(what: &'static str) -> Self {
        Self { what, since: None, wait: FIRST_WAIT }
    }

    /// It failed.
    pub fn failed(&mut self, error: &dyn fmt::Display) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            tracing::error!(%error, "{}; it is tried again until it works", self.what);
        }
    }

    /// It works.
    pub fn ended(&mut self) {
        self.wait = FIRST_WAIT;
        if let Some(since) = self.since.take() {
            let seconds = since.elapsed().as_secs();
            tracing::info!(seconds, "over: {}", self.what);
        }
    }

    /// Waits before the next attempt, longer each time. False: do not try again, it is time to stop.
    pub async fn wait(&mut self, stop: &CancellationToken) -> bool {
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
    }
}
