//! Builds a gRPC server: health, the contract service, optionally reflection, and before every service the layer that
//! authenticates the caller.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use proto::{
    contract::{self, DIGEST},
    paddock::contract::v1::{
        CredentialKind, GetContractRequest, GetContractResponse, InternalHeader, Process, Reason,
        contract_service_server::{ContractService, ContractServiceServer},
    },
};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::NamedService,
    service::RoutesBuilder,
    transport::server::{Server, TcpIncoming},
};
use tower::{Layer, Service};
use tracing::Instrument as _;

use crate::{
    access::{self, CallContext, Caller},
    client_id::ResolvedClient,
    clock::Clock,
    config::{Problems, Validate},
    identity::IdentityKeys,
    status::{Fault, Rejection},
    telemetry::propagation,
};

const REQUESTS: &str = "paddock_grpc_requests_total";
const DURATION: &str = "paddock_grpc_request_duration_seconds";

/// Standard services that carry none of our data and so need no row in the access table.
const STANDARD_SERVICES: [&str; 2] = ["/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/"];

/// The settings of the section `server`.
#[derive(Clone, Debug, Deserialize)]
pub struct ServerConfig {
    /// Whether the reflection service is offered.
    pub reflection: bool,
    /// Maximum time that running calls may take after the start of a shutdown, in milliseconds.
    pub drain_timeout_ms: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { reflection: false, drain_timeout_ms: 10_000 }
    }
}

impl Validate for ServerConfig {
    fn validate(&self, problems: &mut Problems) {
        problems.require(self.drain_timeout_ms <= 3_600_000, "server.drain_timeout_ms", "must be at most an hour");
    }
}

/// A gRPC server under construction.
pub struct GrpcServer {
    config: ServerConfig,
    authenticator: Arc<Authenticator>,
    routes: RoutesBuilder,
    health: tonic_health::server::HealthReporter,
}

/// Authenticates callers and checks them against the access table.
struct Authenticator {
    process: Process,
    keys: IdentityKeys,
    clock: Clock,
}

impl GrpcServer {
    /// Builds a server of the process, with the health and the contract service.
    #[must_use]
    pub fn new(process: Process, config: ServerConfig, keys: IdentityKeys, clock: Clock) -> Self {
        describe_metrics();
        let (health, health_service) = tonic_health::server::health_reporter();
        let mut routes = RoutesBuilder::default();
        routes.add_service(health_service);
        routes.add_service(ContractServiceServer::new(Contract { process, keys: keys.clone() }));
        let authenticator = Arc::new(Authenticator { process, keys, clock });
        Self { config, authenticator, routes, health }
    }

    /// Adds a service.
    #[must_use]
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.routes.add_service(service);
        self
    }

    /// Serves until shutdown, then lets running calls finish within the drain timeout.
    ///
    /// # Errors
    /// If the listener or the reflection service fails.
    pub async fn serve(mut self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), ServerError> {
        if self.config.reflection {
            self.routes.add_service(
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
                    .build_v1()?,
            );
        }
        let drain_timeout = Duration::from_millis(self.config.drain_timeout_ms);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let health = self.health;
        let stopped = shutdown.clone();
        let drain_started = async move {
            stopped.cancelled().await;
            // Load balancers see it before the port closes.
            health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        };
        let serving = Server::builder()
            .layer(AuthenticationLayer(self.authenticator))
            .add_routes(self.routes.routes())
            .serve_with_incoming_shutdown(incoming, drain_started);
        let drain_expired = async {
            shutdown.cancelled().await;
            tokio::time::sleep(drain_timeout).await;
        };
        tokio::select! {
            served = serving => Ok(served?),
            () = drain_expired => {
                tracing::warn!(drain_timeout_ms = self.config.drain_timeout_ms, "calls did not finish in time");
                Ok(())
            }
        }
    }
}

/// Why a server stopped without a shutdown.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The transport failed.
    #[error("the gRPC server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The descriptors cannot be served.
    #[error("the reflection service failed: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Answers with the contract that this process was built with.
struct Contract {
    process: Process,
    keys: IdentityKeys,
}

#[tonic::async_trait]
impl ContractService for Contract {
    async fn get_contract(&self, _: Request<GetContractRequest>) -> Result<Response<GetContractResponse>, Status> {
        Ok(Response::new(GetContractResponse {
            process: self.process.name().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            digest: DIGEST.into(),
            identity_key_ids: self.keys.key_ids(),
        }))
    }
}

