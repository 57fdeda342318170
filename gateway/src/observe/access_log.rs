//! The access log: one line per request, with the field names of GitLab's API log. A request that is dropped without an
//! answer gets its line too: its client has gone.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use chassis::{
    access::{CallContext, Caller, User},
    client_id::{ClientId, ResolvedClient},
    identity::MAX_USER_AGENT,
    status::Rejection,
};
use http::{HeaderMap, Method, Uri, header, request::Parts};
use proto::paddock::contract::v1::{LogLevel, Reason};

use super::{cut_off::CutOff, metrics};
use crate::{credential::redact, routing::RouteLabel};

/// The status of a request whose client did not wait for the answer, as nginx writes it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The longest path with query that is logged, in bytes.
const MAX_PATH: usize = 2048;

/// Collects what is logged and counted of a request.
#[derive(Debug)]
pub struct AccessRecord {
    started: Instant,
    request_id: String,
    verb: &'static str,
    path: String,
    remote_ip: IpAddr,
    user_agent: Option<String>,
    route: Option<Arc<RouteLabel>>,
    /// The route is one of the gateway's own pages.
    is_own_page: bool,
    user: Option<User>,
    client: ResolvedClient,
    rejection: Option<LoggedRejection>,
    reached: Option<Box<ReachedProjects>>,
    upstream: Option<(Arc<str>, f64)>,
    client_is_gone: bool,
    /// The answer comes from memory. The guard logs it together with others.
    is_from_memory: bool,
    /// The reason that such an answer repeats.
    repeated: Option<Reason>,
    is_written: bool,
}

/// The projects that a job reaches with a request.
#[derive(Debug)]
pub struct ReachedProjects {
    /// The user that the job runs for.
    pub username: String,
    /// The project of the job.
    pub origin: i64,
    /// The projects that it reaches.
    pub targets: Vec<i64>,
    /// The capture; none if the access is not recorded.
    pub capture_id: Option<String>,
}

/// Why a request was refused or failed.
#[derive(Debug)]
struct LoggedRejection {
    reason: &'static str,
    detail: Option<String>,
    level: LogLevel,
}

/// The body of a response that was streamed.
#[derive(Clone, Copy)]
struct StreamedBody {
    bytes: u64,
    cut_off: Option<CutOff>,
}

impl AccessRecord {
    /// Begins the record of a request.
    pub fn new(parts: &Parts, request_id: String, remote_ip: IpAddr) -> Self {
        Self {
            started: Instant::now(),
            request_id,
            verb: verb_label(&parts.method),
            path: loggable_path(&parts.uri),
            remote_ip,
            user_agent: user_agent(&parts.headers),
            route: None,
            is_own_page: false,
            user: None,
            client: ResolvedClient::default(),
            rejection: None,
            reached: None,
            upstream: None,
            client_is_gone: false,
            is_from_memory: false,
            repeated: None,
            is_written: false,
        }
    }

    /// Returns the id of the request.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Returns the context of a call of this caller to a service.
    pub fn call_context(&self, caller: Caller) -> CallContext {
        CallContext {
            caller,
            request_id: self.request_id.clone(),
            peer_address: Some(self.remote_ip),
            user_agent: self.user_agent.clone(),
        }
    }

    /// Returns where the service that resolves the credential names its owner.
    pub fn client(&self) -> &ResolvedClient {
        &self.client
    }

    /// Returns the address of the client.
    pub fn remote_ip(&self) -> IpAddr {
        self.remote_ip
    }

    /// Sets the route.
    pub fn set_route(&mut self, route: Arc<RouteLabel>) {
        self.route = Some(route);
    }

    /// Sets the route to one of the gateway's own pages.
    pub fn set_own_page(&mut self, route: Arc<RouteLabel>) {
        self.route = Some(route);
        self.is_own_page = true;
    }

    /// Sets the projects that a job reaches.
    pub fn set_reached(&mut self, reached: ReachedProjects) {
        self.reached = Some(Box::new(reached));
    }

