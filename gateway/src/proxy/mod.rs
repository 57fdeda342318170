//! The protected routes: a request with a job token is decided by job-token-auth, forwarded byte for byte to its upstream
//! with a signed identity, and recorded when it succeeded, before the client sees that it did.

pub mod body;
mod captures;
mod headers;
mod path;
pub mod table;
mod upgrade;
pub mod upstream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chassis::access::{CallContext, Caller};
use chassis::status::{Fault, Refusal, Rejection};
use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use proto::paddock::contract::v1::{CredentialKind, Process, Reason};
use proto::paddock::job_token::v1::AuthorizeRequest;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::access_log::{ReachedProjects, Record};
use crate::answer::{Answer, AnswerBody};
use crate::config::Config;
use crate::credentials::{self, CredentialPlan};
use crate::input::builder::Token;
use crate::path::Malformed;
use crate::peers::Peers;
use crate::request;
use body::{BodyFailure, BoxError, Progress, RequestBody, Streamed};
use captures::{Access, Captures, Pending};
use headers::Origin;
use table::ProtectedRoute;
use upgrade::Upgrade;

/// What every request to a protected route needs.
pub struct Proxy {
    captures: Captures,
    tasks: TaskTracker,
    /// Ends tunnels that are still open after the drain.
    abort: CancellationToken,
    head_timeout: Duration,
    /// How long an upstream may pause in the body of its answer.
    answer_pause_timeout: Duration,
    pause_timeout: Duration,
    scheme: &'static str,
}

