//! A TTL cache. Concurrent look-ups of one key share a single fetch.

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

/// The maximum number of cached values.
const CAPACITY: u64 = 50_000;

/// The number of partitions of the keys. Invalidating a partition makes all of its values stale.
const PARTITIONS: usize = 1024;

/// Caches values by key. A value is fresh for the TTL, counted from the start of its fetch. A value whose fetch began before an
/// invalidation is never used after it, even if the fetch ends later.
pub struct CoalescingCache<K: Eq + Hash, V: Clone> {
    values: Cache<K, Stamped<V>>,
    in_flight: Mutex<HashMap<K, Stamped<SharedFetch<V>>>>,
    hasher: RandomState,
    /// For each partition, the number of invalidations.
    versions: Vec<AtomicU64>,
    clock: Clock,
    /// The latest time that the cache has seen, in milliseconds.
    latest_time: AtomicI64,
    /// In milliseconds.
    ttl: i64,
}

/// A fetch that several callers wait for. Each of them drives it, so that it goes on when one of them leaves. All of them get the
/// same error, so that they do not all repeat a fetch that fails.
type SharedFetch<V> = Shared<BoxFuture<'static, Result<V, Rejection>>>;

#[derive(Clone)]
struct Stamped<T> {
    stamp: Stamp,
    value: T,
}

/// The start of a fetch. It decides until when the value is fresh.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    /// In milliseconds.
    time: i64,
    /// The version of the partition.
    version: u64,
}

/// Removes a fetch from the fetches in flight when the caller that started it has the value, or leaves.
struct FetchGuard<'a, K: Eq + Hash, V: Clone> {
    cache: &'a CoalescingCache<K, V>,
    key: &'a K,
    stamp: Stamp,
}

impl<K: Eq + Hash, V: Clone> Drop for FetchGuard<'_, K, V> {
    fn drop(&mut self) {
        let mut in_flight = self.cache.in_flight();
        if in_flight.get(self.key).is_some_and(|fetch| fetch.stamp == self.stamp) {
            in_flight.remove(self.key);
        }
    }
}

impl<K: Eq + Hash, V: Clone> CoalescingCache<K, V> {
    /// Locks the fetches in flight. A panic while the lock was held cannot leave the map half changed.
    fn in_flight(&self) -> MutexGuard<'_, HashMap<K, Stamped<SharedFetch<V>>>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> CoalescingCache<K, V>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Creates an empty cache.
    pub fn new(clock: Clock, ttl: Duration) -> Self {
        Self {
            values: Cache::new(CAPACITY),
            in_flight: Mutex::default(),
            hasher: RandomState::new(),
            versions: (0..PARTITIONS).map(|_| AtomicU64::new(0)).collect(),
            latest_time: AtomicI64::new(millis(clock.now())),
            clock,
            ttl: i64::try_from(ttl.as_millis()).unwrap_or(0),
        }
    }

