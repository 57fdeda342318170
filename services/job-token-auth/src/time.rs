//! Times as the tables keep them: whole milliseconds since the Unix epoch.

use prost_types::Timestamp;
use time::OffsetDateTime;

/// The time in milliseconds.
#[must_use]
pub fn millis(time: OffsetDateTime) -> i64 {
    // The years that OffsetDateTime spans fit into 64 bits of milliseconds.
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).unwrap_or(0)
}

/// The message of a time in milliseconds.
#[must_use]
pub fn timestamp(millis: i64) -> Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: millis.div_euclid(1000), nanos }
}

/// The milliseconds of a message; what is finer is cut off.
#[must_use]
pub fn from_timestamp(timestamp: &Timestamp) -> i64 {
    timestamp.seconds.saturating_mul(1000).saturating_add(i64::from(timestamp.nanos).div_euclid(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_message() {
        for time in [0, 1, 999, 1000, -1, -1001, 1_795_000_000_123] {
            assert_eq!(from_timestamp(&timestamp(time)), time);
        }
        assert_eq!(millis(OffsetDateTime::UNIX_EPOCH), 0);
    }
}
