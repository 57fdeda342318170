//! How a task handles an operation that fails for a while: it retries with a growing delay, and logs when the failures begin,
//! when their cause changes, and when they end.

use std::{fmt, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Minimum time between two log lines about different causes.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// A series of failures of one operation. It is empty while the operation works.
#[derive(Debug)]
pub struct Outage {
    description: &'static str,
    since: Option<Instant>,
    /// The cause that was logged last.
    logged: Option<LoggedCause>,
    delay: Duration,
}

#[derive(Debug)]
struct LoggedCause {
    cause: String,
    at: Instant,
}

impl Outage {
    /// Starts without failures. `description` says what does not work while there is one.
    pub fn new(description: &'static str) -> Self {
        Self { description, since: None, logged: None, delay: FIRST_DELAY }
    }

    /// Notes a failure.
    pub fn failed(&mut self, error: &dyn fmt::Display) {
        self.since.get_or_insert_with(Instant::now);
        let cause = error.to_string();
        let is_known = self.logged.as_ref().is_some_and(|last| last.cause == cause || last.at.elapsed() < LOG_INTERVAL);
        if !is_known {
            tracing::error!(error = cause, "{}; retrying", self.description);
            self.logged = Some(LoggedCause { cause, at: Instant::now() });
        }
    }

    /// Notes a success.
    pub fn ended(&mut self) {
        self.delay = FIRST_DELAY;
        self.logged = None;
        if let Some(since) = self.since.take() {
            let seconds = since.elapsed().as_secs();
            tracing::info!(seconds, "recovered: {}", self.description);
        }
    }

    /// Waits before the next attempt, longer each time. Returns false when `stop` was cancelled: do not try again.
    pub async fn wait(&mut self, stop: &CancellationToken) -> bool {
        let delay = self.delay;
        self.delay = (delay * 2).min(LONGEST_DELAY);
        stop.run_until_cancelled(tokio::time::sleep(delay)).await.is_some()
    }
}
