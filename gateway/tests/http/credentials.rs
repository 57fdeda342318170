//! The carriers of credentials, conflicts of two credentials, and the look-ups of user tokens.

use chassis::{access::Caller, status::Refusal};
use proto::paddock::{
    contract::v1::{CredentialKind, Process, Reason, TokenScope},
    directory::v1::{AuthenticateUserTokenRequest, AuthenticateUserTokenResponse, GetCurrentUserRequest},
    job_token::v1::GetCurrentJobRequest,
    runner::v1::{UnregisterRunnerRequest, VerifyRunnerRequest},
};
use serde_json::json;
use time::Duration;

use crate::support::{World, fake, send, token};

const VERIFY: &str = "/api/v4/runners/verify";
const USER: &str = "/api/v4/user";

#[tokio::test]
async fn a_runner_token_is_taken_from_every_carrier() {
    let world = World::start().await;
    let name = token::runner_parameter();
    let runner = token::runner();
    let mut requests = vec![
        world.post(VERIFY).json(&json!({name: runner})),
        world.post(VERIFY).form(&[(name, &runner)]),
        world.post(VERIFY).query(&[(name, &runner)]),
        world.post(VERIFY).query(&[(name, &runner)]).json(&json!({})),
        world.post(VERIFY).multipart(reqwest::multipart::Form::new().text(name, runner.clone())),
    ];
    for (header, value) in token::headers(CredentialKind::RunnerToken, &runner) {
        requests.push(world.post(VERIFY).header(header, &value));
        requests.push(world.post(VERIFY).header(header, value).json(&json!({name: runner})));
    }
    let count = requests.len();
    for request in requests {
        assert_eq!(send(request).await.status, 200);
    }
    let calls = world.fake.calls::<VerifyRunnerRequest>("verify_runner");
    assert_eq!(calls.len(), count);
    for (request, context) in calls {
        assert_eq!(request.token, runner);
        assert_eq!(context.caller, Caller::Bearer(CredentialKind::RunnerToken));
        assert!(context.peer_address.unwrap().is_loopback());
    }
}

#[tokio::test]
async fn a_runner_token_in_the_query_deletes_a_runner_even_with_a_user_token() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let request = world.request("DELETE", "/api/v4/runners").query(&[(token::runner_parameter(), token::runner())]);
    let answer = send(request.header(header, user).header("content-type", "application/json")).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(world.fake.calls::<UnregisterRunnerRequest>("unregister_runner")[0].0.token, token::runner());
    assert!(world.fake.calls::<AuthenticateUserTokenRequest>("authenticate_user_token").is_empty());
}

#[tokio::test]
async fn a_user_token_is_taken_from_every_carrier() {
    let world = World::start().await;
    let user = token::user();
    let mut requests = Vec::new();
    for name in token::parameters(CredentialKind::UserToken) {
        requests.push(world.get(USER).query(&[(name, &user)]));
        requests.push(world.get(USER).json(&json!({name: user})));
    }
    for (header, value) in token::headers(CredentialKind::UserToken, &user) {
        requests.push(world.get(USER).header(header, &value));
        requests.push(world.get(USER).header(header.to_uppercase(), value));
    }
    for request in requests {
        assert_eq!(send(request).await.status, 200);
    }
    for (_, context) in world.fake.calls::<GetCurrentUserRequest>("get_current_user") {
        let Caller::User(user) = context.caller else { panic!("a user") };
        assert_eq!((user.id, user.username.as_str(), user.admin), (1, "root", true));
        assert_eq!(user.scopes, [TokenScope::Api]);
    }
    let (asked, context) = world.fake.calls::<AuthenticateUserTokenRequest>("authenticate_user_token").remove(0);
    assert_eq!((asked.token, context.caller), (user, Caller::Process(Process::Gateway)));
}

#[tokio::test]
async fn two_different_credentials_are_refused_without_a_call() {
    let world = World::start().await;
    let name = token::runner_parameter();
    let runner = token::runner();
    let other = token::of(CredentialKind::RunnerToken, 2);
    let header = token::headers(CredentialKind::RunnerToken, &other).remove(0);
    let twice = token::headers(CredentialKind::RunnerToken, &runner).remove(0);
    let requests = [
        world.post(VERIFY).json(&json!({name: runner})).query(&[(name, &other)]),
        world.post(VERIFY).json(&json!({name: runner})).header(header.0, &header.1),
        world.post(VERIFY).query(&[(name, &runner), (name, &other)]),
        world.post(VERIFY).header(twice.0, twice.1).header(header.0, header.1),
        world
            .get(USER)
            .header(token::user_header().0, token::user())
            .query(&[(token::parameters(CredentialKind::UserToken)[0], token::of(CredentialKind::UserToken, 2))]),
    ];
    for request in requests {
        assert_eq!(send(request).await.refusal(), (400, "conflicting_credentials".into()));
    }
    assert_eq!(world.fake.count(), 0);
}

/// Replaces the last character, which belongs to the checksum.
fn with_wrong_checksum(token: &str) -> String {
    format!("{}x", &token[..token.len() - 1])
}

