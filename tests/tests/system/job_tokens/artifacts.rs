//! A job of one project downloads the artifact of another. The upstream answers with a redirect to an object store, and the
//! access is in the log nevertheless.

use std::time::Duration;

use proto::{
    contract::Place as CarrierPlace,
    paddock::contract::v1::{CredentialKind, InternalHeader},
};
use serde_json::{Value, json};
use system::{Database, Distributed, LOCATION, Redis, Upstream, within};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{Installation, Scenario, VISIBLE, paddock_before};
use crate::database;

/// The gateway waits only briefly for a slow upstream.
const SHORT: [(&str, &str); 1] = [("PADDOCK_GATEWAY__UPSTREAM_TIMEOUT_MS", "1000")];

/// Starts the processes in front of an upstream, with captures in Redis and records in PostgreSQL. Returns none if one of them
/// is not installed.
pub async fn on_redis_and_postgres(upstream: &Upstream, settings: &[(&str, &str)]) -> Option<(Redis, Distributed)> {
    let redis = Redis::start()?;
    let database = database::on_postgres().await?;
    let url = upstream.url();
    let settings = [&[("PADDOCK_GATEWAY__UPSTREAM", url.as_str())], settings].concat();
    let system = Distributed::start_with(&database, Some(&redis), &settings);
    Some((redis, system))
}

async fn a_redirect_is_logged(installation: Installation, upstream: &Upstream) {
    let scenario = Scenario::start(installation).await;
    assert_eq!(scenario.log("").await, Vec::<Value>::new(), "there is no access yet");
    let before = OffsetDateTime::now_utc();
    let answer = scenario.download("answer=302").await;
    let after = OffsetDateTime::now_utc();
    assert_eq!((answer.status, answer.header("location")), (302, LOCATION), "{}", answer.text);

    let row = within(VISIBLE, async || scenario.log("").await.into_iter().next()).await;
    let row = row.expect("the log has the access in time");
    assert_eq!(row["origin_project"]["id"], scenario.origin, "{row:#}");
    assert_eq!(row["accessed_project"]["id"], scenario.target, "{row:#}");
    assert_eq!(row["job_token_policies"], json!(["read_jobs"]), "{row:#}");
    assert_eq!(row["access_count"], 1, "{row:#}");
    assert_eq!((&row["last_job_id"], &row["last_user_id"]), (&json!(scenario.job), &json!(scenario.user)), "{row:#}");
    let at = row["last_authorized_at"].as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let at = at.unwrap_or_else(|| panic!("no time: {row:#}"));
    // The log stores milliseconds and truncates finer times.
    assert!(before - Duration::from_millis(1) <= at && at <= after, "{before} {at} {after}");
    let event = scenario.assert_logged(&answer).await;
    assert_eq!((&event["status"], &event["resolved"]), (&json!(302), &json!(true)), "{event:#}");
    assert_eq!((&event["job_id"], &event["user_id"]), (&json!(scenario.job), &json!(scenario.user)), "{event:#}");

    // The upstream got the identity of the job and not the token.
    let received = upstream.requests().pop().expect("one request");
    assert_eq!(received.target, format!("/api/v4{}", Scenario::artifact(scenario.target, "answer=302")));
    assert!(!format!("{:?}", received.headers).contains(&scenario.token), "{:?}", received.headers);
    let identity = InternalHeader::JobIdentity.spec().expect("a header of the contract").key;
    assert!(received.headers.contains_key(identity), "{:?}", received.headers);
}

#[tokio::test]
async fn a_redirect_is_logged_by_paddock_serve() {
    let upstream = Upstream::start();
    let paddock = paddock_before(&upstream, &[]);
    a_redirect_is_logged(Installation::from(&paddock), &upstream).await;
    paddock.stop();
}

#[tokio::test]
async fn a_redirect_is_logged_by_the_processes_with_redis_and_postgres() {
    let upstream = Upstream::start();
    if let Some((_redis, system)) = on_redis_and_postgres(&upstream, &[]).await {
        a_redirect_is_logged(Installation::from(&system), &upstream).await;
        system.stop();
    }
}

