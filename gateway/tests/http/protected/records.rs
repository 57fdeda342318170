//! The access line and the metrics of a request to a protected route.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use proto::paddock::{
    contract::v1::{CredentialKind, Reason},
    job_token::v1::{AuthorizeRequest, AuthorizeResponse, FlushRequest, FlushResponse},
};
use serde_json::{Value, json};

use crate::support::{
    gate::Gate,
    log::{self, access_line},
    protected::{JOBS, Setup, allowed, job_header},
    send, token, unique_id,
    upstream::{answer, streamed},
};

fn first_chunk() -> impl Stream<Item = io::Result<Bytes>> {
    stream::iter([Ok(Bytes::from("first"))])
}

#[tokio::test]
async fn a_request_of_a_job_is_one_line_with_what_it_reached() {
    let setup = Setup::start().await;
    setup.upstream.answers(200, &[], "twelve bytes");
    let id = unique_id();
    send(setup.get(&format!("{JOBS}?scope=success")).header("x-request-id", &id)).await;
    let line = access_line(&id).await;
    let capture = setup.world.fake.calls::<AuthorizeRequest>("authorize").remove(0).0.capture_id;
    let expected = [
        ("level", json!("INFO")),
        ("method", json!("GET")),
        ("path", json!("/api/v4/projects/42/jobs?scope=success")),
        ("route", json!("/api/v4/projects/{id}/jobs")),
        ("status", json!(200)),
        ("meta.caller_id", json!("GET /api/v4/projects/{id}/jobs")),
        ("meta.client_id", json!("job/7")),
        ("meta.user", json!("dev")),
        ("origin_project_id", json!(1)),
        ("target_project_ids", json!("[42]")),
        ("capture_id", json!(capture)),
        ("upstream", json!("default")),
        ("bytes", json!(12)),
        ("reason", Value::Null),
        ("cut_off", Value::Null),
    ];
    for (name, value) in expected {
        assert_eq!(line[name], value, "{name}: {line}");
    }
    assert!(line["upstream_duration_s"].as_f64().unwrap() > 0.0);
    assert_eq!(log::access(&id).len(), 1);
    let metrics = log::metrics();
    for metric in [
        "paddock_http_requests_total{route=\"/api/v4/projects/{id}/jobs\",method=\"GET\",status=\"200\"}",
        "paddock_capture_verdicts_total{verdict=\"flushed\"}",
        "paddock_upstream_duration_seconds",
    ] {
        assert!(metrics.contains(metric), "{metric}: {metrics}");
    }
}

#[tokio::test]
async fn a_job_in_its_own_project_has_no_capture_in_its_line() {
    let setup = Setup::start().await;
    setup.allow_without_captures();
    let id = unique_id();
    send(setup.get(JOBS).header("x-request-id", &id)).await;
    let line = access_line(&id).await;
    assert_eq!((&line["capture_id"], &line["meta.client_id"]), (&Value::Null, &json!("job/7")));
}

#[tokio::test]
async fn a_refusal_and_a_fault_name_their_reason() {
    let setup = Setup::start().await;
    let refusal = chassis::status::Refusal::new(Reason::JobTokenNotInScope);
    setup.world.fake.refuses::<AuthorizeRequest, AuthorizeResponse>("authorize", refusal);
    let id = unique_id();
    send(setup.get(JOBS).header("x-request-id", &id)).await;
    let refused = access_line(&id).await;
    assert_eq!((&refused["level"], &refused["reason"]), (&json!("INFO"), &json!("job_token_not_in_scope")));
    assert_eq!((&refused["status"], &refused["route"]), (&json!(403), &json!("/api/v4/projects/{id}/jobs")));
    assert_eq!(refused["meta.client_id"], "job/7");

    setup.world.fake.on("authorize", |request: AuthorizeRequest| async { Ok(allowed(request)) });
    let fault = chassis::status::Fault::of(Reason::CallerNotAccepted, "another version");
    setup.world.fake.refuses::<FlushRequest, FlushResponse>("flush", fault);
    let id = unique_id();
    send(setup.get(JOBS).header("x-request-id", &id)).await;
    let failed = access_line(&id).await;
    assert_eq!((&failed["level"], &failed["reason"]), (&json!("ERROR"), &json!("capture_unavailable")));
    assert!(failed["upstream_duration_s"].is_number());
}

