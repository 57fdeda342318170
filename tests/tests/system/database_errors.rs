//! One error of a database gives one reason and one status, on a route of runner-registry and on one of job-token-auth.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use proto::paddock::contract::v1::Reason;
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, sqlite::SqliteConnectOptions};
use system::{
    Answer, Api, Database, Distributed, OwnPostgres, Paddock, Program, find_program, free_port, skipped, within,
};

use crate::fixtures;

/// Maximum time that a test waits for a state.
const PATIENCE: Duration = Duration::from_secs(60);

/// The two routes that a case is tried on. Each of them writes into the database of its service.
struct Routes {
    root: Api,
    project: i64,
    user: i64,
}

impl Routes {
    async fn new(root: Api) -> Self {
        let user = fixtures::id(&root.get("/user").await.ok(200));
        let project = fixtures::project(&root).await;
        Self { root, project, user }
    }

    /// A route of runner-registry.
    async fn create_project(&self) -> Answer {
        self.root.post("/projects", json!({ "name": fixtures::unique("project") })).await
    }

    /// A route of job-token-auth. It reads from runner-registry first.
    async fn create_job(&self) -> Answer {
        self.root.post("/admin/jobs", json!({ "project_id": self.project, "user_id": self.user })).await
    }

    async fn assert_both_end_with(&self, reason: Reason, case: &str) {
        let (project, job) = tokio::join!(self.create_project(), self.create_job());
        assert_reason(&project, reason, &format!("{case}: POST /projects"));
        assert_reason(&job, reason, &format!("{case}: POST /admin/jobs"));
    }

    /// Waits until both routes work again.
    async fn recover(&self) {
        let recovered = within(PATIENCE, async || {
            let (project, job) = tokio::join!(self.create_project(), self.create_job());
            (project.status == 201 && job.status == 201).then_some(())
        });
        recovered.await.expect("both routes work again");
    }
}

#[track_caller]
fn assert_reason(answer: &Answer, reason: Reason, case: &str) {
    let spec = reason.spec().expect("a reason of the contract");
    let found = (answer.status, answer.body["reason"].as_str().unwrap_or_default());
    assert_eq!(found, (spec.http_status, spec.code), "{case}: {}", answer.text);
}

#[tokio::test]
async fn a_lock_of_sqlite_gives_one_reason() {
    let paddock = Paddock::start();
    let routes = Routes::new(paddock.root()).await;
    let mut locks = Vec::new();
    for file in ["runner-registry.sqlite", "job-token-auth.sqlite"] {
        let options = SqliteConnectOptions::new().filename(paddock.data().join(file));
        let mut connection = options.connect().await.expect("the database opens");
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the file is locked");
        locks.push(connection);
    }
    routes.assert_both_end_with(Reason::Unavailable, "a lock").await;
    for lock in locks {
        lock.close().await.expect("the lock is released");
    }
    routes.recover().await;
}

/// Runs `paddock serve` with its data on a small disk in memory, in a mount namespace that ends with the process.
struct SmallDisk {
    program: Program,
    port: u16,
    data: PathBuf,
    _folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Returns `None`, after a note, if the machine does not let this user mount anything.
    fn start() -> Option<Self> {
        const MOUNT: &str = "mount -t tmpfs -o size=16m tmpfs \"$PADDOCK_DATA\" && exec \"$0\" \"$@\"";
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().to_owned();
        let unshare = find_program("unshare").filter(|unshare| {
            let tried = Command::new(unshare)
                .args(["--map-root-user", "--mount", "sh", "-c", MOUNT, "true"])
                .env("PADDOCK_DATA", &data)
                .output();
            tried.is_ok_and(|tried| tried.status.success())
        });
        let Some(unshare) = unshare else {
            skipped("a full disk: this user cannot mount a file system in a namespace");
            return None;
        };
        let port = free_port();
        let paddock = system::binary("paddock");
        let paddock = paddock.to_str().expect("a path in UTF-8");
        let arguments = ["--map-root-user", "--mount", "sh", "-c", MOUNT, paddock, "serve"];
        let settings = [
            ("PADDOCK_PORT", port.to_string()),
            ("PADDOCK_DATA", data.to_str().expect("a path in UTF-8").to_owned()),
            ("PADDOCK_PADDOCK__METRICS_LISTEN", String::new()),
            ("PADDOCK_TELEMETRY__LOG_FORMAT", "json".to_owned()),
        ];
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let program = Program::start_other(&unshare, &arguments, &settings);
        program.wait_for_output("paddock ready");
        Some(Self { program, port, data, _folder: folder })
    }

    /// The path of a file in the data folder, as this process reaches it.
    fn path(&self, file: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.program.id()));
        root.join(self.data.strip_prefix("/").expect("an absolute path")).join(file)
    }

    fn root(&self) -> Api {
        let token = fs::read_to_string(self.path("root.token")).expect("the token file");
        Api::anonymous(&format!("http://127.0.0.1:{}", self.port)).with_token(token.trim())
    }
}