impl Proxy {
    /// A proxy with these settings.
    pub fn new(config: &Config, peers: &Peers) -> Self {
        let tasks = TaskTracker::new();
        let flush_timeout = Duration::from_millis(config.capture_flush_timeout_ms);
        let is_https = config.external_url.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("https:"));
        Self {
            captures: Captures::new(peers.job_token_auth.clone(), tasks.clone(), flush_timeout),
            tasks,
            abort: CancellationToken::new(),
            head_timeout: Duration::from_millis(config.upstream_timeout_ms),
            answer_pause_timeout: Duration::from_millis(config.upstream_pause_timeout_ms),
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
        let upgrade = match Upgrade::of(parts, route.upgrade) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return turn_away(refusal.into(), parts, body).await,
        };
        let access = match self.access(route, projects, parts, record).await {
            Ok(access) => access,
            Err(rejection) => return turn_away(rejection, parts, body).await,
        };
        let Access { decision, pending } = access;
        let origin = Origin {
            remote_ip: record.remote_ip(),
            scheme: self.scheme,
            host: request::host(parts).and_then(|host| HeaderValue::try_from(host.as_str()).ok()),
            request_id: record.request_id(),
            identity: &decision.upstream_identity,
        };
        let (mut request, progress) = self.request(route, parts, body, &origin)?;
        if let Some(upgrade) = &upgrade {
            upgrade.ask(request.headers_mut());
        }
        let sent = Instant::now();
        let answered = self.send(route, request, &progress).await;
        record.set_upstream(&route.upstream.name, sent.elapsed());
        let mut response = answered?;
        judge(pending, &response, upgrade.is_some()).await?;
        headers::of_answer(response.headers_mut());
        if let Some(upgrade) = upgrade.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
            let tunnel = upgrade.tunnel(&mut response);
            let abort = self.abort.clone();
            self.tasks.spawn(async move { abort.run_until_cancelled(tunnel).await });
        }
        let status = response.status().as_u16();
        let streamed = |body| AnswerBody::Streamed(Box::new(Streamed::new(body, status, self.answer_pause_timeout)));
        Ok(response.map(streamed))
    }

    /// The decision on a request.
    async fn access(
        &self,
        route: &ProtectedRoute,
        projects: Vec<String>,
        parts: &Parts,
        record: &mut Record,
    ) -> Result<Access, Rejection> {
        let token = job_token(&route.credential, parts)?;
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

    /// The request as the upstream sees it.
    fn request<B>(
        &self,
        route: &ProtectedRoute,
        parts: &mut Parts,
        body: B,
        origin: &Origin<'_>,
    ) -> Result<(Request<RequestBody>, Progress), Rejection>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let target = target(parts, route.forwards_credential)?;
        let mut headers = std::mem::take(&mut parts.headers);
        headers::remove_hop_by_hop(&mut headers);
        headers::remove_identity(&mut headers);
        headers.remove(http::header::HOST);
        if !route.forwards_credential {
            headers::remove_credentials(&mut headers);
        }
        // A body that is empty on purpose says so; others are framed by their own size.
        if body.is_end_stream() && takes_body(&parts.method) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        headers::add_origin(&mut headers, origin)?;
        let (body, progress) = RequestBody::new(body, self.pause_timeout);
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.headers_mut() = headers;
        route.upstream.aim(&mut request, target).map_err(Fault::internal)?;
        Ok((request, progress))
    }

    /// Sends the request and waits for the head of its answer, as long as its body moves and some time after.
    async fn send(
        &self,
        route: &ProtectedRoute,
        request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Rejection> {
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

/// Tells the verdict. Success waits for its record; anything else lets the capture go, by dropping it.
async fn judge(pending: Pending, response: &Response<Incoming>, asked_to_upgrade: bool) -> Result<(), Fault> {
    let status = response.status();
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    if switches && !asked_to_upgrade {
        return Err(Fault::of(Reason::UpstreamUnavailable, "the upstream changed the protocol without being asked"));
    }
    if status.is_success() || status.is_redirection() || switches {
        pending.flush(status.as_u16()).await?;
    }
    Ok(())
}

/// Refuses a request whose body nobody has read. What the client still writes is thrown away for a while, so that it
/// reads the refusal instead of seeing its connection reset; one that asked first has not sent it yet.
async fn turn_away<B>(rejection: Rejection, parts: &Parts, mut body: B) -> Result<Answer, Rejection>
where
    B: Body<Data = Bytes> + Unpin,
{
    if !body.is_end_stream() && !parts.headers.contains_key(EXPECT) {
        request::drain(&mut body).await;
    }
    Err(rejection)
}

/// The job token of a request, from its headers and its query; its body streams past unread.
fn job_token(plan: &CredentialPlan, parts: &Parts) -> Result<Token, Refusal> {
    let query = parts.uri.query().unwrap_or_default();
    let in_query = plan.in_query(query).map_err(|Malformed| Refusal::new(Reason::PathMalformed))?;
    match plan.find(&parts.headers, in_query)? {
        Some(token) => plan.check(&token).map(|()| token),
        None if carries_another(parts, query) => Err(plan.wrong_kind()),
        None => Err(plan.missing()),
    }
}

/// Whether a credential of another kind stands where one may stand.
fn carries_another(parts: &Parts, query: &str) -> bool {
    let prefixes = || CredentialKind::ALL.iter().filter_map(|kind| kind.spec()).map(|spec| spec.prefix);
    let in_headers = credentials::headers().any(|name| {
        let values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let mut words = values.flat_map(|value| value.split(' '));
        words.any(|word| prefixes().any(|prefix| word.starts_with(prefix)))
    });
    in_headers || credentials::removed_from_query(query).is_some()
}

/// Path and query as they came, less what carries a credential.
fn target(parts: &Parts, forwards_credential: bool) -> Result<PathAndQuery, Fault> {
    let (path, query) = (parts.uri.path(), parts.uri.query());
    let removed = query.filter(|_| !forwards_credential).and_then(credentials::removed_from_query);
    match (removed, parts.uri.path_and_query()) {
        (None, Some(whole)) => Ok(whole.clone()),
        (Some(rest), _) if !rest.is_empty() => {
            PathAndQuery::try_from(format!("{path}?{rest}")).map_err(Fault::internal)
        }
        _ => PathAndQuery::try_from(path).map_err(Fault::internal),
    }
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
