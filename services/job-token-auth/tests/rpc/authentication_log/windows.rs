//! Lists and exports of a part of the log, compared with a naive evaluation of all accesses.

use std::collections::BTreeMap;

use job_token_auth::allowlist::policy;
use prost_types::Timestamp;
use proto::{
    iso8601,
    paddock::job_token::v1::{
        AuthenticationLogEntry, Direction,
        JobTokenPolicy::{self, AdminJobs, ReadJobs, ReadPackages},
        ListAuthenticationLogRequest, StreamAuthenticationLogJsonLinesRequest,
    },
    timestamp::to_millis,
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{Access, minutes_ago, record};
use crate::support::{Answer as _, START, Service, both_databases};

/// The parameters of a request.
#[derive(Clone, Copy, Debug)]
struct Window {
    outbound: bool,
    other: Option<i64>,
    policy: Option<JobTokenPolicy>,
    /// In minutes before the test, like `until`.
    since: Option<i64>,
    until: Option<i64>,
}

/// A pair: other project, first and last time, count, job and user of the last, and when each policy was last used.
type PairFields = (i64, i64, i64, i64, i64, i64, Vec<(String, i64)>);

/// Accesses of a few pairs in both directions, many of which have the same time.
fn accesses() -> Vec<Access> {
    let policies: [&[JobTokenPolicy]; 4] = [&[ReadJobs], &[ReadPackages], &[AdminJobs, ReadJobs], &[]];
    let accesses = (1..=90).map(|number: u32| {
        let scattered = i64::from(number * 7919 % 101);
        let other = 10 + scattered % 4;
        let (origin, target) = if scattered % 3 == 0 { (20, other) } else { (other, 20) };
        let policies = policies[usize::try_from(scattered % 4).unwrap()];
        let at = minutes_ago(scattered % 10 * 10);
        let user = 1 + i64::from(number % 3);
        Access { number, origin, target, job: i64::from(number), user, policies, at, ..Default::default() }
    });
    accesses.collect()
}

impl Window {
    fn own_side(self, access: &Access) -> i64 {
        if self.outbound { access.origin } else { access.target }
    }

    fn other_side(self, access: &Access) -> i64 {
        if self.outbound { access.target } else { access.origin }
    }

    fn selects(self, access: &Access) -> bool {
        self.own_side(access) == 20
            && self.other.is_none_or(|other| self.other_side(access) == other)
            && self.policy.is_none_or(|policy| access.policies.contains(&policy))
            && self.since.is_none_or(|since| access.at >= minutes_ago(since))
            && self.until.is_none_or(|until| access.at < minutes_ago(until))
    }
}

fn naive(accesses: &[Access], window: Window) -> Vec<PairFields> {
    let mut pairs = BTreeMap::<i64, Vec<&Access>>::new();
    for access in accesses.iter().filter(|access| window.selects(access)) {
        pairs.entry(window.other_side(access)).or_default().push(access);
    }
    pairs.into_iter().map(|(other, accesses)| pair_fields(other, &accesses)).collect()
}

fn pair_fields(other: i64, accesses: &[&Access]) -> PairFields {
    let last = accesses.iter().max_by_key(|access| (access.at, access.number)).unwrap();
    let first = accesses.iter().map(|access| access.at).min().unwrap();
    let mut policies = BTreeMap::new();
    for access in accesses {
        for policy in access.policies {
            let at = policies.entry(*policy).or_insert(access.at);
            *at = access.at.max(*at);
        }
    }
    let policies = policies.into_iter().map(|(policy, at)| (policy::name(policy), at)).collect();
    (other, first, last.at, accesses.len() as i64, last.job, last.user, policies)
}

fn iso8601_millis(millis: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(millis / 1000).unwrap();
    iso8601::seconds(time).replace('Z', ".000Z")
}

fn minutes(minutes: i64) -> String {
    iso8601::seconds(START - Duration::minutes(minutes))
}

/// The pages of the list, two pairs each.
async fn listed(service: &Service, window: Window) -> Vec<PairFields> {
    let mut request = ListAuthenticationLogRequest {
        id: "20".to_owned(),
        direction: window.outbound.then_some(Direction::Outbound.into()),
        other_project_id: window.other,
        policy: window.policy.map(Into::into),
        since: window.since.map(minutes),
        until: window.until.map(minutes),
        cursor: None,
        per_page: Some(2),
    };
    let mut pairs = Vec::new();
    loop {
        let answer = service.root().log().list_authentication_log(request.clone()).await.answer();
        pairs.extend(answer.entries.into_iter().map(|entry| entry_fields(&entry, window)));
        request.cursor = answer.cursor.unwrap().next;
        if request.cursor.is_none() {
            return pairs;
        }
    }
}

fn entry_fields(entry: &AuthenticationLogEntry, window: Window) -> PairFields {
    let other = if window.outbound { &entry.accessed_project } else { &entry.origin_project };
    let last_used = &entry.job_token_policies_last_used;
    let policies: Vec<_> = last_used.iter().map(|used| used.policy).collect();
    assert_eq!(policies, entry.job_token_policies);
    let last_used =
        last_used.iter().map(|used| (policy::name(used.policy()), millis(&used.last_authorized_at))).collect();
    (
        other.as_ref().unwrap().id,
        millis(&entry.first_authorized_at),
        millis(&entry.last_authorized_at),
        entry.access_count,
        entry.last_job_id,
        entry.last_user_id,
        last_used,
    )
}

fn millis(time: &Option<Timestamp>) -> i64 {
    to_millis(time.as_ref().unwrap())
}

/// The lines of the export, without the fields that [`listed`] checks.
async fn exported(service: &Service, window: Window) -> Vec<Value> {
    let request = StreamAuthenticationLogJsonLinesRequest {
        id: "20".to_owned(),
        direction: window.outbound.then_some(Direction::Outbound.into()),
        other_project_id: window.other,
        policy: window.policy.map(Into::into),
        since: window.since.map(minutes),
        until: window.until.map(minutes),
    };
    let mut lines = super::exports::complete_lines(&super::exports::json_lines(&service.root(), request).await);
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("origin_project");
        line.remove("accessed_project");
        line.remove("job_token_policies");
    }
    lines
}

