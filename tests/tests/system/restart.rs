//! Answered changes survive a restart, and a crash right after the answer.

use proto::paddock::contract::v1::Reason;
use serde_json::json;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use system::Paddock;

use crate::fixtures;

#[tokio::test]
async fn everything_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = Paddock::start_in(folder.path(), &[]);
    let root_token = first.root_token();
    let project = fixtures::project(&first.root()).await;
    let (id, token) = fixtures::runner(&first.root(), project).await;
    let rotated = first.anonymous().post("/runners/reset_authentication_token", json!({ "token": token })).await;
    let successor = fixtures::text(&rotated.ok(201)["token"]);
    first.stop();

    let second = Paddock::start_in(folder.path(), &[]);
    assert_eq!(second.root_token(), root_token, "the first user is made once");
    assert_eq!(second.root().get(&format!("/projects/{project}")).await.ok(200)["id"], project);
    let verified = second.anonymous().post("/runners/verify", json!({ "token": successor })).await.ok(200);
    assert_eq!(verified["id"], id);
    second.anonymous().post("/runners/verify", json!({ "token": token })).await.refused(Reason::RunnerTokenSuperseded);
    second.stop();
}

/// An operator may copy the database files of a stopped Paddock, and nothing else.
#[tokio::test]
async fn after_a_clean_stop_each_database_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let paddock = Paddock::start_in(folder.path(), &[]);
    let root = paddock.root();
    let project = fixtures::project(&root).await;
    let user = fixtures::id(&root.get("/user").await.ok(200));
    fixtures::job(&root, project, user).await;
    paddock.stop();

    let copies = tempfile::tempdir().unwrap();
    for (file, rows) in [
        ("runner-registry.sqlite", "SELECT COUNT(*) FROM projects"),
        ("job-token-auth.sqlite", "SELECT COUNT(*) FROM jobs"),
    ] {
        let log = folder.path().join(format!("{file}-wal"));
        let left = log.metadata().map_or(0, |metadata| metadata.len());
        assert_eq!(left, 0, "{file}: bytes in the write-ahead log");
        let copy = copies.path().join(file);
        std::fs::copy(folder.path().join(file), &copy).unwrap();
        let options = SqliteConnectOptions::new().filename(copy).read_only(true);
        let mut connection = options.connect().await.unwrap();
        let count: i64 = sqlx::query_scalar(rows).fetch_one(&mut connection).await.unwrap();
        assert_eq!(count, 1, "{file}");
    }
}

#[tokio::test]
async fn a_runner_survives_a_crash_right_after_its_creation() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let paddock = Paddock::start_in(folder.path(), &[]);
        let project = fixtures::project(&paddock.root()).await;
        let (id, token) = fixtures::runner(&paddock.root(), project).await;
        paddock.kill();

        let paddock = Paddock::start_in(folder.path(), &[]);
        let verified = paddock.anonymous().post("/runners/verify", json!({ "token": token })).await.ok(200);
        assert_eq!(verified["id"], id);
        paddock.stop();
    }
}

#[tokio::test]
async fn a_rotated_token_survives_a_crash_right_after_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let paddock = Paddock::start_in(folder.path(), &[]);
    let project = fixtures::project(&paddock.root()).await;
    let (id, token) = fixtures::runner(&paddock.root(), project).await;
    let rotate = json!({ "token": token });
    let answer = paddock.anonymous().post("/runners/reset_authentication_token", rotate.clone()).await.ok(201);
    paddock.kill();

    // A client that crashed before it saved the answer asks again with its old token.
    let paddock = Paddock::start_in(folder.path(), &[]);
    let again = paddock.anonymous().post("/runners/reset_authentication_token", rotate).await.ok(201);
    assert_eq!(again["token"], answer["token"], "the same successor");
    let verified = paddock.anonymous().post("/runners/verify", json!({ "token": answer["token"] })).await.ok(200);
    assert_eq!(verified["id"], id);
    paddock.stop();
}

#[test]
fn a_data_folder_serves_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = Paddock::start_in(folder.path(), &[]);
    let data = folder.path().to_str().unwrap();
    let port = system::free_port().to_string();
    let settings = [("PADDOCK_DATA", data), ("PADDOCK_PORT", port.as_str()), ("PADDOCK_PADDOCK__METRICS_LISTEN", "")];
    let mut second = system::Program::start("paddock", &["serve"], &settings);
    assert!(!second.wait().success());
    assert!(second.everything().contains(data), "the message names the folder: {}", second.everything());
    first.stop();
}
