//! The protected routes. job-token-auth decides on a request with a job token. The gateway forwards it byte for byte to
//! its upstream with a signed identity, and records a successful access before the client sees the response.

pub mod body;
mod checks;
mod connection;
mod form;
mod headers;
mod job_token;
mod path;
pub mod slot;
pub mod table;
mod upgrade;
pub mod upstream;
mod verdict;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chassis::{
    access::Caller,
    client::PeerChannel,
    status::{Fault, Refusal, Rejection},
};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, EXPECT},
    request::Parts,
};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use proto::paddock::{
    contract::v1::{Process, Reason},
    job_token::v1::AuthorizeRequest,
};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::BoxError;
use uuid::Uuid;

use self::{
    body::{BodyFailure, PauseLimits, RequestBody, ResponseBody},
    form::{Form, IncomingBody},
    headers::RequestOrigin,
    job_token::ForwardedToken,
    slot::Slot,
    table::route::ProtectedRoute,
    upgrade::Upgrade,
    upstream::Upstream,
    verdict::{AllowedAccess, AuthorizationClient, PendingCapture},
};
use crate::{
    connection::socket::Socket,
    credential::token::{self, Token},
    guard::Guard,
    observe::access_log::{AccessRecord, ReachedProjects},
    request::{
        body::{BodyReader, ReadBody, drain_in_background},
        head,
    },
};

/// The settings of the proxy.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// How long a request may wait for others with the same job token.
    pub turn_timeout: Duration,
    /// How long an upstream may take for the head of its response.
    pub head_timeout: Duration,
    /// How long the two sides may pause in the body of a response.
    pub response_pauses: PauseLimits,
    /// How long a client may pause in the body of a request.
    pub request_pause: Duration,
    /// How long a tunnel may be idle.
    pub tunnel_idle_timeout: Duration,
    /// How long the record of an access may take.
    pub flush_timeout: Duration,
    /// Whether clients reach the gateway by HTTPS.
    pub is_https: bool,
}

/// Serves requests to protected routes.
pub struct Proxy {
    settings: ProxySettings,
    guard: Arc<Guard>,
    authorization: AuthorizationClient,
    /// Reads forms.
    bodies: Arc<BodyReader>,
    tasks: TaskTracker,
    /// Ends tunnels that are still open after the drain.
    abort: CancellationToken,
}

/// The outcome of a request to a protected route.
pub enum ProxyResponse {
    /// The response of the upstream.
    Forwarded(Response<Box<ResponseBody>>),
    /// The client has gone before the upstream responded.
    ClientGone,
}

impl Proxy {
    /// Returns a proxy that asks the service behind this channel.
    pub fn new(
        settings: ProxySettings,
        guard: Arc<Guard>,
        job_token_auth: PeerChannel,
        bodies: Arc<BodyReader>,
    ) -> Self {
        let tasks = TaskTracker::new();
        let authorization = AuthorizationClient::new(job_token_auth, tasks.clone(), settings.flush_timeout);
        Self { settings, guard, authorization, bodies, tasks, abort: CancellationToken::new() }
    }

