//! The status of the upstream decides whether the capture is flushed or discarded, and whether the client gets its answer.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chassis::status::{Fault, Refusal};
use proto::paddock::{
    contract::v1::Reason,
    job_token::v1::{
        AuthorizeRequest, AuthorizeResponse, CaptureMode, DiscardRequest, DiscardResponse, FlushRequest, FlushResponse,
        JobTokenPolicy,
    },
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    World,
    gate::Gate,
    log,
    protected::{CallCounts, JOBS, Setup, allowed, job_header, raw_request, store_table},
    send, unique_id, unused_address,
    upstream::{Upstream, answer},
};

fn counts(authorize: usize, flush: usize, discard: usize) -> CallCounts {
    CallCounts { authorize, flush, discard }
}

/// Returns a client that does not follow redirects.
fn client() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

#[tokio::test]
async fn success_and_redirection_are_recorded_before_the_answer_and_nothing_else_is() {
    for (status, flushes) in [
        (200, true),
        (201, true),
        (204, true),
        (206, true),
        (301, true),
        (302, true),
        (304, true),
        (307, true),
        (400, false),
        (401, false),
        (403, false),
        (404, false),
        (429, false),
        (500, false),
        (503, false),
    ] {
        let mut setup = Setup::start().await;
        let location = [("location", "http://elsewhere.example/x"), ("x-mine", "1")];
        setup.upstream.on(move |_| async move { answer(status, &location, "") });
        let (header, token) = job_header();
        let answer = send(client().get(setup.world.url(JOBS)).header(header, token)).await;
        assert_eq!((answer.status, answer.header("location")), (status, "http://elsewhere.example/x"));
        if flushes {
            let (flush, _) = setup.world.fake.calls::<FlushRequest>("flush").remove(0);
            assert_eq!(flush.status, i32::from(status), "recorded before the client has its answer");
        }
        let expected = if flushes { counts(1, 1, 0) } else { counts(1, 0, 1) };
        assert_eq!(setup.stop().await, expected, "{status}");
    }
}

#[tokio::test]
async fn job_token_auth_is_asked_for_what_the_table_says() {
    let mut setup = Setup::start().await;
    let path = "/api/v4/projects/group%2Fproject/deployments";
    let answer = send(setup.request("POST", path).header("x-request-id", "r-1").body("{}")).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (200, "r-1"));
    let (asked, context) = setup.world.fake.calls::<AuthorizeRequest>("authorize").remove(0);
    assert_eq!(asked.token, job_header().1);
    assert_eq!(asked.projects, ["group/project"]);
    let policies = [JobTokenPolicy::AdminDeployments, JobTokenPolicy::AdminEnvironments];
    assert_eq!(asked.policies, policies.map(i32::from));
    assert_eq!(asked.route, "POST /api/v4/projects/{id}/deployments");
    assert_eq!((asked.mode(), asked.upstream.as_str()), (CaptureMode::Strict, "default"));
    assert_eq!(uuid::Uuid::parse_str(&asked.capture_id).unwrap().get_version_num(), 7);
    assert_eq!((context.request_id.as_str(), context.peer_address.unwrap().is_loopback()), ("r-1", true));
    let (flush, _) = setup.world.fake.calls::<FlushRequest>("flush").remove(0);
    assert_eq!(flush.capture.unwrap().id, asked.capture_id);
    assert_eq!(setup.stop().await, counts(1, 1, 0));
}

#[tokio::test]
async fn a_refusal_reaches_the_client_and_nothing_reaches_the_upstream() {
    for (reason, status) in [
        (Reason::JobTokenInvalid, 401),
        (Reason::JobNotRunning, 401),
        (Reason::JobTokenNotInScope, 403),
        (Reason::ProjectNotFound, 404),
    ] {
        let mut setup = Setup::start().await;
        setup.world.fake.refuses::<AuthorizeRequest, AuthorizeResponse>("authorize", Refusal::new(reason));
        let answer = send(setup.get(JOBS)).await;
        assert_eq!(answer.refusal(), (status, reason.spec().unwrap().code.to_owned()));
        assert_eq!(setup.stop().await, counts(1, 0, 0));
        assert!(setup.upstream.requests().is_empty());
    }
}

#[tokio::test]
async fn a_failed_decision_forwards_nothing_and_is_discarded() {
    for (fault, status, authorizations, discards) in [
        // Job-token-auth has no capture or discards it itself.
        (Fault::of(Reason::CaptureUnavailable, "the store is down"), 503, 1, 0),
        (Fault::internal("broken"), 500, 1, 1),
        (Fault::unavailable("gone"), 503, 2, 1),
    ] {
        let mut setup = Setup::start().await;
        setup.world.fake.refuses::<AuthorizeRequest, AuthorizeResponse>("authorize", fault);
        assert_eq!(send(setup.get(JOBS)).await.status, status);
        assert_eq!(setup.stop().await, counts(authorizations, 0, discards));
        assert!(setup.upstream.requests().is_empty());
        if discards == 0 {
            continue;
        }
        let id = setup.world.fake.calls::<AuthorizeRequest>("authorize").remove(0).0.capture_id;
        assert_eq!(setup.world.fake.calls::<DiscardRequest>("discard").remove(0).0.capture_id, id);
    }
}

