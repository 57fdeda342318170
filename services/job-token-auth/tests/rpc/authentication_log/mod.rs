//! The authentication log. Most tests fill its tables directly, so that the test shows the rows. The tests of captures show that
//! accesses become such rows.

mod autopopulation;
mod dry_run;
mod exports;
mod lists;
mod pages;
mod permissions;
mod windows;

use job_token_auth::allowlist::policy;
use proto::paddock::job_token::v1::JobTokenPolicy::{self, ReadJobs};
use sea_orm::ConnectionTrait as _;

use crate::support::{ALICE, START, Service};

/// The default route of an access.
pub const ROUTE: &str = "GET /api/v4/projects/{id}/jobs";

/// An access for the log.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub number: u32,
    pub origin: i64,
    pub target: i64,
    pub job: i64,
    pub user: i64,
    pub route: &'static str,
    pub policies: &'static [JobTokenPolicy],
    pub at: i64,
}

/// An access by project 10 to project 20, an hour before the test.
impl Default for Access {
    fn default() -> Self {
        let policies = &[ReadJobs];
        Self { number: 1, origin: 10, target: 20, job: 7, user: ALICE, route: ROUTE, policies, at: minutes_ago(60) }
    }
}

impl Access {
    /// Returns the id of its capture.
    pub fn id(&self) -> String {
        format!("0197b1e2-0000-7000-8000-{:012}", self.number)
    }
}

/// Returns a time before the test, in milliseconds.
pub fn minutes_ago(minutes: i64) -> i64 {
    START.unix_timestamp() * 1000 - minutes * 60_000
}

/// Inserts accesses into the log: the events, the pairs and their policies.
pub async fn record(service: &Service, accesses: &[Access]) {
    for access in accesses {
        let Access { origin, target, job, user, at, policies, .. } = access;
        insert(service, "access_events", access, ", status", ", 200").await;
        execute(
            service,
            &format!(
                "INSERT INTO access_pairs VALUES ({target}, {origin}, {at}, {at}, 1, {job}, {user})
                 ON CONFLICT (target_project_id, origin_project_id) DO UPDATE SET
                   access_count = access_pairs.access_count + 1,
                   first_authorized_at = CASE WHEN {at} < access_pairs.first_authorized_at
                     THEN {at} ELSE access_pairs.first_authorized_at END,
                   last_authorized_at = CASE WHEN {at} > access_pairs.last_authorized_at
                     THEN {at} ELSE access_pairs.last_authorized_at END,
                   last_job_id = CASE WHEN {at} >= access_pairs.last_authorized_at THEN {job} ELSE access_pairs.last_job_id END,
                   last_user_id = CASE WHEN {at} >= access_pairs.last_authorized_at THEN {user} ELSE access_pairs.last_user_id END"
            ),
        )
        .await;
        for policy in *policies {
            let number = *policy as i32;
            execute(
                service,
                &format!(
                    "INSERT INTO access_pair_policies VALUES ({target}, {origin}, {number}, {at})
                     ON CONFLICT (target_project_id, origin_project_id, policy)
                     DO UPDATE SET last_authorized_at = CASE WHEN {at} > access_pair_policies.last_authorized_at
                       THEN {at} ELSE access_pair_policies.last_authorized_at END"
                ),
            )
            .await;
        }
    }
}

/// Inserts a request without a verdict into the log.
pub async fn record_unresolved(service: &Service, access: &Access) {
    insert(service, "unresolved_captures", access, "", "").await;
}

async fn insert(service: &Service, table: &str, access: &Access, columns: &str, values: &str) {
    let names: Vec<_> = access.policies.iter().map(|policy| policy::name(*policy)).collect();
    let Access { origin, target, job, user, route, at, .. } = access;
    let id = access.id();
    let policies = names.join(",");
    let sql = format!(
        "INSERT INTO {table} (id, target_project_id, origin_project_id, job_id, user_id, route, policies, mode,
           accessed_at, request_id, remote_ip{columns})
         VALUES ('{id}', {target}, {origin}, {job}, {user}, '{route}', '{policies}', 1,
           {at}, 'request-{}', '192.0.2.{}'{values})",
        access.number,
        access.number % 256,
    );
    execute(service, &sql).await;
}

/// Runs a statement on the tables of the service.
pub async fn execute(service: &Service, sql: &str) {
    service.database.execute_unprepared(sql).await.unwrap();
}
