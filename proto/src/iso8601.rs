//! Reads times as clients write them, and prints them. GitLab accepts many forms of ISO 8601: a date alone, a time with or
//! without seconds, a space instead of the `T`. A time without an offset is UTC.

use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// The latest time that this product handles: the last second of the year 9999, the last year of ISO 8601 and of the databases.
pub const LATEST: OffsetDateTime = time::macros::datetime!(9999-12-31 23:59:59 UTC);

/// Returns the time in UTC with whole seconds, as GitLab prints it in messages: `2026-01-01T00:00:00Z`.
#[must_use]
pub fn seconds(time: OffsetDateTime) -> String {
    let time = time.checked_to_offset(UtcOffset::UTC).unwrap_or(LATEST);
    let (year, month, day) = time.to_calendar_date();
    let month = u8::from(month);
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads a time, rounded down to milliseconds. Returns none if the text is not a time.
#[must_use]
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    let mut reader = Reader(text.trim_ascii());
    let date = reader.date()?;
    if reader.is_empty() {
        return Some(date.midnight().assume_utc());
    }
    reader.one_of("Tt ")?;
    let time = reader.time()?;
    let offset = reader.offset()?;
    if !reader.is_empty() {
        return None;
    }
    let local = PrimitiveDateTime::new(date, time).assume_utc();
    // Only the last hours of the year 9999 can overflow.
    Some(local.checked_sub(offset).unwrap_or(LATEST).min(LATEST))
}