    /// Returns the cached value if it is fresh, or fetches a new one. `partition` says which invalidations apply.
    ///
    /// # Errors
    /// Those of the fetch. Errors are not cached.
    pub async fn get<F>(&self, partition: impl Hash, key: K, fetch: impl FnOnce() -> F) -> Result<V>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let now = self.current_stamp(self.version_of(partition));
        if let Some(cached) = self.values.get(&key).await
            && self.is_fresh(cached.stamp, now)
        {
            return Ok(cached.value);
        }
        let (fetch, _guard) = self.join_or_start(&key, now, fetch);
        Ok(fetch.await?)
    }

    /// Reports whether a value may be used now.
    fn is_fresh(&self, stamp: Stamp, now: Stamp) -> bool {
        stamp.version == now.version && now.time - stamp.time < self.ttl
    }

    /// Joins a fresh fetch that is in flight, or starts one. The caller that starts it gets the guard.
    fn join_or_start<'a, F>(
        &'a self,
        key: &'a K,
        now: Stamp,
        fetch: impl FnOnce() -> F,
    ) -> (SharedFetch<V>, Option<FetchGuard<'a, K, V>>)
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let mut in_flight = self.in_flight();
        if let Some(other) = in_flight.get(key)
            && self.is_fresh(other.stamp, now)
        {
            return (other.value.clone(), None);
        }
        let shared = self.fetch_and_store(key.clone(), now, fetch()).boxed().shared();
        in_flight.insert(key.clone(), Stamped { stamp: now, value: shared.clone() });
        (shared, Some(FetchGuard { cache: self, key, stamp: now }))
    }

    /// Stores the value of a fetch. The future does not borrow the cache, so that it can outlive the call that made it.
    fn fetch_and_store<F>(
        &self,
        key: K,
        stamp: Stamp,
        fetch: F,
    ) -> impl Future<Output = Result<V, Rejection>> + Send + use<K, V, F>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let values = self.values.clone();
        async move {
            let value = fetch.await?;
            values.insert(key, Stamped { stamp, value: value.clone() }).await;
            Ok(value)
        }
    }

    /// Makes every value of a partition stale.
    pub fn invalidate(&self, partition: impl Hash) {
        self.version_of(partition).fetch_add(1, SeqCst);
    }

    /// Makes every value stale.
    pub fn invalidate_all(&self) {
        for version in &self.versions {
            version.fetch_add(1, SeqCst);
        }
    }

    /// Returns the time and a version that was current at that time. A fetch that begins later sees every change before it.
    fn current_stamp(&self, version: &AtomicU64) -> Stamp {
        loop {
            let before = version.load(SeqCst);
            let time = self.read_clock();
            if version.load(SeqCst) == before {
                return Stamp { time, version: before };
            }
        }
    }

    /// Returns the time. When the clock has gone back, the age of values is unknown, so all of them become stale. Several threads
    /// can read the clock at once and get here in another order. So this loads the latest time before it reads the clock.
    fn read_clock(&self) -> i64 {
        let latest = self.latest_time.load(SeqCst);
        let now = millis(self.clock.now());
        if latest > now {
            self.invalidate_all();
            self.latest_time.store(now, SeqCst);
        } else if latest < now {
            self.latest_time.fetch_max(now, SeqCst);
        }
        now
    }

    fn version_of(&self, partition: impl Hash) -> &AtomicU64 {
        // The remainder is below the length, so the index exists.
        &self.versions[(self.hasher.hash_one(partition) % PARTITIONS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::time::{Duration as Span, OffsetDateTime};
    use futures::future::{join, join_all, pending, ready};
    use tokio::sync::oneshot;

    use super::*;
    use crate::error::Error;

    type TestCache = CoalescingCache<&'static str, u32>;

    fn cache_with_ttl(clock: &Clock, ttl_ms: u64) -> TestCache {
        CoalescingCache::new(clock.clone(), Duration::from_millis(ttl_ms))
    }

    fn cache() -> TestCache {
        cache_with_ttl(&Clock::manual(OffsetDateTime::UNIX_EPOCH), 1000)
    }

    /// Gets the key `a`, with a fetch that returns the value at once.
    async fn get(cache: &TestCache, fetched: u32) -> Option<u32> {
        cache.get(1, "a", || ready(Ok(fetched))).await.ok()
    }

    /// Gets the key `a`, with a fetch that waits for its value.
    async fn get_later(cache: &TestCache, fetched: oneshot::Receiver<u32>) -> Option<u32> {
        cache.get(1, "a", || async { fetched.await.map_err(Error::internal) }).await.ok()
    }

    #[tokio::test]
    async fn a_value_is_fresh_for_the_ttl_and_no_longer() {
        let clock = Clock::manual(OffsetDateTime::UNIX_EPOCH);
        let cache = cache_with_ttl(&clock, 10);
        for (advance, fetched, expected) in [(0, 1, 1), (9, 2, 1), (1, 3, 3), (-1, 4, 4), (10, 5, 5)] {
            clock.advance(Span::milliseconds(advance));
            assert_eq!(get(&cache, fetched).await, Some(expected), "{advance} ms later");
        }
        let without_ttl = cache_with_ttl(&clock, 0);
        assert_eq!(get(&without_ttl, 1).await, Some(1));
        assert_eq!(get(&without_ttl, 2).await, Some(2));
    }

    #[tokio::test]
    async fn a_fetch_from_before_an_invalidation_is_stale_after_it() {
        let cache = cache();
        let (sender, fetched) = oneshot::channel();
        let after = async {
            cache.invalidate(1);
            let after = get(&cache, 2).await;
            sender.send(1).expect("the first caller waits");
            after
        };
        assert_eq!(join(get_later(&cache, fetched), after).await, (Some(1), Some(2)));
        assert_eq!(get(&cache, 3).await, Some(3), "the older value came last and is stored, but it is stale");
        assert_eq!(get(&cache, 4).await, Some(3), "the new value is cached");
    }

    #[tokio::test]
    async fn an_error_is_not_cached() {
        let cache = cache();
        assert!(cache.get(1, "a", || ready(Err(Error::internal("gone")))).await.is_err());
        assert_eq!(get(&cache, 2).await, Some(2));
    }

    #[tokio::test]
    async fn callers_that_come_during_a_fetch_share_it() {
        for fetched in [Some(1), None] {
            let cache = cache();
            let (sender, receiver) = oneshot::channel();
            let others = join_all((0..50).map(|_| get(&cache, 2)));
            let end = async move {
                if let Some(fetched) = fetched {
                    sender.send(fetched).expect("the first caller waits");
                }
            };
            let (first, (others, ())) = join(get_later(&cache, receiver), join(others, end)).await;
            assert_eq!((first, others), (fetched, vec![fetched; 50]));
            assert!(cache.in_flight().is_empty());
        }
    }

    #[tokio::test]
    async fn a_fetch_goes_on_when_the_caller_that_started_it_leaves() {
        let cache = cache();
        let (sender, fetched) = oneshot::channel();
        let mut first = Box::pin(get_later(&cache, fetched));
        let mut second = Box::pin(get(&cache, 2));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
        drop(first);
        assert!(cache.in_flight().is_empty(), "the fetch is not kept for later callers");
        sender.send(1).expect("the second caller waits");
        assert_eq!(second.await, Some(1));
        assert_eq!(get(&cache, 3).await, Some(1), "the value is stored although the first caller has left");
    }

    async fn get_many_times(cache: Arc<CoalescingCache<u32, u32>>, fetches: Arc<AtomicU64>) {
        for _ in 0..50_000 {
            let value = cache.get(1, 1, || {
                fetches.fetch_add(1, SeqCst);
                ready(Ok(1))
            });
            assert_eq!(value.await.ok(), Some(1));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn threads_that_read_the_clock_at_once_do_not_see_it_go_back() {
        let cache = Arc::new(CoalescingCache::new(Clock::system(), Duration::from_secs(3600)));
        let fetches = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> =
            (0..4).map(|_| tokio::spawn(get_many_times(Arc::clone(&cache), Arc::clone(&fetches)))).collect();
        for caller in callers {
            caller.await.expect("the caller ends without a panic");
        }
        let version = cache.version_of(1).load(SeqCst);
        assert_eq!(version, 0, "fetched {} times", fetches.load(SeqCst));
    }

    #[tokio::test]
    async fn a_fetch_that_takes_longer_than_the_ttl_is_repeated() {
        let clock = Clock::manual(OffsetDateTime::UNIX_EPOCH);
        let cache = cache_with_ttl(&clock, 10);
        let mut first = Box::pin(cache.get(1, "a", pending));
        assert!(futures::poll!(&mut first).is_pending());
        clock.advance(Span::milliseconds(10));
        assert_eq!(get(&cache, 2).await, Some(2));
    }
}
