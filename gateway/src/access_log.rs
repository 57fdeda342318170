//! One line per request, whatever becomes of it, with the field names of GitLab's API log. A line that is not written
//! on purpose is written when the request is dropped: its client has gone.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis::access::User;
use chassis::status::Rejection;
use http::request::Parts;
use http::{HeaderMap, Method, Uri, header};

use crate::proxy::table::ProtectedRoute;
use crate::routes::{OwnPage, Route};
use crate::{metrics, redact};

/// The status of a request whose client did not wait for the answer, as nginx writes it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The longest user agent that is logged, in bytes.
const MAX_USER_AGENT: usize = 256;

/// The longest path with query that is logged, in bytes.
const MAX_PATH: usize = 2048;

/// What is to be logged and counted of a request.
#[derive(Debug)]
pub struct Record {
    started: Instant,
    request_id: String,
    verb: &'static str,
    path: String,
    remote_ip: IpAddr,
    user_agent: Option<String>,
    place: Place,
    user: Option<User>,
    client_id: Option<String>,
    reason: Option<&'static str>,
    detail: Option<String>,
    reached: Option<Box<ReachedProjects>>,
    upstream: Option<(Arc<str>, f64)>,
    has_left: bool,
    is_written: bool,
}

/// What a job reaches with a request.
#[derive(Debug)]
pub struct ReachedProjects {
    /// The job.
    pub job_id: i64,
    /// The user that it runs for.
    pub username: String,
    /// Its project.
    pub origin: i64,
    /// The projects that it reaches.
    pub targets: Vec<i64>,
    /// The capture; none if there is nothing to record.
    pub capture_id: Option<String>,
}

/// Who ended an answer before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutOff {
    /// The client.
    Client,
    /// The upstream.
    Upstream,
    /// The gateway, because the upstream did not go on.
    UpstreamPaused,
    /// The gateway, because the client took nothing for too long.
    ClientPaused,
}

/// The body of an answer that was streamed.
#[derive(Clone, Copy)]
struct Sent {
    bytes: u64,
    cut_off: Option<CutOff>,
}

/// What the request was for.
#[derive(Debug)]
enum Place {
    Nowhere,
    Route(Arc<Route>),
    Own(Arc<str>),
    Protected(Arc<ProtectedRoute>),
}

impl Record {
    /// Begins the record of a request.
    pub fn new(parts: &Parts, request_id: String, remote_ip: IpAddr) -> Self {
        Self {
            started: Instant::now(),
            request_id,
            verb: verb(&parts.method),
            path: shown_path(&parts.uri),
            remote_ip,
            user_agent: user_agent(&parts.headers),
            place: Place::Nowhere,
            user: None,
            client_id: None,
            reason: None,
            detail: None,
            reached: None,
            upstream: None,
            has_left: false,
            is_written: false,
        }
    }

    /// The id of the request.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The address that it came from.
    pub fn remote_ip(&self) -> IpAddr {
        self.remote_ip
    }

    /// The route of the request, if it has one of the contract.
    pub fn route(&self) -> Option<&Arc<Route>> {
        match &self.place {
            Place::Route(route) => Some(route),
            Place::Nowhere | Place::Own(_) | Place::Protected(_) => None,
        }
    }

    /// Notes the route.
    pub fn set_route(&mut self, route: Arc<Route>) {
        self.place = Place::Route(route);
    }

    /// Notes that one of the gateway's own pages was asked for.
    pub fn set_own_page(&mut self, page: OwnPage) {
        self.place = Place::Own(page.path().into());
    }

    /// Notes the protected route.
    pub fn set_protected(&mut self, route: Arc<ProtectedRoute>) {
        self.place = Place::Protected(route);
    }

    /// Notes which job reaches what.
    pub fn set_reached(&mut self, reached: ReachedProjects) {
        self.client_id = Some(format!("job/{}", reached.job_id));
        self.reached = Some(Box::new(reached));
    }

    /// Notes and measures how long the upstream took for the head of its answer.
    pub fn set_upstream(&mut self, name: &Arc<str>, took: Duration) {
        metrics::upstream(name, took.as_secs_f64());
        self.upstream = Some((name.clone(), took.as_secs_f64()));
    }

    /// Notes who calls.
    pub fn set_user(&mut self, user: &User) {
        self.client_id = Some(format!("user/{}", user.id));
        self.user = Some(user.clone());
    }

