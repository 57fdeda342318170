//! The tools of an operator: a data folder that only its owner can read, and a command that checks an installation.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use proto::paddock::contract::v1::{Reason, Secret};
use serde_json::Value;
use system::{Paddock, Program, Redis, files_below, free_port};

use crate::fixtures;

/// Runs `paddock check`. Returns whether it found no error, and its findings.
fn check(data: &Path, port: u16, metrics: &str) -> (bool, Vec<Value>) {
    check_with(data, port, metrics, &[])
}

fn check_with(data: &Path, port: u16, metrics: &str, more: &[(&str, &str)]) -> (bool, Vec<Value>) {
    let port = port.to_string();
    let settings = [
        ("PADDOCK_DATA", data.to_str().unwrap()),
        ("PADDOCK_PORT", port.as_str()),
        ("PADDOCK_PADDOCK__METRICS_LISTEN", metrics),
    ];
    let mut program = Program::start("paddock", &["check", "--output", "json"], &[&settings, more].concat());
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
    for name in [
        "protected-routes",
        "data-folder",
        "secrets",
        "root-token",
        "spool",
        "server",
        "captures",
        "unassigned-runners",
    ] {
        assert!(sound.iter().any(|check| check == name), "{name}: {findings:#?}");
    }

    let (id, _) = fixtures::unassigned_runner(&paddock.root()).await;
    let (good, findings) = check(paddock.data(), paddock.port(), &paddock.metrics_listen());
    assert!(good, "a state that is shown is no defect: {findings:#?}");
    assert_eq!(with_severity(&findings, "warning"), ["unassigned-runners"]);
    let shown =
        findings.iter().any(|finding| finding["finding"].as_str().is_some_and(|text| text.contains(&id.to_string())));
    assert!(shown, "{findings:#?}");
    paddock.stop();
}

#[test]
fn defects_are_reported_with_a_remedy() {
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

/// Mistakes of an operator, each with the check that reports it and the error of `paddock serve`.
#[test]
fn what_prevents_a_start_is_found_by_the_check() {
    let folder = tempfile::tempdir().unwrap();
    Paddock::start_in(folder.path(), &[]).stop();
    let redis = Secret::CapturesRedisUrl.spec().expect("a secret of the contract").file;
    let seal = Secret::SuccessorSealKeyPrevious.spec().expect("a secret of the contract").file;
    let in_redis = [("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__STORE", "redis")];
    let routes = [("PADDOCK_GATEWAY__PROTECTED_ROUTES_FILE", "/nonexistent")];
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<(&'a str, &'a str)>, &'a str, &'a str);
    let cases: [Case<'_>; 4] = [
        (&routes, None, "protected-routes", "/nonexistent"),
        (&in_redis, None, "secrets", redis),
        (&in_redis, Some((redis, "no URL of a redis")), "redis", "the URL of redis"),
        (&[], Some((seal, "short")), "secrets", seal),
    ];
    for (settings, secret, name, expected_text) in cases {
        let file = secret.map(|(file, content)| {
            let file = folder.path().join("secrets").join(file);
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            file
        });
        let (good, findings) = check_with(folder.path(), free_port(), "", settings);
        let is_found = findings.iter().any(|finding| {
            let text = finding["finding"].as_str().unwrap_or_default();
            finding["severity"] == "bad"
                && finding["check"] == name
                && text.contains(expected_text)
                && finding["remedy"].is_string()
        });
        assert!(!good && is_found, "{expected_text}: {findings:#?}");

        let port = free_port().to_string();
        let data = folder.path().to_str().unwrap();
        let own = [("PADDOCK_PORT", port.as_str()), ("PADDOCK_DATA", data), ("PADDOCK_PADDOCK__METRICS_LISTEN", "")];
        let mut program = Program::start("paddock", &["serve"], &[&own, settings].concat());
        assert!(!program.wait().success(), "{expected_text}");
        assert!(program.errors().contains(expected_text), "{}", program.everything());
        assert!(!program.output().contains("ready"), "{}", program.everything());
        file.into_iter().for_each(|file| fs::remove_file(file).unwrap());
    }
}

/// Checks an installation with captures in Redis, and asserts the finding about Redis.
fn assert_redis_found(data: &Path, severity: &str, text: &str) {
    let store = [("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__STORE", "redis")];
    let (_, findings) = check_with(data, free_port(), "", &store);
    let found = findings.into_iter().find(|finding| finding["check"] == "redis").expect("a finding");
    assert_eq!(found["severity"], severity, "{text}: {found:#}");
    assert!(found["finding"].as_str().is_some_and(|finding| finding.contains(text)), "{text}: {found:#}");
}

