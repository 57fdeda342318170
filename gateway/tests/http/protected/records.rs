//! The line in the log and the metrics of a request to a protected route.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use proto::paddock::{
    contract::v1::{CredentialKind, Reason},
    job_token::v1::{AuthorizeRequest, AuthorizeResponse, FlushRequest, FlushResponse},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{
    log,
    protected::{JOBS, Setup, allowed, job_header},
    send, token, unique_id,
    upstream::answer,
};

/// Waits for the line of a request.
pub async fn line(id: &str) -> Value {
    loop {
        if let Some(line) = log::access(id).pop() {
            return line;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_of_a_job_is_one_line_with_what_it_reached() {
    let setup = Setup::start().await;
    setup.upstream.answers(200, &[], "twelve bytes");
    let id = unique_id();
    send(setup.get(&format!("{JOBS}?scope=success")).header("x-request-id", &id)).await;
    let line = line(&id).await;
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
    let own = |asked| async { Ok(AuthorizeResponse { capture: None, target_project_ids: vec![1], ..allowed(asked) }) };
    setup.world.fake.on("authorize", own);
    let id = unique_id();
    send(setup.get(JOBS).header("x-request-id", &id)).await;
    let line = line(&id).await;
    assert_eq!((&line["capture_id"], &line["meta.client_id"]), (&Value::Null, &json!("job/7")));
}

#[tokio::test]
async fn a_refusal_and_a_fault_name_their_reason() {
    let setup = Setup::start().await;
    let refusal = chassis::status::Refusal::new(Reason::JobTokenNotInScope);
    setup.world.fake.refuses::<AuthorizeRequest, AuthorizeResponse>("authorize", refusal);
    let id = unique_id();
    send(setup.get(JOBS).header("x-request-id", &id)).await;
    let refused = line(&id).await;
    assert_eq!((&refused["level"], &refused["reason"]), (&json!("INFO"), &json!("job_token_not_in_scope")));
    assert_eq!((&refused["status"], &refused["route"]), (&json!(403), &json!("/api/v4/projects/{id}/jobs")));

    setup.world.fake.on("authorize", |asked: AuthorizeRequest| async { Ok(allowed(asked)) });
    let fault = chassis::status::Fault::of(Reason::CallerNotAccepted, "another version");
    setup.world.fake.refuses::<FlushRequest, FlushResponse>("flush", fault);
    let id = unique_id();
    send(setup.get(JOBS).header("x-request-id", &id)).await;
    let failed = line(&id).await;
    assert_eq!((&failed["level"], &failed["reason"]), (&json!("ERROR"), &json!("capture_unavailable")));
    assert!(failed["upstream_duration_s"].is_number());
}

#[tokio::test]
async fn an_answer_that_breaks_off_says_who_broke_it() {
    let setup = Setup::start().await;
    let breaks = Arc::new(Semaphore::new(0));
    let wait = breaks.clone();
    setup.upstream.on(move |_| {
        let wait = wait.clone();
        async move {
            let first = futures::stream::iter([Ok(Frame::data(Bytes::from("first")))]);
            let gone = futures::stream::once(async move {
                let _permit = wait.acquire().await;
                Err(std::io::Error::other("gone"))
            });
            answer(200, &[], "").map(|_| StreamBody::new(first.chain(gone)).boxed_unsync())
        }
    });
    let id = unique_id();
    let mut broken = setup.get(JOBS).header("x-request-id", &id).send().await.unwrap();
    assert_eq!(broken.chunk().await.unwrap().unwrap(), "first");
    breaks.add_permits(1);
    assert!(broken.chunk().await.is_err(), "the client must not take it for complete");
    let by_upstream = line(&id).await;
    assert_eq!((&by_upstream["cut_off"], &by_upstream["bytes"]), (&json!("upstream"), &json!(5)));
    assert_eq!((&by_upstream["status"], &by_upstream["level"]), (&json!(200), &json!("WARN")));

    setup.upstream.on(|_| async {
        let first = futures::stream::iter([Ok(Frame::data(Bytes::from("first")))]);
        let endless = StreamBody::new(first.chain(futures::stream::pending())).boxed_unsync();
        answer(200, &[], "").map(|_| endless)
    });
    let id = unique_id();
    let mut left = setup.get(JOBS).header("x-request-id", &id).send().await.unwrap();
    assert_eq!(left.chunk().await.unwrap().unwrap(), "first");
    drop(left);
    let by_client = line(&id).await;
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
    let of_paddock = |line: &&str| {
        !["\"target\":\"h2", "\"target\":\"hyper", "\"target\":\"reqwest"].iter().any(|name| line.contains(name))
    };
    let everything = log::everything();
    let found: Vec<_> = everything.lines().filter(|line| line.contains("736455182")).filter(of_paddock).collect();
    assert_eq!(found, Vec::<&str>::new());
    assert!(!log::metrics().contains("736455182"));
}

#[tokio::test]
async fn an_answer_that_does_not_go_on_is_cut_off() {
    let setup = Setup::start_with(|config| config.upstream_pause_timeout_ms = 100).await;
    setup.upstream.on(|_| async {
        let first = futures::stream::iter([Ok(Frame::data(Bytes::from("first")))]);
        answer(200, &[], "").map(|_| StreamBody::new(first.chain(futures::stream::pending())).boxed_unsync())
    });
    let id = unique_id();
    let mut stalled = setup.get(JOBS).header("x-request-id", &id).send().await.unwrap();
    assert_eq!(stalled.chunk().await.unwrap().unwrap(), "first");
    assert!(stalled.chunk().await.is_err(), "the client must not take it for complete");
    let line = line(&id).await;
    assert_eq!((&line["level"], &line["status"]), (&json!("WARN"), &json!(200)));
    assert_eq!((&line["cut_off"], &line["bytes"]), (&json!("upstream_paused"), &json!(5)));
}

#[tokio::test]
async fn an_error_of_the_upstream_is_a_warning_and_one_of_ours_an_error() {
    let setup = Setup::start().await;
    setup.upstream.answers(500, &[], "theirs");
    let id = unique_id();
    send(setup.get(JOBS).header("x-request-id", &id)).await;
    let theirs = line(&id).await;
    assert_eq!((&theirs["level"], &theirs["status"], &theirs["reason"]), (&json!("WARN"), &json!(500), &Value::Null));
    // Nobody listens there.
    let setup = Setup::start_with(|config| config.upstream = "http://127.0.0.1:1".into()).await;
    let id = unique_id();
    send(setup.get(JOBS).header("x-request-id", &id)).await;
    let ours = line(&id).await;
    assert_eq!((&ours["level"], &ours["reason"]), (&json!("ERROR"), &json!("upstream_unavailable")));
}
