//! Whether a time is still running, with calls that read the clock at slightly different instants.

/// How much earlier than an instant that another call has noted a call may be, in milliseconds: calls read the clock before they
/// take a lock. Anything earlier means that the clock went backwards.
const LATE_MS: i64 = 1000;

/// Reports whether less than a length of time has passed since an instant, all in milliseconds. A clock that went backwards ends
/// the time.
pub fn is_within(since: i64, length: i64, now: i64) -> bool {
    (-LATE_MS..length).contains(&(now - since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ends_after_its_length_and_when_the_clock_goes_backwards() {
        for (now, expected) in [(9_999, true), (10_000, false), (0, true), (-1000, true), (-1001, false)] {
            assert_eq!(is_within(0, 10_000, now), expected, "{now}");
        }
    }
}
