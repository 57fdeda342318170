//! One request from its headers to its answer: route, body, credential, parameters, call, response.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chassis::access::{CallContext, Caller};
use chassis::status::{Fault, Refusal, Rejection};
use chassis::telemetry;
use futures::{FutureExt as _, StreamExt as _};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Body as HttpBody;
use prost_reflect::{DynamicMessage, Value};
use proto::paddock::contract::v1::Reason;
use tracing::Instrument as _;

use crate::access_log::Record;
use crate::answer::{Answer, AnswerBody};
use crate::call::Called;
use crate::config::Config;
use crate::exchange::Exchange;
use crate::health::Health;
use crate::input::builder::{Builder, Token};
use crate::output::document;
use crate::output::pieces::Pieces;
use crate::output::plan::Body;
use crate::peers::Peers;
use crate::proxy::Proxy;
use crate::proxy::body::BoxError;
use crate::proxy::table::Table;
use crate::request::BodyReader;
use crate::routes::{Endpoint, Lookup, OwnPage, Route, Routes};
use crate::{call, error, input, openapi, output, redact, request};

/// What every request needs.
pub struct Gateway {
    config: Config,
    routes: Routes,
    peers: Peers,
    exchange: Exchange,
    health: Health,
    protected: Table,
    proxy: Proxy,
    bodies: Arc<BodyReader>,
    openapi: Bytes,
}

impl Gateway {
    /// A gateway with the routes of the contract, and protected ones beside them.
    pub fn new(config: Config, routes: Routes, protected: Table, peers: Peers, clock: chassis::clock::Clock) -> Self {
        let max_age = Duration::from_millis(config.identity_cache_ms);
        let body_timeout = Duration::from_millis(config.body_read_timeout_ms);
        let bodies = BodyReader::new(config.max_body_bytes, body_timeout, config.max_body_memory_bytes);
        let bodies = Arc::new(bodies);
        Self {
            exchange: Exchange::new(peers.registry.clone(), clock, max_age),
            health: Health::new(&peers),
            openapi: openapi::document(&routes),
            proxy: Proxy::new(&config, &peers, Arc::clone(&bodies)),
            bodies,
            protected,
            config,
            routes,
            peers,
        }
    }

    /// Waits for what requests have left to be done.
    pub async fn finish(&self) {
        self.proxy.finish().await;
    }

