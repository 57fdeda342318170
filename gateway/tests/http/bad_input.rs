//! Bad input is answered with a refusal that has a reason and a request id, never with a 5xx or a broken connection.

use serde_json::json;

use crate::support::{Answer, World, raw, send, token};

const CREATE: &str = "/api/v4/user/runners";

fn assert_refused(answer: &Answer, status: u16, reason: &str, what: &str) {
    assert_eq!(answer.refusal(), (status, reason.to_owned()), "{what}: {answer:?}");
    let body = answer.json();
    assert!(body["message"].is_string() && !body["remedy"].as_str().unwrap().is_empty(), "{what}");
    assert_eq!(body["request_id"], answer.header("x-request-id"), "{what}");
    assert_eq!(answer.header("content-type"), "application/json", "{what}");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let nested = format!("{{\"x\":{deep}}}");
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("application/json", b"{".to_vec(), 400, "body_malformed"),
        ("application/json", b"[]".to_vec(), 400, "body_malformed"),
        ("application/json", b"{\"a\":1,\"a\":2}".to_vec(), 400, "body_malformed"),
        ("application/json", b"{\"x\":{\"a\":1,\"a\":2}}".to_vec(), 400, "body_malformed"),
        ("application/json", b"{\"description\":\"\xff\"}".to_vec(), 400, "body_malformed"),
        ("application/json", b"\xff\xfe".to_vec(), 400, "body_malformed"),
        ("application/json", nested.into_bytes(), 400, "body_malformed"),
        ("application/x-www-form-urlencoded", b"a=%ff".to_vec(), 400, "body_malformed"),
        ("multipart/form-data; boundary=b", b"--b\r\n".to_vec(), 400, "body_malformed"),
        ("multipart/form-data", b"x".to_vec(), 400, "body_malformed"),
        ("text/plain", b"x".to_vec(), 415, "unsupported_media_type"),
        ("application/xml", b"<x/>".to_vec(), 415, "unsupported_media_type"),
        ("application/json", b"{\"runner_type\":7}".to_vec(), 400, "parameter_invalid"),
        ("application/json", b"{}".to_vec(), 400, "parameter_missing"),
    ];
    for (content_type, body, status, reason) in cases {
        let what = format!("{content_type} {}", String::from_utf8_lossy(&body[..body.len().min(40)]));
        let request = world.post(CREATE).header(header, &user).header("content-type", content_type).body(body);
        assert_refused(&send(request).await, status, reason, &what);
    }
    assert_eq!(world.fake.count(), 0);
}

#[tokio::test]
async fn every_flaw_is_named_at_once() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let body = json!({"maximum_timeout": "ten", "paused": [], "runner_type": "group_type"});
    let answer = send(world.post(CREATE).header(header, user).json(&body)).await;
    let expected = json!("maximum_timeout is invalid, paused is invalid");
    assert_eq!((&answer.json()["error"], &answer.json()["message"]), (&expected, &expected));
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let world = World::start().await;
    let cases: [(&str, &[&str], u16); 9] = [
        ("HTTP/1.1", &["x"], 200),
        ("HTTP/1.1", &["127.0.0.1:8080"], 200),
        ("HTTP/1.0", &[], 200),
        ("HTTP/1.1", &[], 400),
        ("HTTP/1.1", &[""], 400),
        ("HTTP/1.1", &["x", "x"], 400),
        ("HTTP/1.0", &["x", "y"], 400),
        ("HTTP/1.1", &["user@x"], 400),
        ("HTTP/1.1", &["a b"], 400),
    ];
    for (version, hosts, status) in cases {
        let hosts: String = hosts.iter().map(|host| format!("host: {host}\r\n")).collect();
        let request = format!("GET /-/liveness {version}\r\n{hosts}connection: close\r\n\r\n");
        let answer = raw::exchange(world.address, request.as_bytes()).await.unwrap();
        assert_eq!(answer.status, status, "{request}");
        if status == 400 {
            assert_refused(&answer, 400, "bad_request", &request);
        }
    }
}

