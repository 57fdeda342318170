//! A runner that lost its project and rotates in a tight loop, as one did 957 times within three seconds, causes no alert.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use proto::paddock::contract::v1::Reason;
use serde_json::{Value, json};
use system::{Paddock, raw::Connection};
use tokio::task::JoinSet;

use crate::fixtures;

const ROTATIONS: u32 = 957;
const CONNECTIONS: u32 = 60;

/// Rotates as fast as the server answers, over many connections at once. Returns the statuses and bodies of all answers.
async fn storm(port: u16, token: &str) -> Vec<(u16, String)> {
    let sent = Arc::new(AtomicU32::new(0));
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let body = json!({ "token": token }).to_string();
        let sent = Arc::clone(&sent);
        connections.spawn(async move {
            let mut connection = Connection::open(port).await;
            let mut answers = Vec::new();
            while sent.fetch_add(1, Ordering::Relaxed) < ROTATIONS {
                answers.push(connection.post("/api/v4/runners/reset_authentication_token", &body).await);
            }
            answers
        });
    }
    connections.join_all().await.into_iter().flatten().collect()
}

/// Reports whether an answer is a refusal with a reason and a remedy.
fn is_typed_refusal((status, body): &(u16, String)) -> bool {
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    let has_all_texts = ["message", "reason", "remedy", "request_id"]
        .iter()
        .all(|key| answer[key].as_str().is_some_and(|t| !t.is_empty()));
    has_all_texts && (*status == 422 || *status == 429)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rotation_of_an_unassigned_runner_is_refused_and_causes_no_alert() {
    let paddock = Paddock::start();
    let (id, token) = fixtures::unassigned_runner(&paddock.root()).await;

    let begin = Instant::now();
    let answers = storm(paddock.port(), &token).await;
    let seconds = begin.elapsed().as_secs_f64();
    system::say(&format!("{ROTATIONS} rotations over {CONNECTIONS} connections took {seconds:.2} s"));

    assert_eq!(answers.len(), ROTATIONS as usize);
    let wrong: Vec<_> = answers.iter().filter(|answer| !is_typed_refusal(answer)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let once = paddock.anonymous().post("/runners/reset_authentication_token", json!({ "token": token })).await;
    once.refused(Reason::RunnerUnassigned);

    let events = paddock.root().get(&format!("/runners/{id}/token_events?kind=refused")).await.ok(200);
    let rows = events.as_array().map_or(0, Vec::len);
    assert!((1..=2).contains(&rows), "one row an hour: {events}");

    let metrics = paddock.metrics().await;
    assert!(!fixtures::series(&metrics, "status", "422").is_empty(), "the refusals are counted:\n{metrics}");
    assert_eq!(fixtures::series(&metrics, "status", "5"), [""; 0]);
    paddock.program().assert_no_errors();

    let verified = paddock.anonymous().post("/runners/verify", json!({ "token": token })).await.ok(200);
    assert_eq!(verified["id"], id, "the token is unchanged");
    let shown = paddock.root().get(&format!("/runners/{id}")).await.ok(200);
    assert_eq!(shown["unassigned"], true, "the state is shown, not a surprise");
    paddock.stop();
}

/// The other calls of such a runner go on as before.
#[tokio::test]
async fn an_unassigned_runner_verifies_polls_and_unregisters() {
    let paddock = Paddock::start();
    let (_, token) = fixtures::unassigned_runner(&paddock.root()).await;
    let api = paddock.anonymous();
    api.post("/runners/reset_authentication_token", json!({ "token": token })).await.refused(Reason::RunnerUnassigned);
    api.post("/runners/verify", json!({ "token": token })).await.ok(200);
    api.post("/jobs/request", json!({ "token": token })).await.ok(204);
    api.delete(&format!("/runners?token={token}")).await.ok(204);
    api.post("/runners/verify", json!({ "token": token })).await.refused(Reason::RunnerRemoved);
    paddock.stop();
}

/// Concurrent rotations of a token never create two different successors.
#[tokio::test(flavor = "multi_thread")]
async fn rotations_at_the_same_moment_agree_on_the_successor() {
    let paddock = Paddock::start();
    let root = paddock.root();
    let project = fixtures::project(&root).await;
    let (_, token) = fixtures::runner(&root, project).await;
    let mut rotations = JoinSet::new();
    for _ in 0..20 {
        let api = root.on_new_connection();
        let token = token.clone();
        rotations.spawn(async move {
            api.post("/runners/reset_authentication_token", json!({ "token": token })).await.ok(201)["token"]
                .to_string()
        });
    }
    let mut successors = rotations.join_all().await;
    successors.dedup();
    assert_eq!(successors.len(), 1, "all callers hold the same successor");
    paddock.stop();
}