#[tokio::test]
async fn a_job_that_reaches_its_own_project_leaves_no_record() {
    for status in [200, 404] {
        let mut setup = Setup::start().await;
        setup.allow_without_captures();
        setup.upstream.answers(status, &[], "x");
        assert_eq!(send(setup.get(JOBS)).await.status, status);
        assert_eq!(setup.stop().await, counts(1, 0, 0));
    }
}

#[tokio::test]
async fn success_without_a_record_is_never_answered() {
    let mut setup = Setup::start_with(|config| config.capture_flush_timeout_ms = 200).await;
    let fault = Fault::of(Reason::CaptureUnavailable, "the store is down");
    setup.world.fake.refuses::<FlushRequest, FlushResponse>("flush", fault);
    setup.upstream.answers(200, &[], "secret content");
    let answer = send(setup.get(JOBS)).await;
    assert_eq!(answer.refusal(), (503, "capture_unavailable".into()));
    assert!(!answer.body.contains("secret"));
    let calls = setup.stop().await;
    assert!(calls.flush > 1, "it was retried: {calls:?}");
    assert_eq!((calls.authorize, calls.discard), (1, 0), "the access took place, and stays unresolved");
}

#[tokio::test]
async fn a_failed_flush_is_retried() {
    let mut setup = Setup::start().await;
    let fault = Fault::unavailable("restarting");
    setup.world.fake.fails_first::<FlushRequest, FlushResponse>("flush", 1, fault);
    assert_eq!(send(setup.get(JOBS)).await.status, 200);
    assert_eq!(setup.stop().await, counts(1, 2, 0));
}

#[tokio::test]
async fn best_effort_does_not_wait_for_the_record() {
    let table = "[[routes]]\nmethod = \"GET\"\npath = \"/p/{id}\"\nprojects = [\"id\"]\npolicies = []\n\
        capture = \"best_effort\"\n";
    let mut setup = Setup::with_table(table).await;
    let gate = Gate::closed();
    let held = gate.clone();
    setup.world.fake.on("flush", move |_: FlushRequest| {
        let held = held.clone();
        async move {
            held.pass().await;
            Ok(FlushResponse {})
        }
    });
    assert_eq!(send(setup.get("/p/42")).await.status, 200, "before there is a record");
    gate.open(1);
    assert_eq!(setup.stop().await, counts(1, 1, 0));
}

#[tokio::test]
async fn an_upstream_that_is_down_is_502_and_the_capture_is_discarded() {
    let unused = unused_address().await;
    let mut setup = Setup::start_with(|config| config.upstream = format!("http://{unused}")).await;
    assert_eq!(send(setup.get(JOBS)).await.refusal(), (502, "upstream_unavailable".into()));
    assert_eq!(setup.stop().await, counts(1, 0, 1));
}

#[tokio::test]
async fn an_incomplete_or_malformed_answer_of_the_upstream_is_502() {
    for reply in ["", "HTTP/1.1 200", "nonsense\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut some = [0; 64];
                let _ = stream.read(&mut some).await;
                let _ = stream.write_all(reply.as_bytes()).await;
            }
        });
        let mut setup = Setup::start_with(|config| config.upstream = format!("http://{address}")).await;
        assert_eq!(send(setup.get(JOBS)).await.refusal(), (502, "upstream_unavailable".into()), "{reply:?}");
        assert_eq!(setup.stop().await, counts(1, 0, 1), "{reply:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_slow_is_504_and_the_capture_is_discarded() {
    let mut setup = Setup::start_with(|config| config.upstream_timeout_ms = 50).await;
    setup.upstream.on(|_| pending());
    assert_eq!(send(setup.get(JOBS)).await.refusal(), (504, "upstream_timeout".into()));
    assert_eq!(setup.stop().await, counts(1, 0, 1));
}

