//! A PostgreSQL of a test's own, which it may stop, kill and start again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Program, find_program, free_port, skipped};

/// How long it may take to recover and to serve.
const PATIENCE: Duration = Duration::from_secs(60);

/// The user that the package of the distribution brings: the server refuses to run as root.
const OWNER: &str = "postgres";

/// A running PostgreSQL. Dropping it ends it.
#[derive(Debug)]
pub struct OwnPostgres {
    program: Program,
    binaries: PathBuf,
    port: u16,
    _folder: TempDir,
}

impl OwnPostgres {
    /// Starts an empty one and waits until it serves. None, after saying so, when none is installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(binaries) = binaries() else {
            skipped("the restarts of PostgreSQL: no server; `make test` installs it where it can");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let (place, data) = (text(folder.path()), text(&data));
        if is_root() {
            run(Command::new("chown").args([OWNER, &place]));
        }
        let mut initdb = as_owner(&binaries.join("initdb"));
        initdb.extend(["--pgdata", &data, "--username", OWNER, "--auth", "trust", "--no-sync"].map(str::to_owned));
        initdb.extend(["--encoding", "UTF8", "--locale", "C.UTF-8"].map(str::to_owned));
        run(Command::new(&initdb[0]).args(&initdb[1..]).current_dir(folder.path()));
        let port = free_port();
        let mut server = as_owner(&binaries.join("postgres"));
        server.extend(["-D", &data, "-k", &place, "-p", &port.to_string()].map(str::to_owned));
        // Processes end here and machines do not: what is written need not reach the disk.
        for option in ["listen_addresses=127.0.0.1", "fsync=off", "max_connections=200"] {
            server.extend(["-c", option].map(str::to_owned));
        }
        let arguments: Vec<_> = server[1..].iter().map(String::as_str).collect();
        let program = Program::start_other(Path::new(&server[0]), &arguments, &[]);
        let postgres = Self { program, binaries, port, _folder: folder };
        postgres.wait_until_ready();
        Some(postgres)
    }

    /// Makes a database and returns its URL.
    #[must_use]
    pub fn database(&self, name: &str) -> String {
        let port = self.port.to_string();
        let mut command = Command::new(self.binaries.join("createdb"));
        run(command.args(["-h", "127.0.0.1", "-p", &port, "-U", OWNER, name]));
        format!("postgres://{OWNER}@127.0.0.1:{port}/{name}")
    }

    /// Ends it as a crash does, starts it again, and waits until it serves.
    pub fn crash_and_return(&mut self) {
        // Its own way to end at once with all its processes; it recovers at the next start.
        self.program.signal("QUIT");
        self.program.wait();
        self.program.start_again();
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let port = self.port.to_string();
        let end = Instant::now() + PATIENCE;
        let is_ready = || {
            let mut command = Command::new(self.binaries.join("pg_isready"));
            command.args(["-h", "127.0.0.1", "-p", &port, "-q"]).status().is_ok_and(|status| status.success())
        };
        while !is_ready() {
            assert!(Instant::now() < end, "PostgreSQL does not serve:\n{}", self.program.everything());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        // Killed, it would leave its processes behind.
        self.program.signal("QUIT");
        self.program.wait();
    }
}

/// Where the binaries of the server are: Debian keeps them by version, outside of PATH.
fn binaries() -> Option<PathBuf> {
    let mut folders: Vec<_> = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().collect();
    folders.sort_by_key(|folder| folder.file_name().to_string_lossy().parse().unwrap_or(0));
    let by_version = folders.last().map(|folder| folder.path().join("bin")).filter(|bin| bin.join("initdb").is_file());
    by_version.or_else(|| find_program("initdb").and_then(|initdb| initdb.parent().map(Path::to_owned)))
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

/// A program as the owner of the server: itself, or by a program that becomes it, so that signals reach it.
fn as_owner(program: &Path) -> Vec<String> {
    let mut words = Vec::new();
    if is_root() {
        let becomes = ["/usr/bin/setpriv", "--reuid", OWNER, "--regid", OWNER, "--init-groups"];
        words.extend(becomes.map(str::to_owned));
    }
    words.push(text(program));
    words
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
