//! The access log has one line per request with the fields that operators need; no line and no metric has a credential.

use chassis::status::Fault;
use proto::paddock::{
    contract::v1::CredentialKind,
    runner::v1::{VerifyRunnerRequest, VerifyRunnerResponse},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{World, gate::Gate, log, raw, send, token, unique_id};

async fn logged(request: reqwest::RequestBuilder) -> Value {
    let id = unique_id();
    send(request.header("x-request-id", &id)).await;
    let mut lines = log::access(&id);
    assert_eq!(lines.len(), 1, "one line per request: {lines:?}");
    lines.remove(0)
}

#[tokio::test]
async fn a_request_of_a_runner_is_one_line() {
    let world = World::start().await;
    world.fake.names("verify_runner", "runner", 14);
    let request = world.post_as_runner("/api/v4/runners/verify?x=1");
    let line = logged(request.header("user-agent", "gitlab-runner 18.4.0")).await;
    let expected = [
        ("level", json!("INFO")),
        ("method", json!("POST")),
        ("path", json!("/api/v4/runners/verify?x=1")),
        ("route", json!("/api/v4/runners/verify")),
        ("status", json!(200)),
        ("remote_ip", json!("127.0.0.1")),
        ("ua", json!("gitlab-runner 18.4.0")),
        ("meta.caller_id", json!("POST /api/v4/runners/verify")),
        ("meta.client_id", json!("runner/14")),
        ("reason", Value::Null),
        ("meta.user", Value::Null),
    ];
    for (name, value) in expected {
        assert_eq!(line[name], value, "{name}: {line}");
    }
    assert!(line["duration_s"].as_f64().unwrap() > 0.0 && line["timestamp"].is_string());
}

#[tokio::test]
async fn the_address_of_the_client_is_taken_only_from_a_trusted_proxy() {
    for (trusted, expected) in [("", "127.0.0.1"), ("127.0.0.0/8", "192.0.2.7")] {
        let world = World::start_with(|config| config.trusted_proxies = trusted.to_owned()).await;
        let request = world.get("/api/v4/user").header("x-forwarded-for", "198.51.100.9, 192.0.2.7");
        assert_eq!(logged(request).await["remote_ip"], expected);
    }
}

#[tokio::test]
async fn a_request_of_a_user_names_the_user() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let line = logged(world.get("/api/v4/runners/5").header(header, user)).await;
    assert_eq!((&line["meta.client_id"], &line["meta.user"]), (&json!("user/1"), &json!("root")));
    assert_eq!((&line["route"], &line["path"]), (&json!("/api/v4/runners/{id}"), &json!("/api/v4/runners/5")));
}

#[tokio::test]
async fn a_refusal_is_an_info_line_with_its_reason() {
    let world = World::start().await;
    for (request, status, reason) in [
        (world.get("/api/v4/user"), 401, "credential_missing"),
        (world.get("/api/v4/nothing"), 404, "route_not_found"),
        (world.request("PATCH", "/api/v4/runners"), 405, "method_not_allowed"),
        (
            world.post("/api/v4/runners/verify").header("content-type", "text/plain").body("x"),
            415,
            "unsupported_media_type",
        ),
    ] {
        let line = logged(request).await;
        assert_eq!(
            (&line["level"], &line["status"], &line["reason"]),
            (&json!("INFO"), &json!(status), &json!(reason))
        );
    }
    let counted = "paddock_refusals_total{reason=\"unsupported_media_type\",route=\"/api/v4/runners/verify\"}";
    assert!(log::metrics().contains(counted), "{}", log::metrics());
}

#[tokio::test]
async fn a_fault_is_an_error_line_with_its_detail() {
    let world = World::start().await;
    world.fake.refuses::<VerifyRunnerRequest, VerifyRunnerResponse>("verify_runner", Fault::unavailable("hidden"));
    let line = logged(world.post_as_runner("/api/v4/runners/verify")).await;
    assert_eq!(
        (&line["level"], &line["status"], &line["reason"]),
        (&json!("ERROR"), &json!(503), &json!("unavailable"))
    );
    assert!(line["detail"].is_string());
    assert!(log::metrics().contains("paddock_faults_total{reason=\"unavailable\",route=\"/api/v4/runners/verify\"}"));
}

