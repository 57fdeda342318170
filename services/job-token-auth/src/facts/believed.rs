//! Answers that are believed for a while. However many callers want the same one, it is asked for once.

use std::{
    collections::HashMap,
    future::Future,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use chassis::{clock::Clock, status::Rejection};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use moka::future::Cache;

use proto::timestamp::millis;

use crate::error::Result;

/// How many answers are kept at most.
const CAPACITY: u64 = 50_000;

/// Into how many parts the keys fall; a change makes the answers of one part stale.
const PARTS: usize = 1024;

/// Answers by the question. An answer counts for the lag, from the moment at which it was asked for, and never after a
/// change that this process made itself, even when it was asked for before the change and arrived after it.
pub struct Believed<K: Eq + Hash, V: Clone> {
    answers: Cache<K, Answer<V>>,
    /// What is being asked for at this moment.
    asked: Mutex<HashMap<K, Answer<Asking<V>>>>,
    hasher: RandomState,
    /// For each part, how often it changed.
    changes: Vec<AtomicU64>,
    clock: Clock,
    /// The latest time that was seen, in milliseconds.
    latest: AtomicI64,
    lag: i64,
}

/// An answer that several wait for. Any of them brings it on, so that nobody depends on a caller who goes away; a failure is
/// the failure of all of them, lest each asks again what does not answer.
type Asking<V> = Shared<BoxFuture<'static, Result<V, Rejection>>>;

#[derive(Clone)]
struct Answer<V> {
    since: Since,
    value: V,
}

/// What tells until when an answer counts.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Since {
    asked_at: i64,
    changes: u64,
}

/// Takes what is being asked for back when the one who asked has the answer, or goes away.
struct Asker<'a, K: Eq + Hash, V: Clone> {
    believed: &'a Believed<K, V>,
    key: &'a K,
    since: Since,
}

impl<K: Eq + Hash, V: Clone> Drop for Asker<'_, K, V> {
    fn drop(&mut self) {
        let mut asked = self.believed.asked();
        if asked.get(self.key).is_some_and(|asking| asking.since == self.since) {
            asked.remove(self.key);
        }
    }
}

