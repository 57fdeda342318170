//! The limit of job requests of a runner token, which GitLab has under the same name. It counts all calls, not failures.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use chassis::status::Refusal;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use moka::sync::Cache;
use proto::paddock::contract::v1::Reason;

use crate::credential::token::TokenDigest;

/// The text of GitLab's answer.
const TEXT: &str = "This endpoint has been requested too many times. Try again later.";

/// How long an idle token is kept. After a minute without a call its limit is whole again.
const IDLE: Duration = Duration::from_secs(120);

type Bucket<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// A limit of calls per minute and token.
pub struct TokenLimit<C: Clock + Clone + Send + Sync + 'static = DefaultClock> {
    quota: Quota,
    clock: C,
    buckets: Cache<TokenDigest, Arc<Bucket<C>>>,
}

impl<C: Clock + Clone + Send + Sync + 'static> TokenLimit<C>
where
    C::Instant: Send + Sync,
{
    /// Allows this many calls per minute. Returns none for 0, which is no limit. At most `max_entries` tokens are kept.
    pub fn new(calls_per_minute: u32, max_entries: u64, clock: C) -> Option<Self> {
        let quota = Quota::per_minute(NonZeroU32::new(calls_per_minute)?);
        let buckets = Cache::builder().max_capacity(max_entries).time_to_idle(IDLE).build();
        Some(Self { quota, clock, buckets })
    }

    /// Counts a call.
    ///
    /// # Errors
    /// Returns the refusal of a call over the limit.
    pub fn count(&self, token: &TokenDigest) -> Result<(), Refusal> {
        let bucket = self.buckets.get_with(*token, || {
            let state = InMemoryState::default();
            Arc::new(RateLimiter::new(self.quota, state, self.clock.clone()))
        });
        bucket.check().map_err(|over| {
            let wait = over.wait_time_from(self.clock.now());
            let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
            Refusal::new(Reason::TooManyRequests).with_field("error", TEXT).with_retry_after(seconds.max(1))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn each_token_has_its_own_limit_which_fills_up_with_time() {
        let clock = FakeRelativeClock::default();
        let limit = TokenLimit::new(60, 1000, clock.clone()).unwrap();
        let passed = |token: u8| (0..100).filter(|_| limit.count(&[token; 32]).is_ok()).count();
        assert_eq!([passed(1), passed(2), passed(1)], [60, 60, 0]);
        let refusal = limit.count(&[1; 32]).unwrap_err();
        assert_eq!((refusal.reason(), refusal.retry_after()), (Reason::TooManyRequests, Some(1)));
        clock.advance(Duration::from_secs(5));
        assert_eq!(passed(1), 5);
    }

    #[test]
    fn zero_is_no_limit() {
        assert!(TokenLimit::new(0, 1000, DefaultClock::default()).is_none());
    }
}