    /// Answers a request. There is always an answer, and a line in the log.
    pub async fn handle<B>(&self, request: Request<B>, remote_ip: IpAddr) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        let mut record = Record::new(&parts, request::id(&parts.headers), remote_ip);
        let mut allow = None;
        // A bug in the handling of one request must not take the connection with its other requests down.
        let answered = {
            // Pinned here, so that only its address moves into what wraps it: the whole of it is kilobytes.
            let answering = pin!(self.answer(&mut parts, body, &mut record, &mut allow));
            AssertUnwindSafe(answering).catch_unwind().await
        };
        let answered = answered.unwrap_or_else(|_| Err(Fault::internal("the handling of the request panicked").into()));
        let mut answer = answered.unwrap_or_else(|rejection| {
            record.reject(&rejection);
            let method = record.route().map(|route| route.method);
            error::response(&rejection, method, record.request_id()).map(AnswerBody::Whole)
        });
        if let Some(allow) = allow {
            answer.headers_mut().insert(header::ALLOW, allow);
        }
        if let Ok(id) = HeaderValue::try_from(record.request_id()) {
            answer.headers_mut().insert(request::REQUEST_ID, id);
        }
        let (is_head, status) = (parts.method == Method::HEAD, answer.status());
        match answer.body_mut() {
            AnswerBody::Streamed(body) => {
                body.keep(record);
                return answer;
            }
            AnswerBody::Pieces(_) if is_head => *answer.body_mut() = AnswerBody::default(),
            AnswerBody::Pieces(body) => {
                body.keep(record);
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

    async fn answer<B>(
        &self,
        parts: &mut Parts,
        body: B,
        record: &mut Record,
        allow: &mut Option<HeaderValue>,
    ) -> Result<Answer, Rejection>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        request::check_host(parts)?;
        match self.find(&parts.method, parts.uri.path()) {
            Lookup::Found(Endpoint::Call(route), values) => {
                record.set_route(route.clone());
                self.call(&route, &values, parts, body, record).await
            }
            Lookup::Found(Endpoint::Own(page), _) => {
                record.set_own_page(page);
                Ok(self.own_page(page).await.map(AnswerBody::Whole))
            }
            Lookup::Found(Endpoint::Protected(route), projects) => {
                record.set_protected(route.clone());
                // Boxed, so that other requests do not carry its state along.
                Box::pin(self.proxy.answer(&route, projects, parts, body, record)).await
            }
            Lookup::Options(verbs) => {
                *allow = Some(verbs);
                let mut answer = Response::default();
                *answer.status_mut() = StatusCode::NO_CONTENT;
                Ok(answer)
            }
            Lookup::NotAllowed(verbs) => {
                *allow = Some(verbs);
                Err(Refusal::new(Reason::MethodNotAllowed).into())
            }
            Lookup::NotFound => Err(Refusal::new(Reason::RouteNotFound).into()),
            Lookup::Malformed => Err(Refusal::new(Reason::PathMalformed).into()),
        }
    }

    /// What serves a verb and a path: the contract before the table of protected routes.
    fn find(&self, verb: &Method, path: &str) -> Lookup {
        let found = self.routes.find(verb, path);
        if !matches!(found, Lookup::NotFound | Lookup::NotAllowed(_)) {
            return found;
        }
        match (self.protected.find(verb, path), found) {
            (Lookup::NotFound, found) | (Lookup::NotAllowed(_), found @ Lookup::NotAllowed(_)) => found,
            (protected, _) => protected,
        }
    }

    async fn own_page(&self, page: OwnPage) -> Response<Full<Bytes>> {
        match page {
            OwnPage::Liveness => Health::liveness(),
            OwnPage::Health => Health::health(),
            OwnPage::Readiness => self.health.readiness().await,
            OwnPage::OpenApi => {
                let mut answer = Response::new(Full::from(self.openapi.clone()));
                answer.headers_mut().insert(header::CONTENT_TYPE, output::JSON);
                answer
            }
        }
    }

    /// Serves a route of the contract.
    async fn call<B>(
        &self,
        route: &Arc<Route>,
        values: &[String],
        parts: &Parts,
        body: B,
        record: &mut Record,
    ) -> Result<Answer, Rejection>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let body = self.bodies.read(body, &parts.headers).await?;
        let mut builder = Builder::new(&route.input);
        for (place, value) in route.variables.iter().zip(values) {
            builder.set_from_path(*place, value);
        }
        input::read(&mut builder, &parts.headers, body.bytes.clone(), parts.uri.query().unwrap_or_default()).await?;
        drop(body);

        let deadline = Duration::from_millis(self.config.request_timeout_ms);
        let calling = pin!(self.authenticate_and_call(route, parts, builder, record));
        let calling = calling.instrument(span(route, parts));
        let answer = tokio::time::timeout(deadline, calling).await;
        let answer = answer.map_err(|_| Fault::deadline_exceeded("the gateway's request timeout has passed"))??;
        let link = || {
            let query = redact::without_credentials(parts.uri.query().unwrap_or_default());
            (request::url(parts, &self.config.external_url), query)
        };
        let Called { first, rest } = answer;
        let answer = output::response(&route.output, &first, link)?;
        let (Some(rest), Body::Document(field)) = (rest, &route.output.body) else {
            return Ok(answer.map(AnswerBody::Whole));
        };
        // From here on the deadline is for each piece.
        let (status, field) = (answer.status().as_u16(), field.clone());
        let first = document::content(&field, &first);
        Ok(answer.map(|_| AnswerBody::Pieces(Box::new(Pieces::new(first, rest.boxed(), field, status, deadline)))))
    }

