//! The expiry and the rotation deadline that a request sets when it creates a runner.

use proto::paddock::contract::v1::Reason;
use serde_json::{Value, json};
use system::{Api, Paddock};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{database, fixtures};

/// The time that is this long from now, as clients write it.
fn ahead(by: Duration) -> String {
    (OffsetDateTime::now_utc() + by).format(&Rfc3339).unwrap()
}

fn with_times(project: i64, expiry: Option<String>, deadline: Option<String>) -> Value {
    let mut body = json!({ "runner_type": "project_type", "project_id": project });
    for (name, value) in [("token_expires_at", expiry), ("token_rotation_deadline", deadline)] {
        if let Some(value) = value {
            body[name] = value.into();
        }
    }
    body
}

fn in_days(days: i64) -> Option<String> {
    Some(ahead(Duration::days(days)))
}

#[tokio::test]
async fn times_that_make_no_sense_are_refused_with_the_reason() {
    let paddock = Paddock::start();
    let root = paddock.root();
    let project = fixtures::project(&root).await;
    let cases = [
        (None, in_days(1), "token_expires_at is required when token_rotation_deadline is specified"),
        (Some("soon".to_owned()), None, "token_expires_at must be a valid time"),
        (Some(ahead(Duration::minutes(4))), None, "token_expires_at must be at least 5 minutes in the future"),
        (in_days(-1), None, "token_expires_at must be at least 5 minutes in the future"),
        (in_days(16), None, "token_expires_at is too far in the future (maximum is "),
        (in_days(2), Some("soon".to_owned()), "token_rotation_deadline must be a valid time"),
        (in_days(2), in_days(-1), "token_rotation_deadline cannot be in the past"),
        (in_days(2), in_days(3), "token_rotation_deadline must be less than or equal to token_expires_at"),
    ];
    for (expiry, deadline, text) in cases {
        let answer = root.post("/user/runners", with_times(project, expiry, deadline)).await;
        answer.refused(Reason::BadRequest);
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(message.starts_with(&format!("400 Bad request - {text}")), "{text}: {message}");
    }
    assert_eq!(root.get("/runners/all").await.ok(200), json!([]), "nothing was created");
    paddock.stop();
}

/// A runner whose token expires in two days and can be rotated for one.
async fn limited_runner(root: &Api) -> (i64, String) {
    let project = fixtures::project(root).await;
    let body = with_times(project, Some(ahead(Duration::days(2))), Some(ahead(Duration::days(1))));
    let created = root.post("/user/runners", body).await.ok(201);
    assert!(created["token_expires_at"].is_string() && created["token_rotation_deadline"].is_string(), "{created}");
    (fixtures::id(&created), fixtures::text(&created["token"]))
}

#[tokio::test]
async fn a_rotation_before_the_deadline_clears_it_and_forgets_the_explicit_expiry() {
    let paddock = Paddock::start();
    let root = paddock.root();
    let anonymous = paddock.anonymous();
    let (id, token) = limited_runner(&root).await;
    let rotated = anonymous.post("/runners/reset_authentication_token", json!({ "token": token })).await.ok(201);
    assert_eq!(rotated["token_expires_at"], Value::Null, "the settings give no limit");
    anonymous.post("/runners/verify", json!({ "token": rotated["token"] })).await.ok(200);
    let shown = root.get(&format!("/runners/{id}")).await.ok(200);
    assert_eq!((&shown["token_expires_at"], &shown["token_rotation_deadline"]), (&Value::Null, &Value::Null));
    paddock.stop();
}

#[tokio::test]
async fn after_the_deadline_a_token_authenticates_and_does_not_rotate() {
    let paddock = Paddock::start();
    let root = paddock.root();
    let anonymous = paddock.anonymous();
    let (id, token) = limited_runner(&root).await;
    database::run(&paddock, "UPDATE runner_tokens SET rotation_deadline = created_at").await;
    let body = json!({ "token": token });
    anonymous.post("/runners/reset_authentication_token", body.clone()).await.refused(Reason::RotationDeadlinePassed);
    anonymous.post("/runners/verify", body.clone()).await.ok(200);
    anonymous.post("/jobs/request", body.clone()).await.ok(204);
    // The deadline limits rotations with the token. An administrator can still reset the token.
    let reset = root.post(&format!("/runners/{id}/reset_authentication_token"), json!({})).await.ok(201);
    anonymous.post("/runners/verify", body).await.refused(Reason::RunnerTokenRevoked);
    anonymous.post("/runners/reset_authentication_token", json!({ "token": reset["token"] })).await.ok(201);
    paddock.stop();
}

#[tokio::test]
async fn after_its_expiry_a_token_neither_authenticates_nor_rotates() {
    let paddock = Paddock::start();
    let root = paddock.root();
    let anonymous = paddock.anonymous();
    let (id, token) = limited_runner(&root).await;
    database::run(&paddock, "UPDATE runner_tokens SET expires_at = created_at").await;
    for path in ["/runners/verify", "/runners/reset_authentication_token", "/jobs/request", "/runners"] {
        anonymous.post(path, json!({ "token": token })).await.refused(Reason::RunnerTokenExpired);
    }
    let reset = root.post(&format!("/runners/{id}/reset_authentication_token"), json!({})).await.ok(201);
    anonymous.post("/runners/verify", json!({ "token": reset["token"] })).await.ok(200);
    paddock.stop();
}
