//! A registry that is away, slow or torn away: a fault with its own status, never a refusal.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use proto::paddock::runner::v1::{
    ResetAuthenticationTokenRequest, ResetAuthenticationTokenResponse, VerifyRunnerRequest, VerifyRunnerResponse,
};
use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tonic::Status;

use crate::support::{Answer, World, send, token};

async fn runner_call(world: &World, path: &str) -> Answer {
    let request = world.post(path).header("content-type", "application/json");
    send(request.body(token::runner_body(""))).await
}

const VERIFY: &str = "/api/v4/runners/verify";
const RESET: &str = "/api/v4/runners/reset_authentication_token";

#[tokio::test]
async fn a_registry_that_is_away_is_503() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let world = World::in_front_of(nobody, |_| {}).await;
    assert_eq!(runner_call(&world, VERIFY).await.refusal(), (503, "unavailable".into()));
    let (header, user) = token::user_header();
    assert_eq!(send(world.get("/api/v4/user").header(header, user)).await.refusal(), (503, "unavailable".into()));
    let readiness = send(world.get("/-/readiness")).await;
    assert_eq!(readiness.status, 503);
    assert!(readiness.json()["message"].as_str().unwrap().contains("runner-registry"));
    assert_eq!(send(world.get("/-/liveness")).await.status, 200);
}

#[tokio::test]
async fn readiness_names_the_service_that_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    for (name, change) in [
        ("runner-registry", (|config, url| config.runner_registry.endpoint = url) as fn(&mut gateway::Config, String)),
        ("job-token-auth", |config, url| config.job_token_auth.endpoint = url),
    ] {
        let world = World::start_with(|config| change(config, format!("http://{nobody}"))).await;
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
    for change in
        [(|config: &mut gateway::Config| config.request_timeout_ms = 50) as fn(&mut gateway::Config), |config| {
            config.runner_registry.deadline_ms = 50
        }]
    {
        let world = World::start_with(change).await;
        world
            .fake
            .on("verify_runner", |_: VerifyRunnerRequest| std::future::pending::<Result<VerifyRunnerResponse, _>>());
        assert_eq!(runner_call(&world, VERIFY).await.refusal(), (504, "deadline_exceeded".into()));
    }
}

#[tokio::test]
async fn a_call_that_found_nobody_is_repeated_once_if_the_contract_allows_it() {
    let world = World::start().await;
    let fails_first = |failures: usize| {
        let count = Arc::new(AtomicUsize::new(0));
        move || {
            if count.fetch_add(1, Ordering::SeqCst) < failures {
                Err(Status::unavailable("restarting"))
            } else {
                Ok(())
            }
        }
    };
    for (failures, status, calls) in [(1, 200, 2), (2, 503, 2)] {
        let before = world.fake.count();
        let fails = fails_first(failures);
        world.fake.on("verify_runner", move |_: VerifyRunnerRequest| {
            let result = fails();
            async move { result.map(|()| VerifyRunnerResponse::default()) }
        });
        assert_eq!(runner_call(&world, VERIFY).await.status, status);
        assert_eq!(world.fake.count() - before, calls);
    }
    let (before, fails) = (world.fake.count(), fails_first(1));
    world.fake.on("reset_authentication_token", move |_: ResetAuthenticationTokenRequest| {
        let result = fails();
        async move { result.map(|()| ResetAuthenticationTokenResponse::default()) }
    });
    assert_eq!(runner_call(&world, RESET).await.status, 503, "a rotation must not be repeated");
    assert_eq!(world.fake.count() - before, 1);
}

#[tokio::test]
async fn a_registry_with_other_keys_is_not_ready_and_never_looks_like_a_bad_token() {
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
