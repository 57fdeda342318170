//! The rules of expiry as tables: every bound with the instant itself and one second either side. Random input shows
//! that nothing overflows.

use proptest::prelude::*;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-01-01 0:00 UTC);
const DAY: i64 = 86_400;

fn group(own: Interval, subgroup: Interval, project: Interval) -> GroupIntervals {
    GroupIntervals { own_runner: own, subgroup_runner: subgroup, project_runner: project }
}

fn instance() -> InstanceIntervals {
    InstanceIntervals { instance_runner: Some(1000), group_runner: Some(2000), project_runner: Some(3000) }
}

#[test]
fn an_instance_runner_follows_its_setting_alone() {
    assert_eq!(interval(&instance(), &Scope::Instance), Some(1000));
    let others = InstanceIntervals { instance_runner: None, ..instance() };
    assert_eq!(interval(&others, &Scope::Instance), None);
}

#[test]
fn a_group_runner_takes_the_smallest_of_own_instance_and_ancestors() {
    let none = group(None, None, None);
    let cases = [
        // (instance, own group, ancestors, expected)
        (None, none, vec![], None),
        (Some(2000), none, vec![], Some(2000)),
        (Some(2000), group(Some(1999), None, None), vec![], Some(1999)),
        (Some(2000), group(Some(2001), None, None), vec![], Some(2000)),
        // The group's own subgroup and project intervals bind others, not its own runners.
        (Some(2000), group(None, Some(1), Some(1)), vec![], Some(2000)),
        // Of an ancestor only the subgroup interval binds.
        (None, none, vec![group(Some(1), None, Some(1))], None),
        (None, none, vec![group(None, Some(50), None)], Some(50)),
        (None, group(Some(60), None, None), vec![group(None, Some(70), None), group(None, Some(50), None)], Some(50)),
        (
            Some(40),
            group(Some(60), None, None),
            vec![group(None, Some(70), None), group(None, Some(50), None)],
            Some(40),
        ),
        (None, group(Some(30), None, None), vec![group(None, Some(70), None), none], Some(30)),
    ];
    for (setting, group, ancestors, expected) in cases {
        // The two other settings of the instance never bind a group runner.
        let instance = InstanceIntervals { instance_runner: Some(1), group_runner: setting, project_runner: Some(1) };
        let scope = Scope::Group { group, ancestors };
        assert_eq!(interval(&instance, &scope), expected, "{setting:?} {scope:?}");
    }
}

#[test]
fn a_project_runner_takes_the_smallest_over_all_its_projects() {
    fn project(own: Interval, groups: &[Interval]) -> ProjectIntervals {
        // The own and the subgroup interval of a group never bind a project runner.
        let groups = groups.iter().map(|interval| group(Some(1), Some(1), *interval)).collect();
        ProjectIntervals { own_runner: own, groups }
    }
    let cases = [
        (None, vec![project(None, &[])], None),
        (Some(3000), vec![project(None, &[])], Some(3000)),
        (Some(3000), vec![project(Some(2999), &[])], Some(2999)),
        (Some(3000), vec![project(Some(3001), &[None])], Some(3000)),
        (None, vec![project(None, &[Some(80), Some(70)])], Some(70)),
        (None, vec![project(Some(60), &[Some(80), Some(70)])], Some(60)),
        (None, vec![project(None, &[Some(80)]), project(Some(90), &[None, None])], Some(80)),
        (None, vec![project(None, &[]), project(None, &[])], None),
        (None, vec![project(None, &[]), project(Some(5), &[])], Some(5)),
        // Without a project nothing binds, not even the instance.
        (Some(3000), vec![], None),
    ];
    for (setting, projects, expected) in cases {
        let instance = InstanceIntervals { instance_runner: Some(1), group_runner: Some(1), project_runner: setting };
        let scope = Scope::Project(projects);
        assert_eq!(interval(&instance, &scope), expected, "{setting:?} {scope:?}");
    }
}