#[tokio::test]
async fn a_client_that_leaves_early_has_a_line() {
    let world = World::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    world.fake.on("verify_runner", move |_: VerifyRunnerRequest| {
        let held = held.clone();
        async move {
            held.pass().await;
            Ok(VerifyRunnerResponse::default())
        }
    });
    let id = unique_id();
    let body = token::runner_body("");
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /api/v4/runners/verify HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, format!("{head}{body}").as_bytes()).await.unwrap();
    gate.wait_for_requests(1).await;
    drop(stream);
    // The gateway drops the request when it reads the end of the connection.
    while log::access(&id).is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(log::access(&id)[0]["status"], 499);
}

#[tokio::test]
async fn a_long_path_is_truncated() {
    let world = World::start().await;
    let line = logged(world.get(&format!("/api/v4/{}", "%C3%A9".repeat(1000)))).await;
    assert_eq!((line["path"].as_str().unwrap().len(), &line["status"]), (2048, &json!(404)));
}

#[tokio::test]
async fn a_request_is_counted_by_its_template_and_never_by_its_path() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    send(world.get("/api/v4/runners/918273").header(header, &user)).await;
    send(world.get("/api/v4/no-such-route-918273")).await;
    send(world.request("BREW918273", "/api/v4/runners")).await;
    let metrics = log::metrics();
    assert!(
        metrics.contains("paddock_http_requests_total{route=\"/api/v4/runners/{id}\",method=\"GET\",status=\"200\"}"),
        "{metrics}"
    );
    assert!(metrics.contains("route=\"none\",method=\"GET\",status=\"404\""), "{metrics}");
    assert!(metrics.contains("paddock_http_request_duration_seconds"), "{metrics}");
    assert!(!metrics.contains("918273"), "{metrics}");
}

/// Sends a token in every part of a request that can hold one.
async fn send_canaries(world: &World, canary: &str) {
    let carriers = [CredentialKind::UserToken, CredentialKind::RunnerToken].map(token::parameters).concat();
    let name = token::runner_parameter();
    let body = json!({name: canary, "system_id": canary, "info": {"name": canary}, canary: 1});
    for path in
        ["/api/v4/runners/verify", "/api/v4/runners/reset_authentication_token", "/api/v4/runners", "/api/v4/nothing"]
    {
        send(world.post(path).json(&body)).await;
        send(world.request("DELETE", path).json(&body)).await;
        send(world.post(path).form(&[(name, canary), ("system_id", canary)])).await;
        send(world.post(path).multipart(reqwest::multipart::Form::new().text(name, canary.to_owned()))).await;
        send(world.post(path).header("content-type", "application/json").body(format!("{{\"{name}\":\"{canary}\",,")))
            .await;
        send(
            world.post(path).header("content-type", "application/json").body(format!("{{\"{name}\":[\"{canary}\"]}}")),
        )
        .await;
        for carrier in &carriers {
            send(world.post(path).query(&[(carrier, canary), (carrier, "other")])).await;
            raw::request(world.address, "GET", &format!("{path}?{carrier}[]={canary}&%zz"), "").await;
        }
    }
    for kind in CredentialKind::ALL {
        for (header, value) in token::headers(kind, canary) {
            send(world.get("/api/v4/user").header(header, &value)).await;
            send(world.post("/api/v4/runners/verify").header(header, &value)).await;
        }
    }
    for header in ["user-agent", "x-request-id", "content-type", "host", "accept", "cookie", "expect"] {
        raw::request(world.address, "POST", "/api/v4/runners/verify", &format!("{header}: {canary}\r\n")).await;
    }
    raw::request(world.address, canary, "/api/v4/runners", "").await;
    raw::request(world.address, "GET", &format!("/api/v4/projects/{canary}?page={canary}"), "").await;
    raw::request(world.address, "GET", &format!("/{canary}/%zz?{canary}"), "").await;
}

#[tokio::test]
async fn no_credential_is_ever_logged_or_counted() {
    let world = World::start().await;
    for kind in CredentialKind::ALL {
        let well_formed = token::of(kind, 918_273_645);
        let malformed = format!("{}canary918273645", kind.spec().unwrap().prefix);
        for canary in [well_formed, malformed] {
            send_canaries(&world, &canary).await;
        }
    }
    for refused in ["verify_runner", "reset_authentication_token"] {
        world.fake.refuses::<VerifyRunnerRequest, VerifyRunnerResponse>(refused, Fault::internal("broken"));
    }
    send(
        world
            .post("/api/v4/runners/verify")
            .json(&json!({token::runner_parameter(): token::of(CredentialKind::RunnerToken, 918_273_645)})),
    )
    .await;
    assert_eq!(log::own_lines_with("918273645"), Vec::<String>::new());
    assert!(log::everything().contains("[REDACTED]"));
    assert!(!log::metrics().contains("918273645"));
}
