//! The states of one budget, and what holds in every sequence of calls.

use chassis::status::Refusal;
use proptest::prelude::*;
use proto::paddock::contract::v1::Reason;

use super::super::{
    LEAST_WAIT_SECONDS, LONGEST_BLOCK_SECONDS,
    address::AddressBlock,
    budget::{Budget, Free, Limits, Start, TRUST_MS},
    earlier::EarlierRefusal,
    wait_seconds,
};

const LIMITS: Limits = Limits { failures: 3, window_ms: 60_000 };

const GOOD: Start = Start::Admitted { suspicious: false };
const SUSPICIOUS: Start = Start::Admitted { suspicious: true };

/// A step of a table: what happens, and the expected answer.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Time passes, in milliseconds.
    After(i64),
    /// A call wants to begin.
    Call(&'static Start),
    /// A call ends with a failure.
    Fails,
    /// A call ends well.
    Succeeds,
    /// A call ends with a fault, or its client has gone.
    Ends,
}

use Step::{After, Call, Ends, Fails, Succeeds};

fn address(last: u8) -> AddressBlock {
    AddressBlock::of([192, 0, 2, last].into())
}

fn refusal() -> EarlierRefusal {
    EarlierRefusal::new(&Refusal::new(Reason::RunnerUnassigned), None)
}

fn run(name: &str, steps: &[Step]) {
    let mut budget = Budget::default();
    let mut now = 1_000_000_000;
    for (index, step) in steps.iter().enumerate() {
        match step {
            After(milliseconds) => now += milliseconds,
            Call(expected) => assert_eq!(budget.start(LIMITS, address(1), now), **expected, "{name}, step {index}"),
            Fails => {
                budget.fail(LIMITS, address(1), now, refusal());
                budget.end(LIMITS, now);
            }
            Succeeds => {
                budget.succeed(now);
                budget.end(LIMITS, now);
            }
            Ends => {
                budget.end(LIMITS, now);
            }
        }
    }
}

/// Failures that lead to the first block.
const BLOCKED: [Step; 6] = [Call(&GOOD), Fails, Call(&SUSPICIOUS), Fails, Call(&SUSPICIOUS), Fails];

#[test]
fn the_states_follow_the_table() {
    let after_block: [(&str, &[Step]); 10] = [
        ("a block refuses", &[Call(&Start::Blocked(5000)), After(4999), Call(&Start::Blocked(1))]),
        ("one call after a block", &[After(5000), Call(&SUSPICIOUS), Call(&Start::Full)]),
        ("a failure doubles the block", &[After(5000), Call(&SUSPICIOUS), Fails, Call(&Start::Blocked(10_000))]),
        (
            "a block lasts 30 s at most",
            &[
                After(5000),
                Call(&SUSPICIOUS),
                Fails,
                After(10_000),
                Call(&SUSPICIOUS),
                Fails,
                Call(&Start::Blocked(20_000)),
                After(20_000),
                Call(&SUSPICIOUS),
                Fails,
                Call(&Start::Blocked(30_000)),
                After(30_000),
                Call(&SUSPICIOUS),
                Fails,
                Call(&Start::Blocked(30_000)),
            ],
        ),
        (
            "a success clears",
            &[After(5000), Call(&SUSPICIOUS), Succeeds, Call(&GOOD), Call(&GOOD), Call(&GOOD), Call(&GOOD)],
        ),
        (
            "a fault leaves the next call",
            &[After(5000), Call(&SUSPICIOUS), Ends, Call(&SUSPICIOUS), Call(&Start::Full)],
        ),
        ("a block is remembered for a window", &[After(64_999), Call(&SUSPICIOUS), Call(&Start::Full)]),
        ("and then forgotten", &[After(65_000), Call(&GOOD), Call(&GOOD), Call(&GOOD), Call(&Start::Full)]),
        ("a clock that goes backwards forgets", &[After(-1001), Call(&GOOD)]),
        ("a call that read the clock a little earlier is blocked, too", &[After(-1), Call(&Start::Blocked(5000))]),
    ];
    for (name, steps) in after_block {
        run(name, &[BLOCKED.as_slice(), steps].concat());
    }
    let from_start: [(&str, &[Step]); 6] = [
        ("calls under way use up the budget", &[Call(&GOOD), Call(&GOOD), Call(&GOOD), Call(&Start::Full)]),
        (
            "a failure keeps its place",
            &[
                Call(&GOOD),
                Call(&GOOD),
                Call(&GOOD),
                Fails,
                Call(&Start::Full),
                Ends,
                Call(&SUSPICIOUS),
                Call(&Start::Full),
            ],
        ),
        ("a success lets all through", &[Call(&GOOD), Succeeds, Call(&GOOD), Call(&GOOD), Call(&GOOD), Call(&GOOD)]),
        (
            "not for ever",
            &[Call(&GOOD), Succeeds, After(TRUST_MS), Call(&GOOD), Call(&GOOD), Call(&GOOD), Call(&Start::Full)],
        ),
        (
            "and not after a failure",
            &[Call(&GOOD), Succeeds, Call(&GOOD), Fails, Call(&SUSPICIOUS), Call(&SUSPICIOUS), Call(&Start::Full)],
        ),
        (
            "failures of the last window do not count",
            &[Call(&GOOD), Fails, Call(&SUSPICIOUS), Fails, After(60_000), Call(&GOOD), Fails, Call(&SUSPICIOUS)],
        ),
    ];
    for (name, steps) in from_start {
        run(name, steps);
    }
}