    /// Sets and measures how long the upstream took for the head of its response.
    pub fn set_upstream(&mut self, name: &Arc<str>, duration: Duration) {
        metrics::measure_upstream(name, duration.as_secs_f64());
        self.upstream = Some((name.clone(), duration.as_secs_f64()));
    }

    /// Sets the user who calls.
    pub fn set_user(&mut self, user: &User) {
        self.user = Some(user.clone());
    }

    /// Notes that the answer comes from memory, and the reason that it repeats, if it repeats one. The request is counted
    /// and gets no line of its own.
    pub fn set_answered_from_memory(&mut self, repeated: Option<Reason>) {
        self.is_from_memory = true;
        self.repeated = repeated;
    }

    /// Reports whether the answer comes from memory.
    pub fn is_from_memory(&self) -> bool {
        self.is_from_memory
    }

    /// Returns the reason that an answer from memory repeats.
    pub fn repeated(&self) -> Option<Reason> {
        self.repeated
    }

    /// Notes that the client has gone before its answer.
    pub fn set_client_gone(&mut self) {
        self.client_is_gone = true;
    }

    /// Sets and counts why the request is refused or fails.
    pub fn reject(&mut self, rejection: &Rejection) {
        let (detail, level) = match rejection {
            Rejection::Refusal(refusal) => (refusal.detail(), refusal.spec().log_level),
            Rejection::Fault(fault) => (Some(fault.detail()), LogLevel::Error),
        };
        let reason = rejection.spec().code;
        self.rejection = Some(LoggedRejection { reason, detail: detail.map(str::to_owned), level });
        metrics::count_rejection(rejection, self.template());
    }

    /// Ends the record.
    pub fn finish(mut self, status: u16) {
        self.write_line(status, None);
    }

    /// Ends the record of a request whose response was streamed.
    pub fn finish_streamed(mut self, status: u16, bytes: u64, cut_off: Option<CutOff>) {
        self.write_line(status, Some(StreamedBody { bytes, cut_off }));
    }

    /// Returns the path template of the route.
    pub fn template(&self) -> Option<&Arc<str>> {
        self.route.as_ref().map(|route| &route.template)
    }

    fn caller_id(&self) -> Option<&str> {
        let route = self.route.as_ref().filter(|_| !self.is_own_page);
        route.map(|route| route.caller_id.as_str())
    }

    /// Returns the name of the user who calls, or of the user that the job runs for.
    fn username(&self) -> Option<&str> {
        let user = self.user.as_ref().map(|user| user.username.as_str());
        user.or_else(|| self.reached.as_ref().map(|reached| reached.username.as_str()))
    }

    /// Returns how loud the line is. A refusal is as loud as the contract declares its reason, and a fault is an error.
    fn line_level(&self, status: u16, body: Option<StreamedBody>) -> LogLevel {
        if let Some(StreamedBody { cut_off, .. }) = body {
            // The status and the end of a streamed body come from the upstream, so a failure is its own and not ours.
            let has_failed = status >= 500 || cut_off.is_some_and(CutOff::is_by_upstream);
            return if has_failed { LogLevel::Warn } else { LogLevel::Info };
        }
        if let Some(rejection) = &self.rejection {
            return rejection.level;
        }
        // An own page that answers 503 reports a state; the request itself has not failed.
        if status >= 500 && !self.is_own_page { LogLevel::Error } else { LogLevel::Info }
    }

