//! The access line names whom the credential belongs to, also when the request is refused, so that an operator can ask which
//! runner, user or job sends the refused requests. The client does not see the name.

use proto::paddock::contract::v1::{InternalHeader, Reason};
use reqwest::Method;
use serde_json::{Value, json};
use system::{Answer, Api, Database, Distributed, Paddock, Program, REQUEST_ID, Upstream, send};

use crate::{
    database::{self, Records},
    fixtures,
};

/// An installation, with the log of its gateway and the records of its registry.
struct Site<'a> {
    root: Api,
    anonymous: Api,
    gateway: &'a Program,
    records: Records,
}

/// A call of a runner program: the verb, the path and the keys besides the token.
type RunnerCall = (Method, &'static str, &'static str);

/// The calls of runner programs that a token that is not valid refuses.
const RUNNER_CALLS: [RunnerCall; 6] = [
    (Method::POST, "/runners", "{}"),
    (Method::POST, "/runners/verify", "{}"),
    (Method::POST, "/runners/reset_authentication_token", "{}"),
    (Method::POST, "/jobs/request", "{}"),
    (Method::DELETE, "/runners/managers", r#"{"system_id": "s_0123456789ab"}"#),
    (Method::DELETE, "/runners", "{}"),
];

impl Site<'_> {
    /// Makes a call of a runner program.
    async fn call(&self, (verb, path, keys): RunnerCall, token: &str) -> Answer {
        let mut body: Value = serde_json::from_str(keys).expect("JSON");
        body["token"] = token.into();
        send(self.anonymous.request(verb, path).json(&body)).await
    }

    /// Asserts that the access line of an answer names this client, and that the answer itself does not.
    fn assert_named(&self, answer: &Answer, client: &Value) {
        let id = answer.header(REQUEST_ID);
        let is_access = |line: &Value| line["correlation_id"] == id && line["message"] == "request";
        let line = self.gateway.wait_for_log(id, is_access);
        assert_eq!(&line["meta.client_id"], client, "{line:#}");
        assert_eq!(line["level"], "INFO", "{line:#}");
        let header = InternalHeader::ClientId.spec().expect("a header of the contract").key;
        assert!(!answer.headers.contains_key(header), "{:?}", answer.headers);
    }

    /// Asserts that every call with the token of a runner is refused for this reason and names the runner.
    async fn assert_all_refused(&self, token: &str, reason: Reason, runner: i64) {
        for call in RUNNER_CALLS {
            let answer = self.call(call, token).await;
            answer.refused(reason);
            self.assert_named(&answer, &json!(format!("runner/{runner}")));
        }
    }

    async fn new_runner(&self) -> (i64, String) {
        fixtures::runner(&self.root, fixtures::project(&self.root).await).await
    }
}

/// A runner whose calls succeed until it deletes itself.
async fn a_runner_that_succeeds(site: &Site<'_>) {
    let (id, token) = site.new_runner().await;
    for (call, status) in RUNNER_CALLS.into_iter().zip([201, 200, 201, 204, 404, 204]) {
        let answer = site.call(call.clone(), &token).await;
        assert_eq!(answer.status, status, "{call:?}: {}", answer.text);
        site.assert_named(&answer, &json!(format!("runner/{id}")));
    }
}

async fn runners_whose_tokens_have_ended(site: &Site<'_>) {
    let (id, first) = site.new_runner().await;
    let [_, verify, reset, ..] = RUNNER_CALLS;
    let second = fixtures::text(&site.call(reset, &first).await.ok(201)["token"]);
    site.call(verify, &second).await.ok(200);
    site.assert_all_refused(&first, Reason::RunnerTokenSuperseded, id).await;

    let by_id = site.root.post(&format!("/runners/{id}/reset_authentication_token"), json!({})).await;
    assert_eq!(by_id.status, 201, "{}", by_id.text);
    site.assert_named(&by_id, &json!("user/1"));
    site.assert_all_refused(&second, Reason::RunnerTokenRevoked, id).await;

    let (id, token) = site.new_runner().await;
    site.records.run(&format!("UPDATE runner_tokens SET expires_at = created_at WHERE runner_id = {id}")).await;
    site.assert_all_refused(&token, Reason::RunnerTokenExpired, id).await;
}

