//! The log lines and the metrics of the test process.

use std::{
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex, OnceLock},
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::Value;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

static LINES: LazyLock<Lines> = LazyLock::new(Lines::default);
static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

#[derive(Clone, Default)]
struct Lines {
    all: Arc<Mutex<Vec<u8>>>,
    /// A copy of the access lines. Tests that wait for one would be slow if they searched the traces of libraries, too.
    access: Arc<Mutex<Vec<String>>>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.all.lock().unwrap().extend_from_slice(bytes);
        let line = String::from_utf8_lossy(bytes);
        if line.contains("\"target\":\"access\"") {
            self.access.lock().unwrap().push(line.into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Captures lines from this level on. Only the first call in the process has an effect.
pub fn install_at(level: Level) {
    METRICS.get_or_init(|| {
        tracing_subscriber::fmt().json().flatten_event(true).with_max_level(level).with_writer(LINES.clone()).init();
        PrometheusBuilder::new().install_recorder().expect("no other recorder")
    });
}

/// Returns all lines so far.
pub fn everything() -> String {
    String::from_utf8(LINES.all.lock().unwrap().clone()).expect("text")
}

/// Returns the lines of Paddock that contain a text. Lines of the HTTP libraries are left out.
pub fn own_lines_with(text: &str) -> Vec<String> {
    let libraries = ["\"target\":\"h2", "\"target\":\"hyper", "\"target\":\"reqwest"];
    let everything = everything();
    let found = everything.lines().filter(|line| line.contains(text));
    found.filter(|line| !libraries.iter().any(|library| line.contains(library))).map(str::to_owned).collect()
}

/// Returns the access lines of one request.
pub fn access(request_id: &str) -> Vec<Value> {
    let lines = LINES.access.lock().unwrap();
    let lines = lines.iter().filter(|line| line.contains(request_id));
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"));
    lines.filter(|line| line["correlation_id"] == request_id).collect()
}

/// Waits for the access line of a request.
pub async fn access_line(request_id: &str) -> Value {
    loop {
        if let Some(line) = access(request_id).pop() {
            return line;
        }
        tokio::task::yield_now().await;
    }
}

/// Returns the metrics in the format of Prometheus.
pub fn metrics() -> String {
    METRICS.get().expect("installed").render()
}
