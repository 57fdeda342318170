//! The log lines and the metrics of the test process.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

static LINES: LazyLock<Lines> = LazyLock::new(Lines::default);
static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
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

/// Starts the capture, once for all tests. Everything is captured, down to the libraries' traces.
pub fn install() {
    install_at(tracing::Level::TRACE);
}

/// The same for tests that make a great many requests and do not look at the log. Before anything else.
pub fn install_quietly() {
    install_at(tracing::Level::ERROR);
}

fn install_at(level: tracing::Level) {
    METRICS.get_or_init(|| {
        tracing_subscriber::fmt().json().flatten_event(true).with_max_level(level).with_writer(LINES.clone()).init();
        PrometheusBuilder::new().install_recorder().expect("no other recorder")
    });
}

/// Everything that was logged so far.
pub fn everything() -> String {
    String::from_utf8(LINES.0.lock().unwrap().clone()).expect("text")
}

/// The access lines of one request.
pub fn access(request_id: &str) -> Vec<Value> {
    let mentions = everything();
    let lines = mentions.lines().filter(|line| line.contains(request_id) && line.contains("\"target\":\"access\""));
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"));
    lines.filter(|line| line["correlation_id"] == request_id).collect()
}

/// The metrics as Prometheus reads them.
pub fn metrics() -> String {
    METRICS.get().expect("installed").render()
}
