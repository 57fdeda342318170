//! Telemetry: one log line per request, metrics on their own port, and spans that follow a request through all processes.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value as Attribute,
    trace::v1::Span,
};
use reqwest::Method;
use serde_json::{Value, json};
use system::{Answer, Api, Database, Distributed, Paddock};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::fixtures;

/// The log lines of the request with this id.
fn lines(log: &[Value], id: &str) -> Vec<Value> {
    log.iter().filter(|line| line["correlation_id"] == id || line["request_id"] == id).cloned().collect()
}

#[tokio::test]
async fn every_request_leaves_one_line_with_its_fields() {
    let paddock = Paddock::start();
    let root = paddock.root();
    let anonymous = paddock.anonymous();
    let (runner, token) = fixtures::runner(&root, fixtures::project(&root).await).await;
    let asked: Vec<(Answer, Value)> = vec![
        (
            root.get("/projects/root%2Fnothing?search=a").await,
            json!({ "method": "GET", "path": "/api/v4/projects/root%2Fnothing?search=a", "route": "/api/v4/projects/{id}",
                "status": 404, "reason": "project_not_found", "meta.user": "root", "meta.client_id": "user/1" }),
        ),
        (
            anonymous.post("/runners/verify", json!({ "token": token })).await,
            json!({ "method": "POST", "route": "/api/v4/runners/verify", "status": 200, "meta.client_id": format!("runner/{runner}") }),
        ),
        (
            anonymous.get("/user").await,
            json!({ "route": "/api/v4/user", "status": 401, "reason": "credential_missing" }),
        ),
        (
            anonymous.get("/nowhere").await,
            json!({ "path": "/api/v4/nowhere", "status": 404, "reason": "route_not_found" }),
        ),
        (anonymous.delete("/user").await, json!({ "method": "DELETE", "status": 405, "reason": "method_not_allowed" })),
    ];
    for (answer, expected) in asked {
        let id = answer.header("x-request-id").to_owned();
        assert!(!id.is_empty(), "{:?}", answer.headers);
        let line = paddock.program().wait_for_log(&id, |line| line["correlation_id"] == *id);
        for (field, value) in expected.as_object().expect("an object") {
            assert_eq!(&line[field], value, "{field} in {line:#}");
        }
        assert_eq!((&line["level"], &line["remote_ip"]), (&json!("INFO"), &json!("127.0.0.1")), "{line:#}");
        assert!(line["duration_s"].as_f64().is_some_and(|seconds| seconds > 0.0), "{line:#}");
        assert_eq!(lines(&paddock.program().log(), &id).len(), 1, "{:#?}", lines(&paddock.program().log(), &id));
    }
    paddock.stop();
}

#[tokio::test]
async fn the_id_that_a_client_sends_is_kept() {
    let paddock = Paddock::start();
    let sent = "0123456789abcdef0123456789abcdef";
    let answer = system::send(paddock.root().request(Method::GET, "/user").header("X-Request-Id", sent)).await;
    assert_eq!(answer.header("x-request-id"), sent);
    for strange in ["a b", "<script>", &"x".repeat(1000), "'; drop table users; --"] {
        let answer = system::send(paddock.root().request(Method::GET, "/user").header("X-Request-Id", strange)).await;
        assert_ne!(answer.header("x-request-id"), strange);
        assert_eq!(answer.status, 200);
    }
    paddock.stop();
}

/// The value of the first series whose line has all these parts; 0 if there is none.
fn count_in(metrics: &str, parts: &[&str]) -> f64 {
    let line = metrics.lines().find(|line| !line.starts_with('#') && parts.iter().all(|part| line.contains(part)));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn metrics_have_their_own_port_and_know_every_route() {
    let paddock = Paddock::start();
    paddock.root().get("/user").await.ok(200);
    paddock.anonymous().get("/user").await;
    let metrics = paddock.metrics().await;
    assert!(
        count_in(&metrics, &["paddock_http_requests_total", "/api/v4/user\"", "status=\"200\""]) >= 1.0,
        "{metrics}"
    );
    assert!(count_in(&metrics, &["paddock_refusals_total", "credential_missing"]) >= 1.0, "{metrics}");
    assert_eq!(paddock.anonymous().get_outside("/metrics").await.status, 404, "clients do not see metrics");
    paddock.stop();
}

/// A collector that keeps the spans it receives.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let named = attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let name = match named.and_then(|attribute| attribute.value).and_then(|value| value.value) {
                Some(Attribute::StringValue(name)) => name,
                _ => String::new(),
            };
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| (name.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Serves on a free port for the rest of the test.
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    /// The spans of a process within a trace.
    fn spans(&self, process: &str, trace: &[u8]) -> Vec<Span> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter(|(name, span)| name == process && span.trace_id == trace)
            .map(|(_, span)| span.clone())
            .collect()
    }
}

fn names_of(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_through_all_processes() {
    let collector = Collector::default();
    let endpoint = collector.start().await;
    let system = Distributed::start(&Database::Sqlite, &[("PADDOCK_TELEMETRY__OTLP_ENDPOINT", &endpoint)]);
    // The caller starts the trace, as in W3C Trace Context.
    let trace: Vec<u8> = (1..=16).collect();
    let hex: String = trace.iter().map(|byte| format!("{byte:02x}")).collect();
    let request =
        system.root().request(Method::GET, "/user").header("traceparent", format!("00-{hex}-00000000000000aa-01"));
    system::send(request).await.ok(200);
    // A process sends its buffered spans when it stops.
    system.stop();

    let gateway = collector.spans("gateway", &trace);
    let registry = collector.spans("runner-registry", &trace);
    let root = gateway.iter().find(|span| span.parent_span_id == [0, 0, 0, 0, 0, 0, 0, 0xaa]);
    assert!(root.is_some(), "the gateway goes on with the caller's trace: {:?}", names_of(&gateway));
    assert!(!registry.is_empty(), "the registry has spans of the trace");
    for span in &registry {
        let linked = gateway.iter().chain(&registry).any(|parent| parent.span_id == span.parent_span_id);
        assert!(
            linked,
            "{} hangs in the air; gateway: {:?}, registry: {:?}",
            span.name,
            names_of(&gateway),
            names_of(&registry)
        );
    }
}

/// Health has three levels and needs no credential.
#[tokio::test]
async fn health_pages_tell_the_state() {
    let paddock = Paddock::start();
    for page in ["/-/liveness", "/-/readiness", "/-/health"] {
        let answer = Api::anonymous(&paddock.url()).get_outside(page).await;
        assert_eq!(answer.status, 200, "{page}: {}", answer.text);
    }
    paddock.stop();
}
