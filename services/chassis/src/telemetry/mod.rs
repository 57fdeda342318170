//! Telemetry: log lines through tracing, spans through OpenTelemetry over OTLP, metrics for Prometheus.
//!
//! Log lines go to standard error, because standard output is for the output of a command.

mod exposition;
pub mod propagation;

use std::{
    io::{self, BufWriter},
    sync::atomic::{AtomicBool, Ordering},
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry::{global, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use proto::paddock::contract::v1::Process;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{FilterExt as _, LevelFilter, ParseError, filter_fn},
    layer::{Filter, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use crate::{
    config::{Problems, Validate, is_server_address},
    process,
};

/// The target of the exported spans: one per request and process.
pub const SPAN_TARGET: &str = "request";

/// Number of log lines that are buffered for a slow reader. Then the process waits; no line is dropped.
const BUFFERED_LINES: usize = 8_192;

/// The buckets of every `_seconds` histogram.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

static TRACING: AtomicBool = AtomicBool::new(false);

/// The settings of the section `telemetry`.
#[derive(Clone, Debug, Deserialize)]
pub struct TelemetryConfig {
    /// The format of log lines.
    pub log_format: LogFormat,
    /// Which lines are written, in the syntax of tracing's `EnvFilter`.
    pub log_filter: String,
    /// The address that spans are sent to; empty: none.
    pub otlp_endpoint: String,
    /// The share of requests that are traced, 0 to 1.
    pub trace_ratio: f64,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Pretty,
}

impl Validate for TelemetryConfig {
    fn validate(&self, problems: &mut Problems) {
        let is_ratio = (0.0..=1.0).contains(&self.trace_ratio);
        problems.require(is_ratio, "telemetry.trace_ratio", "must be between 0 and 1");
        let is_address = self.otlp_endpoint.is_empty() || is_server_address(&self.otlp_endpoint);
        problems.require(
            is_address,
            "telemetry.otlp_endpoint",
            "must be an address as http://127.0.0.1:4317, or empty",
        );
        if let Err(error) = EnvFilter::try_new(&self.log_filter) {
            problems.push("telemetry.log_filter", error);
        }
    }
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The OTLP exporter refuses its settings.
    #[error("telemetry.otlp_endpoint: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The filter cannot be read.
    #[error("telemetry.log_filter: {0}")]
    Filter(#[from] ParseError),
    /// Telemetry is already running in this process.
    #[error("telemetry was started twice: {0}")]
    Twice(String),
}

/// The running telemetry. When dropped, it writes the log lines that are still buffered.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    metrics: PrometheusHandle,
    _writer: WorkerGuard,
}

/// Starts telemetry for the process.
///
/// # Errors
/// If a setting cannot be used, or if telemetry is already running.
pub fn init(config: &TelemetryConfig, process: Process) -> Result<Telemetry, TelemetryError> {
    // The writer's thread flushes when no line waits, so only a busy process buffers, and it writes less often then.
    let buffered = NonBlockingBuilder::default().lossy(false).buffered_lines_limit(BUFFERED_LINES);
    let (writer, guard) = buffered.finish(BufWriter::new(io::stderr()));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match config.log_format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Pretty => lines.with_ansi(false).boxed(),
    };
    let provider = (!config.otlp_endpoint.is_empty()).then(|| tracer_provider(config, process)).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        let exported = filter_fn(|metadata| metadata.is_span() && metadata.target() == SPAN_TARGET);
        tracing_opentelemetry::layer().with_tracer(provider.tracer("paddock")).with_filter(exported)
    });
    tracing_subscriber::registry()
        .with(lines.with_filter(line_filter(&config.log_filter)?))
        .with(spans)
        .try_init()
        .map_err(|error| TelemetryError::Twice(error.to_string()))?;
    if provider.is_some() {
        global::set_text_map_propagator(TraceContextPropagator::new());
        TRACING.store(true, Ordering::Relaxed);
    }
    let metrics = PrometheusBuilder::new()
        .set_buckets(&SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| TelemetryError::Twice(error.to_string()))?;
    Ok(Telemetry { provider, metrics, _writer: guard })
}

/// Returns the configured filter, without the lines that are never logged.
fn line_filter(directives: &str) -> Result<impl Filter<Registry> + use<>, ParseError> {
    let configured = EnvFilter::try_new(directives)?;
    // Without the hint every trace point of every library calls the filter, which costs a third of a request.
    let hint = configured.max_level_hint().unwrap_or(LevelFilter::TRACE);
    Ok(configured.and(filter_fn(is_ours_or_coarse).with_max_level_hint(hint)))
}

/// The HTTP libraries write headers, and credentials in them, in their debug and trace lines. Those are never logged.
fn is_ours_or_coarse(metadata: &tracing::Metadata<'_>) -> bool {
    const LIBRARIES: [&str; 3] = ["h2", "hyper", "tonic"];
    let crate_name = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= tracing::Level::INFO || !LIBRARIES.iter().any(|library| crate_name.starts_with(library))
}

/// Reports whether spans are exported. If not, there is no need to make any.
#[must_use]
pub fn is_tracing() -> bool {
    TRACING.load(Ordering::Relaxed)
}

impl Telemetry {
    /// Serves `/metrics` on the address, in the background until shutdown. With an empty address it does nothing.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn expose_metrics(&self, address: &str, shutdown: CancellationToken) -> io::Result<()> {
        if !address.is_empty() {
            let listener = process::listen(address).await?;
            tokio::spawn(exposition::serve(self.metrics.clone(), listener, shutdown));
        }
        Ok(())
    }

    /// Sends the buffered spans. Call it after the servers have drained.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider.clone() else { return };
        // The provider blocks until the collector has answered.
        let done = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(%error, "cannot send the last spans");
        }
    }
}

fn tracer_provider(config: &TelemetryConfig, process: Process) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(&config.otlp_endpoint).build()?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.trace_ratio)));
    let resource = Resource::builder().with_service_name(process.name()).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_sampler(sampler).with_resource(resource).build())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Returns the lines that pass the filter.
    fn written(directives: &str, write: impl FnOnce()) -> String {
        let buffer = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&buffer);
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || Sink(Arc::clone(&sink)));
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(line_filter(directives).unwrap()));
        tracing::subscriber::with_default(subscriber, write);
        let bytes = buffer.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_finest_lines_of_the_http_libraries_stay_out_whatever_the_filter_says() {
        let text = written("trace,h2=trace,hyper=trace", || {
            tracing::trace!(target: "h2::codec::framed_write", "a header with a credential");
            tracing::debug!(target: "hyper::proto", "another credential");
            tracing::debug!(target: "tonic::transport", "a third credential");
            tracing::info!(target: "hyper::server", "a coarse line");
            tracing::trace!(target: "gateway", "one of ours");
        });
        assert!(!text.contains("credential"), "{text}");
        assert!(text.contains("a coarse line") && text.contains("one of ours"), "{text}");
    }

    #[test]
    fn the_filter_has_the_level_of_its_directives_so_that_finer_points_cost_nothing() {
        assert_eq!(line_filter("info,sqlx=warn").unwrap().max_level_hint(), Some(LevelFilter::INFO));
        assert_eq!(line_filter("warn,gateway=debug").unwrap().max_level_hint(), Some(LevelFilter::DEBUG));
    }
}