#[tokio::test]
async fn the_line_of_an_incomplete_answer_names_who_ended_it() {
    let setup = Setup::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    setup.upstream.on(move |_| {
        let held = held.clone();
        async move {
            let failure = stream::once(async move {
                held.pass().await;
                Err(io::Error::other("gone"))
            });
            answer(200, &[], "").map(|_| streamed(first_chunk().chain(failure)))
        }
    });
    let id = unique_id();
    let mut broken = setup.get(JOBS).header("x-request-id", &id).send().await.unwrap();
    assert_eq!(broken.chunk().await.unwrap().unwrap(), "first");
    gate.open(1);
    assert!(broken.chunk().await.is_err(), "the client must not believe that the body is complete");
    let by_upstream = access_line(&id).await;
    assert_eq!((&by_upstream["cut_off"], &by_upstream["bytes"]), (&json!("upstream"), &json!(5)));
    assert_eq!((&by_upstream["status"], &by_upstream["level"]), (&json!(200), &json!("WARN")));

    setup.upstream.on(|_| async { answer(200, &[], "").map(|_| streamed(first_chunk().chain(stream::pending()))) });
    let id = unique_id();
    let mut left = setup.get(JOBS).header("x-request-id", &id).send().await.unwrap();
    assert_eq!(left.chunk().await.unwrap().unwrap(), "first");
    drop(left);
    let by_client = access_line(&id).await;
    assert_eq!((&by_client["cut_off"], &by_client["level"]), (&json!("client"), &json!("INFO")));
}

#[tokio::test]
async fn no_job_token_is_ever_logged_or_counted() {
    let setup = Setup::start().await;
    let canary = token::of(CredentialKind::JobToken, 736_455_182);
    for status in [200, 404] {
        setup.upstream.answers(status, &[], "x");
        for (header, value) in token::headers(CredentialKind::JobToken, &canary) {
            send(setup.world.get(JOBS).header(header, value)).await;
        }
        for name in token::parameters(CredentialKind::JobToken) {
            send(setup.world.get(&format!("{JOBS}?{name}={canary}"))).await;
            send(setup.get(&format!("{JOBS}?{name}={canary}"))).await;
        }
        send(setup.get(&format!("/api/v4/projects/42/releases/{canary}"))).await;
        send(setup.get(JOBS).header("user-agent", &canary)).await;
    }
    let (header, _) = job_header();
    send(setup.world.get(JOBS).header(header, canary.replace('.', ""))).await;
    assert_eq!(log::own_lines_with("736455182"), Vec::<String>::new());
    assert!(!log::metrics().contains("736455182"));
}

#[tokio::test]
async fn an_answer_that_stops_is_cut_off() {
    let setup = Setup::start_with(|config| config.upstream_pause_timeout_ms = 100).await;
    setup.upstream.on(|_| async { answer(200, &[], "").map(|_| streamed(first_chunk().chain(stream::pending()))) });
    let id = unique_id();
    let mut stalled = setup.get(JOBS).header("x-request-id", &id).send().await.unwrap();
    assert_eq!(stalled.chunk().await.unwrap().unwrap(), "first");
    assert!(stalled.chunk().await.is_err(), "the client must not believe that the body is complete");
    let line = access_line(&id).await;
    assert_eq!((&line["level"], &line["status"]), (&json!("WARN"), &json!(200)));
    assert_eq!((&line["cut_off"], &line["bytes"]), (&json!("upstream_paused"), &json!(5)));
}

#[tokio::test]
async fn an_error_of_the_upstream_is_a_warning_and_one_of_the_gateway_an_error() {
    let setup = Setup::start().await;
    setup.upstream.answers(500, &[], "theirs");
    let id = unique_id();
    send(setup.get(JOBS).header("x-request-id", &id)).await;
    let theirs = access_line(&id).await;
    assert_eq!((&theirs["level"], &theirs["status"], &theirs["reason"]), (&json!("WARN"), &json!(500), &Value::Null));
    // No process listens on this port.
    let setup = Setup::start_with(|config| config.upstream = "http://127.0.0.1:1".into()).await;
    let id = unique_id();
    send(setup.get(JOBS).header("x-request-id", &id)).await;
    let ours = access_line(&id).await;
    assert_eq!((&ours["level"], &ours["reason"]), (&json!("ERROR"), &json!("upstream_unavailable")));
}
