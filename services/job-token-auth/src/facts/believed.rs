//! Answers that are believed for a while.

use std::{
    future::Future,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use chassis::clock::Clock;
use moka::future::Cache;

use crate::{error::Result, time::millis};

/// How many answers are kept at most.
const CAPACITY: u64 = 50_000;

/// Into how many parts the keys fall; a change makes the answers of one part stale.
const PARTS: usize = 1024;

/// Answers by the question. An answer counts for the lag, from the moment at which it was asked for, and never after a
/// change that this process made itself, even when it was asked for before the change and arrived after it.
pub struct Believed<K, V> {
    answers: Cache<K, Answer<V>>,
    hasher: RandomState,
    /// For each part, how often it changed.
    changes: Vec<AtomicU64>,
    clock: Clock,
    /// The latest time that was seen, in milliseconds.
    latest: AtomicI64,
    lag: i64,
}

#[derive(Clone)]
struct Answer<V> {
    asked_at: i64,
    changes: u64,
    value: V,
}

impl<K, V> Believed<K, V>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Nothing is believed yet.
    pub fn new(clock: Clock, lag: Duration) -> Self {
        Self {
            answers: Cache::new(CAPACITY),
            hasher: RandomState::new(),
            changes: (0..PARTS).map(|_| AtomicU64::new(0)).collect(),
            latest: AtomicI64::new(millis(clock.now())),
            clock,
            lag: i64::try_from(lag.as_millis()).unwrap_or(0),
        }
    }

    /// The answer that is believed, or a new one. `part` tells by which changes the answer becomes stale.
    ///
    /// # Errors
    /// Those of asking; they are not remembered.
    pub async fn get(&self, part: impl Hash, key: K, ask: impl Future<Output = Result<V>>) -> Result<V> {
        let changes = self.part(part);
        let now = self.now();
        let changed = changes.load(SeqCst);
        if let Some(answer) = self.answers.get(&key).await
            && answer.changes == changed
            && now - answer.asked_at < self.lag
        {
            return Ok(answer.value);
        }
        let value = ask.await?;
        self.answers.insert(key, Answer { asked_at: now, changes: changed, value: value.clone() }).await;
        Ok(value)
    }

    /// Forgets every answer of a part.
    pub fn changed(&self, part: impl Hash) {
        self.part(part).fetch_add(1, SeqCst);
    }

    /// Forgets every answer.
    pub fn all_changed(&self) {
        for part in &self.changes {
            part.fetch_add(1, SeqCst);
        }
    }

    /// The time. How old an answer is cannot be told when the clock went back since, so none counts any more.
    fn now(&self) -> i64 {
        let now = millis(self.clock.now());
        if self.latest.swap(now, SeqCst) > now {
            self.all_changed();
        }
        now
    }

    fn part(&self, part: impl Hash) -> &AtomicU64 {
        // The remainder is below the length, so that the index exists.
        &self.changes[(self.hasher.hash_one(part) % PARTS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::time::{Duration as Span, OffsetDateTime};
    use tokio::sync::oneshot;

    fn believed(clock: &Clock, lag_ms: u64) -> Believed<&'static str, u32> {
        Believed::new(clock.clone(), Duration::from_millis(lag_ms))
    }

    #[tokio::test]
    async fn an_answer_counts_for_the_lag_and_no_longer() {
        let clock = Clock::manual(OffsetDateTime::UNIX_EPOCH);
        let (believed, never) = (believed(&clock, 10), believed(&clock, 0));
        for (advance, told, expected) in [(0, 1, 1), (9, 2, 1), (1, 3, 3), (-1, 4, 4), (10, 5, 5)] {
            clock.advance(Span::milliseconds(advance));
            let answer = believed.get(1, "a", async { Ok(told) }).await;
            assert_eq!(answer.ok(), Some(expected), "{advance} ms later");
        }
        assert_eq!(never.get(1, "a", async { Ok(1) }).await.ok(), Some(1));
        assert_eq!(never.get(1, "a", async { Ok(2) }).await.ok(), Some(2));
    }

    #[tokio::test]
    async fn what_was_asked_before_a_change_does_not_count_after_it() {
        let clock = Clock::manual(OffsetDateTime::UNIX_EPOCH);
        let believed = believed(&clock, 1000);
        let (tell, told) = oneshot::channel();
        let slow = believed.get(1, "a", async { told.await.map_err(crate::Error::internal) });
        let change = async {
            believed.changed(1);
            tell.send(1).ok()
        };
        let (slow, _) = tokio::join!(slow, change);
        assert_eq!(slow.ok(), Some(1));
        assert_eq!(believed.get(1, "a", async { Ok(2) }).await.ok(), Some(2));
        assert_eq!(believed.get(1, "a", async { Ok(3) }).await.ok(), Some(2), "now it is believed");
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered() {
        let believed = believed(&Clock::manual(OffsetDateTime::UNIX_EPOCH), 1000);
        assert!(believed.get(1, "a", async { Err(crate::Error::internal("gone")) }).await.is_err());
        assert_eq!(believed.get(1, "a", async { Ok(2) }).await.ok(), Some(2));
    }
}
