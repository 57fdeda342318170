//! The protected routes: a request with a job token is decided by job-token-auth, forwarded byte for byte to its upstream
//! with a signed identity, and recorded when it succeeded, before the client sees that it did.

pub mod body;
mod captures;
mod carriers;
mod checks;
mod form;
mod headers;
mod link;
mod path;
pub mod table;
mod upgrade;
pub mod upstream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chassis::access::{CallContext, Caller};
use chassis::status::{Fault, Refusal, Rejection};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use proto::paddock::contract::v1::{Process, Reason};
use proto::paddock::job_token::v1::AuthorizeRequest;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::access_log::{ReachedProjects, Record};
use crate::answer::{Answer, AnswerBody};
use crate::config::Config;
use crate::credentials::CredentialPlan;
use crate::input::builder::Token;
use crate::peers::Peers;
use crate::request::{self, BodyReader, ReadBody};
use crate::server::socket::Socket;
use body::{BodyFailure, BoxError, Pauses, RequestBody, Streamed};
use captures::{Access, Captures, Pending};
use form::{Form, Sent};
use headers::Origin;
use table::ProtectedRoute;
use upgrade::Upgrade;
use upstream::Place;

/// What every request to a protected route needs.
pub struct Proxy {
    captures: Captures,
    /// Reads forms.
    bodies: Arc<BodyReader>,
    tasks: TaskTracker,
    /// Ends tunnels that are still open after the drain.
    abort: CancellationToken,
    head_timeout: Duration,
    /// How long the two sides may pause in the body of an answer.
    pauses: Pauses,
    /// How long a client may pause in the body of a request.
    pause_timeout: Duration,
    /// How long nothing may come from either side of a tunnel.
    idle_timeout: Duration,
    scheme: &'static str,
}

impl Proxy {
    /// A proxy with these settings.
    pub fn new(config: &Config, peers: &Peers, bodies: Arc<BodyReader>) -> Self {
        let tasks = TaskTracker::new();
        let flush_timeout = Duration::from_millis(config.capture_flush_timeout_ms);
        let is_https = config.external_url.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("https:"));
        Self {
            captures: Captures::new(peers.job_token_auth.clone(), tasks.clone(), flush_timeout),
            bodies,
            tasks,
            abort: CancellationToken::new(),
            head_timeout: Duration::from_millis(config.upstream_timeout_ms),
            pauses: Pauses {
                upstream: Duration::from_millis(config.upstream_pause_timeout_ms),
                client: Duration::from_millis(config.client_pause_timeout_ms),
            },
            idle_timeout: Duration::from_millis(config.idle_timeout_ms),
            pause_timeout: Duration::from_millis(config.body_read_timeout_ms),
            scheme: if is_https { "https" } else { "http" },
        }
    }

    /// Waits for the verdicts that are still to be told; tunnels end.
    pub async fn finish(&self) {
        self.abort.cancel();
        self.tasks.close();
        // Every verdict has a time limit of its own.
        self.tasks.wait().await;
    }

    /// Serves a protected route. `projects` are those that the path names.
    pub async fn answer<B>(
        &self,
        route: &Arc<ProtectedRoute>,
        projects: Vec<String>,
        parts: &mut Parts,
        body: B,
        record: &mut Record,
    ) -> Result<Answer, Rejection>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let checked = checks::check(route, parts, &body);
        let upgrade = match checked.and_then(|()| Upgrade::of(parts, route.upgrade.as_deref())) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return turn_away(refusal.into(), parts, Sent::Stream(body)),
        };
        let body = Sent::new(route, parts, body, &self.bodies).await?;
        let token = match carriers::job_token(&route.credential, parts, body.pairs()) {
            Ok(token) => token,
            Err(refusal) => return turn_away(refusal.into(), parts, body),
        };
        let access = match self.access(route, &token, projects, record).await {
            Ok(access) => access,
            Err(rejection) => return turn_away(rejection, parts, body),
        };
        let Access { decision, pending } = access;
        // Whoever has no access takes nobody's place.
        let place = match route.upstream.place().await {
            Ok(place) => place,
            Err(fault) => return turn_away(fault.into(), parts, body),
        };
        let origin = Origin {
            remote_ip: record.remote_ip(),
            scheme: self.scheme,
            host: request::host(parts).and_then(|host| HeaderValue::try_from(host.as_str()).ok()),
            request_id: record.request_id(),
            identity: &decision.upstream_identity,
        };
        let stays = route.forwards_credential.then_some((&route.credential, &token));
        // The memory of a form counts until the upstream has answered.
        let (body, _share) = self.outgoing(body, parts, stays, &place);
        let mut request = request(route, parts, body, stays, &origin)?;
        if let Some(upgrade) = &upgrade {
            upgrade.ask(request.headers_mut());
        }
        let sent = Instant::now();
        let answered = self.send(route, request).await;
        record.set_upstream(&route.upstream.name, sent.elapsed());
        let mut response = answered?;
        if has_left(parts) {
            return Ok(to_nobody(record));
        }
        let agreed = upgrade::agreed(upgrade.as_ref(), &response)?;
        judge(pending, &response).await?;
        headers::of_answer(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        if let (Some(upgrade), Some(agreed)) = (upgrade, agreed) {
            let tunnel = upgrade.tunnel(&mut response, agreed, self.idle_timeout, place.clone());
            let abort = self.abort.clone();
            self.tasks.spawn(async move { abort.run_until_cancelled(tunnel).await });
        }
        let status = response.status().as_u16();
        let streamed = |body| AnswerBody::Streamed(Box::new(Streamed::new(body, status, self.pauses, place)));
        Ok(response.map(streamed))
    }

    /// The decision on a request.
    async fn access(
        &self,
        route: &ProtectedRoute,
        token: &Token,
        projects: Vec<String>,
        record: &mut Record,
    ) -> Result<Access, Rejection> {
        let request = AuthorizeRequest {
            token: token.expose().to_owned(),
            projects,
            policies: route.policies.iter().map(|policy| (*policy).into()).collect(),
            route: route.caller_id.clone(),
            mode: route.mode.into(),
            capture_id: Uuid::now_v7().to_string(),
            upstream: (*route.upstream.name).to_owned(),
        };
        let context = CallContext {
            caller: Caller::Process(Process::Gateway),
            request_id: record.request_id().to_owned(),
            peer_address: Some(record.remote_ip()),
        };
        let access = self.captures.authorize(request, context).await?;
        record.set_reached(ReachedProjects {
            job_id: access.decision.job_id,
            username: access.decision.username.clone(),
            origin: access.decision.origin_project_id,
            targets: access.decision.target_project_ids.clone(),
            capture_id: access.pending.id().map(str::to_owned),
        });
        Ok(access)
    }

    /// The body as the upstream gets it. `stays` is the credential that it may see.
    fn outgoing<'r, B>(
        &self,
        body: Sent<'r, B>,
        parts: &Parts,
        stays: Option<(&CredentialPlan, &Token)>,
        place: &Place,
    ) -> (RequestBody, Option<ReadBody<'r>>)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (pause, place) = (self.pause_timeout, Some(place.clone()));
        match body {
            Sent::Stream(body) => {
                let is_withheld = parts.headers.contains_key(EXPECT);
                (RequestBody::new(body, pause, is_withheld, place), None)
            }
            Sent::Form(Form { pairs, share }) => {
                let kept = carriers::without_credentials(&pairs, stays).unwrap_or(pairs);
                (RequestBody::new(Full::from(kept), pause, false, place), Some(share))
            }
        }
    }

    /// Sends the request and waits for the head of its answer, as long as its body moves and some time after.
    async fn send(
        &self,
        route: &ProtectedRoute,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Rejection> {
        let progress = request.body().progress();
        let sending = route.upstream.send(request);
        tokio::pin!(sending);
        loop {
            let deadline = progress.moved() + self.head_timeout;
            tokio::select! {
                answered = &mut sending => return answered.map_err(|error| match progress.failure() {
                    Some(BodyFailure::Paused) => Refusal::new(Reason::RequestTimeout).into(),
                    Some(BodyFailure::Broken) => {
                        Refusal::new(Reason::BodyMalformed).with_detail("the body ended early").into()
                    }
                    None => Fault::of(Reason::UpstreamUnavailable, describe(&route.upstream, &error)).into(),
                }),
                () = tokio::time::sleep_until(deadline) => if progress.moved() + self.head_timeout <= Instant::now() {
                    return Err(Fault::of(Reason::UpstreamTimeout, format!("{:?}", route.upstream)).into());
                }
            }
        }
    }
}

