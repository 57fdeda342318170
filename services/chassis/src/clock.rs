//! The only source of the time, so that a test can set it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use proto::timestamp::{self, millis};
use time::{Duration, OffsetDateTime};

/// A clock in UTC with whole milliseconds, the precision of both databases and the API.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Milliseconds since the Unix epoch, shared by all clones.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The clock of the system.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that moves only when it is set. Clones share the time.
    #[must_use]
    pub fn manual(start: OffsetDateTime) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(millis(start)))))
    }

    /// Returns the current time.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        let millis = match &self.0 {
            Source::System => millis(OffsetDateTime::now_utc()),
            Source::Manual(time) => time.load(Ordering::SeqCst),
        };
        timestamp::time(millis)
    }

    /// Sets a manual clock. Has no effect on the system clock.
    pub fn set(&self, to: OffsetDateTime) {
        if let Source::Manual(time) = &self.0 {
            time.store(millis(to), Ordering::SeqCst);
        }
    }

    /// Moves a manual clock forwards or backwards. Has no effect on the system clock.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().saturating_add(by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_is_shared_and_keeps_whole_milliseconds() {
        let clock = Clock::manual(OffsetDateTime::UNIX_EPOCH + Duration::nanoseconds(1_999_999));
        let other = clock.clone();
        assert_eq!(other.now(), OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(1));
        clock.advance(Duration::seconds(-5));
        assert_eq!(other.now(), OffsetDateTime::UNIX_EPOCH - Duration::milliseconds(4999));
    }

    #[test]
    fn the_system_clock_cannot_be_set() {
        let clock = Clock::system();
        clock.set(OffsetDateTime::UNIX_EPOCH);
        assert!(clock.now().year() > 2000);
        assert_eq!(clock.now().nanosecond() % 1_000_000, 0);
    }
}