    /// Notes which runner calls.
    pub fn set_runner(&mut self, id: i64) {
        self.client_id = Some(format!("runner/{id}"));
    }

    /// Notes that the client has left before its answer.
    pub fn set_left(&mut self) {
        self.has_left = true;
    }

    /// Notes and counts why the request gets no answer.
    pub fn reject(&mut self, rejection: &Rejection) {
        self.reason = Some(rejection.spec().code);
        self.detail = match rejection {
            Rejection::Refusal(refusal) => refusal.detail().map(str::to_owned),
            Rejection::Fault(fault) => Some(fault.detail().to_owned()),
        };
        metrics::rejection(rejection, self.template());
    }

    /// Ends the record.
    pub fn finish(mut self, status: u16) {
        self.write(status, None);
    }

    /// Ends the record of a request whose answer was streamed.
    pub fn finish_streamed(mut self, status: u16, bytes: u64, cut_off: Option<CutOff>) {
        self.write(status, Some(Sent { bytes, cut_off }));
    }

    fn template(&self) -> Option<&Arc<str>> {
        match &self.place {
            Place::Nowhere => None,
            Place::Route(route) => Some(&route.template),
            Place::Own(path) => Some(path),
            Place::Protected(route) => Some(&route.template),
        }
    }

    fn caller_id(&self) -> Option<&str> {
        match &self.place {
            Place::Route(route) => Some(&route.caller_id),
            Place::Protected(route) => Some(&route.caller_id),
            Place::Nowhere | Place::Own(_) => None,
        }
    }

    /// The name of the user, or of the one that the job runs for.
    fn username(&self) -> Option<&str> {
        let of_job = self.reached.as_ref().map(|reached| reached.username.as_str());
        self.user.as_ref().map(|user| user.username.as_str()).or(of_job)
    }

    fn write(&mut self, status: u16, sent: Option<Sent>) {
        self.is_written = true;
        let status = if self.has_left { CLIENT_CLOSED_REQUEST } else { status };
        let duration_s = self.started.elapsed().as_secs_f64();
        metrics::request(self.template(), self.verb, status, duration_s);
        let reached = self.reached.as_deref();
        let targets = reached.map(|reached| tracing::field::debug(&reached.targets));
        let upstream = self.upstream.as_ref();
        let cut_off = sent.and_then(|sent| sent.cut_off);
        let is_of_upstream = sent.is_some();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "access",
                    correlation_id = self.request_id,
                    method = self.verb,
                    path = self.path,
                    route = self.template().map(|template| &**template),
                    status,
                    duration_s,
                    remote_ip = %self.remote_ip,
                    ua = self.user_agent.as_deref(),
                    reason = self.reason,
                    detail = self.detail.as_deref(),
                    meta.caller_id = self.caller_id(),
                    meta.client_id = self.client_id.as_deref(),
                    meta.user = self.username(),
                    origin_project_id = reached.map(|reached| reached.origin),
                    target_project_ids = targets,
                    capture_id = reached.and_then(|reached| reached.capture_id.as_deref()),
                    upstream = upstream.map(|(name, _)| &**name),
                    upstream_duration_s = upstream.map(|(_, took)| took),
                    bytes = sent.map(|sent| sent.bytes),
                    cut_off = cut_off.map(CutOff::name),
                    "request"
                )
            };
        }
        let has_failed = status >= 500 || matches!(cut_off, Some(CutOff::Upstream | CutOff::UpstreamPaused));
        // An own page that answers 503 reports a state; the request itself has not failed.
        if !has_failed || matches!(self.place, Place::Own(_)) {
            line!(info);
        } else if is_of_upstream {
            // Passed on as it came: a matter of the upstream, not of ours.
            line!(warn);
        } else {
            line!(error);
        }
    }
}

impl CutOff {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::UpstreamPaused => "upstream_paused",
            Self::ClientPaused => "client_paused",
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_written {
            self.write(CLIENT_CLOSED_REQUEST, None);
        }
    }
}

/// The verb as logs and metrics show it: a client may invent any other.
fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

fn shown_path(uri: &Uri) -> String {
    let mut path = redact::target(uri.path(), uri.query());
    path.truncate(path.floor_char_boundary(MAX_PATH));
    path
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::USER_AGENT)?.to_str().ok()?;
    // Visible ASCII: any byte is a boundary.
    Some(redact::text(value.get(..MAX_USER_AGENT).unwrap_or(value)).to_owned())
}