/// The line of a pair, without the fields that [`listed`] checks.
fn line(pair: &PairFields) -> Value {
    let (_, first, last, count, job, user, policies) = pair;
    let policies: Vec<_> = policies
        .iter()
        .map(|(policy, used)| json!({"policy": policy, "last_authorized_at": iso8601_millis(*used)}))
        .collect();
    json!({
        "last_authorized_at": iso8601_millis(*last),
        "job_token_policies_last_used": policies,
        "first_authorized_at": iso8601_millis(*first),
        "access_count": count,
        "last_job_id": job,
        "last_user_id": user,
    })
}

both_databases! {
    async fn a_window_has_exactly_the_accesses_in_it(service) {
        service.project(20, "tools/charts", None);
        let accesses = accesses();
        record(service, &accesses).await;
        let times = [None, Some(90), Some(45), Some(40), Some(0)];
        let mut pairs = 0;
        for outbound in [false, true] {
            for other in [None, Some(11)] {
                for policy in [None, Some(ReadJobs), Some(ReadPackages)] {
                    for (since, until) in times.iter().flat_map(|since| times.map(|until| (*since, until))) {
                        let window = Window { outbound, other, policy, since, until };
                        let mut expected = naive(&accesses, window);
                        pairs += expected.len();
                        let lines: Vec<_> = expected.iter().map(line).collect();
                        assert_eq!(exported(service, window).await, lines, "{window:?}");
                        expected.sort_by_key(|pair| std::cmp::Reverse((pair.2, pair.0)));
                        assert_eq!(listed(service, window).await, expected, "{window:?}");
                    }
                }
            }
        }
        assert!(pairs > 200, "{pairs}");
    }
}
