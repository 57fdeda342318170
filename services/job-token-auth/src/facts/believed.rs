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
