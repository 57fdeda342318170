//! What an operator has: a folder that only its owner reads, and a command that says what is wrong with an installation.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use proto::paddock::contract::v1::Reason;
use serde_json::Value;
use system::{Paddock, Program, files_below, free_port};

use crate::world;

/// Runs `paddock check` and returns whether it found all well, and its findings.
fn check(data: &Path, port: u16, metrics: &str) -> (bool, Vec<Value>) {
    let port = port.to_string();
    let settings = [
        ("PADDOCK_DATA", data.to_str().unwrap()),
        ("PADDOCK_PORT", port.as_str()),
        ("PADDOCK_PADDOCK__METRICS_LISTEN", metrics),
    ];
    let mut program = Program::start("paddock", &["check", "--output", "json"], &settings);
    let good = program.wait().success();
    let findings: Value =
        serde_json::from_str(&program.output()).unwrap_or_else(|_| panic!("{}", program.everything()));
    (good, findings.as_array().cloned().unwrap_or_default())
}

/// The findings of this severity, each with the check that made it.
fn with_severity(findings: &[Value], severity: &str) -> Vec<String> {
    let of_it = findings.iter().filter(|finding| finding["severity"] == severity);
    of_it.map(|finding| finding["check"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_sound_installation_passes_and_shows_the_unassigned_runner() {
    let paddock = Paddock::start();
    let (good, findings) = check(paddock.data(), paddock.port(), &paddock.metrics_listen());
    assert!(good && with_severity(&findings, "warning").is_empty(), "{findings:#?}");
    let sound = with_severity(&findings, "good");
    for name in ["data-folder", "secrets", "root-token", "spool", "server", "captures", "unassigned-runners"] {
        assert!(sound.iter().any(|check| check == name), "{name}: {findings:#?}");
    }

    let (id, _) = world::unassigned_runner(&paddock.root()).await;
    let (good, findings) = check(paddock.data(), paddock.port(), &paddock.metrics_listen());
    assert!(good, "a state that is shown is no defect: {findings:#?}");
    assert_eq!(with_severity(&findings, "warning"), ["unassigned-runners"]);
    let shown =
        findings.iter().any(|finding| finding["finding"].as_str().is_some_and(|text| text.contains(&id.to_string())));
    assert!(shown, "{findings:#?}");
    paddock.stop();
}

#[test]
fn what_is_broken_is_named_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    Paddock::start_in(folder.path(), &[]).stop();
    let token = folder.path().join("root.token");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let key = files_below(&folder.path().join("secrets")).swap_remove(0);
    fs::write(key, "short").unwrap();

    let (good, findings) = check(folder.path(), free_port(), "");
    assert!(!good);
    assert_eq!(with_severity(&findings, "bad"), ["secrets", "root-token", "server"], "{findings:#?}");
    let bad = findings.iter().filter(|finding| finding["severity"] == "bad");
    bad.for_each(|finding| assert!(finding["remedy"].is_string(), "{finding:#}"));

    let (good, findings) = check(&folder.path().join("nothing"), free_port(), "");
    assert!(!good);
    assert_eq!(with_severity(&findings, "bad"), ["data-folder", "server"], "{findings:#?}");
}

#[test]
fn only_the_owner_reads_secrets_and_token() {
    let paddock = Paddock::start();
    let mut files = files_below(&paddock.data().join("secrets"));
    assert!(files.len() >= 2, "{files:?}");
    files.push(paddock.data().join("root.token"));
    for file in files {
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
    paddock.stop();
}

#[tokio::test]
async fn a_leaked_or_lost_root_token_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let paddock = Paddock::start_in(folder.path(), &[]);
    let replace = || Program::start("paddock", &["root-token"], &[("PADDOCK_DATA", folder.path().to_str().unwrap())]);
    assert!(!replace().wait().success(), "not while another process serves from the folder");
    let old = paddock.root_token();
    paddock.root().get("/user").await.ok(200);
    paddock.stop();

    assert!(replace().wait().success());
    let paddock = Paddock::start_in(folder.path(), &[]);
    assert_ne!(paddock.root_token(), old);
    assert_eq!(paddock.root().get("/user").await.ok(200)["username"], "root");
    paddock.anonymous().with_token(&old).get("/user").await.refused(Reason::UserTokenRevoked);
    paddock.stop();
}