/// Writes to the end of a file until the disk is full.
fn fill_disk(file: &Path) {
    let mut file = File::options().create(true).append(true).open(file).expect("the file is opened");
    for size in [1 << 16, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

/// Writes until the service refuses a write, and keeps the disk full meanwhile. A write-ahead log has room for some transactions.
async fn until_refused(filler: &Path, write: impl AsyncFn() -> Answer) -> Answer {
    const MAX_WRITES: usize = 5_000;
    for _ in 0..MAX_WRITES {
        fill_disk(filler);
        let answer = write().await;
        if answer.status != 201 {
            return answer;
        }
    }
    panic!("a full disk took {MAX_WRITES} writes");
}

#[tokio::test]
async fn a_full_disk_of_sqlite_gives_one_reason() {
    let Some(disk) = SmallDisk::start() else { return };
    let routes = Routes::new(disk.root()).await;
    let filler = disk.path("filler");
    let project = until_refused(&filler, || routes.create_project()).await;
    assert_reason(&project, Reason::Unavailable, "a full disk: POST /projects");
    let job = until_refused(&filler, || routes.create_job()).await;
    assert_reason(&job, Reason::Unavailable, "a full disk: POST /admin/jobs");
    fs::remove_file(&filler).expect("the filler is deleted");
    routes.recover().await;
}

/// The services on a separate PostgreSQL server, each with a separate role.
struct OnPostgres {
    system: Distributed,
    server: OwnPostgres,
    /// The URLs of the databases, for a superuser.
    databases: [String; 2],
}

/// The roles of the services. A superuser would not be held to a limit of connections.
const ROLES: [&str; 2] = ["registry", "job_tokens"];

/// The table of each service that its route writes into.
const TABLES: [&str; 2] = ["projects", "jobs"];

impl OnPostgres {
    /// Returns `None`, after a note, if no PostgreSQL is installed.
    async fn start() -> Option<Self> {
        let server = OwnPostgres::start()?;
        let databases = ROLES.map(|role| server.create_database(role));
        let mut urls = Vec::new();
        for (role, database) in ROLES.into_iter().zip(&databases) {
            execute(database, &format!("CREATE ROLE {role} LOGIN")).await;
            execute(database, &format!("ALTER DATABASE {role} OWNER TO {role}")).await;
            urls.push(database.replace("postgres@", &format!("{role}@")));
        }
        let job_token_auth = urls.pop().expect("two URLs");
        let registry = urls.pop().expect("two URLs");
        let system = Distributed::start(&Database::Postgres { registry, job_token_auth }, &[]);
        Some(Self { system, server, databases })
    }

    async fn execute_in_both(&self, statement: impl Fn(&str) -> String) {
        for (database, table) in self.databases.iter().zip(TABLES) {
            execute(database, &statement(table)).await;
        }
    }
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the server answers")
}

async fn execute(url: &str, statement: &str) {
    let mut connection = connect(url).await;
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.expect(statement);
    connection.close().await.expect("the connection closes");
}

/// The server raises the errors, so that they take the same way through the driver as real ones.
#[tokio::test]
async fn an_error_of_postgres_gives_one_reason() {
    let Some(postgres) = OnPostgres::start().await else { return };
    let routes = Routes::new(postgres.system.root()).await;
    let cases = [
        ("serialization_failure", Reason::Conflict),
        ("deadlock_detected", Reason::Conflict),
        ("disk_full", Reason::Unavailable),
        ("lock_not_available", Reason::Unavailable),
        ("admin_shutdown", Reason::Unavailable),
        ("undefined_column", Reason::Internal),
    ];
    for (number, (condition, reason)) in cases.into_iter().enumerate() {
        let raise = format!("BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{condition}'; END");
        postgres
            .execute_in_both(|_| {
                format!("CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $${raise}$$")
            })
            .await;
        if number == 0 {
            postgres
                .execute_in_both(|table| {
                    format!("CREATE TRIGGER fail BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail()")
                })
                .await;
        }
        routes.assert_both_end_with(reason, condition).await;
    }
}

#[tokio::test]
async fn a_restart_of_postgres_gives_one_reason() {
    let Some(mut postgres) = OnPostgres::start().await else { return };
    let routes = Routes::new(postgres.system.root()).await;
    // The requests wait for these locks when the server restarts.
    let mut locks = Vec::new();
    for (database, table) in postgres.databases.iter().zip(TABLES) {
        let mut connection = connect(database).await;
        let lock = format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE");
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut connection).await.expect("the table is locked");
        locks.push(connection);
    }
    let restart = async {
        for database in &postgres.databases {
            wait_for_blocked_statement(database).await;
        }
        postgres.server.restart();
    };
    let (project, job, ()) = tokio::join!(routes.create_project(), routes.create_job(), restart);
    assert_reason(&project, Reason::Unavailable, "a restart: POST /projects");
    assert_reason(&job, Reason::Unavailable, "a restart: POST /admin/jobs");
    routes.recover().await;
}

async fn wait_for_blocked_statement(database: &str) {
    let mut connection = connect(database).await;
    let query = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let blocked = within(PATIENCE, async || {
        let count: i64 = sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("the server answers");
        (count > 0).then_some(())
    });
    blocked.await.expect("a statement waits for the lock");
}

#[tokio::test]
async fn a_connection_limit_of_postgres_gives_one_reason() {
    let Some(postgres) = OnPostgres::start().await else { return };
    let routes = Routes::new(postgres.system.root()).await;
    // One after the other, because no route of job-token-auth reaches its database without the registry.
    limit_connections(&postgres, 1, 0).await;
    assert_reason(&routes.create_job().await, Reason::Unavailable, "a limit: POST /admin/jobs");
    limit_connections(&postgres, 1, -1).await;
    limit_connections(&postgres, 0, 0).await;
    assert_reason(&routes.create_project().await, Reason::Unavailable, "a limit: POST /projects");
    limit_connections(&postgres, 0, -1).await;
    routes.recover().await;
}

/// Limits the connections of the role of a service, and ends those that are open.
async fn limit_connections(postgres: &OnPostgres, service: usize, limit: i32) {
    let role = ROLES[service];
    let database = &postgres.databases[service];
    execute(database, &format!("ALTER ROLE {role} CONNECTION LIMIT {limit}")).await;
    execute(database, &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"))
        .await;
}