#[test]
fn calls_that_began_before_a_block_do_not_lengthen_it() {
    let mut budget = Budget::default();
    for _ in 0..3 {
        assert_eq!(budget.start(LIMITS, address(1), 0), GOOD);
    }
    budget.succeed(0);
    for _ in 0..3 {
        assert_eq!(budget.start(LIMITS, address(1), 0), GOOD);
    }
    for _ in 0..6 {
        budget.fail(LIMITS, address(1), 0, refusal());
        budget.end(LIMITS, 0);
    }
    assert_eq!(budget.start(LIMITS, address(1), 0), Start::Blocked(5000));
}

#[test]
fn an_address_that_has_not_failed_makes_one_call_during_a_block() {
    let mut budget = Budget::default();
    for _ in 0..3 {
        budget.start(LIMITS, address(1), 0);
        budget.fail(LIMITS, address(1), 0, refusal());
        budget.end(LIMITS, 0);
    }
    assert_eq!(budget.start(LIMITS, address(1), 0), Start::Blocked(5000));
    assert_eq!(budget.blocked_for(address(2), 0), None);
    assert_eq!(budget.start(LIMITS, address(2), 0), SUSPICIOUS);
    assert_eq!(budget.start(LIMITS, address(2), 0), Start::Blocked(5000), "one call");
    budget.fail(LIMITS, address(2), 0, refusal());
    budget.end(LIMITS, 0);
    assert_eq!(budget.start(LIMITS, address(2), 1000), Start::Blocked(4000), "its failure does not lengthen the block");
    let chances = (3..100).filter(|last| budget.start(LIMITS, address(*last), 1000) == SUSPICIOUS).count();
    assert_eq!(chances, 14, "sixteen addresses altogether");
    budget.succeed(1000);
    assert_eq!(budget.start(LIMITS, address(1), 1000), GOOD, "a success of any of them ends the block");
}

#[test]
fn those_that_wait_are_woken_when_they_can_begin() {
    let mut budget = Budget::default();
    for expected in [GOOD, GOOD, GOOD, Start::Full] {
        assert_eq!(budget.start(LIMITS, address(1), 0), expected);
    }
    budget.fail(LIMITS, address(1), 0, refusal());
    assert_eq!(budget.end(LIMITS, 0), Free::Calls(0), "the failure has used up the place");
    assert_eq!(budget.end(LIMITS, 0), Free::Calls(1));
    assert_eq!(budget.end(LIMITS, 60_000), Free::Calls(3), "the window is over");
    budget.succeed(60_000);
    assert_eq!(budget.end(LIMITS, 60_000), Free::All);
    assert_eq!(budget.end(LIMITS, 60_000), Free::Calls(0), "all have been woken");
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Starts,
    Fails,
    Succeeds,
    Ends,
    Passes(i64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => Just(Event::Starts),
        4 => Just(Event::Fails),
        1 => Just(Event::Succeeds),
        1 => Just(Event::Ends),
        2 => (-2000i64..40_000).prop_map(Event::Passes),
    ];
    prop::collection::vec(event, 0..200)
}

proptest! {
    /// Between two successes, at most the budget, and the calls that were under way at the success, fail within a window.
    #[test]
    fn never_more_calls_than_the_budget_allows(events in events(), failures in 1u32..20) {
        let limits = Limits { failures, window_ms: 60_000 };
        let mut budget = Budget::default();
        let mut now = 1_000_000_000i64;
        let mut under_way = 0u32;
        let mut was_good = false;
        for event in events {
            match event {
                Event::Passes(milliseconds) => now += milliseconds,
                Event::Starts => match budget.start(limits, address(1), now) {
                    Start::Admitted { suspicious } => {
                        under_way += 1;
                        prop_assert!(was_good || under_way <= failures);
                        prop_assert!(!suspicious || budget.earlier().is_some());
                    }
                    Start::Full => prop_assert!(under_way > 0, "nothing would ever wake the call"),
                    Start::Blocked(left) => {
                        prop_assert!((1..=30_000).contains(&left), "{left}");
                        for jitter in 0..=5 {
                            let wait = wait_seconds(left, jitter);
                            prop_assert!((LEAST_WAIT_SECONDS..=LONGEST_BLOCK_SECONDS).contains(&wait));
                            prop_assert!(i64::from(wait) * 1000 >= left.min(30_000), "the client comes back too early");
                        }
                    }
                },
                Event::Fails | Event::Succeeds | Event::Ends if under_way == 0 => {}
                Event::Fails => {
                    budget.fail(limits, address(1), now, refusal());
                    budget.end(limits, now);
                    under_way -= 1;
                }
                Event::Succeeds => {
                    budget.succeed(now);
                    budget.end(limits, now);
                    under_way -= 1;
                    was_good = true;
                }
                Event::Ends => {
                    budget.end(limits, now);
                    under_way -= 1;
                }
            }
        }
    }

    /// A client that only fails, and calls at least every ten seconds, reaches the service this often.
    #[test]
    fn a_failing_client_is_held_to_its_rate(bursts in prop::collection::vec((0i64..10_000, 1usize..40), 1..100)) {
        let limits = Limits { failures: 10, window_ms: 60_000 };
        let mut budget = Budget::default();
        let start = 1_000_000_000i64;
        let mut now = start;
        let mut admitted = 0i64;
        for (pause, calls) in bursts {
            now += pause;
            let begun = (0..calls).filter(|_| matches!(budget.start(limits, address(1), now), Start::Admitted { .. })).count();
            for _ in 0..begun {
                budget.fail(limits, address(1), now, refusal());
                budget.end(limits, now);
            }
            admitted += i64::try_from(begun).unwrap();
            prop_assert!(admitted <= 10 + (now - start) / 5000, "{admitted} calls in {} ms", now - start);
        }
    }
}
