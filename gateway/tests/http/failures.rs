//! A service that is down, slow or breaks the connection is a fault with its own status, never a refusal.

use proto::paddock::runner::v1::{
    ResetAuthenticationTokenRequest, ResetAuthenticationTokenResponse, VerifyRunnerRequest, VerifyRunnerResponse,
};
use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tonic::Status;

use crate::support::{Answer, World, send, token, unused_address};

async fn runner_call(world: &World, path: &str) -> Answer {
    send(world.post_as_runner(path)).await
}

const VERIFY: &str = "/api/v4/runners/verify";
const RESET: &str = "/api/v4/runners/reset_authentication_token";

#[tokio::test]
async fn a_registry_that_is_down_is_503() {
    let world = World::in_front_of(unused_address().await, |_| {}).await;
    assert_eq!(runner_call(&world, VERIFY).await.refusal(), (503, "unavailable".into()));
    let (header, user) = token::user_header();
    assert_eq!(send(world.get("/api/v4/user").header(header, user)).await.refusal(), (503, "unavailable".into()));
    let readiness = send(world.get("/-/readiness")).await;
    assert_eq!(readiness.status, 503);
    assert!(readiness.json()["message"].as_str().unwrap().contains("runner-registry"));
    assert_eq!(send(world.get("/-/liveness")).await.status, 200);
}

#[tokio::test]
async fn readiness_names_the_service_that_is_down() {
    for name in ["runner-registry", "job-token-auth"] {
        let url = format!("http://{}", unused_address().await);
        let world = World::start_with(|config| match name {
            "runner-registry" => config.runner_registry.endpoint = url,
            _ => config.job_token_auth.endpoint = url,
        })
        .await;
        let readiness = send(world.get("/-/readiness")).await;
        assert_eq!(readiness.status, 503);
        assert!(readiness.json()["message"].as_str().unwrap().starts_with(name), "{readiness:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_during_the_call_is_503() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut some = [0; 64];
                let _ = stream.read(&mut some).await;
            });
        }
    });
    let world = World::in_front_of(address, |_| {}).await;
    for path in [VERIFY, RESET] {
        assert_eq!(runner_call(&world, path).await.refusal(), (503, "unavailable".into()), "{path}");
    }
}

#[tokio::test]
async fn a_registry_that_is_slow_is_504() {
    for limits_the_call in [false, true] {
        let world = World::start_with(|config| match limits_the_call {
            true => config.runner_registry.deadline_ms = 50,
            false => config.request_timeout_ms = 50,
        })
        .await;
        world
            .fake
            .on("verify_runner", |_: VerifyRunnerRequest| std::future::pending::<Result<VerifyRunnerResponse, _>>());
        assert_eq!(runner_call(&world, VERIFY).await.refusal(), (504, "deadline_exceeded".into()));
    }
}

#[tokio::test]
async fn a_call_without_an_answer_is_retried_once_if_the_contract_allows_it() {
    let world = World::start().await;
    let error = Status::unavailable("restarting");
    for (failures, status, calls) in [(1, 200, 2), (2, 503, 2)] {
        let before = world.fake.count();
        world.fake.fails_first::<VerifyRunnerRequest, VerifyRunnerResponse>("verify_runner", failures, error.clone());
        assert_eq!(runner_call(&world, VERIFY).await.status, status);
        assert_eq!(world.fake.count() - before, calls);
    }
    let before = world.fake.count();
    world.fake.fails_first::<ResetAuthenticationTokenRequest, ResetAuthenticationTokenResponse>(
        "reset_authentication_token",
        1,
        error,
    );
    assert_eq!(runner_call(&world, RESET).await.status, 503, "a rotation must not be retried");
    assert_eq!(world.fake.count() - before, 1);
}

#[tokio::test]
async fn a_registry_with_other_keys_is_not_ready_and_is_a_fault() {
    let world = World::start().await;
    assert_eq!(send(world.get("/-/readiness")).await.status, 200);
    let other = World::start().await;
    let registry = other.fake.addresses().registry;
    let stranger = World::in_front_of(registry, |_| {}).await;
    let answer = runner_call(&stranger, VERIFY).await;
    assert_eq!(answer.refusal(), (500, "identity_unknown_key".into()));
    let readiness = send(stranger.get("/-/readiness")).await;
    assert_eq!(readiness.status, 503);
    assert!(readiness.json()["message"].as_str().unwrap().contains("key"), "{readiness:?}");
}