    fn write_line(&mut self, status: u16, body: Option<StreamedBody>) {
        self.is_written = true;
        let status = if self.client_is_gone { CLIENT_CLOSED_REQUEST } else { status };
        let duration_s = self.started.elapsed().as_secs_f64();
        metrics::count_request(self.template(), self.verb, status, duration_s);
        if self.is_from_memory {
            return;
        }
        let rejection = self.rejection.as_ref();
        let reached = self.reached.as_deref();
        let targets = reached.map(|reached| tracing::field::debug(&reached.targets));
        let upstream = self.upstream.as_ref();
        let client_id = self.client.get();
        let cut_off = body.and_then(|body| body.cut_off);
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
                    reason = rejection.map(|rejection| rejection.reason),
                    detail = rejection.and_then(|rejection| rejection.detail.as_deref()),
                    meta.caller_id = self.caller_id(),
                    meta.client_id = client_id.as_ref().map(ClientId::as_str),
                    meta.user = self.username(),
                    origin_project_id = reached.map(|reached| reached.origin),
                    target_project_ids = targets,
                    capture_id = reached.and_then(|reached| reached.capture_id.as_deref()),
                    upstream = upstream.map(|(name, _)| &**name),
                    upstream_duration_s = upstream.map(|(_, duration)| duration),
                    bytes = body.map(|body| body.bytes),
                    cut_off = cut_off.map(CutOff::name),
                    "request"
                )
            };
        }
        match self.line_level(status, body) {
            LogLevel::Error => line!(error),
            LogLevel::Warn => line!(warn),
            LogLevel::Info | LogLevel::Unspecified => line!(info),
        }
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        if !self.is_written {
            self.write_line(CLIENT_CLOSED_REQUEST, None);
        }
    }
}

/// Returns the verb as logs and metrics show it: clients may invent others.
fn verb_label(method: &Method) -> &'static str {
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

fn loggable_path(uri: &Uri) -> String {
    let mut path = redact::target(uri.path(), uri.query());
    path.truncate(path.floor_char_boundary(MAX_PATH));
    path
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::USER_AGENT)?.to_str().ok()?;
    // The value is visible ASCII, so that any byte is a boundary of characters.
    Some(redact::text(value.get(..MAX_USER_AGENT).unwrap_or(value)).to_owned())
}

#[cfg(test)]
mod tests {
    use chassis::status::{Fault, Refusal};
    use proto::paddock::contract::v1::Reason;

    use super::*;

    fn record() -> AccessRecord {
        let (parts, ()) = http::Request::new(()).into_parts();
        AccessRecord::new(&parts, "r1".to_owned(), [127, 0, 0, 1].into())
    }

    fn level_of(rejection: Rejection) -> LogLevel {
        let status = rejection.spec().http_status;
        let mut record = record();
        record.reject(&rejection);
        record.line_level(status, None)
    }

    #[test]
    fn a_rejection_is_as_loud_as_the_contract_declares() {
        for reason in Reason::ALL {
            let declared = reason.spec().map_or(LogLevel::Unspecified, |spec| spec.log_level);
            assert_ne!(declared, LogLevel::Unspecified, "{reason:?}");
            assert_eq!(level_of(Refusal::new(reason).into()), declared, "{reason:?}");
            assert_eq!(level_of(Fault::of(reason, "").into()), LogLevel::Error, "{reason:?}");
        }
    }

    #[test]
    fn a_failure_of_the_upstream_is_a_warning_and_the_rest_is_information() {
        let mut own_page = record();
        own_page.set_own_page(Arc::new(RouteLabel::new("GET", "/-/readiness")));
        assert_eq!(own_page.line_level(503, None), LogLevel::Info);
        for (status, cut_off, expected) in [
            (200, None, LogLevel::Info),
            (502, None, LogLevel::Warn),
            (200, Some(CutOff::Upstream), LogLevel::Warn),
            (200, Some(CutOff::UpstreamPaused), LogLevel::Warn),
            (200, Some(CutOff::Client), LogLevel::Info),
            (200, Some(CutOff::ClientPaused), LogLevel::Info),
        ] {
            let body = Some(StreamedBody { bytes: 0, cut_off });
            assert_eq!(record().line_level(status, body), expected, "{status} {cut_off:?}");
        }
        assert_eq!(record().line_level(200, None), LogLevel::Info);
        assert_eq!(record().line_level(500, None), LogLevel::Error);
    }
}
