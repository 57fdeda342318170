//! A PostgreSQL server for tests, and one database for each test.
//!
//! The server is the one that the environment names, or a throw-away one that lives as long as this process. A database is a
//! copy of a template that has the schema already: copying takes a fraction of the time of the migrations.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio, id as process_id},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::UNIX_EPOCH,
};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};
use sea_orm_migration::MigratorTrait;
use sha2::{Digest as _, Sha256};

use crate::db::{self, DatabaseLocation};

/// The variable that names a server. Its user may create databases.
const SERVER: &str = "PADDOCK_TEST_POSTGRES";

/// The key of the advisory lock that a process holds while it makes a template.
const TEMPLATE_LOCK: i64 = 0x7465_6d70_6c61_7465;

/// The server that this process started, if it needed one and could start it. Its script ends with this process, because its
/// standard input ends then.
static STARTED: OnceLock<Option<(Child, String)>> = OnceLock::new();

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Creates a database with the schema of the migrations. Returns `None`, after a note on standard error, if there is no server.
///
/// # Panics
/// If `CI` is set and there is no server, or if the server fails.
pub async fn new_database<M: MigratorTrait>(service: &str) -> Option<DatabaseLocation> {
    let Some(server) = server_url() else {
        assert!(env::var_os("CI").is_none(), "there is no PostgreSQL server, and with CI nothing may be skipped");
        let _ = writeln!(std::io::stderr(), "skipped: the tests on PostgreSQL: there is no server");
        return None;
    };
    let admin = connect_once(&server).await;
    let template = Template::of::<M>(service);
    if !template.is_current(&admin).await {
        template.make::<M>(&admin, &server).await;
    }
    let name = format!("test_{service}_{}_{}", process_id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    execute_sql(&admin, &format!("CREATE DATABASE {name} TEMPLATE {}", template.name)).await;
    admin.close().await.unwrap();
    Some(DatabaseLocation::Postgres(with_database(&server, &name).into_bytes().into()))
}

/// Drops a database, even if it is in use. A SQLite file stays: it goes with its folder.
///
/// # Panics
/// If the server fails.
pub async fn drop_database(location: &DatabaseLocation) {
    let DatabaseLocation::Postgres(url) = location else { return };
    let url = std::str::from_utf8(url.expose()).unwrap();
    let path = url.split('?').next().unwrap();
    let (_, name) = path.rsplit_once('/').unwrap();
    let admin = connect_once(&server_url().unwrap()).await;
    execute_sql(&admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    admin.close().await.unwrap();
}

/// A database with a schema and no rows, which all processes with the same test binary copy.
struct Template {
    name: String,
    /// The time of the build. A template of an older build is replaced, because a migration may have changed.
    build: String,
}

impl Template {
    fn of<M: MigratorTrait>(service: &str) -> Self {
        let binary = env::current_exe().unwrap();
        let built_at = binary.metadata().and_then(|metadata| metadata.modified()).unwrap();
        let build = built_at.duration_since(UNIX_EPOCH).unwrap().as_nanos().to_string();
        let mut digest = Sha256::new_with_prefix(binary.as_os_str().as_encoded_bytes());
        for migration in M::migrations() {
            digest.update([0]);
            digest.update(migration.name());
        }
        let digest = hex::encode(digest.finalize());
        Self { name: format!("template_{service}_{}", &digest[..16]), build }
    }

    /// Reports whether the template exists and is of this build. The comment of the database names its build.
    async fn is_current(&self, admin: &impl ConnectionTrait) -> bool {
        let query = format!(
            "SELECT 1 FROM pg_database WHERE datname = '{}' AND shobj_description(oid, 'pg_database') = '{}'",
            self.name, self.build
        );
        admin.query_one_raw(postgres_statement(query)).await.unwrap().is_some()
    }

    /// Makes the template, unless another process does. A template appears under its name only when it is complete.
    async fn make<M: MigratorTrait>(&self, admin: &DatabaseConnection, server: &str) {
        execute_sql(admin, &format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await;
        if !self.is_current(admin).await {
            let unfinished = format!("{}_unfinished", self.name);
            for name in [&self.name, &unfinished] {
                execute_sql(admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
            }
            execute_sql(admin, &format!("CREATE DATABASE {unfinished}")).await;
            let database = connect_once(&with_database(server, &unfinished)).await;
            db::migrate::<M>(&database).await.unwrap();
            database.close().await.unwrap();
            execute_sql(admin, &format!("COMMENT ON DATABASE {unfinished} IS '{}'", self.build)).await;
            execute_sql(admin, &format!("ALTER DATABASE {unfinished} RENAME TO {}", self.name)).await;
        }
        execute_sql(admin, &format!("SELECT pg_advisory_unlock({TEMPLATE_LOCK})")).await;
    }
}

/// Connects once: an advisory lock belongs to its connection, and a connection to the runtime of its test.
async fn connect_once(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url.to_owned());
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
}

async fn execute_sql(database: &DatabaseConnection, sql: &str) {
    database.execute_unprepared(sql).await.unwrap();
}

fn postgres_statement(sql: String) -> sea_orm::Statement {
    sea_orm::Statement::from_string(sea_orm::DatabaseBackend::Postgres, sql)
}

/// Returns the URL of the server that the environment names, or of a started one; none if there is neither.
fn server_url() -> Option<String> {
    if let Some(url) = env::var(SERVER).ok().filter(|url| !url.is_empty()) {
        return Some(url);
    }
    STARTED.get_or_init(start_server).as_ref().map(|(_, url)| url.clone())
}

/// Starts a server. The script prints the URL, and stops the server at the end of its input.
fn start_server() -> Option<(Child, String)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/with-postgres");
    let mut script = Command::new(script)
        .args(["sh", "-c", &format!("echo \"${SERVER}\" && exec cat >/dev/null")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(script.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let url = url.trim().to_owned();
    if url.is_empty() {
        script.wait().unwrap();
        return None;
    }
    Some((script, url))
}

/// Replaces the database in a URL.
fn with_database(url: &str, name: &str) -> String {
    let (address, parameters) = match url.split_once('?') {
        Some((address, parameters)) => (address, format!("?{parameters}")),
        None => (url, String::new()),
    };
    let (server, _) = address.rsplit_once('/').unwrap();
    format!("{server}/{name}{parameters}")
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn the_parameters_of_a_url_are_kept() {
        let cases = [
            ("postgres://postgres@127.0.0.1:5432/postgres", "postgres://postgres@127.0.0.1:5432/new"),
            ("postgres://p@h/postgres?sslmode=disable", "postgres://p@h/new?sslmode=disable"),
        ];
        for (url, expected) in cases {
            assert_eq!(with_database(url, "new"), expected);
        }
    }
}