/// Every success is an access, even if its body breaks off. Other answers are not.
async fn every_success_is_logged_and_nothing_else(
    installation: Installation,
    port: u16,
    metrics: impl AsyncFn() -> String,
    upstream: &mut Upstream,
) {
    let scenario = Scenario::start(installation).await;
    let mut logged = Vec::new();
    for upstream_query in
        ["answer=200", "answer=204", "answer=206", "answer=302", "answer=304", "answer=200&streams=true"]
    {
        let answer = scenario.download(upstream_query).await;
        assert!((200..400).contains(&answer.status), "{upstream_query}: {} {}", answer.status, answer.text);
        let event = scenario.assert_logged(&answer).await;
        assert_eq!(event["status"], answer.status, "{upstream_query}: {event:#}");
        logged.push(answer.header(system::REQUEST_ID).to_owned());
    }
    let broken = leave_broken(&scenario).await;
    logged.push(broken);
    for status in [400, 401, 403, 404, 409, 500, 503] {
        assert_eq!(scenario.download(&format!("answer={status}")).await.status, status);
    }
    assert_eq!(scenario.download("answer=200&pause=3000").await.status, 504, "the upstream takes too long");
    leave_before_the_answer(&scenario, port, upstream).await;
    own_artifact(&scenario).await;
    upstream.stop();
    let down = scenario.download("answer=200").await;
    assert!(matches!(down.status, 502 | 503), "the upstream is down: {} {}", down.status, down.text);
    upstream.start_again();

    // When the last access is in the log, all earlier ones are.
    let marker = scenario.download("answer=200").await;
    scenario.assert_logged(&marker).await;
    logged.push(marker.header(system::REQUEST_ID).to_owned());
    let events = scenario.log("/events?per_page=100").await;
    let mut found: Vec<_> = events.iter().filter_map(|event| event["request_id"].as_str()).collect();
    found.reverse();
    assert_eq!(found, logged);
    assert_eq!(scenario.log("").await.first().map(|row| row["access_count"].clone()), Some(json!(logged.len())));
    assert_eq!(scenario.log("/events?unresolved=true").await, Vec::<Value>::new());

    // No capture is left without a verdict: every one was recorded or discarded.
    // The seven refusals and errors, the slow answer, the client that left, the upstream that was down.
    let taken_back = 10;
    let all = within(Duration::from_secs(10), async || {
        let metrics = metrics().await;
        let counts = ["recorded", "discarded", "unresolved"].map(|outcome| captures_with(&metrics, outcome));
        (counts == [logged.len(), taken_back, 0]).then_some(())
    });
    assert!(all.await.is_some(), "captures without a verdict: {}", metrics().await);
}