    /// Ends the tunnels, and waits for the verdicts that are under way. Each verdict has a timeout.
    pub async fn finish(&self) {
        self.abort.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Serves a request. `projects` are those that the path names.
    ///
    /// # Errors
    /// Returns the refusal of the request, or the fault of a service or the upstream.
    pub async fn serve<B>(
        &self,
        route: &Arc<ProtectedRoute>,
        projects: Vec<String>,
        parts: &mut Parts,
        body: B,
        record: &mut AccessRecord,
    ) -> Result<ProxyResponse, Rejection>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let checked = checks::check(route, parts, &body);
        let upgrade = match checked.and_then(|()| Upgrade::requested(parts, route.upgrade.as_deref())) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return reject_unread(refusal.into(), parts, IncomingBody::Stream(body)),
        };
        let body = IncomingBody::new(route, parts, body, &self.bodies).await?;
        let token = match job_token::find(&route.credential, parts, body.pairs()) {
            Ok(token) => token,
            Err(refusal) => return reject_unread(refusal.into(), parts, body),
        };
        let access = match self.authorize_guarded(route, &token, projects, parts, body.pairs(), record).await {
            Ok(access) => access,
            Err(rejection) => return reject_unread(rejection, parts, body),
        };
        let AllowedAccess { decision, pending } = access;
        // Slots are taken after the decision, so that refused requests never use one.
        let slot = match route.upstream.take_slot().await {
            Ok(slot) => slot,
            Err(fault) => return reject_unread(fault.into(), parts, body),
        };
        let forwarded = ForwardedToken { plan: &route.credential, token: &token };
        let forwarded = route.forwards_credential.then_some(forwarded);
        // A form keeps its share of the memory for bodies until the upstream has responded.
        let (body, _share) = self.outgoing_body(body, parts, forwarded, &slot);
        let origin = RequestOrigin {
            remote_ip: record.remote_ip(),
            scheme: if self.settings.is_https { "https" } else { "http" },
            host: head::host(parts).and_then(|host| HeaderValue::try_from(host.as_str()).ok()),
            request_id: record.request_id(),
            identity: &decision.upstream_identity,
        };
        let mut request = upstream_request(route, parts, body, forwarded, &origin)?;
        if let Some(upgrade) = &upgrade {
            upgrade.add_headers(request.headers_mut());
        }
        let sent_at = Instant::now();
        let responded = self.send(route, request).await;
        record.set_upstream(&route.upstream.name, sent_at.elapsed());
        let mut response = responded?;
        if is_client_gone(parts) {
            return Ok(ProxyResponse::ClientGone);
        }
        let protocol = upgrade::accepted_protocol(upgrade.as_ref(), &response)?;
        deliver_verdict(pending, response.status()).await?;
        headers::clean_response(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        if let Some(upgrade) = upgrade
            && let Some(protocol) = protocol
        {
            let tunnel = upgrade.tunnel(&mut response, protocol, self.settings.tunnel_idle_timeout, slot.clone());
            let abort = self.abort.clone();
            self.tasks.spawn(async move { abort.run_until_cancelled(tunnel).await });
        }
        let status = response.status().as_u16();
        let limits = self.settings.response_pauses;
        Ok(ProxyResponse::Forwarded(response.map(|body| Box::new(ResponseBody::new(body, status, limits, slot)))))
    }

    /// Asks for the decision on a request, unless requests like it were refused too often.
    async fn authorize_guarded(
        &self,
        route: &ProtectedRoute,
        token: &Token,
        projects: Vec<String>,
        parts: &Parts,
        form: &str,
        record: &mut AccessRecord,
    ) -> Result<AllowedAccess, Rejection> {
        let digest = token::digest(token);
        let admitting = self.guard.admit(route.guarded, &digest, record);
        let admitted = tokio::time::timeout(self.settings.turn_timeout, admitting).await;
        let admission =
            admitted.map_err(|_| Fault::deadline_exceeded("requests with the same job token took too long"))??;
        let presented = ForwardedToken { plan: &route.credential, token };
        let decided = match job_token::check(&presented, parts, form) {
            Ok(()) => self.authorize(route, token, projects, record).await,
            Err(refusal) => Err(refusal.into()),
        };
        admission.finish(&decided, record.client().get());
        decided
    }

    /// Asks for the decision on a request.
    async fn authorize(
        &self,
        route: &ProtectedRoute,
        token: &Token,
        projects: Vec<String>,
        record: &mut AccessRecord,
    ) -> Result<AllowedAccess, Rejection> {
        let request = AuthorizeRequest {
            token: token.expose().to_owned(),
            projects,
            policies: route.policies.iter().map(|policy| (*policy).into()).collect(),
            route: route.label.caller_id.clone(),
            mode: route.mode.into(),
            capture_id: Uuid::now_v7().to_string(),
            upstream: (*route.upstream.name).to_owned(),
        };
        let context = record.call_context(Caller::Process(Process::Gateway));
        let access = self.authorization.authorize(request, context, record.client().clone()).await?;
        record.set_reached(ReachedProjects {
            username: access.decision.username.clone(),
            origin: access.decision.origin_project_id,
            targets: access.decision.target_project_ids.clone(),
            capture_id: access.pending.id().map(str::to_owned),
        });
        Ok(access)
    }

