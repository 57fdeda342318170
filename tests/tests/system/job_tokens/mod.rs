//! Jobs that reach other projects: which of them are allowed, and that the log has exactly the successes.

mod artifacts;
mod commands;
mod log;
mod outages;
mod rules;

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use system::{Answer, Api, Distributed, Paddock, Program, Upstream, within};

use crate::fixtures;

/// Maximum time until an access is in the log.
pub const VISIBLE: Duration = Duration::from_secs(2);

/// An installation as its operator sees it: the API as root, and the command line.
pub struct Installation {
    pub root: Api,
    url: String,
    token_file: PathBuf,
}

impl From<&Paddock> for Installation {
    fn from(paddock: &Paddock) -> Self {
        Self { root: paddock.root(), url: paddock.url(), token_file: paddock.data().join("root.token") }
    }
}

impl From<&Distributed> for Installation {
    fn from(system: &Distributed) -> Self {
        Self { root: system.root(), url: system.url(), token_file: system.registry.root_token_file() }
    }
}

impl Installation {
    /// Runs `paddock job` until it ends. Returns whether it succeeded, its standard output and its standard error.
    pub fn job(&self, arguments: &[&str]) -> (bool, String, String) {
        let token_file = self.token_file.to_str().expect("a path in UTF-8");
        let target = ["--server", &self.url, "--token-file", token_file];
        run_job(&[arguments, &target].concat(), &[])
    }

    /// A running job of a project, and its token.
    pub fn issue(&self, project: i64, user: i64) -> (i64, String) {
        let project = project.to_string();
        let user = user.to_string();
        let (done, token, said) = self.job(&["issue", "--project", &project, "--user", &user, "--name", "test"]);
        assert!(done, "{said}");
        let id = said.strip_prefix("job ").and_then(|rest| rest.split(':').next()).and_then(|id| id.parse().ok());
        (id.unwrap_or_else(|| panic!("no id in {said}")), token)
    }
}

/// Runs `paddock job` with these arguments and settings.
pub fn run_job(arguments: &[&str], settings: &[(&str, &str)]) -> (bool, String, String) {
    let mut program = Program::start("paddock", &[&["job"], arguments].concat(), settings);
    let done = program.wait().success();
    (done, program.output(), program.errors())
}

/// Project A, whose job reaches project B, which allows it to read jobs.
pub struct Scenario {
    pub installation: Installation,
    pub origin: i64,
    pub target: i64,
    pub user: i64,
    pub job: i64,
    pub token: String,
}

impl Scenario {
    pub async fn start(installation: Installation) -> Self {
        let root = &installation.root;
        let origin = fixtures::project(root).await;
        let target = fixtures::project(root).await;
        let user = fixtures::user(root).await;
        for project in [origin, target] {
            let developer = json!({ "user_id": user, "access_level": 30 });
            root.post(&format!("/projects/{project}/members"), developer).await.ok(201);
        }
        let entry = json!({
            "target_project_id": origin, "default_permissions": false, "job_token_policies": ["read_jobs"],
        });
        root.post(&format!("/projects/{target}/job_token_scope/allowlist"), entry).await.ok(201);
        let (job, token) = installation.issue(origin, user);
        Self { installation, origin, target, user, job, token }
    }

    /// The path of an artifact, with the answer that the upstream is asked for.
    pub fn artifact(project: i64, upstream_query: &str) -> String {
        format!("/projects/{project}/jobs/artifacts/main/download?job=test&{upstream_query}")
    }

    /// Downloads an artifact of B as the job of A.
    pub async fn download(&self, upstream_query: &str) -> Answer {
        self.installation
            .root
            .without_token()
            .get_as_job(&Self::artifact(self.target, upstream_query), &self.token)
            .await
    }

    /// The log of B: its rows, or the list at a path below it.
    pub async fn log(&self, below: &str) -> Vec<Value> {
        let path = format!("/projects/{}/job_token_scope/authentication_log{below}", self.target);
        self.installation.root.get(&path).await.ok(200).as_array().cloned().expect("a list")
    }

    /// Waits for the access with this request id in the log. Returns none if it does not arrive in time.
    pub async fn event(&self, request_id: &str, time: Duration) -> Option<Value> {
        within(time, async || {
            let events = self.log("/events?per_page=100").await;
            events.into_iter().find(|event| event["request_id"] == request_id)
        })
        .await
    }

    /// Asserts that the log has the access of this answer.
    pub async fn assert_logged(&self, answer: &Answer) -> Value {
        let id = answer.header(system::REQUEST_ID);
        let event = self.event(id, VISIBLE).await;
        event.unwrap_or_else(|| panic!("status {}: not in the log within {VISIBLE:?}", answer.status))
    }
}

/// `paddock serve` in front of an upstream.
pub fn paddock_before(upstream: &Upstream, settings: &[(&str, &str)]) -> Paddock {
    Paddock::start_with(&[&[("PADDOCK_UPSTREAM", upstream.url().as_str())], settings].concat())
}
