//! The guard as a whole, with a clock that the test sets.

mod budget;

use chassis::client_id::ClientId;
use futures::{FutureExt as _, future::join_all};
use http::Request;
use time::{Duration as Span, OffsetDateTime};

use super::*;
use crate::observe::access_log::AccessRecord;

const FAILURES: u32 = 10;

const RESET: GuardedRoute = GuardedRoute { id: 1, class: RateClass::Runner, is_job_request: false };
const POLL: GuardedRoute = GuardedRoute { id: 2, class: RateClass::Runner, is_job_request: true };
const LIST: GuardedRoute = GuardedRoute { id: 3, class: RateClass::User, is_job_request: false };

fn config() -> GuardConfig {
    GuardConfig {
        enabled: true,
        failures: FAILURES,
        window_seconds: 60,
        address_failures: 300,
        exempt_addresses: "10.0.0.0/8".to_owned(),
        max_entries: 10_000,
        pause_ms: 250,
    }
}

fn clock() -> Clock {
    Clock::manual(OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap())
}

fn guard() -> Guard {
    Guard::new(&config(), &LimitsConfig { runner_jobs_request_api_limit: 0 }, clock())
}

fn token(number: u32) -> TokenDigest {
    let mut digest = [7; 32];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    digest
}

fn call_from(route: GuardedRoute, number: u32, address: IpAddr) -> Call {
    Call { key: Key { route: route.id, token: token(number) }, class: route.class, address }
}

fn call(route: GuardedRoute, number: u32) -> Call {
    call_from(route, number, [192, 0, 2, 1].into())
}

fn refused() -> Result<(), Rejection> {
    Err(Refusal::new(Reason::RunnerUnassigned).into())
}

/// The owner of every token of these tests.
fn owner() -> ResolvedClient {
    let owner = ResolvedClient::default();
    owner.set(ClientId::new("runner", 14));
    owner
}

/// Makes a call that ends at once. Returns none if it was not let through.
fn make(guard: &Guard, call: &Call, result: &Result<(), Rejection>) -> Option<Block> {
    match guard.enter(call).now_or_never().expect("no other call is under way") {
        Ok(admission) => {
            admission.finish(result, &owner());
            None
        }
        Err(block) => Some(block),
    }
}

fn fails(guard: &Guard, call: &Call) -> bool {
    make(guard, call, &refused()).is_none()
}

fn succeeds(guard: &Guard, call: &Call) -> bool {
    make(guard, call, &Ok(())).is_none()
}

fn record(address: IpAddr) -> AccessRecord {
    let (parts, ()) = Request::new(()).into_parts();
    AccessRecord::new(&parts, "r1".to_owned(), address)
}

#[test]
fn what_fails_depends_on_the_rate_class() {
    let statuses = [
        (Reason::RunnerTokenUnknown, [true, false, false]),
        (Reason::RunnerUnassigned, [true, false, false]),
        (Reason::ParameterMissing, [true, false, false]),
        (Reason::ProjectNotFound, [true, false, false]),
        (Reason::UserTokenExpired, [true, true, true]),
        (Reason::RequestTimeout, [false; 3]),
        (Reason::RotationLimited, [false; 3]),
    ];
    for (reason, expected) in statuses {
        let refusal = Refusal::new(reason);
        let classes = [RateClass::Runner, RateClass::User, RateClass::Job];
        assert_eq!(classes.map(|class| is_failure(class, &refusal)), expected, "{reason:?}");
        assert!(!is_failure(RateClass::Internal, &refusal));
    }
}

#[test]
fn every_method_of_the_contract_has_its_own_budget() {
    let mut ids: Vec<_> = METHODS.iter().map(|method| GuardedRoute::method(method).id).collect();
    ids.push(GuardedRoute::protected(0).id);
    ids.push(GuardedRoute::protected(1).id);
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    let job_requests = METHODS.iter().filter(|method| GuardedRoute::method(method).is_job_request);
    assert_eq!(job_requests.map(|method| method.name).collect::<Vec<_>>(), [JOB_REQUEST]);
}

#[tokio::test]
async fn calls_at_the_same_moment_fail_no_more_often_than_the_budget_allows() {
    let guard = guard();
    let storm = (0..60).map(|_| async {
        match guard.enter(&call(RESET, 1)).await {
            Ok(admission) => {
                tokio::task::yield_now().await;
                admission.finish(&refused(), &ResolvedClient::default());
                true
            }
            Err(_) => false,
        }
    });
    let admitted = join_all(storm).await.into_iter().filter(|admitted| *admitted).count();
    assert_eq!(admitted, FAILURES as usize);
}

