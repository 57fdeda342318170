//! The throw-away PostgreSQL that `scripts/with-postgres` starts for the tests, and one that a test may stop and start.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{find_program, free_port, skipped};

/// Returns the URL of the server; its user may create databases. Prints a note and returns none if there is no server.
#[must_use]
pub fn postgres() -> Option<String> {
    let url = std::env::var("PADDOCK_TEST_POSTGRES").ok();
    if url.is_none() {
        skipped("the tests on PostgreSQL: no server; `make test` starts one where it is installed");
    }
    url
}

/// A PostgreSQL of one test, which may stop and start it. Dropping it stops it and deletes its files.
#[derive(Debug)]
pub struct OwnPostgres {
    /// Where the programs of the server are.
    programs: PathBuf,
    folder: TempDir,
    port: u16,
}

impl OwnPostgres {
    /// Starts an empty server. Prints a note and returns none if no server is installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            skipped("what happens when PostgreSQL restarts: no server is installed");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("paddock-postgres").tempdir().expect("a temporary folder");
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(folder.path()).status();
            assert!(owned.is_ok_and(|status| status.success()), "the user postgres gets the folder");
        }
        let postgres = Self { programs, folder, port: free_port() };
        let options = ["--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8"];
        postgres.run("initdb", &options);
        postgres.control("start");
        Some(postgres)
    }

    /// Creates a database and returns its URL.
    #[must_use]
    pub fn create_database(&self, name: &str) -> String {
        let mut create = Command::new(self.programs.join("createdb"));
        create.args(["--host", "127.0.0.1", "--port", &self.port.to_string(), "--username", "postgres", name]);
        let output = create.output().expect("createdb runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Ends the server as a crash does, and starts it again.
    pub fn restart(&mut self) {
        self.control("restart");
    }

    fn control(&self, what: &str) {
        let log = self.folder.path().join("log").display().to_string();
        let socket_folder = self.folder.path().display();
        let options =
            format!("-p {} -k {socket_folder} -c listen_addresses=127.0.0.1 -c max_connections=100", self.port);
        let arguments = ["--log", &log, "--options", &options, "--mode", "immediate", "--wait", "--silent", what];
        // The server must not keep the pipes of the test open.
        self.run("pg_ctl", &arguments);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        // PostgreSQL refuses to run as root. The package of the distribution creates a user for it.
        let mut command = Command::new(if is_root() { "runuser" } else { "env" });
        if is_root() {
            command.args(["-u", "postgres", "--"]);
        }
        command.arg(self.programs.join(program)).arg("--pgdata").arg(self.folder.path().join("data")).args(arguments);
        command.current_dir(self.folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().expect("the program runs");
        assert!(status.success(), "{program} {arguments:?}: {status}");
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.control("stop");
        } else if let Ok(pid) = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid")) {
            let pid = pid.lines().next().unwrap_or_default().to_owned();
            let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        }
    }
}

/// The folder with the programs of the server: Debian keeps them outside the PATH.
fn programs() -> Option<PathBuf> {
    // A file in the PATH may be a link to one of them.
    if let Some(initdb) = find_program("initdb").and_then(|initdb| initdb.canonicalize().ok()) {
        return initdb.parent().map(Path::to_owned);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").is_file()).max()
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id runs");
    output.stdout.starts_with(b"0")
}
