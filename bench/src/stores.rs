//! The stores that captures go through, and what their own benchmarks say of them.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How many rows the flusher writes with one statement at most, and pgbench too.
const ROWS: usize = 500;

/// A Redis that writes every change to disk before it answers.
pub struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// Starts it in the folder; none if it is not installed.
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

    /// Lets it stand still until what this returns is dropped.
    pub fn freeze(&self) -> Frozen {
        let frozen = Frozen(self.child.id());
        frozen.send("STOP");
        frozen
    }

    /// XADD of an entry as large as a capture, as fast as redis-benchmark can.
    pub fn benchmark(&self, callers: usize, count: u64) {
        let (port, callers_text, count) = (self.port.to_string(), callers.to_string(), count.to_string());
        let entry = "x".repeat(260);
        let arguments =
            ["-p", &port, "-c", &callers_text, "-n", &count, "--csv", "XADD", "bench", "*", "capture", &entry];
        let Ok(output) = Command::new("redis-benchmark").args(arguments).output() else {
            println!("skipped: redis-benchmark is not installed");
            return;
        };
        // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let row: Vec<_> =
            text.lines().last().unwrap_or_default().rsplit(',').map(|cell| cell.trim_matches('"')).collect();
        let cell = |from_the_end: usize| row.get(from_the_end).copied().unwrap_or("?");
        println!("| redis-benchmark, XADD | {callers} | {} | - | {} ms | {} ms |", cell(6), cell(3), cell(1));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Redis that stands still.
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

/// Holds the table of the log locked until it is dropped.
pub struct Lock(Child);

impl Postgres {
    pub fn from_environment() -> Option<Self> {
        Some(Self { url: std::env::var("PADDOCK_TEST_POSTGRES").ok()? })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The session stays idle in its transaction: one that executed something would keep the lock until that ends, whatever
    /// becomes of its client.
    pub fn lock_log(&self) -> Lock {
        let (input, output) = (Stdio::piped(), Stdio::piped());
        let mut child = Command::new("psql").arg(&self.url).stdin(input).stdout(output).spawn().expect("psql");
        let statement = b"BEGIN; LOCK TABLE access_events IN ACCESS EXCLUSIVE MODE;\n\\echo locked\n";
        child.stdin.as_mut().expect("its input").write_all(statement).expect("psql reads");
        let mut lines = BufReader::new(child.stdout.as_mut().expect("its output")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line == "locked")), "the log is locked");
        Lock(child)
    }

    pub fn count_log(&self) -> u64 {
        let output =
            Command::new("psql").arg(&self.url).args(["-At", "-c", "SELECT count(*) FROM access_events"]).output();
        let output = output.expect("psql").stdout;
        String::from_utf8_lossy(&output).trim().parse().expect("a number")
    }

    /// The same rows by pgbench, as many with one statement.
    pub fn benchmark(&self) {
        let create = "DROP TABLE IF EXISTS bench_events; CREATE TABLE bench_events (LIKE access_events INCLUDING ALL)";
        let created = Command::new("psql").arg(&self.url).args(["-q", "-c", create]).stderr(Stdio::null()).status();
        assert!(created.is_ok_and(|status| status.success()), "the table is created");
        let script = format!(
            "INSERT INTO bench_events SELECT gen_random_uuid()::text, 2, 1, 1, 1, \
             'GET /api/v4/projects/{{id}}/jobs/artifacts/{{ref_name}}/download', 'read_jobs', 1, 1795000000000, \
             '0198f0c2b5e47a1c9d3e4f5a6b7c8d9e', '192.0.2.7', 200 FROM generate_series(1, {ROWS}) ON CONFLICT DO NOTHING;"
        );
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), script.replace("\\\n", "")).expect("the script");
        let bin = Command::new("pg_config").arg("--bindir").output().map(|output| output.stdout).unwrap_or_default();
        let bin = String::from_utf8_lossy(&bin).trim().to_owned();
        let program = if bin.is_empty() { "pgbench".to_owned() } else { format!("{bin}/pgbench") };
        let output = Command::new(program)
            .args(["--no-vacuum", "--time", "8", "--client", "1", "--file"])
            .arg(file.path())
            .arg(&self.url)
            .output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
        match rate {
            Some(rate) => println!("| pgbench, {ROWS} rows a statement, one connection | {:.0} |", rate * ROWS as f64),
            None => println!("skipped: pgbench is not installed"),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
