//! Measures how long a connection has had no request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Counts the requests of one connection.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    under_way: AtomicUsize,
    begun: AtomicUsize,
}

/// A request that counts as under way until this is dropped.
#[derive(Debug)]
pub struct ActiveRequest(Arc<Counts>);

impl Activity {
    /// Counts a request until the returned guard is dropped.
    pub fn begin(&self) -> ActiveRequest {
        self.0.under_way.fetch_add(1, Ordering::Relaxed);
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(self.0.clone())
    }

    /// Waits until there has been no request for at least this long, and at most twice this long.
    pub async fn idle_for(&self, time: Duration) {
        loop {
            let begun = self.0.begun.load(Ordering::Relaxed);
            tokio::time::sleep(time).await;
            let is_idle =
                self.0.under_way.load(Ordering::Relaxed) == 0 && self.0.begun.load(Ordering::Relaxed) == begun;
            if is_idle {
                return;
            }
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_requests_is_not_idle() {
        let activity = Activity::default();
        let request = activity.begin();
        assert!(timeout(SECOND * 10, activity.idle_for(SECOND)).await.is_err());
        drop(request);
        let requests = async {
            for _ in 0..20 {
                sleep(SECOND / 2).await;
                drop(activity.begin());
            }
        };
        tokio::select! {
            () = activity.idle_for(SECOND) => unreachable!("there was a request in every second"),
            () = requests => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_becomes_idle() {
        let activity = Activity::default();
        drop(activity.begin());
        let start = Instant::now();
        activity.idle_for(SECOND).await;
        assert!((SECOND..=SECOND * 2).contains(&start.elapsed()));
    }
}
