//! The time, from one place, so that a test can stand at any instant.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use proto::timestamp::{self, millis};
use time::{Duration, OffsetDateTime};

/// Tells the time in UTC, in whole milliseconds: the precision that both databases and the API keep.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Milliseconds since the Unix epoch, shared by all clones.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is told otherwise. Clones share the time.
    #[must_use]
    pub fn manual(start: OffsetDateTime) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(millis(start)))))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        let millis = match &self.0 {
            Source::System => millis(OffsetDateTime::now_utc()),
            Source::Manual(time) => time.load(Ordering::SeqCst),
        };
        timestamp::time(millis)
    }

    /// Sets a manual clock. The clock of the machine stays as it is.
    pub fn set(&self, to: OffsetDateTime) {
        if let Source::Manual(time) = &self.0 {
            time.store(millis(to), Ordering::SeqCst);
        }
    }

    /// Moves a manual clock, backwards too. The clock of the machine stays as it is.
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
