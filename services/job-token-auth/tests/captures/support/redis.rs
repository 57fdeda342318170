//! A Redis server for one test, which can stop, kill, pause, restart and empty it. It writes every change to disk at once.

use std::{
    fs::File,
    io::Write as _,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use redis::{Client, FromRedisValue, RedisResult, aio::MultiplexedConnection};
use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, getuid, kill_process},
};
use tempfile::TempDir;

use super::eventually;

/// Reports whether a Redis server is installed; prints a note if it is not.
pub fn has_server() -> bool {
    has_tool("redis-server")
}

/// Reports whether a program of Redis is installed; prints a note if it is not.
pub fn has_tool(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{program} was not found, and CI must not skip; see scripts/setup-test");
    let _ = writeln!(std::io::stderr(), "skipped: {program} was not found");
    false
}

/// A running server. It ends when this is dropped.
pub struct RedisServer {
    port: ClaimedPort,
    folder: TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts a server that writes every change to disk before it answers.
    pub async fn start() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// Starts a server with these options.
    pub async fn start_with(options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { port: ClaimedPort::claim(), folder, options, process: None };
        server.restart().await;
        server
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Returns the URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Starts the server again, with what it has on disk.
    pub async fn restart(&mut self) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        let process = Command::new("redis-server")
            .args(["--port", &self.port().to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--dir", self.folder.path().to_str().unwrap()])
            .args(&self.options)
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.unwrap());
        eventually("redis answers", async || self.try_ask::<String>(&["PING"]).await.is_ok()).await;
        let exited = self.process.as_mut().unwrap().try_wait().unwrap();
        assert!(exited.is_none(), "another program listens on port {}", self.port());
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Pauses the server: it keeps its connections and does nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes the server.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Returns how many connections of a paused server have data that it has not read.
    pub fn waiting_connections(&self) -> usize {
        let port = format!(":{:04X}", self.port());
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().skip(1).filter(|line| has_unread_data(line, &port)).count()
    }

    /// Runs a command.
    pub async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_ask(command).await.unwrap()
    }

    async fn try_ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await
    }

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap();
        kill_process(Pid::from_child(process), signal).unwrap();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reports whether a line of `/proc/net/tcp` is a connection of this local port with data in its receive queue.
fn has_unread_data(line: &str, port: &str) -> bool {
    let fields: Vec<_> = line.split_whitespace().collect();
    fields[1].ends_with(port) && fields[4].split_once(':').is_some_and(|(_, unread)| unread != "00000000")
}

/// A port that no other test uses, in this process or another, even while its server is down. It is below the ports that the
/// system gives to outgoing connections, and so is the port of a cluster's bus, which is 10000 higher.
pub struct ClaimedPort {
    /// The port.
    pub number: u16,
    _lock: File,
}

impl ClaimedPort {
    /// Claims a port.
    pub fn claim() -> Self {
        const FIRST: u16 = 10_100;
        const COUNT: u16 = 9_000;
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = std::env::temp_dir().join(format!("paddock-test-ports-{}", getuid().as_raw()));
        std::fs::create_dir_all(&folder).unwrap();
        // Processes begin at different ports, so that they rarely meet.
        let offset = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            let number = FIRST + (offset + step) % COUNT;
            let lock = File::create(folder.join(number.to_string())).unwrap();
            let is_claimed = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            if is_claimed && is_free(number) && is_free(number + 10_000) {
                return Self { number, _lock: lock };
            }
        }
        panic!("no port is free");
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