#[test]
fn the_expiry_is_now_plus_the_interval_and_ends_with_the_year_9999() {
    assert_eq!(expires_at(NOW, None), None);
    assert_eq!(expires_at(NOW, Some(3600)), Some(datetime!(2026-01-01 1:00 UTC)));
    assert_eq!(expires_at(NOW, Some(i64::MAX)), Some(iso8601::LATEST));
    assert_eq!(expires_at(iso8601::LATEST, Some(1)), Some(iso8601::LATEST));
}

/// Returns the time that is this many seconds from now, as a client writes it.
fn at(seconds: i64) -> String {
    iso8601::seconds(NOW + Duration::seconds(seconds))
}

fn texts(expires: Option<&str>, deadline: Option<&str>, computed: Option<i64>) -> Result<FirstToken, String> {
    let computed = expires_at(NOW, computed);
    first_token(NOW, computed, expires, deadline).map_err(|error| error.to_string())
}

#[test]
fn without_a_stated_expiry_the_settings_decide() {
    let none = FirstToken { expires_at: None, rotation_deadline: None };
    assert_eq!(texts(None, None, None), Ok(none));
    let hour = FirstToken { expires_at: Some(NOW + Duration::HOUR), ..none };
    assert_eq!(texts(None, None, Some(3600)), Ok(hour));
}

#[test]
fn a_stated_expiry_is_held_against_both_bounds() {
    const NEAR: &str = "token_expires_at must be at least 5 minutes in the future";
    const FAR_15_DAYS: &str = "token_expires_at is too far in the future (maximum is 2026-01-16T00:00:00Z)";
    const FAR_1_HOUR: &str = "token_expires_at is too far in the future (maximum is 2026-01-01T01:00:00Z)";
    let cases = [
        (at(-DAY), None, Some(NEAR)),
        (at(0), None, Some(NEAR)),
        (at(299), None, Some(NEAR)),
        (at(300), None, None),
        (at(301), None, None),
        (at(15 * DAY - 1), None, None),
        (at(15 * DAY), None, None),
        (at(15 * DAY + 1), None, Some(FAR_15_DAYS)),
        (at(3599), Some(3600), None),
        (at(3600), Some(3600), None),
        (at(3601), Some(3600), Some(FAR_1_HOUR)),
        (at(15 * DAY), Some(15 * DAY), None),
        (at(15 * DAY + 1), Some(16 * DAY), Some(FAR_15_DAYS)),
        // The settings allow less than the least: no time is accepted, and the nearer bound is named first.
        (at(299), Some(100), Some(NEAR)),
        (at(300), Some(100), Some("token_expires_at is too far in the future (maximum is 2026-01-01T00:01:40Z)")),
        ("soon".to_owned(), None, Some("token_expires_at must be a valid time")),
        (String::new(), None, Some("token_expires_at must be a valid time")),
        ("9999-12-31T23:59:59-23:59".to_owned(), None, Some(FAR_15_DAYS)),
        ("0000-01-01".to_owned(), None, Some(NEAR)),
    ];
    for (text, computed, expected) in cases {
        let result = texts(Some(&text), None, computed);
        match expected {
            Some(message) => assert_eq!(result, Err(message.to_owned()), "{text}"),
            None => {
                let first = FirstToken { expires_at: iso8601::parse(&text), rotation_deadline: None };
                assert_eq!(result, Ok(first), "{text}");
            }
        }
    }
}

#[test]
fn the_bounds_hold_to_the_millisecond() {
    fn check(text: &str) -> Result<FirstToken, String> {
        let now = NOW + Duration::milliseconds(500);
        first_token(now, None, Some(text), None).map_err(|error| error.to_string())
    }
    assert!(check("2026-01-01T00:05:00.499Z").is_err());
    assert!(check("2026-01-01T00:05:00.500Z").is_ok());
    assert!(check("2026-01-16T00:00:00.500Z").is_ok());
    let far = check("2026-01-16T00:00:00.501Z");
    assert_eq!(far, Err("token_expires_at is too far in the future (maximum is 2026-01-16T00:00:00Z)".to_owned()));
}