async fn runners_that_may_not_rotate(site: &Site<'_>) {
    let (late, token_of_late) = site.new_runner().await;
    site.records
        .run(&format!("UPDATE runner_tokens SET rotation_deadline = created_at WHERE runner_id = {late}"))
        .await;
    let (unassigned, token_of_unassigned) = fixtures::unassigned_runner(&site.root).await;
    let [_, verify, reset, poll, ..] = RUNNER_CALLS;
    for (id, token, reason) in [
        (late, token_of_late, Reason::RotationDeadlinePassed),
        (unassigned, token_of_unassigned, Reason::RunnerUnassigned),
    ] {
        let client = json!(format!("runner/{id}"));
        let refused = site.call(reset.clone(), &token).await;
        refused.refused(reason);
        site.assert_named(&refused, &client);
        for (call, status) in [(verify.clone(), 200), (poll.clone(), 204)] {
            let answer = site.call(call, &token).await;
            assert_eq!(answer.status, status, "{}", answer.text);
            site.assert_named(&answer, &client);
        }
    }
    let malformed = site.call(reset, "x").await;
    malformed.refused(Reason::RunnerTokenMalformed);
    site.assert_named(&malformed, &Value::Null);
}

async fn users(site: &Site<'_>) {
    for (column, reason) in [("expires_at", Reason::UserTokenExpired), ("revoked_at", Reason::UserTokenRevoked)] {
        let id = fixtures::user(&site.root).await;
        let token = fixtures::user_token(&site.root, id, column, &["api"]).await;
        // The first use is after the change, because the gateway caches the user of a token for a second.
        site.records
            .run(&format!("UPDATE personal_access_tokens SET {column} = created_at WHERE user_id = {id}"))
            .await;
        let answer = site.anonymous.with_token(&token).get("/user").await;
        answer.refused(reason);
        site.assert_named(&answer, &json!(format!("user/{id}")));
    }
    let anonymous = site.anonymous.get("/user").await;
    anonymous.refused(Reason::CredentialMissing);
    site.assert_named(&anonymous, &Value::Null);
}

async fn jobs(site: &Site<'_>) {
    let own_project = fixtures::project(&site.root).await;
    let other_project = fixtures::project(&site.root).await;
    let (id, token) = fixtures::job(&site.root, own_project, 1).await;
    let client = json!(format!("job/{id}"));
    let to_own = format!("/projects/{own_project}/jobs?answer=200");
    let to_other = format!("/projects/{other_project}/jobs");
    for path in ["/job", &to_own] {
        let answer = site.anonymous.get_as_job(path, &token).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        site.assert_named(&answer, &client);
    }
    let not_in_scope = site.anonymous.get_as_job(&to_other, &token).await;
    not_in_scope.refused(Reason::JobTokenNotInScope);
    site.assert_named(&not_in_scope, &client);

    site.root.post(&format!("/admin/jobs/{id}/finish"), json!({})).await.ok(200);
    for path in ["/job", &to_own, &to_other] {
        let answer = site.anonymous.get_as_job(path, &token).await;
        answer.refused(Reason::JobNotRunning);
        site.assert_named(&answer, &client);
    }
}

async fn every_line_names_its_client(site: &Site<'_>) {
    a_runner_that_succeeds(site).await;
    runners_whose_tokens_have_ended(site).await;
    runners_that_may_not_rotate(site).await;
    users(site).await;
    jobs(site).await;
}

async fn in_three_processes(database: &Database) {
    let upstream = Upstream::start();
    let system = Distributed::start(database, &[("PADDOCK_GATEWAY__UPSTREAM", upstream.url().as_str())]);
    let site = Site {
        root: system.root(),
        anonymous: system.anonymous(),
        gateway: &system.gateway,
        records: Records::of_registry(&system.registry, database),
    };
    every_line_names_its_client(&site).await;
    system.stop();
}

#[tokio::test]
async fn every_line_of_paddock_serve_names_its_client() {
    let upstream = Upstream::start();
    let paddock = Paddock::start_with(&[("PADDOCK_UPSTREAM", upstream.url().as_str())]);
    let site = Site {
        root: paddock.root(),
        anonymous: paddock.anonymous(),
        gateway: paddock.program(),
        records: Records::of_paddock(&paddock),
    };
    every_line_names_its_client(&site).await;
    paddock.stop();
}

#[tokio::test]
async fn every_line_of_three_processes_on_sqlite_names_its_client() {
    in_three_processes(&Database::Sqlite).await;
}

#[tokio::test]
async fn every_line_of_three_processes_on_postgres_names_its_client() {
    if let Some(database) = database::on_postgres().await {
        in_three_processes(&database).await;
    }
}