#[tokio::test]
async fn a_healthy_fleet_on_one_token_goes_on_after_the_first_success() {
    let guard = guard();
    let fleet = (0..500).map(|_| async {
        let admission = guard.enter(&call(POLL, 1)).await.expect("nothing has failed");
        tokio::task::yield_now().await;
        admission.finish(&Ok(()), &ResolvedClient::default());
    });
    join_all(fleet).await;
    let at_once: Vec<_> = (0..500).map(|_| guard.enter(&call(POLL, 1)).now_or_never()).collect();
    assert!(at_once.iter().all(|entered| matches!(entered, Some(Ok(_)))), "nobody waits");
}

#[test]
fn a_blocked_token_is_let_through_again_when_it_succeeds() {
    let guard = guard();
    for _ in 0..FAILURES {
        assert!(fails(&guard, &call(RESET, 1)));
    }
    let block = make(&guard, &call(RESET, 1), &refused()).expect("a block");
    assert_eq!((block.left_ms, block.earlier.reason), (5000, Reason::RunnerUnassigned));
    assert_eq!(block.earlier.client_id, owner().get());
    assert!(succeeds(&guard, &call(POLL, 1)), "another method has another budget");
    assert!(fails(&guard, &call(RESET, 2)), "another token has another budget");
    guard.clock.advance(Span::seconds(5));
    assert!(succeeds(&guard, &call(RESET, 1)));
    assert!(fails(&guard, &call(RESET, 1)) && fails(&guard, &call(RESET, 1)));
}

#[test]
fn faults_and_calls_whose_client_has_gone_do_not_count() {
    let guard = guard();
    let fault = Err(chassis::status::Fault::internal("down").into());
    for _ in 0..3 * FAILURES {
        assert!(make(&guard, &call(RESET, 1), &fault).is_none());
        drop(guard.enter(&call(RESET, 1)).now_or_never());
    }
}

#[test]
fn a_user_who_asks_for_what_is_not_there_is_not_blocked() {
    let guard = guard();
    for _ in 0..3 * FAILURES {
        assert!(make(&guard, &call(LIST, 1), &Err(Refusal::new(Reason::ProjectNotFound).into())).is_none());
    }
    let expired = Err(Refusal::new(Reason::UserTokenExpired).into());
    for _ in 0..FAILURES {
        assert!(make(&guard, &call(LIST, 1), &expired).is_none());
    }
    assert!(make(&guard, &call(LIST, 1), &expired).is_some());
}

#[test]
fn an_address_pays_once_for_each_token_and_only_for_tokens_that_are_not_good() {
    let guard = guard();
    assert!(succeeds(&guard, &call(POLL, 1_000_000)));
    for number in 0..300 {
        assert!(fails(&guard, &call(RESET, number)), "{number}");
        assert!(number == 299 || fails(&guard, &call(RESET, number)), "a token is charged once");
        assert!(number >= 9 || fails(&guard, &call(RESET, 1_000_000)), "a good token is not charged");
    }
    let block = make(&guard, &call(RESET, 0), &refused()).expect("the address is over its budget");
    assert!(matches!(block.offender, Offender::Address(_)), "{block:?}");
    assert_eq!((block.earlier.reason, block.earlier.client_id), (Reason::RunnerUnassigned, None));
    let fresh = (1000..1100).filter(|number| succeeds(&guard, &call(POLL, *number))).count();
    assert_eq!(fresh, 5, "a trickle of fresh tokens");
    assert!(succeeds(&guard, &call(POLL, 1000)), "a token that has succeeded is not held up");
    assert!(succeeds(&guard, &call(POLL, 1_000_000)) && fails(&guard, &call(RESET, 1_000_000)));
    assert!(fails(&guard, &call_from(RESET, 0, [192, 0, 2, 2].into())), "another address");
    guard.clock.advance(Span::minutes(1));
    assert!(fails(&guard, &call(RESET, 0)), "the next minute");
}

#[test]
fn an_exempt_address_has_no_budget_but_its_tokens_have() {
    let guard = guard();
    let address = [10, 1, 2, 3].into();
    for number in 0..400 {
        assert!(fails(&guard, &call_from(RESET, number, address)));
    }
    for _ in 1..FAILURES {
        assert!(fails(&guard, &call_from(RESET, 0, address)));
    }
    assert!(!fails(&guard, &call_from(RESET, 0, address)));
}

