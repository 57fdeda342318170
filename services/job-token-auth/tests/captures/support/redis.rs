//! A Redis server of the test's own, which it can stop, kill, pause, restart and empty. What it holds is written to disk at once.

use std::{
    fs::File,
    io::Write as _,
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use redis::{Client, FromRedisValue, aio::MultiplexedConnection};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::eventually;

/// Whether Redis is installed; a note if it is not.
pub fn is_installed() -> bool {
    let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "no Redis was found, and CI must not skip");
    let _ = writeln!(std::io::stderr(), "skipped: no Redis was found");
    false
}

/// A server. It ends with this.
pub struct RedisServer {
    /// Where it listens.
    pub port: u16,
    folder: TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    /// A server that writes every change to disk before it answers.
    pub async fn start() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// A server with these options.
    pub async fn start_with(options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { port: free_port(), folder, options, process: None };
        server.restart().await;
        server
    }

    /// The URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it again, with what it has on disk.
    pub async fn restart(&mut self) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--dir", self.folder.path().to_str().unwrap()])
            .args(&self.options)
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.unwrap());
        eventually("redis answers", async || self.try_ask::<String>(&["PING"]).await.is_ok()).await;
    }

    /// Ends it from one moment to the next.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// It keeps its connections and does nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// How many connections a paused server has that sent something which it has not read.
    pub fn waiting_connections(&self) -> usize {
        let port = format!(":{:04X}", self.port);
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let is_waiting = |line: &&str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields[1].ends_with(&port) && fields[4].split_once(':').is_some_and(|(_, unread)| unread != "00000000")
        };
        table.lines().skip(1).filter(is_waiting).count()
    }

    /// Runs a command.
    pub async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_ask(command).await.unwrap()
    }

    async fn try_ask<T: FromRedisValue>(&self, command: &[&str]) -> redis::RedisResult<T> {
        let mut connection = self.connection().await?;
        redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await
    }

    async fn connection(&self) -> redis::RedisResult<MultiplexedConnection> {
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

/// A port that nobody listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
