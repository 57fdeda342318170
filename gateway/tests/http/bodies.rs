//! The bodies that the published clients send, each in its own way.

use proto::paddock::{
    directory::v1::CreateProjectRequest,
    runner::v1::{
        CreateRunnerRequest, ListProjectRunnersRequest, RegisterRunnerRequest, RequestJobRequest,
        ResetRunnerAuthenticationTokenRequest, UpdateRunnerRequest, VerifyRunnerRequest,
    },
};
use serde_json::json;

use crate::support::{World, send, token};

#[tokio::test]
async fn what_gitlab_runner_sends_is_understood() {
    let world = World::start().await;
    let features = json!({"variables": true, "artifacts": true, "failure_reasons": ["a", "b"]});
    let config = json!({"gpus": ""});
    let info =
        json!({"name": "gitlab-runner", "version": "18.4.0", "features": features, "config": config, "labels": {}});
    let body =
        json!({token::runner_parameter(): token::runner(), "system_id": "s_0123456789ab", "info": info, "session": {}});
    for path in ["/api/v4/runners/verify", "/api/v4/runners/verify/"] {
        let request = world.post(path).header("accept", "application/json").json(&body);
        assert_eq!(send(request).await.status, 200);
    }
    let (request, _) = world.fake.calls::<VerifyRunnerRequest>("verify_runner").remove(0);
    assert_eq!(request.info.unwrap().version.as_deref(), Some("18.4.0"));
    // A reset with a personal access token: the literal null.
    let (header, user) = token::user_header();
    let request = world.post("/api/v4/runners/7/reset_authentication_token").header(header, user);
    let answer = send(request.header("content-type", "application/json").body("null")).await;
    assert_eq!(answer.status, 201);
    let calls = world.fake.calls::<ResetRunnerAuthenticationTokenRequest>("reset_runner_authentication_token");
    assert_eq!(calls[0].0.id, 7);
}

#[tokio::test]
async fn a_poll_without_a_job_is_answered_without_a_body() {
    let world = World::start().await;
    let none = proto::paddock::runner::v1::RequestJobResponse { status: 204, last_update: "abc".into() };
    world.fake.answers::<RequestJobRequest, _>("request_job", none);
    let body = token::runner_body(",\"last_update\":\"abc\",\"info\":{\"executor\":\"shell\"}");
    let answer = send(world.post("/api/v4/jobs/request").header("content-type", "application/json").body(body)).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(answer.header("x-gitlab-last-update"), "abc");
    assert!(!answer.headers.contains_key("content-type") && !answer.headers.contains_key("content-length"));
}

#[tokio::test]
async fn what_gitlab_python_runner_sends_is_understood() {
    let world = World::start().await;
    let name = token::runner_parameter();
    let form = format!("{name}={}&tag_list=a&tag_list=b&run_untagged=False&description=x", token::runner());
    let request = world.post("/api/v4/runners/").header("content-type", "application/x-www-form-urlencoded").body(form);
    assert_eq!(send(request).await.status, 201);
    assert_eq!(world.fake.calls::<RegisterRunnerRequest>("register_runner")[0].0.token, token::runner());
}

#[tokio::test]
async fn what_python_gitlab_sends_is_understood() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let json_type = ("content-type", "application/json");
    let request = world.get("/api/v4/projects/group%2Fproject/runners?tag_list=a%2Cb&paused=True");
    assert_eq!(send(request.header(header, &user).header(json_type.0, json_type.1)).await.status, 200);
    let (list, _) = world.fake.calls::<ListProjectRunnersRequest>("list_project_runners").remove(0);
    assert_eq!(
        (list.id.as_str(), list.tag_list, list.paused),
        ("group/project", vec!["a".into(), "b".into()], Some(true))
    );
    let request = world.post("/api/v4/projects?name=my+project&visibility=private").header(header, &user);
    assert_eq!(send(request.json(&json!({}))).await.status, 201);
    let (project, _) = world.fake.calls::<CreateProjectRequest>("create_project").remove(0);
    assert_eq!((project.name.as_deref(), project.visibility), (Some("my project"), Some(1)));
    let request = world.request("PUT", "/api/v4/runners/3").header(header, &user);
    assert_eq!(send(request.json(&json!({"description": null, "tag_list": ["x"], "id": 9}))).await.status, 200);
    let (update, _) = world.fake.calls::<UpdateRunnerRequest>("update_runner").remove(0);
    assert_eq!((update.id, update.description, update.tag_list), (3, None, vec!["x".into()]));
    assert_eq!(update.update_mask.unwrap().paths, ["description", "tag_list"]);
}

#[tokio::test]
async fn what_gitbeaker_sends_is_understood() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let request = world.get("/api/v4/runners/all?tag_list[]=a&tag_list[]=b&per_page=50").header(header, &user);
    assert_eq!(send(request).await.status, 200);
    // Runners.verify() of gitbeaker cannot send a token.
    let answer = send(world.post("/api/v4/runners/verify").json(&json!({"system_id": "s_1"}))).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (400, &json!(format!("{} is missing", token::runner_parameter())))
    );
}

#[tokio::test]
async fn what_curl_sends_is_understood() {
    let world = World::start().await;
    let (header, user) = token::user_header();
    let form = reqwest::multipart::Form::new()
        .text("runner_type", "project_type")
        .text("project_id", "4")
        .text("tag_list", "a, b")
        .text("token_expires_at", "2026-12-01T00:00:00Z");
    let answer = send(world.post("/api/v4/user/runners").header(header, &user).multipart(form)).await;
    assert_eq!(answer.status, 201);
    let untyped = world.post("/api/v4/user/runners").header(header, &user).body("{\"runner_type\":\"instance_type\"}");
    assert_eq!(send(untyped).await.status, 201);
    let calls = world.fake.calls::<CreateRunnerRequest>("create_runner");
    assert_eq!((calls[0].0.runner_type, calls[0].0.project_id, calls[0].0.tag_list.len()), (3, Some(4), 2));
    assert_eq!(calls[0].0.token_expires_at.as_deref(), Some("2026-12-01T00:00:00Z"));
    assert_eq!(calls[1].0.runner_type, 1);
}
