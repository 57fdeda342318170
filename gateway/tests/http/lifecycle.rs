//! Protocols, connections, and the end.

use std::sync::Arc;

use proto::paddock::runner::v1::{VerifyRunnerRequest, VerifyRunnerResponse};
use tokio::{
    net::TcpStream,
    sync::{Notify, Semaphore},
};

use crate::support::{Answer, World, raw, send, token};

fn verify(world: &World, client: &reqwest::Client) -> impl Future<Output = Answer> + use<> {
    let request = client.post(format!("http://{}/api/v4/runners/verify", world.address));
    send(request.header("content-type", "application/json").body(token::runner_body("")))
}

/// A method that says when it was entered, and answers when it is let go.
fn held(world: &World) -> (Arc<Semaphore>, Arc<Notify>) {
    let (entered, go) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (enter, wait) = (entered.clone(), go.clone());
    world.fake.on("verify_runner", move |_: VerifyRunnerRequest| {
        let (enter, wait) = (enter.clone(), wait.clone());
        async move {
            enter.add_permits(1);
            wait.notified().await;
            Ok(VerifyRunnerResponse { id: 7, ..VerifyRunnerResponse::default() })
        }
    });
    (entered, go)
}

#[tokio::test]
async fn both_protocols_are_served_on_one_port() {
    let world = World::start().await;
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    for client in [reqwest::Client::new(), http2] {
        for _ in 0..3 {
            assert_eq!(verify(&world, &client).await.status, 200);
        }
        let many = futures::future::join_all((0..50).map(|_| verify(&world, &client))).await;
        assert!(many.iter().all(|answer| answer.status == 200));
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let world = World::start().await;
    let request = "GET /-/liveness HTTP/1.1\r\nhost: x\r\n\r\n\
        GET /api/v4/nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let first = raw::exchange(world.address, request.as_bytes()).await.unwrap();
    assert_eq!(first.status, 200);
    assert!(first.body.contains("HTTP/1.1 404"), "both were answered on one connection: {first:?}");
}

#[tokio::test]
async fn requests_under_way_are_answered_before_the_end() {
    let world = World::start().await;
    let (entered, go) = held(&world);
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let pending: Vec<_> =
        [reqwest::Client::new(), http2].iter().map(|client| tokio::spawn(verify(&world, client))).collect();
    entered.acquire_many(2).await.unwrap().forget();
    let idle = TcpStream::connect(world.address).await.unwrap();
    world.shutdown.cancel();
    // The listener closes first; only then is the rest let go.
    while TcpStream::connect(world.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.notify_waiters();
    for answer in pending {
        assert_eq!(answer.await.unwrap().json()["id"], 7);
    }
    world.running.await.unwrap();
    drop(idle);
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let world = World::start_with(|config| config.drain_timeout_ms = 20).await;
    let (entered, _go) = held(&world);
    let pending = tokio::spawn(verify_or_broken(&world));
    entered.acquire().await.unwrap().forget();
    world.shutdown.cancel();
    world.running.await.unwrap();
    assert!(!pending.await.unwrap(), "the connection was closed without an answer");
}

/// Whether there was an answer.
fn verify_or_broken(world: &World) -> impl Future<Output = bool> + use<> {
    let request = reqwest::Client::new().post(format!("http://{}/api/v4/runners/verify", world.address));
    let sent = request.header("content-type", "application/json").body(token::runner_body("")).send();
    async move { sent.await.is_ok() }
}

#[tokio::test]
async fn the_own_pages_answer() {
    let world = World::start().await;
    for path in ["/-/liveness", "/-/readiness", "/-/health"] {
        let answer = send(world.get(path)).await;
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("ok")), "{path}");
    }
    assert_eq!(send(world.get("/-/health")).await.json()["contract"], proto::contract::DIGEST);
}
