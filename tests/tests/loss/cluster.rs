//! The processes of the test, and the faults that can be injected into them.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;
use system::{Api, Database, Distributed, FakeClock, JobTokenAuth, OwnPostgres, Program, Redis, Upstream, say, within};
use tempfile::TempDir;

/// Maximum time until the system serves again after the last fault.
const RECOVERY: Duration = Duration::from_secs(120);

/// How far the clock is behind when the cluster starts, in seconds.
const START: i64 = -7200;

/// The number of partitions of the captures.
const PARTITIONS: u16 = 4;

/// The number of projects with jobs, and the number of projects that jobs reach.
const ORIGINS: usize = 3;
const TARGETS: usize = 2;

/// A running job.
#[derive(Clone)]
pub struct Job {
    pub id: i64,
    pub project: i64,
    pub token: String,
}

/// The processes and stores of the test.
pub struct Cluster {
    pub system: Distributed,
    /// A second job-token-auth. It gets no requests, but ships records into the log as the first one does.
    pub peer: JobTokenAuth,
    pub upstream: Upstream,
    pub redis: Redis,
    pub postgres: Option<OwnPostgres>,
    pub spool: Spool,
    pub clock: FakeClock,
    /// One for each project that reaches others.
    pub jobs: Vec<Job>,
    /// The job of a separate project, whose accesses can be found among many.
    pub last_job: Option<Job>,
    /// The ids of the projects that are reached.
    pub targets: Vec<i64>,
    /// Lines in the logs of killed processes that must not be there.
    forbidden: Vec<String>,
    _folder: TempDir,
}

