//! The processes, what stands behind them, and the jobs that reach other projects.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use system::{Api, Database, Distributed, OwnPostgres, Program, Redis, Upstream};
use tempfile::TempDir;

/// How many projects have jobs, and how many are reached.
const PROJECTS: usize = 3;

/// How long a job may run, in seconds: longer than any run, on a clock that jumps by hours.
const JOB_SECONDS: &str = "604800";

/// The routes of the run: half of the promises of the product each.
const ROUTES: &str = r#"
[[routes]]
method = "GET"
path = "/api/v4/projects/{id}/jobs/artifacts/{ref}/download"
projects = ["id"]
policies = ["read_jobs"]
capture = "strict"

[[routes]]
method = "GET"
path = "/api/v4/projects/{id}/packages/generic/{name}"
projects = ["id"]
policies = ["read_packages"]
capture = "spool"
"#;

/// A running job.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: i64,
    pub project: i64,
    pub token: String,
}

/// What the clients need to know.
#[derive(Clone, Debug)]
pub struct Jobs {
    pub jobs: Vec<Job>,
    pub targets: Vec<i64>,
    pub anonymous: Api,
}

/// Everything that runs. What is stopped first stands first.
#[derive(Debug)]
pub struct Stage {
    pub system: Distributed,
    pub redis: Redis,
    /// None: the log is on SQLite.
    pub postgres: Option<OwnPostgres>,
    pub upstream: Upstream,
    pub clock: Clock,
    pub jobs: Vec<Job>,
    pub targets: Vec<i64>,
    _folder: TempDir,
}

/// The clock of the processes, which the harness sets.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
    /// None: the machine has no library for it, and the clock is that of the machine.
    library: Option<PathBuf>,
}

impl Clock {
    fn new(folder: &Path) -> Self {
        let found = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let libraries = found.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
        let library = libraries.into_iter().find(|file| file.is_file());
        if library.is_none() {
            system::skipped("the jumps of the clock: libfaketime is not installed");
        }
        let clock = Self { file: folder.join("clock"), library };
        clock.set(-7200);
        clock
    }

    /// Sets it to the machine's and these seconds.
    pub fn set(&self, seconds: i32) {
        // Whoever reads it reads the old text or the new one.
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{seconds:+}s\n")).expect("it is written");
        std::fs::rename(next, &self.file).expect("it is put in place");
    }

    /// Whether it can jump.
    pub fn can_jump(&self) -> bool {
        self.library.is_some()
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let Some(library) = &self.library else { return Vec::new() };
        vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        ]
    }
}

impl Stage {
    /// Starts everything. None, after saying so, when the machine lacks Redis.
    pub fn set() -> Option<Self> {
        let redis = Redis::start()?;
        let postgres = OwnPostgres::start();
        let database = match &postgres {
            Some(server) => {
                Database::Postgres { registry: server.database("registry"), job_token_auth: server.database("auth") }
            }
            None => Database::Sqlite,
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let routes = folder.path().join("routes.toml");
        std::fs::write(&routes, ROUTES).expect("the routes are written");
        let (upstream, clock) = (Upstream::start_for_many(), Clock::new(folder.path()));
        let mut settings = clock.settings();
        settings.extend([
            ("PADDOCK_GATEWAY__UPSTREAM", upstream.url()),
            ("PADDOCK_GATEWAY__PROTECTED_ROUTES_FILE", routes.display().to_string()),
            ("PADDOCK_TELEMETRY__LOG_FILTER", "warn".to_owned()),
            // Small enough to be full while Redis stands still.
            ("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__SPOOL_MAX_BYTES", "65536".to_owned()),
        ]);
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let system = Distributed::start_with(&database, Some(&redis), &settings);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (jobs, targets) = runtime.block_on(cast(&system));
        // The tokens were issued two hours ago: no jump of the clock makes them tokens of the future.
        clock.set(0);
        Some(Self { system, redis, postgres, upstream, clock, jobs, targets, _folder: folder })
    }

    /// What the clients need to know.
    pub fn jobs(&self) -> Jobs {
        let anonymous = self.system.anonymous();
        Jobs { jobs: self.jobs.clone(), targets: self.targets.clone(), anonymous }
    }
}

/// Projects that allow others, and a job of each of the others.
async fn cast(system: &Distributed) -> (Vec<Job>, Vec<i64>) {
    let root = system.root();
    let me = id(&root.get("/user").await.ok(200));
    let project = async |name: String| id(&root.post("/projects", json!({ "name": name })).await.ok(201));
    let (mut jobs, mut targets) = (Vec::new(), Vec::new());
    for number in 0..PROJECTS {
        targets.push(project(format!("target-{number}")).await);
    }
    for number in 0..PROJECTS {
        let origin = project(format!("origin-{number}")).await;
        for target in &targets {
            let entry = json!({ "target_project_id": origin });
            root.post(&format!("/projects/{target}/job_token_scope/allowlist"), entry).await.ok(201);
        }
        jobs.push(issue(system, origin, me));
    }
    (jobs, targets)
}

fn issue(system: &Distributed, project: i64, user: i64) -> Job {
    let (project_text, user, url) = (project.to_string(), user.to_string(), system.url());
    let token_file = system.registry.root_token_file();
    let token_file = token_file.to_str().expect("a path in UTF-8");
    let whose = ["job", "issue", "--project", &project_text, "--user", &user, "--timeout", JOB_SECONDS];
    let mut program =
        Program::start("paddock", &[&whose[..], &["--server", &url, "--token-file", token_file]].concat(), &[]);
    assert!(program.wait().success(), "{}", program.errors());
    let said = program.errors();
    let id = said.strip_prefix("job ").and_then(|rest| rest.split(':').next()).and_then(|id| id.parse().ok());
    Job { id: id.unwrap_or_else(|| panic!("no id in {said}")), project, token: program.output() }
}

fn id(answer: &Value) -> i64 {
    answer["id"].as_i64().unwrap_or_else(|| panic!("no id in {answer}"))
}
