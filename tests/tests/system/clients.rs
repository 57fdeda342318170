//! Published clients, unmodified, run scripted sessions against the running system (`tests/clients`). A session fails
//! if an answer is not as its client expects.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use system::Paddock;

use crate::fixtures;

/// Runs a session in its folder.
fn run(program: &Path, arguments: &[&str], folder: &str, environment: &[(&str, &str)]) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(system::root().join("tests/clients").join(folder))
        .envs(environment.iter().copied())
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .expect("the session starts");
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{folder}: {}\n{out}\n{err}", output.status);
    assert!(out.contains("passed"), "{folder}: the session did not come to its end:\n{out}\n{err}");
}

/// The Python of the environment that `scripts/setup-test` makes.
fn python() -> Option<PathBuf> {
    let path = system::root().join(".cache/clients/bin/python");
    let found = path.exists();
    if !found {
        system::skipped("the sessions of the Python clients: `make test` installs them where python3 is");
    }
    found.then_some(path)
}

fn end(paddock: Paddock) {
    paddock.program().assert_no_errors();
    paddock.stop();
}

#[test]
fn python_gitlab() {
    let Some(python) = python() else { return };
    let paddock = Paddock::start();
    let url = paddock.url();
    let token = paddock.root_token();
    run(&python, &["python_gitlab.py"], "python", &[("PADDOCK_URL", &url), ("PADDOCK_ROOT_TOKEN", &token)]);
    end(paddock);
}

#[tokio::test]
async fn gitlab_runner_api() {
    let Some(python) = python() else { return };
    let paddock = Paddock::start();
    let (_, token) = fixtures::runner(&paddock.root(), fixtures::project(&paddock.root()).await).await;
    run(&python, &["runner_api.py"], "python", &[("PADDOCK_URL", &paddock.url()), ("PADDOCK_RUNNER_TOKEN", &token)]);
    end(paddock);
}

#[test]
fn gitbeaker() {
    if !system::root().join("tests/clients/javascript/node_modules/@gitbeaker/rest").exists() {
        return system::skipped("the session of the JavaScript client: `make test` installs it where npm is");
    }
    let paddock = Paddock::start();
    let url = paddock.url();
    let token = paddock.root_token();
    run(Path::new("node"), &["session.mjs"], "javascript", &[("PADDOCK_URL", &url), ("PADDOCK_ROOT_TOKEN", &token)]);
    end(paddock);
}

/// The Rust client needs two hundred crates. It is built in CI, and elsewhere only on request.
#[tokio::test]
async fn rust_runner() {
    let wanted = ["CI", "PADDOCK_TEST_RUST_CLIENT"].iter().any(|name| std::env::var_os(name).is_some());
    if !wanted {
        return system::skipped(
            "the session of the Rust client: it is built in CI, or with PADDOCK_TEST_RUST_CLIENT=1",
        );
    }
    let paddock = Paddock::start();
    let (id, token) = fixtures::runner(&paddock.root(), fixtures::project(&paddock.root()).await).await;
    let environment = [
        ("PADDOCK_URL", paddock.url()),
        ("PADDOCK_RUNNER_TOKEN", token),
        ("CARGO_TARGET_DIR", system::root().join("target/rust-runner").display().to_string()),
    ];
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    run(Path::new(env!("CARGO")), &["run", "--quiet", "--locked"], "rust-runner", &environment);
    let managers = paddock.root().get(&format!("/runners/{id}/managers")).await.ok(200);
    assert_eq!(managers[0]["system_id"], json!("r_sessionRust1"), "the manager is known: {managers}");
    end(paddock);
}