impl Cluster {
    /// Starts everything. Prints a note and returns none if Redis is not installed.
    pub async fn start() -> Option<Self> {
        let redis = Redis::start()?;
        let postgres = OwnPostgres::start();
        let database = match &postgres {
            Some(postgres) => Database::Postgres {
                registry: postgres.create_database("registry"),
                job_token_auth: postgres.create_database("job_token_auth"),
            },
            None => Database::Sqlite,
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let upstream = Upstream::start_for_many();
        let spool = Spool::new(&folder.path().join("spool"));
        let clock = FakeClock::new(&folder.path().join("clock"));
        if !clock.is_available() {
            say("loss: libfaketime is not installed, so the clock does not jump");
        }
        clock.shift(START);
        let routes = folder.path().join("routes.toml");
        fs::write(&routes, routes_file()).expect("the table of routes");
        let mut settings = vec![
            ("PADDOCK_GATEWAY__PROTECTED_ROUTES_FILE", text_of(&routes)),
            ("PADDOCK_GATEWAY__UPSTREAM", upstream.url()),
            ("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__SPOOL_FOLDER", text_of(&spool.folder)),
            ("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__DEADLINE_SECONDS", "60".to_owned()),
            ("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__REDIS__PARTITIONS", PARTITIONS.to_string()),
            ("PADDOCK_TELEMETRY__LOG_FILTER", "warn".to_owned()),
        ];
        settings.extend(clock.settings());
        let mut settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let system = Distributed::start_with(&database, Some(&redis), &settings);
        let other_spool = text_of(&folder.path().join("spool of the peer"));
        settings.push(("PADDOCK_JOB_TOKEN_AUTH__CAPTURES__SPOOL_FOLDER", &other_spool));
        let peer = JobTokenAuth::start(&system.registry, &database, Some(&redis), &settings);
        let root = system.root();
        let mut cluster = Self {
            system,
            peer,
            upstream,
            redis,
            postgres,
            spool,
            clock,
            jobs: Vec::new(),
            last_job: None,
            targets: Vec::new(),
            forbidden: Vec::new(),
            _folder: folder,
        };
        cluster.populate(&root).await;
        Some(cluster)
    }

    /// Creates the projects and the jobs.
    async fn populate(&mut self, root: &Api) {
        for number in 0..TARGETS {
            self.targets.push(project(root, &format!("target-{number}")).await);
        }
        for number in 0..=ORIGINS {
            let origin = project(root, &format!("origin-{number}")).await;
            for target in &self.targets {
                let entry = json!({"target_project_id": origin});
                root.post(&format!("/projects/{target}/job_token_scope/allowlist"), entry).await.ok(201);
            }
            // Longer than a jump of the clock.
            let job = json!({"project_id": origin, "user_id": 1, "timeout": 864_000});
            let issued = root.post("/admin/jobs", job).await.ok(201);
            let id = issued["job"]["id"].as_i64();
            let token = issued["token"].as_str();
            let id = id.expect("an id");
            let token = token.expect("a token").to_owned();
            self.jobs.push(Job { id, project: origin, token });
        }
        self.last_job = self.jobs.pop();
        // The tokens were issued two hours ago, so that no jump of the clock sets their issue into the future.
        self.clock.shift(0);
    }

    /// Kills one of the processes and starts it again.
    pub fn crash(&mut self, victim: Victim) {
        let program = match victim {
            Victim::Gateway => &mut self.system.gateway,
            Victim::JobTokenAuth => &mut self.system.auth.program,
            Victim::Peer => &mut self.peer.program,
            Victim::RunnerRegistry => &mut self.system.registry.program,
        };
        self.forbidden.extend(forbidden(program));
        program.crash_and_return();
    }

    /// Ends every fault, and waits until the system serves again.
    pub async fn recover(&self) {
        self.spool.make_room();
        self.clock.shift(0);
        self.redis.resume();
        self.peer.program.signal("CONT");
        let anonymous = self.system.anonymous().on_new_connection();
        let ready =
            within(RECOVERY, async || (anonymous.get_outside("/-/readiness").await.status == 200).then_some(()));
        assert!(ready.await.is_some(), "the system does not recover:\n{}", self.system.gateway.everything());
    }

    /// Waits until all records in Redis have reached the log. Records that a killed process had read are read again after a while.
    pub async fn drain(&self) {
        let drained = within(RECOVERY, async || {
            let mut lengths =
                (0..PARTITIONS).map(|partition| self.redis.ask(&format!("XLEN {{paddock:{partition}}}:stream")));
            lengths.all(|length| length.as_deref() == Some(":0")).then_some(())
        });
        assert!(drained.await.is_some(), "records stay in Redis");
    }

    /// The number of records that the spool refused since job-token-auth started.
    pub async fn spool_failures(&self) -> f64 {
        let metrics = self.system.auth.metrics().await;
        let mut lines = metrics.lines().filter_map(|line| line.strip_prefix("paddock_capture_spool_failures_total "));
        lines.next().and_then(|count| count.parse().ok()).expect("a count")
    }

    /// Asserts that no process panicked or reported a loss. Injected faults may be logged as errors.
    pub fn assert_nothing_forbidden(&self) {
        let programs =
            [&self.system.gateway, &self.system.auth.program, &self.peer.program, &self.system.registry.program];
        let found: Vec<_> = self.forbidden.iter().cloned().chain(programs.into_iter().flat_map(forbidden)).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// A process that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Gateway,
    JobTokenAuth,
    Peer,
    RunnerRegistry,
}

fn forbidden(program: &Program) -> Vec<String> {
    let everything = program.everything();
    let found = everything.lines().filter(|line| line.contains("panicked at") || line.contains("captures are lost"));
    found.map(ToOwned::to_owned).collect()
}

async fn project(root: &Api, name: &str) -> i64 {
    let made = root.post("/projects", json!({ "name": name })).await.ok(201);
    made["id"].as_i64().expect("an id")
}

fn routes_file() -> String {
    let routes = ["strict", "spool"].map(|mode| {
        format!(
            "[[routes]]\nmethod = \"GET\"\npath = \"/api/v4/projects/{{id}}/{mode}/{{name}}\"\nprojects = [\"id\"]\n\
             policies = [\"read_jobs\"]\ncapture = \"{mode}\"\n"
        )
    });
    routes.join("\n")
}

fn text_of(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// The folder of the spool, on a small separate file system if the machine allows it.
pub struct Spool {
    folder: PathBuf,
    is_mounted: bool,
}

impl Spool {
    fn new(folder: &Path) -> Self {
        fs::create_dir(folder).expect("the folder is made");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder).output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        if !is_mounted {
            say("loss: no file system for the spool can be mounted, so its disk is not filled");
        }
        Self { folder: folder.to_owned(), is_mounted }
    }

    fn junk(&self) -> PathBuf {
        self.folder.join("other-file")
    }

    /// Fills the disk completely. Returns false if the spool has no separate disk.
    pub fn fill(&self) -> bool {
        if !self.is_mounted {
            return false;
        }
        let mut file = File::create(self.junk()).expect("a file");
        let mut piece = vec![0; 1 << 16];
        while !piece.is_empty() {
            while file.write_all(&piece).is_ok() {}
            piece.truncate(piece.len() / 2);
        }
        true
    }

    /// Undoes [`Spool::fill`].
    pub fn make_room(&self) {
        // The file may not exist.
        let _ = fs::remove_file(self.junk());
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg("--lazy").arg(&self.folder).output();
        }
    }
}
