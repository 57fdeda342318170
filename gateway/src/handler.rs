//! Handles one request from its head to its answer: route, body, credential, parameters, call, response.

use std::{net::IpAddr, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use chassis::{
    access::{CallContext, Caller},
    clock::Clock,
    status::{Fault, Refusal, Rejection},
    telemetry,
};
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use hyper::body::Body;
use prost_reflect::{DynamicMessage, Value};
use proto::{contract::MethodSpec, paddock::contract::v1::Reason};
use tower::BoxError;
use tracing::Instrument as _;

use crate::{
    answer::{self, Answer, AnswerBody},
    config::Config,
    credential::{
        exchange::UserTokenExchange,
        redact,
        token::{self, Token},
    },
    error::{self, ErrorContext},
    guard::{Admission, Guard},
    health::Health,
    input::{self, builder::MessageBuilder},
    observe::access_log::AccessRecord,
    openapi,
    output::{self, document, document_stream::DocumentStream, plan::BodyPlan},
    peers::Peers,
    proxy::{
        Proxy, ProxyResponse,
        table::{Table, route::ProtectedRoute},
    },
    request::{body::BodyReader, head},
    rest::{
        call::{self, CallResponse},
        routes::{Endpoint, OwnPage, Route, Routes},
    },
    routing::{Lookup, RouteLabel},
};

/// The state that all requests share.
pub struct Gateway {
    config: Config,
    routes: Routes,
    peers: Peers,
    guard: Arc<Guard>,
    exchange: UserTokenExchange,
    health: Health,
    protected: Table,
    proxy: Proxy,
    bodies: Arc<BodyReader>,
    openapi: Bytes,
}

/// What serves a request.
enum Target {
    /// A route of the contract, with the values of its variables.
    Call(Arc<Route>, Vec<String>),
    /// A page of the gateway itself.
    OwnPage(OwnPage, Arc<RouteLabel>),
    /// A protected route, with the projects that the path names.
    Protected(Arc<ProtectedRoute>, Vec<String>),
}

/// The parts of a look-up that an error response needs too.
#[derive(Default)]
struct Matched {
    /// The verbs of the path, if the response must name them.
    allow: Option<HeaderValue>,
    /// The method of the route.
    method: Option<&'static MethodSpec>,
}

impl Gateway {
    /// Returns a gateway with the routes of the contract and the protected ones.
    pub fn new(config: Config, routes: Routes, protected: Table, peers: Peers, clock: Clock) -> Self {
        let max_age = Duration::from_millis(config.identity_cache_ms);
        let body_timeout = Duration::from_millis(config.body_read_timeout_ms);
        let bodies = BodyReader::new(config.max_body_bytes, body_timeout, config.max_body_memory_bytes);
        let bodies = Arc::new(bodies);
        let guard = Arc::new(Guard::new(&config.guard, &config.limits, clock.clone()));
        let proxy = config.proxy_settings();
        Self {
            exchange: UserTokenExchange::new(peers.registry.clone(), clock, max_age),
            health: Health::new(&peers),
            openapi: openapi::document(&routes),
            proxy: Proxy::new(proxy, Arc::clone(&guard), peers.job_token_auth.clone(), Arc::clone(&bodies)),
            guard,
            bodies,
            protected,
            config,
            routes,
            peers,
        }
    }

    /// Returns the storm guard.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Waits for tasks that outlive their requests.
    pub async fn finish(&self) {
        self.proxy.finish().await;
    }

    /// Handles a request. It always returns an answer and writes a line in the log.
    pub async fn handle<B>(&self, request: Request<B>, remote_ip: IpAddr) -> Answer
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        let mut record = AccessRecord::new(&parts, head::request_id(&parts.headers), remote_ip);
        let mut matched = Matched::default();
        // A panic in one request must not end the connection with its other requests.
        let answered = {
            // Pinned here, so that only its address moves into the future around it: the whole of it is kilobytes.
            let answering = pin!(self.answer_request(&mut parts, body, &mut record, &mut matched));
            AssertUnwindSafe(answering).catch_unwind().await
        };
        let answered = answered.unwrap_or_else(|_| Err(Fault::internal("the handling of the request panicked").into()));
        if record.is_from_memory() {
            self.guard.pause().await;
        }
        let mut answer = answered.unwrap_or_else(|rejection| {
            record.reject(&rejection);
            let method = matched.method;
            let context = ErrorContext { method, repeated: record.repeated(), request_id: record.request_id() };
            error::response(&rejection, context).map(AnswerBody::Whole)
        });
        if let Some(allow) = matched.allow {
            answer.headers_mut().insert(header::ALLOW, allow);
        }
        if let Ok(id) = HeaderValue::try_from(record.request_id()) {
            answer.headers_mut().insert(head::REQUEST_ID, id);
        }
        finish_record(answer, record, parts.method == Method::HEAD)
    }

    async fn answer_request<B>(
        &self,
        parts: &mut Parts,
        body: B,
        record: &mut AccessRecord,
        matched: &mut Matched,
    ) -> Result<Answer, Rejection>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        head::check_host(parts)?;
        match self.find_target(&parts.method, parts.uri.path()) {
            Lookup::Found(Target::Call(route, values)) => {
                record.set_route(route.label.clone());
                matched.method = Some(route.method);
                self.serve_call(&route, &values, parts, body, record).await
            }
            Lookup::Found(Target::OwnPage(page, label)) => {
                record.set_own_page(label);
                Ok(self.own_page(page).await.map(AnswerBody::Whole))
            }
            Lookup::Found(Target::Protected(route, projects)) => {
                record.set_route(route.label.clone());
                // Boxed, so that other requests do not carry its state.
                match Box::pin(self.proxy.serve(&route, projects, parts, body, record)).await? {
                    ProxyResponse::Forwarded(response) => Ok(response.map(AnswerBody::Upstream)),
                    ProxyResponse::ClientGone => {
                        record.set_client_gone();
                        Ok(answer::client_gone())
                    }
                }
            }
            Lookup::Options(verbs) => {
                matched.allow = Some(verbs);
                let mut answer = Response::default();
                *answer.status_mut() = StatusCode::NO_CONTENT;
                Ok(answer)
            }
            Lookup::NotAllowed(verbs) => {
                matched.allow = Some(verbs);
                Err(Refusal::new(Reason::MethodNotAllowed).into())
            }
            Lookup::NotFound => Err(Refusal::new(Reason::RouteNotFound).into()),
            Lookup::Malformed => Err(Refusal::new(Reason::PathMalformed).into()),
        }
    }

    /// Finds what serves a verb and a path. The contract precedes the table of protected routes.
    fn find_target(&self, verb: &Method, path: &str) -> Lookup<Target> {
        let in_contract = self.routes.find(verb, path).map(|(endpoint, values)| match endpoint {
            Endpoint::Call(route) => Target::Call(route, values),
            Endpoint::OwnPage(page, label) => Target::OwnPage(page, label),
        });
        if !matches!(in_contract, Lookup::NotFound | Lookup::NotAllowed(_)) {
            return in_contract;
        }
        match self.protected.find(verb, path).map(|(route, projects)| Target::Protected(route, projects)) {
            Lookup::NotFound => in_contract,
            Lookup::NotAllowed(_) if matches!(in_contract, Lookup::NotAllowed(_)) => in_contract,
            protected => protected,
        }
    }

    async fn own_page(&self, page: OwnPage) -> Response<Full<Bytes>> {
        match page {
            OwnPage::Liveness => Health::liveness(),
            OwnPage::Health => Health::health(),
            OwnPage::Readiness => self.health.readiness().await,
            OwnPage::OpenApi => {
                let mut response = Response::new(Full::from(self.openapi.clone()));
                response.headers_mut().insert(header::CONTENT_TYPE, output::JSON);
                response
            }
        }
    }

    /// Serves a route of the contract.
    async fn serve_call<B>(
        &self,
        route: &Arc<Route>,
        values: &[String],
        parts: &Parts,
        body: B,
        record: &mut AccessRecord,
    ) -> Result<Answer, Rejection>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let query = parts.uri.query().unwrap_or_default();
        let body = self.bodies.read(body, &parts.headers).await?;
        let mut builder = MessageBuilder::new(&route.input);
        for (index, value) in route.variables.iter().zip(values) {
            builder.set_from_path(*index, value);
        }
        input::read(&mut builder, &parts.headers, body.bytes.clone(), query).await?;
        drop(body);

        let deadline = Duration::from_millis(self.config.request_timeout_ms);
        let calling = pin!(self.guard_and_call(route, parts, builder, record));
        let calling = calling.instrument(request_span(route, parts));
        let responded = tokio::time::timeout(deadline, calling).await;
        let responded = responded.map_err(|_| Fault::deadline_exceeded("the gateway's request timeout has passed"))?;
        let CallResponse { first, rest } = responded?;
        let response = output::response(&route.output, &first, || {
            (head::url(parts, &self.config.external_url), redact::without_credentials(query))
        })?;
        if let Some(rest) = rest
            && let BodyPlan::Document(field) = &route.output.body
        {
            // From here on the deadline is for each chunk.
            let status = response.status().as_u16();
            let first = document::content(field, &first);
            let stream = DocumentStream::new(first, rest.boxed(), field.clone(), status, deadline);
            return Ok(response.map(|_| AnswerBody::Document(Box::new(stream))));
        }
        Ok(response.map(AnswerBody::Whole))
    }

    /// Lets the guard judge the credential before anything else does, and notes what became of the call.
    async fn guard_and_call(
        &self,
        route: &Route,
        parts: &Parts,
        mut builder: MessageBuilder<'_>,
        record: &mut AccessRecord,
    ) -> Result<CallResponse, Rejection> {
        let tokens = std::mem::take(&mut builder.tokens);
        let token = match &route.credential {
            Some(plan) => plan.find(&parts.headers, tokens)?,
            None => None,
        };
        let admission = match &token {
            Some(token) => self.guard.admit(route.guarded, &token::digest(token), record).await?,
            None => Admission::unguarded(),
        };
        let responded = self.authenticate_and_call(route, token, builder, &admission, record).await;
        admission.finish(&responded, record.client());
        responded
    }

    /// Authenticates a user before the parameters are judged, and a runner after, as GitLab does. Then it calls the
    /// method.
    async fn authenticate_and_call(
        &self,
        route: &Route,
        token: Option<Token>,
        builder: MessageBuilder<'_>,
        admission: &Admission<'_>,
        record: &mut AccessRecord,
    ) -> Result<CallResponse, Rejection> {
        let mut context = record.call_context(Caller::Anonymous);
        let is_in_message = route.input.credential.is_some();
        if is_in_message {
            refuse_missing(route, token.as_ref())?;
        } else {
            context.caller = self.authenticate_caller(route, token.as_ref(), &context, record).await?;
            admission.confirm();
        }
        let (mut message, problems) = builder.finish(token.is_some());
        if let Some(refusal) = input::refusal(&problems) {
            return Err(refusal.into());
        }
        if is_in_message {
            context.caller = put_token(route, token, &mut message)?;
        }
        let peer = self.peers.serving(route.method.served_by);
        call::call(peer, &route.call, &message, context, record.client()).await
    }

    /// Returns the caller of a method whose credential the gateway authenticates.
    async fn authenticate_caller(
        &self,
        route: &Route,
        token: Option<&Token>,
        context: &CallContext,
        record: &mut AccessRecord,
    ) -> Result<Caller, Rejection> {
        let Some(plan) = &route.credential else { return Ok(Caller::Anonymous) };
        let Some(token) = token else {
            return if plan.optional { Ok(Caller::Anonymous) } else { Err(plan.missing().into()) };
        };
        plan.check(token)?;
        // Boxed, so that the requests of runners do not carry its state.
        let user = Box::pin(self.exchange.user(token, context, record.client())).await?;
        record.set_user(&user);
        Ok(Caller::User(user))
    }
}