    /// Returns the body as the upstream gets it, and the share of the memory that a form holds.
    fn outgoing_body<'r, B>(
        &self,
        body: IncomingBody<'r, B>,
        parts: &Parts,
        forwarded: Option<ForwardedToken<'_>>,
        slot: &Slot,
    ) -> (RequestBody, Option<ReadBody<'r>>)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let pause = self.settings.request_pause;
        let slot = Some(slot.clone());
        match body {
            IncomingBody::Stream(body) => {
                let is_withheld = parts.headers.contains_key(EXPECT);
                (RequestBody::new(body, pause, is_withheld, slot), None)
            }
            IncomingBody::Form(Form { pairs, share }) => {
                let kept = job_token::without_credentials(&pairs, forwarded).unwrap_or(pairs);
                (RequestBody::new(Full::from(kept), pause, false, slot), Some(share))
            }
        }
    }

    /// Sends the request and waits for the head of the response. The timeout begins again with each frame of the
    /// request's body.
    async fn send(
        &self,
        route: &ProtectedRoute,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Rejection> {
        let timeout = self.settings.head_timeout;
        let progress = request.body().progress();
        let sending = route.upstream.send(request);
        tokio::pin!(sending);
        loop {
            let deadline = progress.moved_at() + timeout;
            tokio::select! {
                responded = &mut sending => return responded.map_err(|error| match progress.failure() {
                    Some(BodyFailure::Paused) => Refusal::new(Reason::RequestTimeout).into(),
                    Some(BodyFailure::Broken) => {
                        Refusal::new(Reason::BodyMalformed).with_detail("the body ended early").into()
                    }
                    None => Fault::of(Reason::UpstreamUnavailable, describe_error(&route.upstream, &error)).into(),
                }),
                () = tokio::time::sleep_until(deadline) => if progress.moved_at() + timeout <= Instant::now() {
                    return Err(Fault::of(Reason::UpstreamTimeout, format!("{:?}", route.upstream)).into());
                }
            }
        }
    }
}

/// Returns the request as the upstream gets it.
fn upstream_request(
    route: &ProtectedRoute,
    parts: &mut Parts,
    body: RequestBody,
    forwarded: Option<ForwardedToken<'_>>,
    origin: &RequestOrigin<'_>,
) -> Result<Request<RequestBody>, Fault> {
    let target = job_token::target(parts, forwarded)?;
    let mut headers = std::mem::take(&mut parts.headers);
    headers::remove_hop_by_hop(&mut headers);
    headers::remove_identity(&mut headers);
    for name in &route.upstream.strip_headers {
        headers.remove(name);
    }
    headers.remove(http::header::HOST);
    headers::join_cookies(&mut headers, route.forwards_cookies);
    job_token::remove_from_headers(&mut headers, forwarded);
    // An empty body of a verb that has one is declared. Other bodies are framed by their size.
    if body.is_end_stream() && has_body(&parts.method) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
    headers::add_origin(&mut headers, origin)?;
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.headers_mut() = headers;
    route.upstream.set_target(&mut request, target).map_err(Fault::internal)?;
    Ok(request)
}

/// Reports whether the client has gone without the server having noticed.
fn is_client_gone(parts: &Parts) -> bool {
    parts.extensions.get::<Socket>().is_some_and(Socket::is_gone)
}

/// Delivers the verdict. A success waits for its record. Any other status drops the capture, which discards it.
async fn deliver_verdict(pending: PendingCapture, status: StatusCode) -> Result<(), Fault> {
    if status.is_success() || status.is_redirection() || status == StatusCode::SWITCHING_PROTOCOLS {
        pending.flush(status.as_u16()).await?;
    }
    Ok(())
}

/// Rejects a request whose body is not read. The rest of the body is drained for a while, so that the client reads the
/// response instead of seeing its connection reset. A client that sent `Expect` has not sent the body yet.
fn reject_unread<B>(rejection: Rejection, parts: &Parts, body: IncomingBody<'_, B>) -> Result<ProxyResponse, Rejection>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    if let IncomingBody::Stream(body) = body
        && !parts.headers.contains_key(EXPECT)
    {
        drain_in_background(body);
    }
    Err(rejection)
}

/// Reports whether requests with this verb have a body by definition.
fn has_body(verb: &Method) -> bool {
    *verb == Method::POST || *verb == Method::PUT || *verb == Method::PATCH
}

/// Returns an error with its causes. None of them names anything of the request.
fn describe_error(upstream: &Upstream, error: &dyn std::error::Error) -> String {
    let mut text = format!("{upstream:?}: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
