//! The rules of job tokens over REST: the forms of requests, and the refusals of wrong ones.

use std::time::Duration;

use proto::paddock::contract::v1::Reason;
use reqwest::Method;
use serde_json::{Value, json};
use system::{Answer, Api, Paddock, Upstream, send, within};

use super::{Scenario, paddock_before};
use crate::fixtures;

/// Changes an entry of an allowlist by a form, and returns its policies.
async fn patch_form(root: &Api, entry: &str, body: &'static str) -> Value {
    let request = root.request(Method::PATCH, entry).body(body);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    send(request).await.ok(200)["job_token_policies"].clone()
}

/// Changes an entry of an allowlist by JSON, and returns its policies.
async fn patch_json(root: &Api, entry: &str, body: Value) -> Value {
    root.patch(entry, body).await.ok(200)["job_token_policies"].clone()
}

#[tokio::test]
async fn a_patch_of_an_entry_changes_what_it_names() {
    let paddock = Paddock::start();
    let root = paddock.root();
    let target = fixtures::project(&root).await;
    let origin = fixtures::project(&root).await;
    let list = format!("/projects/{target}/job_token_scope/allowlist");
    root.post(&list, json!({ "target_project_id": origin })).await.ok(201);
    let entry = format!("{list}/{origin}");
    let jobs = json!(["read_jobs"]);
    assert_eq!(patch_form(&root, &entry, "default_permissions=false&job_token_policies[]=read_jobs").await, jobs);
    assert_eq!(patch_form(&root, &entry, "default_permissions=false").await, jobs, "nothing was said of the policies");
    assert_eq!(patch_form(&root, &entry, "job_token_policies[]=").await, json!([]));
    assert_eq!(patch_json(&root, &entry, json!({ "job_token_policies": ["read_jobs"] })).await, jobs);
    assert_eq!(patch_json(&root, &entry, json!({ "default_permissions": false })).await, jobs);
    assert_eq!(
        patch_json(&root, &entry, json!({ "default_permissions": false, "job_token_policies": [] })).await,
        json!([])
    );
    root.patch(&entry, json!({})).await.refused(Reason::ParameterMissing);
    paddock.stop();
}

#[tokio::test]
async fn a_job_is_started_with_a_token_and_ends_with_the_role_of_its_user() {
    let upstream = Upstream::start();
    let paddock = paddock_before(&upstream, &[]);
    let root = paddock.root();
    let project = fixtures::project(&root).await;
    let user = fixtures::user(&root).await;
    let new = json!({ "project_id": project, "user_id": user, "status": "created" });
    root.post("/admin/jobs", new.clone()).await.refused(Reason::JobUserWithoutAccess);
    let developer = json!({ "user_id": user, "access_level": 30 });
    root.post(&format!("/projects/{project}/members"), developer).await.ok(201);
    let id = fixtures::id(&root.post("/admin/jobs", new).await.ok(201)["job"]);

    let started = root.post(&format!("/admin/jobs/{id}/start"), json!({})).await.ok(200);
    assert_eq!((fixtures::id(&started["job"]), &started["job"]["status"]), (id, &json!("running")));
    let anonymous = paddock.anonymous();
    let token = fixtures::text(&started["token"]);
    let own = Scenario::artifact(project, "answer=200");
    anonymous.get_as_job(&own, &token).await.ok(200);
    anonymous.get_as_job(&own, &token[..token.len() - 1]).await.refused(Reason::JobTokenMalformed);

    root.delete(&format!("/projects/{project}/members/{user}")).await.ok(204);
    refused_with(&anonymous, &own, &token, 404).await.refused(Reason::ProjectNotFound);
    root.delete(&format!("/users/{user}")).await.ok(204);
    refused_with(&anonymous, &own, &token, 401).await.refused(Reason::JobUserDeleted);
    paddock.stop();
}

/// Waits until cached answers have expired, and returns the answer with this status.
async fn refused_with(anonymous: &Api, path: &str, token: &str, status: u16) -> Answer {
    let refused = within(Duration::from_secs(20), async || {
        let answer = anonymous.get_as_job(path, token).await;
        (answer.status == status).then_some(answer)
    });
    refused.await.unwrap_or_else(|| panic!("{status} does not come"))
}
