//! The storm guard: a client that repeats a refused call is answered from memory.

use chassis::status::Refusal;
use futures::future::join_all;
use proto::paddock::{
    contract::v1::{CredentialKind, Reason},
    directory::v1::{AuthenticateUserTokenRequest, AuthenticateUserTokenResponse},
    job_token::v1::{AuthorizeRequest, AuthorizeResponse},
    runner::v1::{
        RequestJobRequest, RequestJobResponse, ResetAuthenticationTokenRequest, ResetAuthenticationTokenResponse,
        VerifyRunnerRequest, VerifyRunnerResponse,
    },
};
use serde_json::json;
use time::Duration;

use crate::support::{
    Answer, World, log,
    protected::{JOBS, Setup},
    send, token, unique_id,
};

const RESET: &str = "/api/v4/runners/reset_authentication_token";
const VERIFY: &str = "/api/v4/runners/verify";
const POLL: &str = "/api/v4/jobs/request";

/// The failures of one token that the default settings allow.
const BUDGET: usize = 15;

/// Asserts that an answer repeats a refusal from memory.
fn assert_repeats(answer: &Answer, reason: Reason) {
    let spec = reason.spec().unwrap();
    assert_eq!(answer.refusal(), (429, spec.code.to_owned()), "{answer:?}");
    assert_eq!(answer.json()["remedy"], json!(spec.remedy));
    assert!(answer.json()["message"].as_str().unwrap().starts_with("429 Too Many Requests - "), "{answer:?}");
    assert_eq!(answer.json()["request_id"], json!(answer.header("x-request-id")));
    let wait: u32 = answer.header("retry-after").parse().unwrap();
    assert!((5..=30).contains(&wait), "{wait}");
}

fn refuse_resets(world: &World) {
    world.fake.refuses::<ResetAuthenticationTokenRequest, ResetAuthenticationTokenResponse>(
        "reset_authentication_token",
        Refusal::new(Reason::RunnerUnassigned),
    );
}

/// Lets the registry answer job requests as it does: there is no job.
fn have_no_jobs(world: &World) {
    let none = RequestJobResponse { status: 204, ..RequestJobResponse::default() };
    world.fake.answers::<RequestJobRequest, _>("request_job", none);
}

fn resets(world: &World) -> usize {
    world.fake.calls::<ResetAuthenticationTokenRequest>("reset_authentication_token").len()
}

#[tokio::test]
async fn a_storm_of_refused_rotations_ends_at_the_gateway() {
    let mut world = World::start().await;
    refuse_resets(&world);
    have_no_jobs(&world);
    let ids: Vec<_> = (0..40).map(|_| unique_id()).collect();
    let storm = ids.iter().map(|id| send(world.post_as_runner(RESET).header("x-request-id", id)));
    let answers = join_all(storm).await;
    let refused = answers.iter().filter(|answer| answer.status == 422).count();
    assert_eq!((refused, resets(&world)), (BUDGET, BUDGET));
    for answer in answers.iter().filter(|answer| answer.status != 422) {
        assert_repeats(answer, Reason::RunnerUnassigned);
    }
    let lines: usize = ids.iter().map(|id| log::access(id).len()).sum();
    assert_eq!(lines, BUDGET, "an answer from memory has no line of its own");
    assert_eq!(send(world.post_as_runner(POLL)).await.status, 204, "the runner's other calls go on");

    world.clock.advance(Duration::seconds(5));
    assert_eq!(send(world.post_as_runner(RESET)).await.status, 422);
    assert_repeats(&send(world.post_as_runner(RESET)).await, Reason::RunnerUnassigned);
    assert_eq!(resets(&world), BUDGET + 1);

    let counted = log::metrics();
    for metric in [
        "paddock_refusals_total{reason=\"too_many_requests\"",
        "paddock_guard_calls_total{event=\"blocked_by_token\",rate_class=\"runner\"} 26",
        "paddock_guard_calls_total{event=\"suspicious\",rate_class=\"runner\"}",
    ] {
        assert!(counted.contains(metric), "{metric}: {counted}");
    }
    world.shutdown.cancel();
    (&mut world.running).await.unwrap();
    let reports = log::own_lines_with("answered 429 from memory");
    assert_eq!(reports.len(), 1, "{reports:?}");
    for part in ["\"answers\":26", "\"reason\":\"runner_unassigned\"", "\"blocked_by\":\"token\"", "\"INFO\"", RESET] {
        assert!(reports[0].contains(part), "{part}: {reports:?}");
    }
}

#[tokio::test]
async fn a_success_ends_a_block() {
    let world = World::start().await;
    refuse_resets(&world);
    for _ in 0..BUDGET {
        assert_eq!(send(world.post_as_runner(RESET)).await.status, 422);
    }
    world.fake.answers::<ResetAuthenticationTokenRequest, _>(
        "reset_authentication_token",
        ResetAuthenticationTokenResponse::default(),
    );
    assert_eq!(send(world.post_as_runner(RESET)).await.status, 429);
    world.clock.advance(Duration::seconds(5));
    for _ in 0..2 * BUDGET {
        assert_eq!(send(world.post_as_runner(RESET)).await.status, 201);
    }
}

#[tokio::test]
async fn text_that_is_no_token_has_a_budget_too() {
    let world = World::start().await;
    let body = json!({token::runner_parameter(): "nonsense"});
    for _ in 0..BUDGET {
        assert_eq!(send(world.post(VERIFY).json(&body)).await.status, 403);
    }
    assert_repeats(&send(world.post(VERIFY).json(&body)).await, Reason::RunnerTokenMalformed);
    assert_eq!(world.fake.count(), 0);
}