/// The request as the upstream sees it. `stays` is the credential that it may see.
fn request(
    route: &ProtectedRoute,
    parts: &mut Parts,
    body: RequestBody,
    stays: Option<(&CredentialPlan, &Token)>,
    origin: &Origin<'_>,
) -> Result<Request<RequestBody>, Fault> {
    let target = carriers::target(parts, stays)?;
    let mut headers = std::mem::take(&mut parts.headers);
    headers::remove_hop_by_hop(&mut headers);
    headers::remove_identity(&mut headers);
    for name in &route.upstream.strip_headers {
        headers.remove(name);
    }
    headers.remove(http::header::HOST);
    headers::keep_cookies(&mut headers, route.cookies);
    carriers::remove(&mut headers, stays);
    // A body that is empty on purpose says so; others are framed by their own size.
    if body.is_end_stream() && takes_body(&parts.method) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
    headers::add_origin(&mut headers, origin)?;
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.headers_mut() = headers;
    route.upstream.aim(&mut request, target).map_err(Fault::internal)?;
    Ok(request)
}

/// Whether the client has left without the server having noticed.
fn has_left(parts: &Parts) -> bool {
    parts.extensions.get::<Socket>().is_some_and(Socket::is_gone)
}

/// What a client is answered that has left: nothing that it waited for, and the end of its connection.
fn to_nobody(record: &mut Record) -> Answer {
    record.set_left();
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Tells the verdict. Success waits for its record; anything else lets the capture go, by dropping it.
async fn judge(pending: Pending, response: &Response<Incoming>) -> Result<(), Fault> {
    let status = response.status();
    if status.is_success() || status.is_redirection() || status == StatusCode::SWITCHING_PROTOCOLS {
        pending.flush(status.as_u16()).await?;
    }
    Ok(())
}

/// Refuses a request whose body nobody has read. What the client still writes is thrown away for a while, so that it
/// reads the refusal instead of seeing its connection reset; one that asked first has not sent it yet.
fn turn_away<B>(rejection: Rejection, parts: &Parts, body: Sent<'_, B>) -> Result<Answer, Rejection>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    if let (Sent::Stream(body), false) = (body, parts.headers.contains_key(EXPECT)) {
        request::drain_behind(body);
    }
    Err(rejection)
}

/// Whether requests with this verb have a body by nature.
fn takes_body(verb: &Method) -> bool {
    *verb == Method::POST || *verb == Method::PUT || *verb == Method::PATCH
}

/// An error with what caused it. Neither names anything of the request.
fn describe(upstream: &upstream::Upstream, error: &dyn std::error::Error) -> String {
    let mut text = format!("{upstream:?}: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
