//! A runner that lost its project and rotates in a tight loop, as one did 957 times within three seconds, causes no alert,
//! hardly any work, and harms no other runner.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use proto::{contract::METHODS, paddock::contract::v1::Reason};
use serde_json::{Value, json};
use system::{
    Api, Paddock,
    raw::{Connection, RawAnswer},
};
use tokio::task::{JoinHandle, JoinSet};

use crate::{database, fixtures};

const ROTATIONS: u32 = 957;
const CONNECTIONS: u32 = 60;

/// The failures of one token that the default settings allow, and fewer for a shorter test.
const DEFAULT_BUDGET: u32 = 15;
const SMALL_BUDGET: u32 = 5;

const RESET: &str = "/api/v4/runners/reset_authentication_token";

/// Rotates as fast as the server answers, over many connections at once. Returns all answers in their order.
async fn storm(port: u16, token: &str) -> Vec<RawAnswer> {
    let sent = Arc::new(AtomicU32::new(0));
    let answers = Arc::new(Mutex::new(Vec::new()));
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let body = json!({ "token": token }).to_string();
        let sent = Arc::clone(&sent);
        let answers = Arc::clone(&answers);
        connections.spawn(async move {
            let mut connection = Connection::open(port).await;
            while sent.fetch_add(1, Ordering::Relaxed) < ROTATIONS {
                let answer = connection.post(RESET, &body).await;
                answers.lock().unwrap().push(answer);
            }
        });
    }
    connections.join_all().await;
    std::mem::take(&mut *answers.lock().unwrap())
}

/// A healthy runner that polls until it is stopped.
struct HealthyRunner {
    stop: Arc<AtomicBool>,
    polling: JoinHandle<Vec<u16>>,
}

impl HealthyRunner {
    fn start(port: u16, token: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let body = json!({ "token": token }).to_string();
        let polling = tokio::spawn(async move {
            let mut connection = Connection::open(port).await;
            let mut statuses = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                statuses.push(connection.post("/api/v4/jobs/request", &body).await.status);
            }
            statuses
        });
        Self { stop, polling }
    }

    /// Stops it, and asserts that it was never refused.
    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let statuses = self.polling.await.expect("it polls");
        assert!(!statuses.is_empty() && statuses.iter().all(|status| *status == 204), "{statuses:?}");
    }
}

