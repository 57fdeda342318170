//! Converts times between messages, tables (whole milliseconds since the Unix epoch) and the crate `time`.

use prost_types::Timestamp;
use time::OffsetDateTime;

use crate::iso8601;

/// Returns the milliseconds since the Unix epoch, rounded down.
#[must_use]
pub fn millis(time: OffsetDateTime) -> i64 {
    // The years that OffsetDateTime spans fit into 64 bits of milliseconds.
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).unwrap_or(0)
}

/// Returns the time of a number of milliseconds since the Unix epoch. A number outside the range of the type gives the epoch.
#[must_use]
pub fn time(millis: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Returns a time as a message.
#[must_use]
pub fn from_time(time: OffsetDateTime) -> Timestamp {
    // The nanoseconds of a second fit.
    Timestamp { seconds: time.unix_timestamp(), nanos: i32::try_from(time.nanosecond()).unwrap_or(0) }
}

/// Returns a time in milliseconds as a message.
#[must_use]
pub fn from_millis(millis: i64) -> Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: millis.div_euclid(1000), nanos }
}

/// Returns the milliseconds of a message, rounded down.
#[must_use]
pub fn to_millis(timestamp: &Timestamp) -> i64 {
    timestamp.seconds.saturating_mul(1000).saturating_add(i64::from(timestamp.nanos).div_euclid(1_000_000))
}

/// Returns the text of a message in UTC with whole seconds. None for a year that ISO 8601 does not have.
#[must_use]
pub fn to_iso8601_seconds(timestamp: &Timestamp) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(timestamp.seconds).ok().map(iso8601::seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_message() {
        for expected in [0, 1, 999, 1000, -1, -1001, 1_795_000_000_123] {
            assert_eq!(to_millis(&from_millis(expected)), expected);
            assert_eq!(from_time(time(expected)), from_millis(expected));
            assert_eq!(millis(time(expected)), expected);
        }
        assert_eq!(millis(OffsetDateTime::UNIX_EPOCH), 0);
    }

    #[test]
    fn a_message_is_printed_with_whole_seconds() {
        assert_eq!(to_iso8601_seconds(&from_millis(999)).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(to_iso8601_seconds(&Timestamp { seconds: i64::MAX, nanos: 0 }), None);
    }
}
