//! One line per request, whatever becomes of it, with the field names of GitLab's API log. A line that is not written
//! on purpose is written when the request is dropped: its client has gone.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use chassis::access::User;
use chassis::status::Rejection;
use http::request::Parts;
use http::{HeaderMap, Method, Uri, header};

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
    is_written: bool,
}

/// What the request was for.
#[derive(Debug)]
enum Place {
    Nowhere,
    Route(Arc<Route>),
    Own(Arc<str>),
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
            Place::Nowhere | Place::Own(_) => None,
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

    /// Notes who calls.
    pub fn set_user(&mut self, user: &User) {
        self.client_id = Some(format!("user/{}", user.id));
        self.user = Some(user.clone());
    }

    /// Notes which runner calls.
    pub fn set_runner(&mut self, id: i64) {
        self.client_id = Some(format!("runner/{id}"));
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
        self.write(status);
    }

    fn template(&self) -> Option<&Arc<str>> {
        match &self.place {
            Place::Nowhere => None,
            Place::Route(route) => Some(&route.template),
            Place::Own(path) => Some(path),
        }
    }

    fn write(&mut self, status: u16) {
        self.is_written = true;
        let duration_s = self.started.elapsed().as_secs_f64();
        metrics::request(self.template(), self.verb, status, duration_s);
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
                    meta.caller_id = self.route().map(|route| route.caller_id.as_str()),
                    meta.client_id = self.client_id.as_deref(),
                    meta.user = self.user.as_ref().map(|user| user.username.as_str()),
                    "request"
                )
            };
        }
        // An own page that answers 503 reports a state; the request itself has not failed.
        if status >= 500 && !matches!(self.place, Place::Own(_)) {
            line!(error);
        } else {
            line!(info);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_written {
            self.write(CLIENT_CLOSED_REQUEST);
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
