//! The access matrix: every method of REST, called by every kind of caller and compared with a table. Calls past the gateway
//! are refused without a signed identity. A method of the contract without a row fails.

mod callers;
mod direct;
mod objects;
mod table;

use std::collections::BTreeSet;

use callers::{Caller, Callers};
use objects::Objects;
use proto::{
    contract::{METHODS, MethodSpec},
    paddock::contract::v1::CredentialKind,
};
use reqwest::Method;
use system::{Answer, Api, Paddock};
use table::{Expected, JOB_ROWS, JobRow, PUBLIC_ROWS, RUNNER_ROWS, RunnerRow, USER_ROWS, UserRow};

/// Starts a server that does not count the refused callers of one address together: here all come from this machine.
fn start() -> Paddock {
    Paddock::start_with(&[("PADDOCK_GATEWAY__GUARD__EXEMPT_ADDRESSES", "127.0.0.0/8")])
}

/// The methods that REST reaches with a credential of this kind.
fn reached_with(kind: CredentialKind) -> impl Iterator<Item = &'static MethodSpec> {
    METHODS.iter().filter(move |spec| spec.rest.is_some() && spec.accepts.contains(&kind))
}

fn names_reached_with(kind: CredentialKind) -> BTreeSet<&'static str> {
    reached_with(kind).map(|spec| spec.name).collect()
}

#[test]
fn every_method_has_a_row() {
    assert_eq!(
        USER_ROWS.iter().map(|row| row.method).collect::<BTreeSet<_>>(),
        names_reached_with(CredentialKind::UserToken)
    );
    assert_eq!(
        RUNNER_ROWS.iter().map(|row| row.method).collect::<BTreeSet<_>>(),
        names_reached_with(CredentialKind::RunnerToken)
    );
    assert_eq!(
        JOB_ROWS.iter().map(|row| row.method).collect::<BTreeSet<_>>(),
        names_reached_with(CredentialKind::JobToken)
    );
    assert_eq!(
        PUBLIC_ROWS.iter().map(|row| row.method).collect::<BTreeSet<_>>(),
        names_reached_with(CredentialKind::None)
    );
    let rest = METHODS.iter().filter(|spec| spec.rest.is_some()).count();
    let rows = USER_ROWS.len() + RUNNER_ROWS.len() + JOB_ROWS.len() + PUBLIC_ROWS.len();
    assert_eq!(rest, rows, "a method accepts several kinds, or none");
}

/// The row of a method's contract.
fn spec(method: &str) -> &'static MethodSpec {
    METHODS.iter().find(|spec| spec.name == method).expect("a method of the contract")
}

/// The verb, and the path below `/api/v4`, which must match the template of the contract.
fn route(spec: &MethodSpec, path: &str) -> (Method, String) {
    let (verb, template) = spec.rest.expect("a route");
    let below = template.trim_start_matches("/api/v4");
    let asked: Vec<_> = path.split('/').collect();
    let wanted: Vec<_> = below.split('/').collect();
    let same = asked.len() == wanted.len() && asked.iter().zip(&wanted).all(|(a, w)| w.starts_with('{') || a == w);
    assert!(same, "{}: the row asks {path}, the route is {below}", spec.name);
    (verb.parse().expect("a verb"), path.to_owned())
}

/// Describes the difference between an answer and the expected one. Returns none if there is none.
fn difference(answer: &Answer, expected: Expected, spec: &MethodSpec) -> Option<String> {
    let reason = answer.body["reason"].as_str().unwrap_or_default();
    let right = match expected {
        Expected::Success => (200..300).contains(&answer.status),
        Expected::Refused(wanted) => wanted.spec().is_some_and(|w| w.code == reason && w.http_status == answer.status),
    };
    (!right).then(|| format!("{}: expected {expected:?}, came {} {}", spec.name, answer.status, answer.text))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_of_users_treats_every_caller_as_the_table_says() {
    let paddock = start();
    let callers = Callers::make(&paddock).await;
    let mut objects = Objects::make(&callers).await;
    let mut wrong = Vec::new();
    for row in USER_ROWS {
        for caller in Caller::of_user_methods() {
            let expected = row.expected(caller);
            let answer = ask_as_user(row, caller, &callers, &objects).await;
            wrong.extend(difference(&answer, expected, spec(row.method)).map(|text| format!("{caller:?}: {text}")));
            if answer.status < 300 && spec(row.method).rest.is_some_and(|(verb, _)| verb != "GET") {
                objects = Objects::make(&callers).await;
            }
        }
    }
    assert!(wrong.is_empty(), "{} cells differ:\n{}", wrong.len(), wrong.join("\n"));
    paddock.program().assert_no_errors();
    paddock.stop();
}

async fn ask_as_user(row: &UserRow, caller: Caller, callers: &Callers, objects: &Objects) -> Answer {
    let (path, body) = (row.request)(objects);
    let (verb, path) = route(spec(row.method), &path);
    let mut request = callers.as_user(caller).request(verb, &path);
    if let Some(token) = callers.extra_job_token(caller) {
        request = request.header(Api::job_header(), token);
    }
    system::send(if body.is_null() { request } else { request.json(&body) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_of_runners_treats_every_caller_as_the_table_says() {
    let paddock = start();
    let callers = Callers::make(&paddock).await;
    let mut wrong = Vec::new();
    for row in RUNNER_ROWS {
        for caller in Caller::of_runner_methods() {
            let answer = ask_as_runner(row, caller, &callers, &paddock).await;
            let expected = RunnerRow::expected(caller);
            wrong.extend(difference(&answer, expected, spec(row.method)).map(|text| format!("{caller:?}: {text}")));
        }
    }
    assert!(wrong.is_empty(), "{} cells differ:\n{}", wrong.len(), wrong.join("\n"));
    paddock.program().assert_no_errors();
    paddock.stop();
}

async fn ask_as_runner(row: &RunnerRow, caller: Caller, callers: &Callers, paddock: &Paddock) -> Answer {
    let (path, mut body) = (row.request)();
    let (verb, path) = route(spec(row.method), path);
    let mut request = callers.as_runner(caller).request(verb, &path);
    if let Some(token) = callers.runner_token(caller, paddock).await {
        body["token"] = token.into();
    }
    request = request.json(&body);
    system::send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_of_jobs_treats_every_caller_as_the_table_says() {
    let paddock = start();
    let callers = Callers::make(&paddock).await;
    let mut wrong = Vec::new();
    for row in JOB_ROWS {
        let (verb, path) = route(spec(row.method), row.path);
        for caller in Caller::of_job_methods() {
            let asks = if caller == Caller::UserOnJobRoute { callers.owner.clone() } else { paddock.anonymous() };
            let mut request = asks.request(verb.clone(), &path);
            if let Some(token) = callers.job_token(caller).await {
                request = request.header(Api::job_header(), token);
            }
            let answer = system::send(request).await;
            let expected = JobRow::expected(caller);
            wrong.extend(difference(&answer, expected, spec(row.method)).map(|text| format!("{caller:?}: {text}")));
        }
    }
    for row in PUBLIC_ROWS {
        let answer = paddock.anonymous().get_outside(row.path).await;
        assert_eq!(spec(row.method).rest, Some(("GET", row.path)));
        wrong.extend(difference(&answer, Expected::Success, spec(row.method)));
    }
    assert!(wrong.is_empty(), "{} cells differ:\n{}", wrong.len(), wrong.join("\n"));
    paddock.program().assert_no_errors();
    paddock.stop();
}