#[tokio::test]
async fn a_blocked_call_gets_the_answer_that_it_repeats_and_no_line_of_its_own() {
    let guard = guard();
    let address: IpAddr = [192, 0, 2, 1].into();
    for _ in 0..FAILURES {
        guard
            .admit(RESET, &token(1), &mut record(address))
            .await
            .unwrap()
            .finish(&refused(), &ResolvedClient::default());
    }
    let mut record = record(address);
    let Err(Rejection::Refusal(refusal)) = guard.admit(RESET, &token(1), &mut record).await.map(drop) else {
        panic!("the call is let through");
    };
    assert_eq!(refusal.reason(), Reason::TooManyRequests);
    assert_eq!(record.repeated(), Some(Reason::RunnerUnassigned));
    let message = Reason::RunnerUnassigned.spec().unwrap().message;
    assert_eq!(refusal.message(), format!("429 Too Many Requests - {message}"));
    assert!((5..=30).contains(&refusal.retry_after().unwrap()));
}

#[tokio::test]
async fn a_limit_counts_successes_too_and_works_without_the_guard() {
    let config = GuardConfig { enabled: false, ..config() };
    let guard = Guard::new(&config, &LimitsConfig { runner_jobs_request_api_limit: 3 }, clock());
    let mut record = record([192, 0, 2, 1].into());
    for _ in 0..3 {
        guard.admit(POLL, &token(1), &mut record).await.unwrap().finish(&Ok(()), &ResolvedClient::default());
    }
    assert!(guard.admit(POLL, &token(1), &mut record).await.is_err());
    assert!(guard.admit(RESET, &token(1), &mut record).await.is_ok(), "only job requests are limited");
    assert!(guard.admit(POLL, &token(2), &mut record).await.is_ok());
}

/// A million in `make soak`; fewer in `make test`, against a smaller bound.
#[test]
fn a_million_bad_tokens_leave_the_maps_within_their_bounds() {
    let is_soak = std::env::var_os("PADDOCK_TEST_SOAK").is_some();
    let tokens: u32 = if is_soak { 1_000_000 } else { 10_000 };
    let max_entries = if is_soak { 10_000 } else { 1000 };
    let config = GuardConfig { max_entries, ..config() };
    let guard = Guard::new(&config, &LimitsConfig { runner_jobs_request_api_limit: 0 }, clock());
    assert!(succeeds(&guard, &call(POLL, u32::MAX)));
    for number in 0..tokens {
        // Each address fails with ten tokens, so that none is over its budget.
        let [_, a, b, c] = (number / 10).to_be_bytes();
        assert!(fails(&guard, &call_from(RESET, number, [192, a, b, c].into())));
        if number % 1000 == 0 {
            assert!(guard.budgets.entry_count() <= max_entries, "{}", guard.budgets.entry_count());
        }
    }
    guard.budgets.run_pending_tasks();
    guard.addresses.run_pending_tasks();
    assert!(guard.budgets.entry_count() <= max_entries);
    assert!(guard.addresses.entry_count() <= max_entries);
    assert!(guard.is_good(&call(POLL, u32::MAX)), "good tokens have their own map");
    assert!(succeeds(&guard, &call(POLL, u32::MAX)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_held_back_unless_too_many_are() {
    let guard = guard();
    let started = tokio::time::Instant::now();
    guard.pause().await;
    let elapsed = started.elapsed();
    assert!((Duration::from_millis(125)..=Duration::from_millis(375)).contains(&elapsed), "{elapsed:?}");

    let all = u32::try_from(MAX_PAUSES).unwrap();
    let held_back = guard.pauses.try_acquire_many(all).unwrap();
    guard.pause().now_or_never().expect("it is not held back");
    drop(held_back);
}

#[tokio::test]
async fn calls_that_wait_go_on_as_soon_as_the_token_has_succeeded() {
    let guard = guard();
    let calls = (0..FAILURES).map(|_| guard.enter(&call(LIST, 1)).now_or_never().unwrap().unwrap());
    let under_way: Vec<_> = calls.collect();
    let one_more = call(LIST, 1);
    let mut waiting = pin!(guard.enter(&one_more));
    assert!(waiting.as_mut().now_or_never().is_none(), "the calls under way could use up the budget");
    under_way[0].confirm();
    assert!(waiting.now_or_never().is_some(), "the token is good, and no call has ended");
}
