//! Protocols, connections, and the shutdown.

use proto::paddock::runner::v1::{VerifyRunnerRequest, VerifyRunnerResponse};
use tokio::net::TcpStream;

use crate::support::{Answer, World, clients_of_both_protocols, gate::Gate, raw, send, token};

fn verify(world: &World, client: &reqwest::Client) -> impl Future<Output = Answer> + use<> {
    let request = client.post(world.url("/api/v4/runners/verify"));
    send(request.header("content-type", "application/json").body(token::runner_body("")))
}

/// Scripts `verify_runner` to answer when the gate is open.
fn hold_verify_runner(world: &World) -> Gate {
    let gate = Gate::closed();
    let held = gate.clone();
    world.fake.on("verify_runner", move |_: VerifyRunnerRequest| {
        let held = held.clone();
        async move {
            held.pass().await;
            Ok(VerifyRunnerResponse { id: 7, ..VerifyRunnerResponse::default() })
        }
    });
    gate
}

#[tokio::test]
async fn both_protocols_are_served_on_one_port() {
    let world = World::start().await;
    for client in clients_of_both_protocols() {
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
async fn requests_in_progress_are_answered_before_the_shutdown() {
    let world = World::start().await;
    let gate = hold_verify_runner(&world);
    let clients = clients_of_both_protocols();
    let pending: Vec<_> = clients.iter().map(|client| tokio::spawn(verify(&world, client))).collect();
    gate.wait_for_requests(2).await;
    let idle = TcpStream::connect(world.address).await.unwrap();
    world.shutdown.cancel();
    // The listener closes first. Open the gate only then.
    while TcpStream::connect(world.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    gate.open(2);
    for answer in pending {
        assert_eq!(answer.await.unwrap().json()["id"], 7);
    }
    world.running.await.unwrap();
    drop(idle);
}

#[tokio::test]
async fn the_shutdown_has_a_time_limit() {
    let world = World::start_with(|config| config.drain_timeout_ms = 20).await;
    let gate = hold_verify_runner(&world);
    let pending = tokio::spawn(verify_or_broken(&world));
    gate.wait_for_requests(1).await;
    world.shutdown.cancel();
    world.running.await.unwrap();
    assert!(!pending.await.unwrap(), "the connection was closed without an answer");
}

/// Reports whether there was an answer.
fn verify_or_broken(world: &World) -> impl Future<Output = bool> + use<> {
    let request = reqwest::Client::new().post(world.url("/api/v4/runners/verify"));
    let sent = request.header("content-type", "application/json").body(token::runner_body("")).send();
    async move { sent.await.is_ok() }
}

#[tokio::test]
async fn the_pages_of_the_gateway_itself_answer() {
    let world = World::start().await;
    for path in ["/-/liveness", "/-/readiness", "/-/health"] {
        let answer = send(world.get(path)).await;
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("ok")), "{path}");
    }
    assert_eq!(send(world.get("/-/health")).await.json()["contract"], proto::contract::DIGEST);
}
