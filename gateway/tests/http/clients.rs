//! The access line names the owner of the credential as the service names it, and no client sees the name. Services get the user
//! agent of the client.

use chassis::status::{Fault, Refusal};
use proto::{
    contract::HeaderSpec,
    paddock::{
        contract::v1::{CredentialKind, InternalHeader, Reason},
        directory::v1::{AuthenticateUserTokenRequest, AuthenticateUserTokenResponse, GetCurrentUserRequest},
        job_token::v1::{AuthorizeRequest, AuthorizeResponse},
        runner::v1::{VerifyRunnerRequest, VerifyRunnerResponse},
    },
};
use serde_json::{Value, json};
use time::Duration;
use tonic::Status;

use crate::support::{
    World, fake,
    log::{self, access_line},
    protected::{JOBS, Setup},
    send, token, unique_id,
    upstream::answer,
};

const VERIFY: &str = "/api/v4/runners/verify";
const USER: &str = "/api/v4/user";

fn name_header() -> &'static HeaderSpec {
    InternalHeader::ClientId.spec().unwrap()
}

/// Sends a request, and returns the status of its answer and the client in its access line. The answer must not have the name.
async fn named(request: reqwest::RequestBuilder) -> (u16, Value) {
    let id = unique_id();
    let answer = send(request.header("x-request-id", &id)).await;
    assert_eq!(answer.headers.get(name_header().key), None, "{answer:?}");
    (answer.status, access_line(&id).await["meta.client_id"].clone())
}

#[tokio::test]
async fn a_runner_is_named_also_when_its_call_is_refused_or_fails() {
    let world = World::start().await;
    assert_eq!(named(world.post_as_runner(VERIFY)).await, (200, Value::Null), "the service names nobody");
    world.fake.names("verify_runner", "runner", 14);
    assert_eq!(named(world.post_as_runner(VERIFY)).await, (200, json!("runner/14")));
    let rejections: [(Status, u16); 3] = [
        (Refusal::new(Reason::RunnerTokenExpired).into(), 403),
        (Fault::internal("the database is gone").into(), 500),
        (Fault::unavailable("the database is locked").into(), 503),
    ];
    for (rejection, status) in rejections {
        world.fake.refuses::<VerifyRunnerRequest, VerifyRunnerResponse>("verify_runner", rejection);
        assert_eq!(named(world.post_as_runner(VERIFY)).await, (status, json!("runner/14")));
    }
}

#[tokio::test]
async fn a_call_that_is_repeated_names_its_runner() {
    let world = World::start().await;
    world.fake.names("verify_runner", "runner", 14);
    let error = Status::unavailable("restarting");
    world.fake.fails_first::<VerifyRunnerRequest, VerifyRunnerResponse>("verify_runner", 1, error);
    assert_eq!(named(world.post_as_runner(VERIFY)).await, (200, json!("runner/14")));
    assert_eq!(world.fake.count(), 2);
}

#[tokio::test]
async fn a_client_never_names_itself() {
    let world = World::start().await;
    let request = world.post_as_runner(VERIFY).header(name_header().key, "runner/1");
    assert_eq!(named(request).await, (200, Value::Null));
}

#[tokio::test]
async fn a_user_is_named_also_when_the_token_is_refused() {
    let world = World::start().await;
    let (header, _) = token::user_header();
    for (number, reason) in (2_u32..).zip([Reason::UserTokenExpired, Reason::UserTokenRevoked]) {
        // Another token each time, because a refusal is cached for a second.
        let text = token::of(CredentialKind::UserToken, number.into());
        world.fake.names("authenticate_user_token", "user", number.into());
        world.fake.refuses::<AuthenticateUserTokenRequest, AuthenticateUserTokenResponse>(
            "authenticate_user_token",
            Refusal::new(reason),
        );
        for source in ["registry", "cache"] {
            let line = named(world.get(USER).header(header, &text)).await;
            assert_eq!(line, (401, json!(format!("user/{number}"))), "from the {source}");
        }
    }
}

#[tokio::test]
async fn a_user_is_named_from_the_cache_and_when_the_cached_token_expires() {
    let world = World::start().await;
    let expires_at = world.clock.now() + Duration::seconds(5);
    let expires_at = Some(prost_types::Timestamp { seconds: expires_at.unix_timestamp(), nanos: 0 });
    let root = AuthenticateUserTokenResponse { expires_at, ..fake::root() };
    world.fake.answers::<AuthenticateUserTokenRequest, _>("authenticate_user_token", root);
    let (header, user) = token::user_header();
    for (advance, status) in [(0, 200), (4, 200), (1, 401)] {
        world.clock.advance(Duration::seconds(advance));
        assert_eq!(named(world.get(USER).header(header, &user)).await, (status, json!("user/1")));
    }
}

#[tokio::test]
async fn a_job_is_named_also_when_its_access_is_refused_or_fails() {
    let setup = Setup::start().await;
    setup.upstream.on(|_| async { answer(200, &[(name_header().key, "runner/1")], "") });
    assert_eq!(named(setup.get(JOBS)).await, (200, json!("job/7")));
    let rejections: [(Status, u16); 3] = [
        (Refusal::new(Reason::JobNotRunning).into(), 401),
        (Refusal::new(Reason::JobTokenNotInScope).into(), 403),
        (Fault::of(Reason::CaptureUnavailable, "the store is full").into(), 503),
    ];
    for (rejection, status) in rejections {
        setup.world.fake.refuses::<AuthorizeRequest, AuthorizeResponse>("authorize", rejection);
        assert_eq!(named(setup.get(JOBS)).await, (status, json!("job/7")));
    }
}

#[tokio::test]
async fn services_get_the_user_agent_as_it_is_logged() {
    let setup = Setup::start().await;
    let world = &setup.world;
    let long = "a".repeat(300);
    let secret = format!("gitlab-runner {}", token::user());
    let (header, user) = token::user_header();
    for (sent, expected) in [
        (None, None),
        (Some("gitlab-runner 18.4.0"), Some("gitlab-runner 18.4.0")),
        (Some(long.as_str()), Some(&long[..256])),
        (Some(secret.as_str()), Some("[REDACTED]")),
    ] {
        for request in [world.post_as_runner(VERIFY), world.get(USER).header(header, &user), setup.get(JOBS)] {
            let id = unique_id();
            let request = request.header("x-request-id", &id);
            let request = match sent {
                Some(sent) => request.header("user-agent", sent),
                None => request,
            };
            send(request).await;
            assert_eq!(access_line(&id).await["ua"].as_str(), expected);
        }
        let of_runner = world.fake.calls::<VerifyRunnerRequest>("verify_runner").pop().unwrap().1;
        let of_user = world.fake.calls::<GetCurrentUserRequest>("get_current_user").pop().unwrap().1;
        let of_job = world.fake.calls::<AuthorizeRequest>("authorize").pop().unwrap().1;
        for context in [of_runner, of_user, of_job] {
            assert_eq!(context.user_agent.as_deref(), expected);
        }
    }
    assert_eq!(log::own_lines_with(&secret), Vec::<String>::new());
}
