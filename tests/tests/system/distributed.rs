//! The services as separate processes do the same as in one process, on both databases. They report a configuration in which
//! they do not fit together.

use std::fs;

use proto::paddock::contract::v1::{Reason, Secret};
use serde_json::{Value, json};
use system::{Answer, Api, Database, Distributed, Program, Registry, free_port};

use crate::{database, fixtures};

async fn rotate(anonymous: &Api, token: &str) -> Answer {
    anonymous.post("/runners/reset_authentication_token", json!({ "token": token })).await
}

/// Asserts that an answer says that a service is unavailable.
fn assert_unavailable(answer: &Answer) {
    assert_eq!((answer.status, &answer.body["reason"]), (503, &json!("unavailable")), "{}", answer.text);
    assert!(answer.body["request_id"].is_string(), "{}", answer.text);
}

/// The life of a runner, from its creation to its deletion.
async fn session(system: &Distributed) {
    let root = system.root();
    let anonymous = system.anonymous();
    let project = fixtures::project(&root).await;
    let (id, first) = fixtures::runner(&root, project).await;
    let verified =
        anonymous.post("/runners/verify", json!({ "token": first, "system_id": "s_0123456789ab" })).await.ok(200);
    assert_eq!((&verified["id"], &verified["token"]), (&json!(id), &json!(first)));

    let second = fixtures::text(&rotate(&anonymous, &first).await.ok(201)["token"]);
    assert_eq!(rotate(&anonymous, &first).await.ok(201)["token"], second.as_str(), "asked again, the same successor");
    let poll = json!({ "token": second, "system_id": "s_0123456789ab" });
    anonymous.post("/jobs/request", poll).await.ok(204);
    rotate(&anonymous, &first).await.refused(Reason::RunnerTokenSuperseded);

    let third = root.post(&format!("/runners/{id}/reset_authentication_token"), json!({})).await.ok(201);
    anonymous.post("/runners/verify", json!({ "token": second })).await.refused(Reason::RunnerTokenRevoked);
    let managers = root.get(&format!("/runners/{id}/managers")).await.ok(200);
    assert!(
        managers.as_array().is_some_and(|all| all.iter().any(|one| one["system_id"] == "s_0123456789ab")),
        "{managers}"
    );

    root.delete(&format!("/projects/{project}")).await.ok(204);
    rotate(&anonymous, &fixtures::text(&third["token"])).await.refused(Reason::RunnerUnassigned);
    anonymous.delete(&format!("/runners?token={}", third["token"].as_str().unwrap_or_default())).await.ok(204);
    root.get(&format!("/runners/{id}")).await.refused(Reason::RunnerNotFound);
}

async fn live(database: Database) {
    let system = Distributed::start(&database, &[]);
    session(&system).await;
    assert_eq!(system.anonymous().get_outside("/-/readiness").await.ok(200)["status"], "ok");
    system.stop();
}

#[tokio::test]
async fn a_runner_lives_on_sqlite() {
    live(Database::Sqlite).await;
}

#[tokio::test]
async fn a_runner_lives_on_postgres() {
    if let Some(database) = database::on_postgres().await {
        live(database).await;
    }
}

/// An outage is 503, because a client that gets 401 or 403 discards a valid token.
#[tokio::test]
async fn without_the_registry_the_gateway_says_that_it_is_unavailable() {
    let mut system = Distributed::start(&Database::Sqlite, &[]);
    let root = system.root();
    let anonymous = system.anonymous();
    let (_, token) = fixtures::runner(&root, fixtures::project(&root).await).await;
    system.registry.program.stop();

    assert_unavailable(&anonymous.post("/runners/verify", json!({ "token": token })).await);
    assert_unavailable(&rotate(&anonymous, &token).await);
    // A malformed token is refused without the registry.
    anonymous.post("/runners/verify", json!({ "token": "x" })).await.refused(Reason::RunnerTokenMalformed);
    assert_eq!(anonymous.get_outside("/-/liveness").await.status, 200, "the gateway itself lives");
    assert_eq!(anonymous.get_outside("/-/readiness").await.status, 503);
}