/// Reads the parts of a time from the start of the remaining text.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads one character out of these.
    fn one_of(&mut self, accepted: &str) -> Option<char> {
        let first = self.0.chars().next().filter(|first| accepted.contains(*first))?;
        self.0 = self.0.get(first.len_utf8()..)?;
        Some(first)
    }

    /// Reads a number with exactly this many decimal digits.
    fn number(&mut self, digits: usize) -> Option<u16> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        self.0 = rest;
        number.parse().ok()
    }

    fn two_digits(&mut self) -> Option<u8> {
        self.number(2).and_then(|number| u8::try_from(number).ok())
    }

    /// Reads `2026-01-31` or `20260131`.
    fn date(&mut self) -> Option<Date> {
        let year = self.number(4)?;
        let extended = self.one_of("-").is_some();
        let month = Month::try_from(self.two_digits()?).ok()?;
        if extended {
            self.one_of("-")?;
        }
        Date::from_calendar_date(i32::from(year), month, self.two_digits()?).ok()
    }

    /// Reads `10:20`, `10:20:30`, `10:20:30.5`, or the same without the colons.
    fn time(&mut self) -> Option<Time> {
        let hour = self.two_digits()?;
        let extended = self.one_of(":").is_some();
        let minute = self.two_digits()?;
        let has_second = if extended { self.one_of(":").is_some() } else { self.starts_with_digit() };
        let second = if has_second { self.two_digits()? } else { 0 };
        let millisecond = if has_second && self.one_of(".,").is_some() { self.fraction()? } else { 0 };
        Time::from_hms_milli(hour, minute, second, millisecond).ok()
    }

    fn starts_with_digit(&self) -> bool {
        self.0.starts_with(|first: char| first.is_ascii_digit())
    }

    /// Reads the digits after the decimal sign, as milliseconds.
    fn fraction(&mut self) -> Option<u16> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        let (fraction, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        let mut milliseconds = 0;
        for digit in fraction.bytes().chain([b'0', b'0']).take(3) {
            milliseconds = milliseconds * 10 + u16::from(digit - b'0');
        }
        Some(milliseconds)
    }

    /// Reads nothing, `Z`, `UTC`, `+02:00`, `+0200` or `+02`, with or without a space before it.
    fn offset(&mut self) -> Option<Duration> {
        self.0 = self.0.trim_start_matches(' ');
        if self.0.eq_ignore_ascii_case("utc") {
            self.0 = "";
        }
        if self.is_empty() || self.one_of("Zz").is_some() {
            return Some(Duration::ZERO);
        }
        let sign = self.one_of("+-")?;
        let hours = self.two_digits()?;
        let minutes = if self.one_of(":").is_some() || self.starts_with_digit() { self.two_digits()? } else { 0 };
        if hours > 23 || minutes > 59 {
            return None;
        }
        let offset = Duration::minutes(i64::from(hours) * 60 + i64::from(minutes));
        Some(if sign == '-' { -offset } else { offset })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_usual_forms_are_read() {
        let noon = datetime!(2026-03-05 12:00 UTC);
        let cases = [
            ("2026-03-05", datetime!(2026-03-05 0:00 UTC)),
            ("20260305", datetime!(2026-03-05 0:00 UTC)),
            ("2026-03-05T12:00:00Z", noon),
            ("2026-03-05t12:00:00z", noon),
            ("2026-03-05 12:00:00 UTC", noon),
            ("2026-03-05 12:00 utc", noon),
            ("2026-03-05T12:00:00", noon),
            ("2026-03-05T12:00", noon),
            ("20260305T120000Z", noon),
            ("20260305T1200", noon),
            ("2026-03-05T14:00:00+02:00", noon),
            ("2026-03-05T14:00+0200", noon),
            ("2026-03-05T14:00:00 +02", noon),
            ("2026-03-05T06:30:00-05:30", noon),
            ("2026-03-05T12:00:00.5Z", noon + Duration::milliseconds(500)),
            ("2026-03-05T12:00:00,25", noon + Duration::milliseconds(250)),
            ("2026-03-05T12:00:00.123999999999999999999Z", noon + Duration::milliseconds(123)),
            (" 2026-03-05T12:00:00.000Z ", noon),
            ("2024-02-29", datetime!(2024-02-29 0:00 UTC)),
            ("0000-01-01T00:00:00+23:59", datetime!(0000-01-01 0:00 UTC) - Duration::minutes(1439)),
            ("9999-12-31T23:59:59-12:00", LATEST),
            ("9999-12-31T23:59:59.999Z", LATEST),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        let cases = [
            "",
            " ",
            "tomorrow",
            "now",
            "2026",
            "2026-03",
            "2026-3-5",
            "2026-13-01",
            "2026-00-10",
            "2026-02-30",
            "2025-02-29",
            "20260305T",
            "2026-03-05T",
            "2026-03-05T12",
            "2026-03-05T24:00:00Z",
            "2026-03-05T12:60:00Z",
            "2026-03-05T12:00:60Z",
            "2026-03-05T12:00:00.",
            "2026-03-05T12:00:00.Z",
            "2026-03-05T12:00:00ZZ",
            "2026-03-05T12:00:00ZUTC",
            "2026-03-05T12:00:00+",
            "2026-03-05T12:00:00+24:00",
            "2026-03-05T12:00:00+02:60",
            "2026-03-05T12:00:00+02:00x",
            "2026-03-05X12:00:00Z",
            "2026-0305",
            "202603-05",
            "1772712000",
            "-2026-03-05",
            "+002026-03-05",
            "12026-03-05",
            "2026-03-0\u{665}",
            "2026\u{2010}03-05",
            "null",
            "2026-03-05T12:00:00 UTCZ",
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_printed_with_whole_seconds_in_utc() {
        assert_eq!(seconds(datetime!(2026-01-01 1:00:00.999 +1)), "2026-01-01T00:00:00Z");
        assert_eq!(seconds(datetime!(0033-12-05 10:20:30 UTC)), "0033-12-05T10:20:30Z");
        assert_eq!(seconds(LATEST), "9999-12-31T23:59:59Z");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn anything_near_a_time_is_read_without_panic(
            text in "[0-9]{4}-?[0-9]{2}-?[0-9]{2}[Tt ]?[0-9]{0,2}:?[0-9]{0,2}:?[0-9]{0,2}[.,]?[0-9]{0,20}[Zz+-]?[0-9:]{0,5}",
        ) {
            if let Some(time) = parse(&text) {
                prop_assert!(time <= LATEST);
                prop_assert_eq!(time.nanosecond() % 1_000_000, 0);
            }
        }

        #[test]
        fn what_is_printed_is_read_back(unix in -62_135_596_800i64..253_402_300_799) {
            let time = OffsetDateTime::from_unix_timestamp(unix).unwrap_or(LATEST);
            prop_assert_eq!(parse(&seconds(time)), Some(time));
        }
    }
}