#[tokio::test]
async fn a_path_that_can_be_read_in_two_ways_is_refused() {
    let world = World::start().await;
    let cases = [
        ("GET", "/api/v4/runners/../projects", 400, "path_malformed"),
        ("GET", "/api/v4/runners/%2e%2E/projects", 400, "path_malformed"),
        ("GET", "/api/v4/./runners", 400, "path_malformed"),
        ("GET", "/api/v4//runners", 400, "path_malformed"),
        ("GET", "/api/v4/projects/a%00b", 400, "path_malformed"),
        ("GET", "/api/v4/projects/a%ffb", 400, "path_malformed"),
        ("GET", "/api/v4/projects/a%zz", 400, "path_malformed"),
        ("GET", "/api/v4/projects/a%2F..%2Fb", 400, "path_malformed"),
        ("GET", "/api/v4/nothing", 404, "route_not_found"),
        ("GET", "/api/v4/projects/a/b/c", 404, "route_not_found"),
        ("GET", "/", 404, "route_not_found"),
        ("PATCH", "/api/v4/runners", 405, "method_not_allowed"),
        ("BREW", "/api/v4/runners", 405, "method_not_allowed"),
        ("GET", "/api/v4/runners/verify", 405, "method_not_allowed"),
        ("POST", "/-/health", 405, "method_not_allowed"),
    ];
    for (verb, path, status, reason) in cases {
        let answer = raw::request(world.address, verb, path, "").await;
        assert_refused(&answer, status, reason, path);
        assert_eq!(answer.headers.contains_key("allow"), status == 405, "{path}");
        assert_eq!(answer.json()["error"], answer.json()["message"], "{path}");
    }
    let (header, user) = token::user_header();
    let headers = format!("{header}: {user}\r\n");
    for (path, reason) in [
        ("/api/v4/runners?page=%zz", "path_malformed"),
        ("/api/v4/runners/abc", "parameter_invalid"),
        ("/api/v4/runners/99999999999999999999", "parameter_invalid"),
    ] {
        assert_refused(&raw::request(world.address, "GET", path, &headers).await, 400, reason, path);
    }
    assert_eq!(world.fake.count(), 0);
}

#[tokio::test]
async fn an_encoded_slash_stays_inside_its_segment() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let answer =
        raw::request(world.address, "GET", "/api/v4/projects/a%2Fb%252e", &format!("{header}: {user}\r\n")).await;
    assert_eq!(answer.status, 200);
    let calls = world.fake.calls::<proto::paddock::directory::v1::GetProjectRequest>("get_project");
    assert_eq!(calls[0].0.id, "a/b%2e");
}

#[tokio::test]
async fn the_verbs_of_a_path_can_be_asked_for() {
    let world = World::start().await;
    let answer = send(world.request("OPTIONS", "/api/v4/runners/5")).await;
    assert_eq!((answer.status, answer.header("allow")), (204, "DELETE, GET, PUT, HEAD, OPTIONS"));
    let answer = send(world.request("PATCH", "/api/v4/runners/5")).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "DELETE, GET, PUT, HEAD, OPTIONS"));
    assert_eq!(answer.json()["error"], json!("405 Not Allowed"));
}

#[tokio::test]
async fn what_is_not_http_is_refused_without_harm() {
    let world = World::start_with(|config| config.header_read_timeout_ms = 200).await;
    let cases: [&[u8]; 8] = [
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nthis is not a frame at all, and it is long enough",
    ];
    for bytes in cases {
        if let Some(answer) = raw::exchange(world.address, bytes).await {
            assert!((400..500).contains(&answer.status), "{}: {answer:?}", String::from_utf8_lossy(bytes));
        }
    }
    assert_eq!(send(world.get("/-/liveness")).await.status, 200);
}
