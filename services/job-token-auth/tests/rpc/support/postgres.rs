//! A Postgres server for the tests: the one that the environment names, or a throw-away one that lives as long as this
//! process.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection};

/// Names a server whose user may create databases.
const SERVER: &str = "PADDOCK_TEST_POSTGRES";

/// A started server, if one was needed and could be. Its script ends when this process does, because its input ends
/// then.
static STARTED: OnceLock<Option<(Child, String)>> = OnceLock::new();

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Creates an empty database and returns its URL; none, with a note, if there is no server.
pub async fn new_database() -> Option<String> {
    let Some(server) = server() else {
        assert!(std::env::var_os("CI").is_none(), "no Postgres server was found, and CI must not skip");
        let _ = writeln!(std::io::stderr(), "skipped: no Postgres server was found");
        return None;
    };
    let name = format!("job_tokens_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    execute(&server, &format!("CREATE DATABASE {name}")).await;
    Some(with_database(&server, &name))
}

/// Drops the database of a URL.
pub async fn drop_database(url: &str) {
    let path = url.split('?').next().unwrap();
    let (_, name) = path.rsplit_once('/').unwrap();
    execute(&server().unwrap(), &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
}

async fn execute(server: &str, statement: &str) {
    // A connection belongs to the runtime of its test, so each test opens its own.
    let mut options = ConnectOptions::new(server.to_owned());
    options.max_connections(1).sqlx_logging(false);
    let server: DatabaseConnection = Database::connect(options).await.unwrap();
    server.execute_unprepared(statement).await.unwrap();
    server.close().await.unwrap();
}

fn server() -> Option<String> {
    if let Some(url) = std::env::var(SERVER).ok().filter(|url| !url.is_empty()) {
        return Some(url);
    }
    STARTED.get_or_init(start).as_ref().map(|(_, url)| url.clone())
}

/// Starts a server beside this process: the script prints the URL, and stops the server at the end of its input.
fn start() -> Option<(Child, String)> {
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

/// The URL of a server with another database.
fn with_database(server: &str, name: &str) -> String {
    let (base, parameters) = server.split_once('?').map_or((server, ""), |(base, parameters)| (base, parameters));
    let (start, _) = base.rsplit_once('/').unwrap();
    let parameters = if parameters.is_empty() { String::new() } else { format!("?{parameters}") };
    format!("{start}/{name}{parameters}")
}