/// Sets an option of a running Redis.
fn set_option(redis: &Redis, name: &str, value: &str) {
    assert_eq!(redis.ask(&format!("CONFIG SET {name} {value}")).as_deref(), Some("+OK"));
}

#[test]
fn redis_is_checked_if_it_stores_captures() {
    let Some(mut redis) = Redis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    Paddock::start_in(folder.path(), &[]).stop();
    let file = Secret::CapturesRedisUrl.spec().expect("a secret of the contract").file;
    let file = folder.path().join("secrets").join(file);
    fs::write(&file, redis.url()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_redis_found(folder.path(), "good", "redis answers");
    for (setting, wrong, right) in [
        ("appendfsync", "everysec", "always"),
        ("appendonly", "no", "yes"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
    ] {
        set_option(&redis, setting, wrong);
        assert_redis_found(folder.path(), "bad", &format!("{setting} {wrong}"));
        set_option(&redis, setting, right);
    }
    redis.kill();
    assert_redis_found(folder.path(), "bad", "does not answer");
}

#[tokio::test]
async fn the_metrics_of_another_instance_are_not_trusted() {
    let one = Paddock::start();
    let other = Paddock::start();
    for (metrics, severity) in [(one.metrics_listen(), "good"), (other.metrics_listen(), "warning")] {
        let (_, findings) = check(one.data(), one.port(), &metrics);
        assert!(with_severity(&findings, severity).contains(&"captures".to_owned()), "{findings:#?}");
    }
    one.stop();
    other.stop();
}

#[test]
fn mistakes_are_reported_with_the_names_that_the_operator_used() {
    let settings = [
        ("PADDOCK_UPSTREAM", "http://127.0.0.1:99999"),
        ("PADDOCK_TELEMETRY__OTLP_ENDPOINT", "garbage"),
        ("PADDOCK_TELEMETRY__LOG_FORMAT", "xml"),
        ("PADDOCK_PORT", "99999"),
        ("PADDOCK_GATEWAY__LIMT", "1"),
        ("PADDOCK_GATEWAY__MAX_CONNECTIONS", "0"),
    ];
    let mut program = Program::start("paddock", &["check", "--output", "json"], &settings);
    assert!(!program.wait().success());
    let findings: Vec<Value> = serde_json::from_str(&program.output()).expect("findings");
    assert_eq!(findings.len(), settings.len(), "{findings:#?}");
    for (name, value) in settings {
        let starts = format!("{name}: ");
        let found =
            findings.iter().filter_map(|finding| finding["finding"].as_str()).find(|text| text.starts_with(&starts));
        let found = found.unwrap_or_else(|| panic!("{name}: {findings:#?}"));
        let names_value = found.contains("must be") && found.contains(value);
        assert!(name.ends_with("LIMT") || names_value, "{name}: {findings:#?}");
    }
}

#[test]
fn a_missing_upstream_is_reported_at_start() {
    let paddock = Paddock::start();
    let line = paddock.program().wait_for_log("no upstream", |line| {
        line["level"] == "WARN" && line["message"].as_str().is_some_and(|text| text.contains("PADDOCK_UPSTREAM"))
    });
    assert!(line["routes"].as_u64().is_some_and(|routes| routes > 0), "{line:#}");
    paddock.stop();
    let paddock = Paddock::start_with(&[("PADDOCK_UPSTREAM", "http://127.0.0.1:9")]);
    assert!(!paddock.program().errors().contains("no upstream"), "{}", paddock.program().errors());
    paddock.stop();
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

/// Starts the command that replaces the token of root.
fn replace_root_token(data: &Path) -> Program {
    Program::start("paddock", &["root-token"], &[("PADDOCK_DATA", data.to_str().unwrap())])
}

#[tokio::test]
async fn a_leaked_or_lost_root_token_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let paddock = Paddock::start_in(folder.path(), &[]);
    assert!(!replace_root_token(folder.path()).wait().success(), "not while another process serves from the folder");
    let old = paddock.root_token();
    paddock.root().get("/user").await.ok(200);
    paddock.stop();

    assert!(replace_root_token(folder.path()).wait().success());
    let paddock = Paddock::start_in(folder.path(), &[]);
    assert_ne!(paddock.root_token(), old);
    assert_eq!(paddock.root().get("/user").await.ok(200)["username"], "root");
    paddock.anonymous().with_token(&old).get("/user").await.refused(Reason::UserTokenRevoked);
    paddock.stop();
}
