//! The metrics of the gateway. Their labels come from the contract, never from the text of clients.

use std::sync::Arc;

use chassis::status::Rejection;
use metrics::{SharedString, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Requests, by route, method and status.
const REQUESTS: &str = "paddock_http_requests_total";
/// How long requests took, by route.
const DURATION: &str = "paddock_http_request_duration_seconds";
/// Requests that were refused, by reason and route.
const REFUSALS: &str = "paddock_refusals_total";
/// Requests that failed, by reason and route.
const FAULTS: &str = "paddock_faults_total";

/// How long upstreams took for the head of an answer, by upstream.
const UPSTREAM_DURATION: &str = "paddock_upstream_duration_seconds";
/// Verdicts on captures, by their outcome.
const VERDICTS: &str = "paddock_capture_verdicts_total";

/// What the storm guard did with calls, by rate class.
const GUARD_CALLS: &str = "paddock_guard_calls_total";
/// The entries that the storm guard keeps, by map.
const GUARD_LENGTH: &str = "paddock_guard_length";

/// The route of requests that have none.
const NO_ROUTE: &str = "none";

/// Describes each metric, once at start.
pub fn describe() {
    describe_counter!(REQUESTS, "HTTP requests that were answered");
    describe_histogram!(DURATION, "seconds from the headers of a request to its answer");
    describe_counter!(REFUSALS, "requests that were refused; the caller can mend them");
    describe_histogram!(UPSTREAM_DURATION, "seconds from a forwarded request to the head of its upstream's answer");
    describe_counter!(VERDICTS, "verdicts on captures that were sent to job-token-auth, or could not be");
    describe_counter!(GUARD_CALLS, "calls with a credential that the storm guard did not simply let through");
    describe_gauge!(GUARD_LENGTH, "entries in the maps of the storm guard");
    describe_counter!(FAULTS, "requests that failed by a fault of paddock or of a system that it depends on");
}

/// Counts a request that was answered.
pub fn count_request(route: Option<&Arc<str>>, verb: &'static str, status: u16, seconds: f64) {
    let route = route_label(route);
    histogram!(DURATION, "route" => route.clone()).record(seconds);
    counter!(REQUESTS, "route" => route, "method" => verb, "status" => status_label(status)).increment(1);
}

/// Counts a refusal or fault.
pub fn count_rejection(rejection: &Rejection, route: Option<&Arc<str>>) {
    let name = match rejection {
        Rejection::Refusal(_) => REFUSALS,
        Rejection::Fault(_) => FAULTS,
    };
    counter!(name, "reason" => rejection.spec().code, "route" => route_label(route)).increment(1);
}

/// The outcome of a verdict.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// The access is recorded.
    Flushed,
    /// As far as the gateway knows, there is no record.
    FlushFailed,
    /// The capture is discarded.
    Discarded,
    /// The capture stays until it counts as unresolved.
    DiscardFailed,
}

/// Counts a verdict.
pub fn count_verdict(verdict: Verdict) {
    let name = match verdict {
        Verdict::Flushed => "flushed",
        Verdict::FlushFailed => "flush_failed",
        Verdict::Discarded => "discarded",
        Verdict::DiscardFailed => "discard_failed",
    };
    counter!(VERDICTS, "verdict" => name).increment(1);
}

/// What the storm guard did with a call.
#[derive(Clone, Copy, Debug)]
pub enum GuardEvent {
    /// It let the call through, although an earlier one has failed.
    Suspicious,
    /// It refused the call: the token has failed too often.
    BlockedByToken,
    /// It refused the call: too many tokens have failed from the address.
    BlockedByAddress,
    /// It refused the call: a limit of GitLab is reached.
    OverLimit,
}

/// Counts what the storm guard did with a call.
pub fn count_guard_event(event: GuardEvent, rate_class: &'static str) {
    let event = match event {
        GuardEvent::Suspicious => "suspicious",
        GuardEvent::BlockedByToken => "blocked_by_token",
        GuardEvent::BlockedByAddress => "blocked_by_address",
        GuardEvent::OverLimit => "over_limit",
    };
    counter!(GUARD_CALLS, "event" => event, "rate_class" => rate_class).increment(1);
}

/// Sets the number of entries in a map of the storm guard.
pub fn set_guard_length(map: &'static str, entries: u64) {
    gauge!(GUARD_LENGTH, "map" => map).set(entries as f64);
}

/// Measures how long an upstream took for the head of a response.
pub fn measure_upstream(name: &Arc<str>, seconds: f64) {
    histogram!(UPSTREAM_DURATION, "upstream" => SharedString::from(Arc::clone(name))).record(seconds);
}

fn route_label(route: Option<&Arc<str>>) -> SharedString {
    route.map_or(SharedString::const_str(NO_ROUTE), |route| SharedString::from(Arc::clone(route)))
}

/// Returns the label of a status. Common ones cost no allocation.
fn status_label(status: u16) -> SharedString {
    SharedString::const_str(match status {
        200 => "200",
        201 => "201",
        204 => "204",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        422 => "422",
        429 => "429",
        other => return SharedString::from(other.to_string()),
    })
}