    /// The order is that of GitLab: a user is authenticated before the parameters are judged, a runner after.
    async fn authenticate_and_call(
        &self,
        route: &Route,
        parts: &Parts,
        mut builder: Builder<'_>,
        record: &mut Record,
    ) -> Result<Called, Rejection> {
        let tokens = std::mem::take(&mut builder.tokens);
        let token = match &route.credential {
            Some(plan) => plan.find(&parts.headers, tokens)?,
            None => None,
        };
        let mut context = CallContext {
            caller: Caller::Anonymous,
            request_id: record.request_id().to_owned(),
            peer_address: Some(record.remote_ip()),
        };
        let is_in_message = route.input.credential.is_some();
        if is_in_message {
            refuse_missing(route, token.as_ref())?;
        } else {
            context.caller = self.user(route, token.as_ref(), &context, record).await?;
        }
        let (mut message, problems) = builder.finish(token.is_some());
        if let Some(refusal) = input::refusal(&problems) {
            return Err(refusal.into());
        }
        if is_in_message {
            context.caller = put_token(route, token, &mut message)?;
        }
        let answer = call::call(self.peers.serving(route.method.served_by), &route.call, &message, context).await?;
        note_runner(route, &answer.first, record);
        Ok(answer)
    }

    /// The caller of a method that takes its credential from the gateway.
    async fn user(
        &self,
        route: &Route,
        token: Option<&Token>,
        context: &CallContext,
        record: &mut Record,
    ) -> Result<Caller, Rejection> {
        let Some(plan) = &route.credential else { return Ok(Caller::Anonymous) };
        let Some(token) = token else {
            return if plan.optional { Ok(Caller::Anonymous) } else { Err(plan.missing().into()) };
        };
        plan.check(token)?;
        // Boxed, so that the requests of runners do not carry its state along.
        let user = Box::pin(self.exchange.user(token, context)).await?;
        record.set_user(&user);
        Ok(Caller::User(user))
    }
}

/// A missing credential is told as a missing parameter, together with the others, where the contract says so; elsewhere
/// it is refused before the parameters are judged.
fn refuse_missing(route: &Route, token: Option<&Token>) -> Result<(), Refusal> {
    match (&route.credential, token) {
        (Some(plan), None) if route.input.credential_required => {
            let refusal = plan.missing();
            if refusal.reason() == Reason::ParameterMissing { Ok(()) } else { Err(refusal) }
        }
        _ => Ok(()),
    }
}

/// Puts the credential into the field of the message that takes it; the receiver authenticates it.
fn put_token(route: &Route, token: Option<Token>, message: &mut DynamicMessage) -> Result<Caller, Rejection> {
    let (Some(plan), Some(field), Some(token)) = (&route.credential, &route.input.credential, token) else {
        return Ok(Caller::Anonymous);
    };
    plan.check(&token)?;
    let value = Value::String(token.expose().to_owned());
    message.try_set_field(field, value).map_err(|_| Fault::internal("the credential's field is not a text"))?;
    Ok(Caller::Bearer(plan.kind))
}

/// Notes the runner that an answer to its own token names.
fn note_runner(route: &Route, answer: &DynamicMessage, record: &mut Record) {
    if let (Some(_), Some(field)) = (&route.input.credential, &route.output.id)
        && let Some(id) = answer.get_field(field).as_i64()
    {
        record.set_runner(id);
    }
}

/// The span of the request, if spans are exported.
fn span(route: &Route, parts: &Parts) -> tracing::Span {
    if !telemetry::is_tracing() {
        return tracing::Span::none();
    }
    let span = tracing::info_span!(
        target: telemetry::SPAN_TARGET,
        "request",
        otel.name = route.caller_id,
        otel.kind = "server",
        http.route = &*route.template
    );
    telemetry::propagation::adopt(&span, &parts.headers);
    span
}
