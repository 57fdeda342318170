//! A real Redis on a free port, with a temporary folder. It writes every change to disk before it answers.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{Program, free_port, skipped};

/// Maximum time until Redis has loaded its data and serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running Redis. Dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    program: Program,
    port: u16,
    folder: TempDir,
}

impl Redis {
    /// Starts an empty Redis and waits until it serves. Prints a note and returns none if Redis is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(server) = find_program("redis-server") else {
            skipped("the tests on Redis: no redis-server; `make test` installs it where it can");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let directory = folder.path().to_str().expect("a path in UTF-8");
        let port_text = port.to_string();
        let arguments = [
            ["--port", &port_text],
            ["--bind", "127.0.0.1"],
            ["--dir", directory],
            ["--appendonly", "yes"],
            ["--appendfsync", "always"],
            ["--save", ""],
            ["--daemonize", "no"],
        ];
        let redis = Self { program: Program::start_other(&server, &arguments.concat(), &[]), port, folder };
        redis.wait_until_ready();
        Some(redis)
    }

    /// The URL, in the form of the secret.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Starts it again on the same port with the data on its disk, and waits until it serves.
    pub fn start_again(&mut self) {
        self.program.start_again();
        self.wait_until_ready();
    }

    /// Pauses it: it keeps its connections and answers nothing.
    pub fn pause(&self) {
        self.program.signal("STOP");
    }

    /// Resumes it.
    pub fn resume(&self) {
        self.program.signal("CONT");
    }

    /// Deletes all its data while it runs.
    pub fn wipe(&self) {
        assert_eq!(self.ask("FLUSHALL").as_deref(), Some("+OK"), "the data is deleted");
    }

    /// Ends it, deletes its files and starts it again, as after the loss of its disk.
    pub fn lose_disk(&mut self) {
        self.kill();
        for entry in std::fs::read_dir(self.folder.path()).expect("its folder").flatten() {
            let path = entry.path();
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.expect("its files are ours");
        }
        self.start_again();
    }

    /// Returns the first line of the answer to an inline command. Returns none if there is no answer.
    #[must_use]
    pub fn ask(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
        let mut answer = [0; 256];
        let length = stream.read(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..length]).lines().next()?.to_owned())
    }

    fn wait_until_ready(&self) {
        let end = Instant::now() + PATIENCE;
        while self.ask("PING").as_deref() != Some("+PONG") {
            assert!(Instant::now() < end, "redis-server does not serve:\n{}", self.program.everything());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

/// Finds a program of the machine by its name, in the PATH and in the folders where Debian installs servers.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(|p| Path::new(p).to_owned()));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Finds a library of the machine by its path below one of the folders of libraries.
#[must_use]
pub fn find_library(name: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders
        .chain(["/usr/lib", "/usr/lib64"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
