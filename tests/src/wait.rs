//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// The time between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(20);

/// Calls `ask` until it returns an answer. Returns none if there is none within the time.
pub async fn within<T>(time: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        if let Some(found) = ask().await {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
    }
}
