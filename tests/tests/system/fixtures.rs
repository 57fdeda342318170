//! Creates the projects, groups, users, runners and jobs that tests need.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use system::Api;

/// A name that no other fixture of this run has.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A project in the caller's own namespace.
pub async fn project(api: &Api) -> i64 {
    id(&api.post("/projects", json!({ "name": unique("project") })).await.ok(201))
}

/// A group that the caller owns.
pub async fn group(api: &Api) -> i64 {
    let path = unique("group");
    id(&api.post("/groups", json!({ "name": path, "path": path })).await.ok(201))
}

/// A project runner and its token.
pub async fn runner(api: &Api, project: i64) -> (i64, String) {
    let body = json!({ "runner_type": "project_type", "project_id": project });
    let created = api.post("/user/runners", body).await.ok(201);
    (id(&created), text(&created["token"]))
}

/// A project runner whose project is deleted.
pub async fn unassigned_runner(api: &Api) -> (i64, String) {
    let project = project(api).await;
    let (id, token) = runner(api, project).await;
    api.delete(&format!("/projects/{project}")).await.ok(204);
    (id, token)
}

/// A user without special rights.
pub async fn user(root: &Api) -> i64 {
    let name = unique("user");
    let body = json!({ "username": name, "name": name, "email": format!("{name}@example.com") });
    id(&root.post("/users", body).await.ok(201))
}

/// A personal access token for a user.
pub async fn user_token(root: &Api, user: i64, name: &str, scopes: &[&str]) -> String {
    let body = json!({ "name": name, "scopes": scopes });
    text(&root.post(&format!("/users/{user}/personal_access_tokens"), body).await.ok(201)["token"])
}

/// A running job of a project, and its token.
pub async fn job(root: &Api, project: i64, user: i64) -> (i64, String) {
    let issued = root.post("/admin/jobs", json!({ "project_id": project, "user_id": user })).await.ok(201);
    (id(&issued["job"]), text(&issued["token"]))
}

/// The id in an answer.
pub fn id(answer: &Value) -> i64 {
    answer["id"].as_i64().unwrap_or_else(|| panic!("no id in {answer}"))
}

/// A text in an answer.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The series of `/metrics` that have a label whose value begins with this text, and that are not zero.
pub fn series(metrics: &str, label: &str, value: &str) -> Vec<String> {
    let wanted = format!("{label}=\"{value}");
    let lines = metrics.lines().filter(|line| !line.starts_with('#') && line.contains(&wanted));
    lines.filter(|line| line.rsplit(' ').next() != Some("0")).map(ToOwned::to_owned).collect()
}
