//! The JSON, status and headers of answers.

use proto::paddock::runner::v1::{
    CreateRunnerRequest, CreateRunnerResponse, GetRunnerRequest, GetRunnerResponse, ListRunnerManagersRequest,
    ListRunnerManagersResponse, RequestJobRequest, RequestJobResponse, RunnerDetails, RunnerManager,
};
use serde_json::{Value, json};

use crate::support::{World, clients_of_both_protocols, send, token};

#[tokio::test]
async fn a_created_runner_is_answered_as_gitlab_does() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let created = CreateRunnerResponse {
        id: 9_007_199_254_740_993,
        token: "secret".into(),
        token_expires_at: Some(prost_types::Timestamp { seconds: 1_795_395_723, nanos: 0 }),
        token_rotation_deadline: None,
    };
    world.fake.answers::<CreateRunnerRequest, _>("create_runner", created);
    let request =
        world.post("/api/v4/user/runners").header(header, user).json(&json!({"runner_type": "instance_type"}));
    let answer = send(request).await;
    assert_eq!((answer.status, answer.header("content-type")), (201, "application/json"));
    let expected = "{\"id\":9007199254740993,\"token\":\"secret\",\
        \"token_expires_at\":\"2026-11-23T01:02:03.000Z\",\"token_rotation_deadline\":null}";
    assert_eq!(answer.body, expected);
}

#[tokio::test]
async fn details_of_a_runner_show_defaults_and_nulls() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let runner = RunnerDetails { id: 5, runner_type: 2, status: 1, access_level: 1, ..RunnerDetails::default() };
    world.fake.answers::<GetRunnerRequest, _>("get_runner", GetRunnerResponse { runner: Some(runner) });
    let body = send(world.get("/api/v4/runners/5").header(header, user)).await.json();
    let expected = [
        ("id", json!(5)),
        ("paused", json!(false)),
        ("online", Value::Null),
        ("runner_type", json!("group_type")),
        ("status", json!("online")),
        ("access_level", json!("not_protected")),
        ("tag_list", json!([])),
        ("maximum_timeout", Value::Null),
        ("token_expires_at", Value::Null),
    ];
    for (name, value) in expected {
        assert_eq!(body[name], value, "{name}");
    }
}

#[tokio::test]
async fn an_answer_may_be_larger_than_any_request() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let manager = RunnerManager { version: Some("\u{1f600}".repeat(256)), ..RunnerManager::default() };
    let managers = ListRunnerManagersResponse { managers: vec![manager; 6000] };
    world.fake.answers::<ListRunnerManagersRequest, _>("list_runner_managers", managers);
    let answer = send(world.get("/api/v4/runners/5/managers").header(header, user)).await;
    assert_eq!((answer.status, answer.body.len() > 6 << 20), (200, true));
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let get = send(world.get("/api/v4/user").header(header, &user)).await;
    for client in clients_of_both_protocols() {
        let head = client.head(world.url("/api/v4/user")).header(header, &user);
        let head = send(head).await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(head.header("content-length"), get.body.len().to_string());
    }
    let missing = send(world.request("HEAD", "/api/v4/nothing")).await;
    assert_eq!((missing.status, missing.body.as_str()), (404, ""));
}

#[tokio::test]
async fn an_answer_without_a_valid_status_is_a_fault() {
    let world = World::start().await;
    for (status, expected) in [(204, 204), (0, 500), (404, 500), (99_999, 500)] {
        let answer = RequestJobResponse { status, last_update: "line\nbreak".into() };
        world.fake.answers::<RequestJobRequest, _>("request_job", answer);
        let answer = send(world.post_as_runner("/api/v4/jobs/request")).await;
        assert_eq!(answer.status, expected);
        assert!(!answer.headers.contains_key("x-gitlab-last-update"), "no header can carry it");
    }
}