impl Authenticator {
    /// Verifies the identity of a call and checks it against the access table.
    fn authenticate(&self, request: &http::Request<Body>) -> Result<CallContext, Rejection> {
        let path = request.uri().path();
        let method = contract::method(path)
            .ok_or_else(|| Fault::of(Reason::CallerNotAccepted, format!("{path} is not in the contract")))?;
        let context = match identity_header(request.headers())? {
            Some(identity) => self.keys.verify(identity, self.process, path, self.clock.now())?,
            None if method.accepts.contains(&CredentialKind::None) => anonymous_context(),
            None => return Err(Fault::of(Reason::IdentityMissing, describe_missing_identity(request.headers())).into()),
        };
        access::check(method, &context.caller)?;
        Ok(context)
    }
}

fn anonymous_context() -> CallContext {
    CallContext { caller: Caller::Anonymous, request_id: String::new(), peer_address: None, user_agent: None }
}

fn header_name(header: InternalHeader) -> &'static str {
    header.spec().map_or("", |spec| spec.key)
}

/// Returns the identity of a call, if its sender gave one. Fails if it gave several.
fn identity_header(headers: &http::HeaderMap) -> Result<Option<&str>, Fault> {
    let mut values = headers.get_all(header_name(InternalHeader::CallerIdentity)).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Fault::of(Reason::IdentityDuplicate, "the identity header came more than once"));
    }
    let text = first.map(http::HeaderValue::to_str).transpose();
    text.map_err(|_| Fault::of(Reason::IdentityMalformed, "the identity header is not text"))
}

/// Describes a call without identity for the operator: which headers and which contract its sender has.
fn describe_missing_identity(headers: &http::HeaderMap) -> String {
    let names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    let peer = headers.get(header_name(InternalHeader::ContractDigest)).and_then(|value| value.to_str().ok());
    format!(
        "headers seen: {}; contract digest: ours {DIGEST:.12}, theirs {:.12}",
        names.join(", "),
        peer.unwrap_or("none")
    )
}

#[derive(Clone)]
struct AuthenticationLayer(Arc<Authenticator>);

impl<S> Layer<S> for AuthenticationLayer {
    type Service = AuthenticationService<S>;

    fn layer(&self, inner: S) -> AuthenticationService<S> {
        AuthenticationService { authenticator: Arc::clone(&self.0), inner }
    }
}

/// Passes an authenticated call to the inner service, and answers any other call with its rejection. The answer names the client
/// that the handler has set.
#[derive(Clone)]
struct AuthenticationService<S> {
    authenticator: Arc<Authenticator>,
    inner: S,
}

impl<S> Service<http::Request<Body>> for AuthenticationService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let started = Instant::now();
        let path = request.uri().path().to_owned();
        if STANDARD_SERVICES.iter().any(|service| path.starts_with(service)) {
            return Box::pin(self.inner.call(request));
        }
        match self.authenticator.authenticate(&request) {
            Ok(context) => {
                let span = call_span(&path, &context);
                propagation::adopt(&span, request.headers());
                request.extensions_mut().insert(context);
                let client = ResolvedClient::default();
                request.extensions_mut().insert(client.clone());
                let answer = self.inner.call(request);
                let counted = async move {
                    let mut answer = answer.await;
                    if let Ok(answer) = &mut answer {
                        client.write(answer.headers_mut());
                        record_call(&path, answer.headers(), started);
                    }
                    answer
                };
                Box::pin(counted.instrument(span))
            }
            Err(rejection) => {
                let answer = Status::from(rejection).into_http();
                record_call(&path, answer.headers(), started);
                Box::pin(async move { Ok(answer) })
            }
        }
    }
}

fn call_span(path: &str, context: &CallContext) -> tracing::Span {
    tracing::info_span!(
        target: crate::telemetry::SPAN_TARGET,
        "call",
        otel.name = path,
        otel.kind = "server",
        correlation_id = context.request_id,
        method = path,
    )
}

/// Counts an answered call, and logs it.
fn record_call(path: &str, headers: &http::HeaderMap, started: Instant) {
    // A call that succeeded has its status in the trailers, which are sent later.
    let code = headers.get("grpc-status").and_then(|value| value.to_str().ok()).unwrap_or("0").to_owned();
    let method = contract::method(path).map_or("unknown", |method| method.path);
    let seconds = started.elapsed().as_secs_f64();
    tracing::debug!(method, code, duration_s = seconds, "answered");
    metrics::counter!(REQUESTS, "method" => method, "code" => code).increment(1);
    metrics::histogram!(DURATION, "method" => method).record(seconds);
}

fn describe_metrics() {
    metrics::describe_counter!(REQUESTS, "calls that a service answered, by method and code of gRPC");
    metrics::describe_histogram!(DURATION, "seconds from a call to its answer");
}