/// Ends the record, or leaves it to a streamed body. The answer to HEAD has no body, but the length of one.
fn finish_record(mut answer: Answer, record: AccessRecord, is_head: bool) -> Answer {
    let status = answer.status();
    match answer.body_mut() {
        AnswerBody::Upstream(body) => {
            body.keep_record(record);
            return answer;
        }
        AnswerBody::Document(_) if is_head => *answer.body_mut() = AnswerBody::default(),
        AnswerBody::Document(body) => {
            body.keep_record(record);
            return answer;
        }
        AnswerBody::Whole(body) if is_head => {
            let length = std::mem::take(body).size_hint().exact().unwrap_or_default();
            if status != StatusCode::NO_CONTENT {
                answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
        AnswerBody::Whole(_) => {}
    }
    record.finish(status.as_u16());
    answer
}

/// Refuses a missing credential before the parameters are judged, unless the contract treats it as one of the missing
/// parameters.
fn refuse_missing(route: &Route, token: Option<&Token>) -> Result<(), Refusal> {
    match (&route.credential, token) {
        (Some(plan), None) if route.input.credential_required => {
            let refusal = plan.missing();
            if refusal.reason() == Reason::ParameterMissing { Ok(()) } else { Err(refusal) }
        }
        _ => Ok(()),
    }
}

/// Puts the credential into the field of the message that takes it. The service authenticates it.
fn put_token(route: &Route, token: Option<Token>, message: &mut DynamicMessage) -> Result<Caller, Rejection> {
    if let Some(plan) = &route.credential
        && let Some(field) = &route.input.credential
        && let Some(token) = token
    {
        plan.check(&token)?;
        let value = Value::String(token.expose().to_owned());
        message.try_set_field(field, value).map_err(|_| Fault::internal("the credential's field is not a text"))?;
        return Ok(Caller::Bearer(plan.kind));
    }
    Ok(Caller::Anonymous)
}

/// Returns the span of the request, if spans are exported.
fn request_span(route: &Route, parts: &Parts) -> tracing::Span {
    if !telemetry::is_tracing() {
        return tracing::Span::none();
    }
    let span = tracing::info_span!(
        target: telemetry::SPAN_TARGET,
        "request",
        otel.name = route.label.caller_id,
        otel.kind = "server",
        http.route = &*route.label.template
    );
    telemetry::propagation::adopt(&span, &parts.headers);
    span
}