#[test]
fn a_deadline_lies_between_now_and_the_expiry() {
    const PAST: &str = "token_rotation_deadline cannot be in the past";
    const AFTER: &str = "token_rotation_deadline must be less than or equal to token_expires_at";
    let cases = [
        (at(-1), Some(PAST)),
        (at(0), None),
        (at(1), None),
        (at(3599), None),
        (at(3600), None),
        (at(3601), Some(AFTER)),
        ("never".to_owned(), Some("token_rotation_deadline must be a valid time")),
    ];
    for (text, expected) in cases {
        let result = texts(Some(&at(3600)), Some(&text), None);
        match expected {
            Some(message) => assert_eq!(result, Err(message.to_owned()), "{text}"),
            None => assert_eq!(result.map(|first| first.rotation_deadline), Ok(iso8601::parse(&text)), "{text}"),
        }
    }
}

#[test]
fn the_first_broken_rule_is_named() {
    // Each row breaks its rule and as many later rules as possible.
    let cases = [
        (None, Some("x"), "token_expires_at is required when token_rotation_deadline is specified"),
        (Some("x"), Some("x"), "token_expires_at must be a valid time"),
        (Some("2026-01-01T00:04:59Z"), Some("x"), "token_expires_at must be at least 5 minutes in the future"),
        (Some("2026-02-01"), Some("x"), "token_expires_at is too far in the future (maximum is 2026-01-16T00:00:00Z)"),
        (Some("2026-01-02"), Some("x"), "token_rotation_deadline must be a valid time"),
        (Some("2026-01-02"), Some("2025-12-31"), "token_rotation_deadline cannot be in the past"),
    ];
    for (expires, deadline, message) in cases {
        assert_eq!(texts(expires, deadline, None), Err(message.to_owned()));
    }
}

proptest! {
    #[test]
    fn nothing_overflows(
        unix in -377_705_116_800i64..=253_402_300_799,
        seconds in proptest::option::of(any::<i64>()),
        expires in proptest::option::of("[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9][Z+-]?([0-9]{2}:[0-9]{2})?"),
        deadline in proptest::option::of("[0-9]{4}-[01][0-9]-[0-3][0-9]"),
    ) {
        let now = OffsetDateTime::from_unix_timestamp(unix).unwrap_or(iso8601::LATEST);
        let computed = expires_at(now, seconds);
        match first_token(now, computed, expires.as_deref(), deadline.as_deref()) {
            Ok(first) => prop_assert!(first.rotation_deadline.is_none() || first.rotation_deadline <= first.expires_at),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn a_spread_shortens_a_life_by_at_most_its_percentage_and_leaves_five_minutes() {
    let cases = [
        (1_000_000, 0, 0),
        (1_000_000, 10, 100_000),
        (1_000_000, 50, 500_000),
        (3_155_760_000, 50, 1_577_880_000),
        (601, 50, 300),
        (600, 50, 300),
        (599, 50, 299),
        (301, 50, 1),
        (300, 50, 0),
        (1, 50, 0),
    ];
    for (seconds, percent, cut) in cases {
        assert_eq!(longest_cut(seconds, percent), cut, "{seconds} {percent}");
        for _ in 0..1_000 {
            let spread = spread(Some(seconds), percent).unwrap();
            assert!((seconds - cut..=seconds).contains(&spread), "{seconds} {percent} {spread}");
        }
    }
    assert_eq!(spread(None, 50), None);
}

#[test]
fn lives_are_spread_over_the_whole_part() {
    let mut lives: Vec<i64> = (0..1_000).filter_map(|_| spread(Some(1_000_000), 20)).collect();
    lives.sort_unstable();
    // Of a thousand lives, one in the first tenth and one in the last tenth of the part: the chance that it fails is 1e-45.
    assert!(lives[0] < 820_000, "{}", lives[0]);
    assert!(lives[999] > 980_000, "{}", lives[999]);
}