#[tokio::test]
async fn a_malformed_credential_is_refused_without_a_call() {
    let world = World::start().await;
    let name = token::runner_parameter();
    let (header, _) = token::user_header();
    let runner_cases = [
        (String::new(), "runner_token_malformed"),
        ("nonsense".to_owned(), "runner_token_malformed"),
        (with_wrong_checksum(&token::runner()), "runner_token_malformed"),
        (token::user(), "runner_token_wrong_kind"),
    ];
    let user_cases = [
        (String::new(), "credential_missing"),
        ("nonsense".to_owned(), "user_token_malformed"),
        (with_wrong_checksum(&token::user()), "user_token_malformed"),
        (token::runner(), "user_token_wrong_kind"),
    ];
    let mut cases = vec![(world.post(VERIFY), 400, "parameter_missing"), (world.get(USER), 401, "credential_missing")];
    for (text, reason) in runner_cases {
        cases.push((world.post(VERIFY).json(&json!({name: text})), 403, reason));
    }
    for (text, reason) in user_cases {
        cases.push((world.get(USER).header(header, text), 401, reason));
    }
    for (request, status, reason) in cases {
        let answer = send(request).await;
        assert_eq!(answer.refusal(), (status, reason.to_owned()));
        assert_eq!(answer.header("www-authenticate").is_empty(), status != 401);
    }
    assert_eq!(world.fake.count(), 0);
    assert!(world.fake.calls::<AuthenticateUserTokenRequest>("authenticate_user_token").is_empty());
}

#[tokio::test]
async fn a_user_is_authenticated_before_the_parameters_are_checked_and_a_runner_after() {
    let world = World::start().await;
    assert_eq!(send(world.get("/api/v4/runners?page=x")).await.refusal(), (401, "credential_missing".into()));
    let request =
        world.request("DELETE", "/api/v4/runners/managers").json(&json!({token::runner_parameter(): "nonsense"}));
    let answer = send(request).await;
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("system_id is missing")));
}

#[tokio::test]
async fn the_registry_is_asked_once_for_many_requests_with_one_token() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let requests = (0..20).map(|_| send(world.get(USER).header(header, &user)));
    for answer in futures::future::join_all(requests).await {
        assert_eq!(answer.status, 200);
    }
    // The answer is cached for a second. These requests take far less, but a slow machine may need a second call.
    assert!(world.fake.calls::<AuthenticateUserTokenRequest>("authenticate_user_token").len() < 20);
}

#[tokio::test]
async fn a_refused_user_token_is_refused_with_the_registrys_reason() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let reasons = [Reason::UserTokenUnknown, Reason::UserTokenExpired, Reason::UserTokenRevoked];
    for (number, reason) in (10..).zip(reasons) {
        // A new token each time, because a refusal is cached for a second.
        let text = token::of(CredentialKind::UserToken, number);
        world.fake.refuses::<AuthenticateUserTokenRequest, AuthenticateUserTokenResponse>(
            "authenticate_user_token",
            Refusal::new(reason),
        );
        let answer = send(world.get(USER).header(header, &text)).await;
        assert_eq!(answer.refusal(), (401, reason.spec().unwrap().code.to_owned()));
        assert!(!answer.header("www-authenticate").is_empty());
    }
    assert_eq!(world.fake.count(), 0);
    world.fake.answers::<AuthenticateUserTokenRequest, _>("authenticate_user_token", fake::root());
    assert_eq!(send(world.get(USER).header(header, &user)).await.status, 200);
}

#[tokio::test]
async fn a_token_that_expires_while_its_answer_is_cached_is_refused() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let expires_at = world.clock.now() + Duration::seconds(5);
    let expires_at = Some(prost_types::Timestamp { seconds: expires_at.unix_timestamp(), nanos: 0 });
    let answer = AuthenticateUserTokenResponse { expires_at, ..fake::root() };
    world.fake.answers::<AuthenticateUserTokenRequest, _>("authenticate_user_token", answer);
    for (advance, expected) in [(0, 200), (4, 200), (1, 401)] {
        world.clock.advance(Duration::seconds(advance));
        assert_eq!(send(world.get(USER).header(header, &user)).await.status, expected);
    }
}

#[tokio::test]
async fn a_missing_scope_is_named() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let reader = AuthenticateUserTokenResponse { scopes: vec![TokenScope::ReadUser.into()], ..fake::root() };
    world.fake.answers::<AuthenticateUserTokenRequest, _>("authenticate_user_token", reader);
    let request =
        world.post("/api/v4/user/runners").header(header, user).json(&json!({"runner_type": "instance_type"}));
    let answer = send(request).await;
    assert_eq!(answer.refusal(), (403, "insufficient_scope".into()));
    assert_eq!(
        (&answer.json()["error"], &answer.json()["scope"]),
        (&json!("insufficient_scope"), &json!("api create_runner"))
    );
}

#[tokio::test]
async fn a_job_asks_for_itself_with_its_token() {
    let world = World::start().await;
    let job = token::of(CredentialKind::JobToken, 1);
    for (header, value) in token::headers(CredentialKind::JobToken, &job) {
        assert_eq!(send(world.get("/api/v4/job").header(header, value)).await.status, 200);
    }
    for (request, context) in world.fake.calls::<GetCurrentJobRequest>("get_current_job") {
        assert_eq!((request.token.as_str(), context.caller), (job.as_str(), Caller::Bearer(CredentialKind::JobToken)));
    }
    let before = world.fake.count();
    let (header, _) = token::headers(CredentialKind::JobToken, "").pop().unwrap();
    for (request, reason) in [
        (world.get("/api/v4/job"), "job_token_missing"),
        (world.get("/api/v4/job").header(header, "nonsense"), "job_token_malformed"),
        (world.get("/api/v4/job").header(header, token::user()), "job_token_wrong_kind"),
    ] {
        assert_eq!(send(request).await.refusal(), (401, reason.to_owned()));
    }
    assert_eq!((world.fake.count(), send(world.get("/oauth/discovery/keys")).await.status), (before, 200));
}