#[tokio::test]
async fn a_revoked_user_token_is_not_exchanged_again_and_again() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let get = |path: &str| send(world.get(path).header(header, &user));
    for _ in 0..2 * BUDGET {
        assert_eq!(get("/api/v4/user").await.status, 200);
    }
    world.fake.refuses::<AuthenticateUserTokenRequest, AuthenticateUserTokenResponse>(
        "authenticate_user_token",
        Refusal::new(Reason::UserTokenRevoked),
    );
    // The exchange caches its answer for a second at most.
    while get("/api/v4/user").await.status != 401 {
        tokio::task::yield_now().await;
    }
    for _ in 1..BUDGET {
        assert_eq!(get("/api/v4/user").await.status, 401);
    }
    assert_repeats(&get("/api/v4/user").await, Reason::UserTokenRevoked);
}

#[tokio::test]
async fn a_job_token_that_is_no_good_reaches_job_token_auth_a_few_times() {
    let setup = Setup::start().await;
    let fake = &setup.world.fake;
    fake.refuses::<AuthorizeRequest, AuthorizeResponse>("authorize", Refusal::new(Reason::JobTokenExpired));
    for _ in 0..BUDGET {
        assert_eq!(send(setup.get(JOBS)).await.status, 401);
    }
    assert_repeats(&send(setup.get(JOBS)).await, Reason::JobTokenExpired);
    assert_eq!(fake.calls::<AuthorizeRequest>("authorize").len(), BUDGET);
    assert!(setup.upstream.requests().is_empty());

    let setup = Setup::start().await;
    let fake = &setup.world.fake;
    fake.refuses::<AuthorizeRequest, AuthorizeResponse>("authorize", Refusal::new(Reason::JobTokenNotInScope));
    for _ in 0..3 * BUDGET {
        assert_ne!(send(setup.get(JOBS)).await.status, 429, "a job that may not do something is no storm");
    }
}

/// Sends requests with this many different tokens that nobody has, one after the other.
async fn send_unknown_tokens(world: &World, count: u64) -> Vec<u16> {
    let mut statuses = Vec::new();
    for number in 0..count {
        let body = json!({token::runner_parameter(): token::of(CredentialKind::RunnerToken, 1000 + number)});
        statuses.push(send(world.post(VERIFY).json(&body)).await.status);
    }
    statuses
}

#[tokio::test]
async fn thousands_of_bad_tokens_from_one_address_reach_the_registry_a_few_hundred_times() {
    let world = World::start().await;
    have_no_jobs(&world);
    assert_eq!(send(world.post_as_runner(VERIFY)).await.status, 200, "a healthy runner behind the same address");
    world.fake.on("verify_runner", |request: VerifyRunnerRequest| async move {
        match request.token == token::runner() {
            true => Ok(VerifyRunnerResponse::default()),
            false => Err(Refusal::new(Reason::RunnerTokenUnknown).into()),
        }
    });
    let statuses = send_unknown_tokens(&world, 3000).await;
    let passed = statuses.iter().filter(|status| **status == 403).count();
    assert_eq!(passed, 300 + 5, "the budget, and the trickle of one second");
    assert!(statuses.iter().all(|status| [403, 429].contains(status)));
    assert_eq!(world.fake.calls::<VerifyRunnerRequest>("verify_runner").len(), passed + 1);
    assert_eq!(send(world.post_as_runner(VERIFY)).await.status, 200);
    world.clock.advance(Duration::seconds(1));
    let fresh = json!({token::runner_parameter(): token::of(CredentialKind::RunnerToken, 2)});
    assert_eq!(send(world.post("/api/v4/jobs/request").json(&fresh)).await.status, 204, "a fresh one gets in");
}

#[tokio::test]
async fn an_exempt_address_has_no_budget() {
    let world = World::start_with(|config| config.guard.exempt_addresses = "127.0.0.0/8".to_owned()).await;
    world.fake.refuses::<VerifyRunnerRequest, VerifyRunnerResponse>(
        "verify_runner",
        Refusal::new(Reason::RunnerTokenUnknown),
    );
    assert!(send_unknown_tokens(&world, 400).await.iter().all(|status| *status == 403));
}

#[tokio::test]
async fn a_guard_that_is_off_refuses_nothing() {
    let world = World::start_with(|config| config.guard.enabled = false).await;
    refuse_resets(&world);
    for _ in 0..3 * BUDGET {
        assert_eq!(send(world.post_as_runner(RESET)).await.status, 422);
    }
}

#[tokio::test]
async fn the_limit_of_job_requests_answers_as_gitlab_does() {
    let world = World::start_with(|config| config.limits.runner_jobs_request_api_limit = 3).await;
    have_no_jobs(&world);
    for _ in 0..3 {
        assert_eq!(send(world.post_as_runner(POLL)).await.status, 204);
    }
    let answer = send(world.post_as_runner(POLL)).await;
    assert_eq!(answer.refusal(), (429, "too_many_requests".to_owned()));
    let text = "This endpoint has been requested too many times. Try again later.";
    assert_eq!(answer.json()["message"], json!({"error": text}));
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|wait| (1..=60).contains(&wait)));
    assert_eq!(send(world.post_as_runner(VERIFY)).await.status, 200, "other calls have no limit");
    assert_eq!(world.fake.calls::<RequestJobRequest>("request_job").len(), 3);
}