/// Sends a request, and closes its connection when the request has entered the gate.
async fn leave_at(gate: &Gate, setup: &Setup) {
    let mut stream = TcpStream::connect(setup.world.address).await.unwrap();
    stream.write_all(raw_request("GET", JOBS, "").as_bytes()).await.unwrap();
    gate.wait_for_requests(1).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_leaves_no_capture() {
    let mut setup = Setup::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    setup.upstream.on(move |_| {
        let held = held.clone();
        async move {
            held.pass().await;
            answer(200, &[], "late")
        }
    });
    leave_at(&gate, &setup).await;
    assert_eq!(setup.stop().await, counts(1, 0, 1));
}

#[tokio::test]
async fn a_client_that_leaves_after_a_pipelined_request_leaves_no_capture() {
    // The gateway cannot read the end of the connection while the bytes of the next request wait.
    for size in [1, 100_000] {
        let mut setup = Setup::start().await;
        let gate = Gate::closed();
        let held = gate.clone();
        setup.upstream.on(move |_| {
            let held = held.clone();
            async move {
                held.pass().await;
                answer(200, &[], "late")
            }
        });
        let id = unique_id();
        let request = raw_request("GET", JOBS, &format!("x-request-id: {id}\r\n"));
        let next = format!("GET {} HTTP/1.1", "/x".repeat(size / 2 + 1));
        let mut client = TcpStream::connect(setup.world.address).await.unwrap();
        client.write_all((request + &next).as_bytes()).await.unwrap();
        gate.wait_for_requests(1).await;
        drop(client);
        gate.open(1);
        assert_eq!(setup.stop().await, counts(1, 0, 1), "{size}");
        let line = log::access(&id).remove(0);
        assert_eq!((&line["status"], &line["level"]), (&json!(499), &json!("INFO")), "{line}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_the_decision_leaves_no_capture() {
    let mut setup = Setup::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    setup.world.fake.on("authorize", move |request: AuthorizeRequest| {
        let held = held.clone();
        async move {
            held.pass().await;
            Ok(allowed(request))
        }
    });
    leave_at(&gate, &setup).await;
    gate.open(1);
    assert_eq!(setup.stop().await, counts(1, 0, 1));
    assert!(setup.upstream.requests().is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_during_the_flush_does_not_stop_it() {
    let mut setup = Setup::start().await;
    let gate = Gate::closed();
    let finished = Arc::new(AtomicUsize::new(0));
    let held = gate.clone();
    let count = finished.clone();
    setup.world.fake.on("flush", move |_: FlushRequest| {
        let held = held.clone();
        let count = count.clone();
        async move {
            held.pass().await;
            count.fetch_add(1, Ordering::SeqCst);
            Ok(FlushResponse {})
        }
    });
    leave_at(&gate, &setup).await;
    gate.open(1);
    assert_eq!((setup.stop().await, finished.load(Ordering::SeqCst)), (counts(1, 1, 0), 1));
}

#[tokio::test]
async fn a_failed_discard_is_retried() {
    let mut setup = Setup::start().await;
    let fault = Fault::unavailable("restarting");
    setup.world.fake.fails_first::<DiscardRequest, DiscardResponse>("discard", 1, fault);
    setup.upstream.answers(404, &[], "");
    assert_eq!(send(setup.get(JOBS)).await.status, 404);
    assert_eq!(setup.stop().await, counts(1, 0, 2));
}

#[tokio::test]
async fn without_an_upstream_there_are_no_protected_routes() {
    let world = World::start().await;
    let (header, token) = job_header();
    assert_eq!(send(world.get(JOBS).header(header, token)).await.refusal(), (404, "route_not_found".into()));
}

#[tokio::test]
async fn the_verbs_of_a_protected_path_are_listed() {
    let setup = Setup::start().await;
    let options = send(setup.request("OPTIONS", JOBS)).await;
    assert_eq!((options.status, options.header("allow")), (204, "GET, HEAD, OPTIONS"));
    let patch = send(setup.request("PATCH", JOBS)).await;
    assert_eq!((patch.refusal().1.as_str(), patch.header("allow")), ("method_not_allowed", "GET, HEAD, OPTIONS"));
    assert!(setup.upstream.requests().is_empty());
}

#[tokio::test]
async fn an_upstream_may_speak_http2() {
    let upstream = Upstream::start().await;
    let table = store_table(&upstream.url(), "protocol = \"h2\"", "POST", "/p/{id}");
    let mut setup = Setup::with_table(&table).await;
    upstream.answers(302, &[("location", "/x")], "moved");
    let http2 = reqwest::Client::builder().http2_prior_knowledge().redirect(reqwest::redirect::Policy::none());
    for client in [client(), http2.build().unwrap()] {
        let (header, token) = job_header();
        let request = client.post(setup.world.url("/p/42?a=b")).header(header, token);
        let answer = send(request.body("content")).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.header("location")), (302, "moved", "/x"));
    }
    for received in upstream.requests() {
        assert_eq!((received.version, received.target.as_str()), (http::Version::HTTP_2, "/p/42?a=b"));
        assert_eq!(received.body, "content");
    }
    assert_eq!(setup.stop().await, counts(2, 2, 0));
    assert!(setup.upstream.requests().is_empty(), "the other upstream");
}