/// The settings of a gateway in front of this registry, with separate secrets.
fn gateway_settings(registry: &Registry, secrets: &str, port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("PADDOCK_SECRETS__FOLDER", secrets.to_owned()),
        ("PADDOCK_GATEWAY__LISTEN", format!("127.0.0.1:{port}")),
        ("PADDOCK_GATEWAY__METRICS_LISTEN", String::new()),
        ("PADDOCK_GATEWAY__RUNNER_REGISTRY__ENDPOINT", registry.endpoint()),
    ]
}

fn start_gateway(settings: &[(&'static str, String)]) -> Program {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Program::start("gateway", &[], &settings)
}

/// The file of the identity key.
fn key_file() -> &'static str {
    Secret::IdentityKey.spec().expect("a secret of the contract").file
}

#[tokio::test]
async fn processes_with_different_keys_say_so_before_traffic() {
    let registry = Registry::start(&Database::Sqlite, &[]);
    let secrets = tempfile::tempdir().unwrap();
    fs::write(secrets.path().join(key_file()), "0123456789abcdef".repeat(4)).unwrap();
    let port = free_port();
    let gateway = start_gateway(&gateway_settings(&registry, secrets.path().to_str().unwrap(), port));
    gateway.wait_for_output("gateway ready");

    let api = Api::anonymous(&format!("http://127.0.0.1:{port}"));
    let readiness = api.get_outside("/-/readiness").await;
    assert_eq!(readiness.status, 503, "{}", readiness.text);
    assert!(readiness.text.contains("key"), "it says what differs: {}", readiness.text);
    // A fault of Paddock is never a 401.
    let answer = api.with_token(&registry.root_token()).get("/user").await;
    assert_eq!((answer.status, &answer.body["reason"]), (500, &json!("identity_unknown_key")), "{}", answer.text);
}

#[test]
fn a_bad_secret_ends_the_process_with_one_line_that_names_it() {
    let registry = Registry::start(&Database::Sqlite, &[]);
    let spec = Secret::IdentityKey.spec().expect("a secret of the contract");
    let good = "0123456789abcdef".repeat(4);
    let cases: [(&str, Option<String>); 7] = [
        ("missing", None),
        ("empty", Some(String::new())),
        ("with a line break", Some(format!("{good}\n"))),
        ("short", Some(good[..62].to_owned())),
        ("in capitals", Some(good.to_uppercase())),
        ("no hexadecimal digits", Some("x".repeat(64))),
        ("a placeholder", Some("0".repeat(64))),
    ];
    for (what, content) in cases {
        let secrets = tempfile::tempdir().unwrap();
        if let Some(content) = &content {
            fs::write(secrets.path().join(spec.file), content).unwrap();
        }
        let mut gateway = start_gateway(&gateway_settings(&registry, secrets.path().to_str().unwrap(), free_port()));
        assert!(!gateway.wait().success(), "{what}");
        let said = gateway.everything();
        for name in [spec.name, spec.key, spec.file] {
            assert!(said.contains(name), "{what}: {name} is not named: {said}");
        }
        assert!(!said.contains(&good[..60]), "{what}: the value is shown: {said}");
    }
}

#[test]
fn mistakes_in_the_configuration_are_all_reported_at_once() {
    let settings = [
        ("PADDOCK_GATEWAY__LISTN", "127.0.0.1:1"),
        ("PADDOCK_GATEWAY__MAX_BODY_BYTES", "many"),
        ("PADDOCK_TELEMETRY__LOG_FORMAT", "json"),
    ];
    let mut gateway = Program::start("gateway", &[], &settings);
    assert!(!gateway.wait().success());
    let said = gateway.everything();
    assert!(settings[..2].iter().all(|(name, _)| said.contains(&format!("{name}: "))), "{said}");
}

#[tokio::test]
async fn the_registry_shows_its_metrics_on_their_own_port() {
    let registry = Registry::start(&Database::Sqlite, &[]);
    let metrics = Api::anonymous(&format!("http://127.0.0.1:{}", registry.metrics_port)).get_outside("/metrics").await;
    assert_eq!((metrics.status, &metrics.body), (200, &Value::Null), "metrics are not JSON: {}", metrics.text);
}