impl<K: Eq + Hash, V: Clone> Believed<K, V> {
    /// What the mutex guards is whole even if a thread ended while it held the lock.
    fn asked(&self) -> MutexGuard<'_, HashMap<K, Answer<Asking<V>>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            asked: Mutex::default(),
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
    pub async fn get<F>(&self, part: impl Hash, key: K, ask: impl FnOnce() -> F) -> Result<V>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let now = self.now(self.part(part));
        if let Some(answer) = self.answers.get(&key).await
            && self.counts(answer.since, now)
        {
            return Ok(answer.value);
        }
        let (asking, _asker) = self.ask(&key, now, ask);
        Ok(asking.await?)
    }

    /// Whether an answer counts for one who wants it now.
    fn counts(&self, since: Since, now: Since) -> bool {
        since.changes == now.changes && now.asked_at - since.asked_at < self.lag
    }

    /// Joins those who wait for the answer, or becomes the one who asks for it.
    fn ask<'a, F>(&'a self, key: &'a K, now: Since, ask: impl FnOnce() -> F) -> (Asking<V>, Option<Asker<'a, K, V>>)
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let mut asked = self.asked();
        if let Some(asking) = asked.get(key)
            && self.counts(asking.since, now)
        {
            return (asking.value.clone(), None);
        }
        let (answers, kept_as, answer) = (self.answers.clone(), key.clone(), ask());
        let asking = async move {
            let value = answer.await?;
            answers.insert(kept_as, Answer { since: now, value: value.clone() }).await;
            Ok(value)
        };
        let asking = asking.boxed().shared();
        asked.insert(key.clone(), Answer { since: now, value: asking.clone() });
        (asking, Some(Asker { believed: self, key, since: now }))
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

    /// The time, and the changes that had taken place by then: an answer that was asked for later has seen them.
    fn now(&self, changes: &AtomicU64) -> Since {
        loop {
            let before = changes.load(SeqCst);
            let asked_at = self.time();
            if changes.load(SeqCst) == before {
                return Since { asked_at, changes: before };
            }
        }
    }

    /// The time. How old an answer is cannot be told when the clock went back since, so none counts any more. Threads that look at
    /// the clock at the same time may come here in another order: the latest time is asked for before the clock is.
    fn time(&self) -> i64 {
        let latest = self.latest.load(SeqCst);
        let now = millis(self.clock.now());
        if latest > now {
            self.all_changed();
            self.latest.store(now, SeqCst);
        } else if latest < now {
            self.latest.fetch_max(now, SeqCst);
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
    use futures::future::{join, join_all, pending, ready};
    use tokio::sync::oneshot;

    fn believed(clock: &Clock, lag_ms: u64) -> Believed<&'static str, u32> {
        Believed::new(clock.clone(), Duration::from_millis(lag_ms))
    }

    fn a_second() -> Believed<&'static str, u32> {
        believed(&Clock::manual(OffsetDateTime::UNIX_EPOCH), 1000)
    }

    /// Asks for what is told here.
    async fn get(believed: &Believed<&'static str, u32>, told: u32) -> Option<u32> {
        believed.get(1, "a", || ready(Ok(told))).await.ok()
    }

    /// Asks for what is told later.
    async fn wait(believed: &Believed<&'static str, u32>, told: oneshot::Receiver<u32>) -> Option<u32> {
        believed.get(1, "a", || async { told.await.map_err(crate::Error::internal) }).await.ok()
    }

    #[tokio::test]
    async fn an_answer_counts_for_the_lag_and_no_longer() {
        let clock = Clock::manual(OffsetDateTime::UNIX_EPOCH);
        let (believed, never) = (believed(&clock, 10), believed(&clock, 0));
        for (advance, told, expected) in [(0, 1, 1), (9, 2, 1), (1, 3, 3), (-1, 4, 4), (10, 5, 5)] {
            clock.advance(Span::milliseconds(advance));
            assert_eq!(get(&believed, told).await, Some(expected), "{advance} ms later");
        }
        assert_eq!(get(&never, 1).await, Some(1));
        assert_eq!(get(&never, 2).await, Some(2));
    }

    #[tokio::test]
    async fn what_was_asked_before_a_change_does_not_count_after_it() {
        let believed = a_second();
        let (tell, told) = oneshot::channel();
        let after = async {
            believed.changed(1);
            let after = get(&believed, 2).await;
            tell.send(1).expect("somebody waits");
            after
        };
        assert_eq!(join(wait(&believed, told), after).await, (Some(1), Some(2)));
        assert_eq!(get(&believed, 3).await, Some(3), "the older answer came last and is kept, but does not count");
        assert_eq!(get(&believed, 4).await, Some(3), "now it is believed");
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered() {
        let believed = a_second();
        assert!(believed.get(1, "a", || ready(Err(crate::Error::internal("gone")))).await.is_err());
        assert_eq!(get(&believed, 2).await, Some(2));
    }

    #[tokio::test]
    async fn those_who_come_while_it_is_asked_for_wait_for_the_same_answer() {
        for told in [Some(1), None] {
            let believed = a_second();
            let (tell, asked) = oneshot::channel();
            let others = join_all((0..50).map(|_| get(&believed, 2)));
            let end = async move {
                if let Some(told) = told {
                    tell.send(told).expect("somebody waits");
                }
            };
            let (first, (others, ())) = join(wait(&believed, asked), join(others, end)).await;
            assert_eq!((first, others), (told, vec![told; 50]));
            assert!(believed.asked().is_empty());
        }
    }

    #[tokio::test]
    async fn nobody_depends_on_a_caller_who_goes_away() {
        let believed = a_second();
        let (tell, told) = oneshot::channel();
        let mut first = Box::pin(wait(&believed, told));
        let mut second = Box::pin(get(&believed, 2));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
        drop(first);
        assert!(believed.asked().is_empty(), "what nobody asks for any more is not kept");
        tell.send(1).expect("the second waits");
        assert_eq!(second.await, Some(1));
        assert_eq!(get(&believed, 3).await, Some(1), "it is kept although the one who asked for it has left");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn threads_that_look_at_the_clock_at_the_same_time_do_not_take_it_for_going_back() {
        let believed = Believed::<u32, u32>::new(Clock::system(), Duration::from_secs(3600));
        let (believed, asked) = (std::sync::Arc::new(believed), std::sync::Arc::new(AtomicU64::new(0)));
        let caller = || {
            let (believed, asked) = (believed.clone(), asked.clone());
            tokio::spawn(async move {
                for _ in 0..50_000 {
                    let ask = || {
                        asked.fetch_add(1, SeqCst);
                        ready(Ok(1))
                    };
                    assert_eq!(believed.get(1, 1, ask).await.ok(), Some(1));
                }
            })
        };
        for caller in (0..4).map(|_| caller()).collect::<Vec<_>>() {
            caller.await.expect("a caller comes to its end");
        }
        let changes = believed.part(1).load(SeqCst);
        assert_eq!(changes, 0, "asked {} times", asked.load(SeqCst));
    }

    #[tokio::test]
    async fn an_answer_that_takes_longer_than_the_lag_is_asked_for_again() {
        let clock = Clock::manual(OffsetDateTime::UNIX_EPOCH);
        let believed = believed(&clock, 10);
        let mut first = Box::pin(believed.get(1, "a", pending));
        assert!(futures::poll!(&mut first).is_pending());
        clock.advance(Span::milliseconds(10));
        assert_eq!(get(&believed, 2).await, Some(2));
    }
}
