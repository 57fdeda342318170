//! A running process: what it prints is kept, and it is stopped when the test is over.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// The longest time that a process may take to start or to stop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port that was free a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: String,
    /// How it was started, for starting it again.
    command: Start,
    child: Child,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
}

/// A program with its arguments and settings.
#[derive(Clone, Debug)]
struct Start {
    path: PathBuf,
    arguments: Vec<String>,
    settings: Vec<(String, String)>,
}

/// The lines that a process has printed so far.
#[derive(Debug, Default)]
struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    closed: bool,
}

impl Lines {
    /// Reads to the end on a separate thread, so that the process never waits for a reader.
    fn read(pipe: impl Read + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let kept = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                kept.state.lock().unwrap().lines.push(line);
                kept.changed.notify_all();
            }
            kept.state.lock().unwrap().closed = true;
            kept.changed.notify_all();
        });
        lines
    }

    /// Waits until the condition holds. Returns none if it does not hold in time.
    fn wait<T>(&self, condition: impl Fn(&State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(found) = condition(&state) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn all(&self) -> Vec<String> {
        self.state.lock().unwrap().lines.clone()
    }
}

impl Program {
    /// Starts a binary of the workspace, without the settings that the environment may hold.
    #[must_use]
    pub fn start(name: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::start_other(&crate::binaries::path(name), arguments, settings)
    }

    /// Starts a program of the machine.
    #[must_use]
    pub fn start_other(path: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::spawn(Start {
            path: path.to_owned(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        })
    }

    fn spawn(start: Start) -> Self {
        let name = start.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut command = Command::new(&start.path);
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("PADDOCK_")) {
            command.env_remove(variable);
        }
        command.args(&start.arguments).envs(start.settings.iter().map(|(name, value)| (name, value)));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let stdout = Lines::read(child.stdout.take().expect("it is piped"));
        let stderr = Lines::read(child.stderr.take().expect("it is piped"));
        Self { name, command: start, child, stdout, stderr }
    }

    /// Ends it with SIGKILL, as a crash or the kernel does.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again after its end, with the same arguments and settings. Its earlier output is dropped.
    pub fn start_again(&mut self) {
        *self = Self::spawn(self.command.clone());
    }

    /// Starts it again with one setting changed.
    pub fn start_again_with(&mut self, name: &str, value: &str) {
        let mut command = self.command.clone();
        command.settings.push((name.to_owned(), value.to_owned()));
        *self = Self::spawn(command);
    }

    /// Kills it, starts it again and waits until it serves.
    pub fn crash_and_return(&mut self) {
        self.kill();
        self.start_again();
        self.wait_until_ready();
    }

    /// Waits for the line that says that it serves.
    pub fn wait_until_ready(&self) {
        self.wait_for_output(&format!("{} ready", self.name));
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output.
    pub fn wait_for_output(&self, line: &str) {
        let found =
            self.stdout.wait(|state| (state.closed || state.lines.iter().any(|l| l == line)).then_some(state.closed));
        let shown = self.stdout.all();
        assert!(shown.iter().any(|l| l == line), "{}: no {line:?} ({found:?}):\n{}", self.name, self.everything());
    }

    /// Waits for a log line that satisfies the condition, and returns it.
    #[must_use]
    pub fn wait_for_log(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let found = self.stderr.wait(|state| state.lines.iter().filter_map(|line| parse(line)).find(&condition));
        found.unwrap_or_else(|| panic!("{}: no log line {what}:\n{}", self.name, self.everything()))
    }

    /// The lines of its log so far, one JSON object each.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        self.stderr.all().iter().filter_map(|line| parse(line)).collect()
    }

    /// Its standard output so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.stdout.all().join("\n")
    }

    /// Its standard error so far.
    #[must_use]
    pub fn errors(&self) -> String {
        self.stderr.all().join("\n")
    }

    /// Its whole output so far, for messages and searches.
    #[must_use]
    pub fn everything(&self) -> String {
        [self.stdout.all(), self.stderr.all()].concat().join("\n")
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        for pipe in [&self.stdout, &self.stderr] {
            let closed = pipe.wait(|state| state.closed.then_some(()));
            assert!(closed.is_some(), "{} does not end:\n{}", self.name, self.everything());
        }
        self.child.wait().expect("it can be waited for")
    }

    /// Stops it with SIGTERM, waits, and asserts a clean end: status 0 and no line of level ERROR.
    pub fn stop(&mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.everything());
        self.assert_no_errors();
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "{}: no signal {name}", self.name);
    }

    /// Asserts that there is no line of level ERROR and no panic so far.
    pub fn assert_no_errors(&self) {
        let errors: Vec<_> = self.log().into_iter().filter(|line| line["level"] == "ERROR").collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", self.name);
        assert!(!self.everything().contains("panicked at"), "{}: {}", self.name, self.everything());
    }
}

fn parse(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
