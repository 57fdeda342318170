//! The stores of captures, and their own benchmarks.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The number of rows of a statement of pgbench: the maximum of the flusher.
const ROWS: usize = 500;

/// A Redis that writes every change to disk before it answers.
pub struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// Starts Redis with its data in the folder. Returns none if it is not installed.
    pub async fn start(folder: &Path) -> Option<Self> {
        let folder = folder.join("redis");
        fs::create_dir(&folder).expect("a folder");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let port_text = port.to_string();
        let arguments = ["--port", &port_text, "--appendonly", "yes", "--appendfsync", "always", "--save", ""];
        let child = Command::new("taskset")
            .args(["-c", "0", "redis-server", "--dir"])
            .arg(&folder)
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let redis = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Some(redis);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Stops the process until the returned guard is dropped.
    pub fn freeze(&self) -> Frozen {
        let frozen = Frozen(self.child.id());
        frozen.send("STOP");
        frozen
    }

    /// Measures XADD with entries as large as a capture, with redis-benchmark.
    pub fn benchmark(&self, callers: usize, count: u64) {
        let port = self.port.to_string();
        let callers_text = callers.to_string();
        let count = count.to_string();
        let entry = "x".repeat(260);
        let arguments =
            ["-p", &port, "-c", &callers_text, "-n", &count, "--csv", "XADD", "bench", "*", "capture", &entry];
        let Ok(output) = Command::new("redis-benchmark").args(arguments).output() else {
            println!("skipped: redis-benchmark is not installed");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        // The columns: test, rps, avg_latency_ms, min_latency_ms, p50_latency_ms, p95_latency_ms, p99_latency_ms,
        // max_latency_ms. The name of the test may contain commas, so the columns are counted from the end.
        let row = text.lines().last().unwrap_or_default();
        let cells: Vec<_> = row.rsplit(',').map(|cell| cell.trim_matches('"')).collect();
        let [_max, p99, _p95, p50, _min, _average, rate, ..] = cells[..] else {
            println!("skipped: redis-benchmark printed {row:?}");
            return;
        };
        println!("| redis-benchmark, XADD | {callers} | {rate} | - | {p50} ms | {p99} ms |");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stopped Redis. It continues when this is dropped.
pub struct Frozen(u32);

impl Frozen {
    fn send(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.0.to_string()]).status().expect("kill");
        assert!(sent.success(), "Redis is gone");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.send("CONT");
    }
}

/// The PostgreSQL that `scripts/with-postgres` started.
pub struct Postgres {
    url: String,
}

/// A lock on the table of the log. It ends when this is dropped.
pub struct Lock(Child);

impl Postgres {
    pub fn from_environment() -> Option<Self> {
        Some(Self { url: std::env::var("PADDOCK_TEST_POSTGRES").ok()? })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Locks the table of the log. The session stays idle in its transaction, so that the lock ends with the client: a running
    /// statement would outlive it.
    pub fn lock_log(&self) -> Lock {
        let mut command = Command::new("psql");
        command.arg(&self.url).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("psql");
        let statement = b"BEGIN; LOCK TABLE access_events IN ACCESS EXCLUSIVE MODE;\n\\echo locked\n";
        child.stdin.as_mut().expect("its input").write_all(statement).expect("psql reads");
        let mut lines = BufReader::new(child.stdout.as_mut().expect("its output")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line == "locked")), "the log is locked");
        Lock(child)
    }

    pub fn count_log(&self) -> u64 {
        self.psql("SELECT count(*) FROM access_events").parse().expect("a number")
    }

    /// Measures inserts of the same rows, with pgbench.
    pub fn benchmark(&self) {
        let create = "DROP TABLE IF EXISTS bench_events; CREATE TABLE bench_events (LIKE access_events INCLUDING ALL)";
        let created = Command::new("psql").arg(&self.url).args(["-q", "-c", create]).stderr(Stdio::null()).status();
        assert!(created.is_ok_and(|status| status.success()), "the table is created");
        let script = format!(
            "INSERT INTO bench_events SELECT gen_random_uuid()::text, 2, 1, 1, 1, \
             'GET /api/v4/projects/{{id}}/jobs/artifacts/{{ref_name}}/download', 'read_jobs', 1, 1795000000000, \
             '0198f0c2b5e47a1c9d3e4f5a6b7c8d9e', '192.0.2.7', 200 FROM generate_series(1, {ROWS}) ON CONFLICT DO NOTHING;"
        );
        match self.pgbench(&script, 1, Duration::from_secs(8)) {
            Some(rate) => println!("| pgbench, {ROWS} rows a statement, one connection | {:.0} |", rate * ROWS as f64),
            None => println!("skipped: pgbench is not installed"),
        }
    }

    /// Runs a script with pgbench, with prepared statements as the services use them. Returns how often it ran per second, or none
    /// if pgbench is not installed.
    pub fn pgbench(&self, script: &str, clients: usize, duration: Duration) -> Option<f64> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), script).expect("the script");
        let bin = Command::new("pg_config").arg("--bindir").output().map(|output| output.stdout).unwrap_or_default();
        let bin = String::from_utf8_lossy(&bin).trim().to_owned();
        let program = if bin.is_empty() { "pgbench".to_owned() } else { format!("{bin}/pgbench") };
        let duration = duration.as_secs().to_string();
        let output = Command::new(program)
            .args(["--no-vacuum", "--protocol", "prepared", "--time", &duration, "--client", &clients.to_string()])
            .arg("--file")
            .arg(file.path())
            .arg(&self.url)
            .output()
            .ok()?;
        assert!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
    }

    /// Creates a database of its own on the same server.
    pub fn create_database(&self) -> Self {
        let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
        self.psql(&format!("CREATE DATABASE {name}"));
        let (server, _) = self.url.rsplit_once('/').expect("a URL with a database");
        Self { url: format!("{server}/{name}") }
    }

    /// Returns the number of transactions of the database that ended so far.
    pub fn count_transactions(&self) -> u64 {
        self.psql("SELECT pg_stat_clear_snapshot()");
        let count = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
        self.psql(count).parse().expect("a number")
    }

    /// Runs a statement and returns its only value.
    fn psql(&self, statement: &str) -> String {
        let output = Command::new("psql").arg(&self.url).args(["-At", "-c", statement]).output().expect("psql");
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
