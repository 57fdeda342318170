//! How a task lives with something that fails for a while: it tries again and again, and says so when it begins, when its cause
//! becomes another, and when it ends.

use std::{fmt, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long after a line the next one about another cause may follow.
const SILENCE: Duration = Duration::from_secs(5);

/// A stretch of failures, or none.
#[derive(Debug)]
pub struct Outage {
    what: &'static str,
    since: Option<Instant>,
    /// The cause that was told last, and when.
    told: Option<(String, Instant)>,
    wait: Duration,
}

impl Outage {
    /// No failure yet; `what` says what cannot be done when there is one.
    pub fn new(what: &'static str) -> Self {
        Self { what, since: None, told: None, wait: FIRST_WAIT }
    }

    /// It failed.
    pub fn failed(&mut self, error: &dyn fmt::Display) {
        self.since.get_or_insert_with(Instant::now);
        let cause = error.to_string();
        let is_news = |(told, at): &(String, Instant)| *told != cause && at.elapsed() >= SILENCE;
        if self.told.as_ref().is_none_or(is_news) {
            tracing::error!(error = cause, "{}; it is tried again until it works", self.what);
            self.told = Some((cause, Instant::now()));
        }
    }

    /// It works.
    pub fn ended(&mut self) {
        self.wait = FIRST_WAIT;
        self.told = None;
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
