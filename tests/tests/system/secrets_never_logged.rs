//! No token appears in a log line of any level or in a metric, in whatever part of a request it was sent.

use base64::Engine as _;
use proto::{
    contract::Place,
    paddock::contract::v1::{CredentialKind, Secret},
};
use reqwest::Method;
use serde_json::json;
use system::{
    Api, Paddock, Upstream,
    raw::{exchange, request},
};

use crate::fixtures;

/// Every token that a session hands out.
async fn session(paddock: &Paddock) -> Vec<String> {
    let root = paddock.root();
    let anonymous = paddock.anonymous();
    let me = fixtures::id(&root.get("/user").await.ok(200));
    let user_token = fixtures::user_token(&root, me, "canary", &["api"]).await;
    let (id, first) = fixtures::runner(&root, fixtures::project(&root).await).await;
    let rotated = anonymous.post("/runners/reset_authentication_token", json!({ "token": first })).await.ok(201);
    let second = fixtures::text(&rotated["token"]);
    anonymous.post("/runners/verify", json!({ "token": second })).await.ok(200);
    let reset = root.post(&format!("/runners/{id}/reset_authentication_token"), json!({})).await.ok(201);
    let job_token = jobs(paddock, me).await;
    vec![paddock.root_token(), user_token, first, second, fixtures::text(&reset["token"]), job_token]
}

/// A job that reaches another project, with its token in every allowed place. Returns the token.
async fn jobs(paddock: &Paddock, user: i64) -> String {
    let root = paddock.root();
    let anonymous = paddock.anonymous();
    let origin = fixtures::project(&root).await;
    let target = fixtures::project(&root).await;
    let entry = json!({ "target_project_id": origin });
    root.post(&format!("/projects/{target}/job_token_scope/allowlist"), entry).await.ok(201);
    let (id, token) = fixtures::job(&root, origin, user).await;
    let path = format!("/projects/{target}/jobs/artifacts/main/download?job=test");
    for query in ["", "&answer=404", "&answer=200&breaks=true"] {
        let request = anonymous.request(Method::GET, &format!("{path}{query}")).header(Api::job_header(), &token);
        // The body may break off.
        let _ = request.send().await.map(|answer| assert_ne!(answer.status(), 401));
    }
    anonymous.get(&format!("{path}&job_token={token}")).await.ok(302);
    anonymous.with_token(&token).get(&path).await;
    anonymous.request(Method::GET, &path).bearer_auth(&token).send().await.expect("an answer");
    anonymous.get_as_job("/job", &token).await.ok(200);
    root.post(&format!("/admin/jobs/{id}/finish"), json!({})).await.ok(200);
    assert_eq!(anonymous.get_as_job(&path, &token).await.status, 401);
    token
}

/// Puts a token into every place of a request that a confused client may put it in.
async fn misplace(paddock: &Paddock, token: &str) {
    let json_type = ("content-type", "application/json");
    let mut requests = vec![
        request(&format!("GET /api/v4/runners/{token}"), &[], b""),
        request(&format!("GET /{token}"), &[], b""),
        request(&format!("GET /api/v4/projects/{token}%2Fx?search={token}"), &[(Api::user_header(), token)], b""),
        request("POST /api/v4/runners/verify", &[json_type], format!("{{\"token\":\"{token}").as_bytes()),
        request("POST /api/v4/runners/verify", &[json_type], format!("{{\"token\":{{\"{token}\":1}}}}").as_bytes()),
        request("POST /api/v4/user/runners", &[json_type], format!("{{\"runner_type\":\"{token}\"}}").as_bytes()),
        request("POST /api/v4/runners/verify", &[("content-type", token)], b"x"),
        request("GET /api/v4/user", &[("user-agent", token), ("x-request-id", token), ("traceparent", token)], b""),
        request(&format!("GET /api/v4/projects/{token}/jobs/artifacts/{token}/download?{token}=1"), &[], b""),
        request("GET /api/v4/projects/1/jobs", &[(Api::job_header(), &format!("{token}x"))], b""),
        request("GET /api/v4/user", &[("authorization", &format!("Bearer {token}x"))], b""),
        request("GET /api/v4/user", &[("authorization", token), ("cookie", token), ("host", token)], b""),
    ];
    for carrier in CredentialKind::ALL.iter().filter_map(|kind| kind.spec()).flat_map(|spec| spec.carriers) {
        requests.push(match carrier.place {
            Place::Header(name) => request("GET /api/v4/user", &[(name, token)], b""),
            Place::Parameter(name) => request(&format!("GET /api/v4/user?{name}={token}&x%5B{token}%5D=1"), &[], b""),
            Place::AuthorizationScheme(scheme) => {
                request("GET /api/v4/user", &[("authorization", &format!("{scheme} {token}"))], b"")
            }
            Place::BasicUsername(user) => {
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{token}"));
                request("GET /api/v4/user", &[("authorization", &format!("Basic {pair}"))], b"")
            }
        });
    }
    for bytes in requests {
        let (status, head, _) = exchange(paddock.port(), &bytes).await;
        assert!((200..500).contains(&status), "{head}");
    }
}

#[tokio::test]
async fn no_token_appears_in_a_log_line_or_a_metric() {
    let upstream = Upstream::start();
    let url = upstream.url();
    let paddock =
        Paddock::start_with(&[("PADDOCK_TELEMETRY__LOG_FILTER", "trace"), ("PADDOCK_UPSTREAM", url.as_str())]);
    let tokens = session(&paddock).await;
    for token in &tokens {
        misplace(&paddock, token).await;
    }
    let metrics = paddock.metrics().await;
    let secrets = Secret::ALL.iter().filter_map(|secret| secret.spec());
    let files = secrets.filter_map(|spec| std::fs::read_to_string(paddock.data().join("secrets").join(spec.file)).ok());
    let keys: Vec<String> = files.collect();
    assert!(keys.len() >= 2, "the keys were generated");
    let logged = paddock.program().everything();
    assert!(logged.lines().count() > 100, "there is something to search");
    for secret in tokens.iter().chain(&keys) {
        // Not even half of a secret may appear.
        let part = &secret[secret.len() / 2..];
        for (what, text) in [("the log", &logged), ("the metrics", &metrics)] {
            let line = text.lines().find(|line| line.contains(part));
            assert!(line.is_none(), "{what} holds a secret: {}", line.unwrap_or_default());
        }
    }
    paddock.program().assert_no_errors();
}