/// Asserts that an answer is a refusal with a reason and a remedy, and says when to come back if it is a 429.
fn assert_typed_refusal(answer: &RawAnswer, reason: Reason) {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    for key in ["message", "reason", "remedy", "request_id"] {
        assert!(body[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {answer:?}");
    }
    let spec = reason.spec().expect("a reason of the contract");
    assert_eq!(body["reason"], spec.code, "{answer:?}");
    if answer.status == 429 {
        let wait = answer.header("retry-after").and_then(|text| text.parse::<u32>().ok());
        assert!(wait.is_some_and(|seconds| (5..=30).contains(&seconds)), "{answer:?}");
    } else {
        assert_eq!(answer.status, spec.http_status, "{answer:?}");
    }
}

/// The number of calls of a method that a service has received, by its metrics.
fn calls(metrics: &str, method: &str) -> f64 {
    let path = METHODS.iter().find(|spec| spec.name == method).expect("a method of the contract").path;
    let series = fixtures::series(metrics, "method", path);
    let counts = series.iter().filter(|line| line.starts_with("paddock_grpc_requests_total"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rotation_of_an_unassigned_runner_is_refused_and_causes_no_alert() {
    let paddock = Paddock::start();
    let root = paddock.root();
    let (id, token) = fixtures::unassigned_runner(&root).await;
    let project = fixtures::project(&root).await;
    let (_, healthy) = fixtures::runner(&root, project).await;
    let lines_before = paddock.program().log().len();

    let healthy = HealthyRunner::start(paddock.port(), &healthy);
    let begin = Instant::now();
    let answers = storm(paddock.port(), &token).await;
    let seconds = begin.elapsed().as_secs_f64();
    healthy.stop().await;
    assert_eq!(answers.len(), ROTATIONS as usize);
    answers.iter().for_each(|answer| assert_typed_refusal(answer, Reason::RunnerUnassigned));
    let first = answers.iter().position(|answer| answer.status == 429).expect("a 429") + 1;
    system::say(&format!(
        "{ROTATIONS} rotations over {CONNECTIONS} connections took {seconds:.2} s; answer {first} was the first 429"
    ));
    assert!((10..=31).contains(&first), "the first 429 is answer number {first}");

    let events = paddock.root().get(&format!("/runners/{id}/token_events?kind=refused")).await.ok(200);
    let rows = events.as_array().map_or(0, Vec::len);
    assert!((1..=2).contains(&rows), "one row an hour: {events}");

    let metrics = paddock.metrics().await;
    assert!(!fixtures::series(&metrics, "status", "422").is_empty(), "the refusals are counted:\n{metrics}");
    assert!(!fixtures::series(&metrics, "reason", "too_many_requests").is_empty(), "and the others:\n{metrics}");
    assert_eq!(fixtures::series(&metrics, "status", "5"), [""; 0]);
    let received = calls(&metrics, "ResetAuthenticationToken");
    assert!(
        received <= f64::from(DEFAULT_BUDGET) + seconds / 5.0,
        "{received} calls reached the registry in {seconds} s"
    );
    paddock.program().assert_no_errors();
    assert_short_log(&paddock, &format!("runner/{id}"), lines_before);

    let verified = paddock.anonymous().post("/runners/verify", json!({ "token": token })).await.ok(200);
    assert_eq!(verified["id"], id, "the token is unchanged");
    let shown = root.get(&format!("/runners/{id}")).await.ok(200);
    assert_eq!(shown["unassigned"], true, "the state is shown, not a surprise");
    paddock.stop();
}

/// Waits for the line that counts the answers from memory, and asserts that the storm has written few lines.
fn assert_short_log(paddock: &Paddock, runner: &str, lines_before: usize) {
    let report = paddock.program().wait_for_log("that counts the answers", |line| line["answers"].is_number());
    let reason = Reason::RunnerUnassigned.spec().expect("a reason of the contract");
    assert_eq!(
        (&report["reason"], &report["route"], &report["level"]),
        (&json!(reason.code), &json!(RESET), &json!("INFO"))
    );
    let log = paddock.program().log();
    let of_storm = log[lines_before..].iter().filter(|line| line["route"] == RESET || line["answers"].is_number());
    let of_storm: Vec<_> = of_storm.collect();
    assert!(of_storm.len() < 50, "{} lines about the storm", of_storm.len());
    assert!(of_storm.iter().all(|line| line["meta.client_id"] == runner), "{of_storm:#?}");
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

/// The broken runners of each kind: deleted, unassigned, reset by id, expired.
const BROKEN_OF_KIND: usize = 250;

/// Makes runners that are broken in four ways. Returns their tokens.
async fn broken_runners(paddock: &Paddock) -> Vec<String> {
    let root = paddock.root();
    let lost = fixtures::project(&root).await;
    let kept = fixtures::project(&root).await;
    let mut tokens = Vec::new();
    for _ in 0..BROKEN_OF_KIND {
        tokens.push(fixtures::runner(&root, kept).await.1);
    }
    database::run(paddock, "UPDATE runner_tokens SET expires_at = created_at").await;
    for _ in 0..BROKEN_OF_KIND {
        let (deleted, token) = fixtures::runner(&root, kept).await;
        root.delete(&format!("/runners/{deleted}")).await.ok(204);
        tokens.push(token);
        let (reset, token) = fixtures::runner(&root, kept).await;
        root.post(&format!("/runners/{reset}/reset_authentication_token"), json!({})).await.ok(201);
        tokens.push(token);
        tokens.push(fixtures::runner(&root, lost).await.1);
    }
    root.delete(&format!("/projects/{lost}")).await.ok(204);
    tokens
}

/// What a broken runner got: how many answers were not from memory, and how many were.
#[derive(Clone, Copy, Debug, Default)]
struct Served {
    refused: u32,
    from_memory: u32,
}

/// Lets all of these runners rotate in a loop over 100 connections, as long as `continues` says yes to the number of rounds so far.
async fn all_rotate(
    port: u16,
    tokens: &[String],
    continues: impl Fn(u32) -> bool + Copy + Send + 'static,
) -> Vec<Served> {
    let mut connections = JoinSet::new();
    for tokens in tokens.chunks(tokens.len() / 100) {
        let bodies: Vec<_> = tokens.iter().map(|token| json!({ "token": token }).to_string()).collect();
        connections.spawn(async move {
            let mut connection = Connection::open(port).await;
            let mut served = vec![Served::default(); bodies.len()];
            let mut round = 0;
            while continues(round) {
                round += 1;
                for (body, served) in bodies.iter().zip(&mut served) {
                    match connection.post(RESET, body).await.status {
                        429 => served.from_memory += 1,
                        403 | 422 => served.refused += 1,
                        status => panic!("status {status}"),
                    }
                }
            }
            served
        });
    }
    connections.join_all().await.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_broken_runners_reach_the_registry_a_few_times_each() {
    // The budget of the address would stop most of them earlier. Here each token has only its own.
    let is_soak = std::env::var_os("PADDOCK_TEST_SOAK").is_some();
    let budget = if is_soak { DEFAULT_BUDGET } else { SMALL_BUDGET };
    let paddock = Paddock::start_with(&[
        ("PADDOCK_GATEWAY__GUARD__EXEMPT_ADDRESSES", "127.0.0.0/8"),
        ("PADDOCK_GATEWAY__GUARD__FAILURES", &budget.to_string()),
    ]);
    let root = paddock.root();
    let tokens = broken_runners(&paddock).await;
    let project = fixtures::project(&root).await;
    let (_, healthy) = fixtures::runner(&root, project).await;
    let before = calls(&paddock.metrics().await, "ResetAuthenticationToken");

    let healthy = HealthyRunner::start(paddock.port(), &healthy);
    let begin = Instant::now();
    let served = if is_soak {
        all_rotate(paddock.port(), &tokens, move |_| begin.elapsed() < Duration::from_secs(60)).await
    } else {
        all_rotate(paddock.port(), &tokens, |round| round < 2 * SMALL_BUDGET).await
    };
    let seconds = begin.elapsed().as_secs_f64();
    healthy.stop().await;

    let most = f64::from(budget) + seconds / 5.0;
    assert!(served.iter().all(|served| f64::from(served.refused) <= most), "at most {most}: {served:?}");
    let from_memory: u32 = served.iter().map(|served| served.from_memory).sum();
    assert!(from_memory > 0, "{served:?}");
    let refused: u32 = served.iter().map(|served| served.refused).sum();
    let received = calls(&paddock.metrics().await, "ResetAuthenticationToken") - before;
    assert!((received - f64::from(refused)).abs() < 0.5, "{received} calls for {refused} refusals");
    system::say(&format!(
        "{} broken runners in {seconds:.1} s: {refused} refusals by the registry, {from_memory} from memory",
        tokens.len()
    ));
    assert_healthy_newcomer(&paddock, &root, project).await;
    paddock.stop();
}

/// A runner that is created during a storm can work.
async fn assert_healthy_newcomer(paddock: &Paddock, root: &Api, project: i64) {
    let (_, token) = fixtures::runner(root, project).await;
    paddock.anonymous().post("/jobs/request", json!({ "token": token })).await.ok(204);
}