/// The number of captures with this outcome, from the metrics.
fn captures_with(metrics: &str, outcome: &str) -> usize {
    let label = format!("outcome=\"{outcome}\"");
    let lines = metrics.lines().filter(|line| line.starts_with("paddock_captures_total{") && line.contains(&label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

/// Makes an access whose body breaks off. It counts as an access. Returns the id of the request.
async fn leave_broken(scenario: &Scenario) -> String {
    let path = Scenario::artifact(scenario.target, "answer=200&bytes=100000&breaks=true");
    let request = scenario.installation.root.without_token().request(reqwest::Method::GET, &path);
    let answer = request.header(system::Api::job_header(), &scenario.token).send().await.expect("a head");
    assert_eq!(answer.status(), 200);
    let id = answer.headers()[system::REQUEST_ID].to_str().expect("a text").to_owned();
    assert!(answer.bytes().await.is_err(), "the body breaks off here as it does there");
    scenario.event(&id, VISIBLE).await.expect("it is in the log in time");
    id
}

/// Sends a request and closes the connection before the upstream answers. This is not an access.
async fn leave_before_the_answer(scenario: &Scenario, port: u16, upstream: &Upstream) {
    let path = Scenario::artifact(scenario.target, "answer=200&pause=300");
    let header = system::Api::job_header();
    let before = upstream.arrivals();
    let request = format!("GET /api/v4{path} HTTP/1.1\r\nhost: paddock\r\n{header}: {}\r\n\r\n", scenario.token);
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.expect("the gateway listens");
    client.write_all(request.as_bytes()).await.expect("it reads");
    let arrived = within(Duration::from_secs(10), async || (upstream.arrivals() > before).then_some(())).await;
    arrived.expect("the request reaches the upstream");
}

/// A job accesses its own project. This is not logged.
async fn own_artifact(scenario: &Scenario) {
    let path = Scenario::artifact(scenario.origin, "answer=200");
    let answer = scenario.installation.root.without_token().get_as_job(&path, &scenario.token).await;
    answer.ok(200);
    let log = format!("/projects/{}/job_token_scope/authentication_log", scenario.origin);
    assert_eq!(scenario.installation.root.get(&log).await.ok(200), json!([]));
    assert_eq!(
        scenario.installation.root.get(&format!("{log}?direction=outbound")).await.ok(200)[0]["access_count"],
        7
    );
}

#[tokio::test]
async fn every_success_is_logged_by_paddock_serve_and_nothing_else() {
    let mut upstream = Upstream::start();
    let paddock = paddock_before(&upstream, &SHORT);
    let installation = Installation::from(&paddock);
    every_success_is_logged_and_nothing_else(
        installation,
        paddock.port(),
        async || paddock.metrics().await,
        &mut upstream,
    )
    .await;
    paddock.kill();
}

#[tokio::test]
async fn every_success_is_logged_by_the_processes_with_redis_and_postgres_and_nothing_else() {
    let mut upstream = Upstream::start();
    if let Some((_redis, system)) = on_redis_and_postgres(&upstream, &SHORT).await {
        let installation = Installation::from(&system);
        every_success_is_logged_and_nothing_else(
            installation,
            system.port,
            async || system.auth.metrics().await,
            &mut upstream,
        )
        .await;
    }
}

/// A job token is accepted in every place that the contract allows, and never reaches the upstream.
#[tokio::test]
async fn the_token_is_taken_from_every_place_and_shown_to_no_upstream() {
    let upstream = Upstream::start();
    let paddock = paddock_before(&upstream, &[]);
    let scenario = Scenario::start(Installation::from(&paddock)).await;
    let anonymous = scenario.installation.root.without_token();
    let token = &scenario.token;
    for carrier in CredentialKind::JobToken.spec().expect("a kind of the contract").carriers {
        let path = Scenario::artifact(scenario.target, "answer=200");
        let request = match carrier.place {
            CarrierPlace::Header(name) => anonymous.request(reqwest::Method::GET, &path).header(name, token),
            CarrierPlace::Parameter(name) => {
                anonymous.request(reqwest::Method::GET, &format!("{path}&{name}={token}&last=1"))
            }
            CarrierPlace::AuthorizationScheme(_) => anonymous.request(reqwest::Method::GET, &path).bearer_auth(token),
            // Only on routes that opt in.
            CarrierPlace::BasicUsername(_) => continue,
        };
        let answer = system::send(request).await;
        assert_eq!(answer.status, 200, "{:?}: {}", carrier.place, answer.text);
        let received = format!("{:?}", upstream.requests().pop().expect("a request"));
        assert!(!received.contains(&token[..40]), "{:?}: {received}", carrier.place);
    }
    paddock.stop();
}

/// The gateway is killed before the upstream answers. It is unknown whether there was an access, so the log shows it as unresolved.
#[tokio::test]
async fn a_request_without_a_verdict_is_unresolved_and_not_an_access() {
    let upstream = Upstream::start();
    let url = upstream.url();
    let deadline = ("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__DEADLINE_SECONDS", "5");
    let mut system = Distributed::start(&Database::Sqlite, &[("PADDOCK_GATEWAY__UPSTREAM", url.as_str()), deadline]);
    let scenario = Scenario::start(Installation::from(&system)).await;
    let path = Scenario::artifact(scenario.target, "answer=200&pause=30000");
    let asks = scenario.installation.root.without_token().request(reqwest::Method::GET, &path);
    let asking = tokio::spawn(asks.header(system::Api::job_header(), &scenario.token).send());
    let arrived = within(VISIBLE, async || (upstream.arrivals() > 0).then_some(())).await;
    arrived.expect("the request reaches the upstream");
    system.gateway.crash_and_return();
    assert!(asking.await.expect("it ends").is_err(), "the client has no answer");

    let shown = within(Duration::from_secs(30), async || scenario.log("/events?unresolved=true").await.pop()).await;
    let shown = shown.expect("it is listed after the deadline");
    assert_eq!((&shown["resolved"], &shown["job_id"]), (&json!(false), &json!(scenario.job)), "{shown:#}");
    assert_eq!(scenario.log("").await, Vec::<Value>::new());
    assert_eq!(scenario.log("/events").await, Vec::<Value>::new());
    system.stop();
}
