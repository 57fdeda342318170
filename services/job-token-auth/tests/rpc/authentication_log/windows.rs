//! Lists and files of a part of the log, held against a plain reading of all its accesses.

use std::collections::BTreeMap;

use proto::paddock::job_token::v1::{
    Direction,
    JobTokenPolicy::{self, AdminJobs, ReadJobs, ReadPackages},
    ListAuthenticationLogRequest, StreamAuthenticationLogJsonLinesRequest,
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{Access, minutes_ago, record};
use crate::support::{Answer as _, START, Service, both_databases};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
struct Window {
    outbound: bool,
    other: Option<i64>,
    policy: Option<JobTokenPolicy>,
    /// In minutes before the test, as `until`.
    since: Option<i64>,
    until: Option<i64>,
}

/// A pair: other project, first and last time, count, job and user of the last, and when each policy was last used.
type Told = (i64, i64, i64, i64, i64, i64, Vec<(String, i64)>);

/// Accesses of a few pairs in both directions, of which many have the same time.
fn accesses() -> Vec<Access> {
    let policies: [&[JobTokenPolicy]; 4] = [&[ReadJobs], &[ReadPackages], &[AdminJobs, ReadJobs], &[]];
    let access = |number: u32| {
        let scattered = i64::from(number * 7919 % 101);
        let other = 10 + scattered % 4;
        let (origin, target) = if scattered % 3 == 0 { (20, other) } else { (other, 20) };
        let policies = policies[usize::try_from(scattered % 4).unwrap()];
        let (at, job, user) = (minutes_ago(scattered % 10 * 10), i64::from(number), 1 + i64::from(number % 3));
        Access { number, origin, target, job, user, policies, at, ..Default::default() }
    };
    (1..=90).map(access).collect()
}

fn naive(accesses: &[Access], window: Window) -> Vec<Told> {
    let Window { outbound, other, policy, since, until } = window;
    let own = |access: &Access| if outbound { access.origin } else { access.target };
    let theirs = |access: &Access| if outbound { access.target } else { access.origin };
    let fits = |access: &&Access| {
        own(access) == 20
            && other.is_none_or(|other| theirs(access) == other)
            && policy.is_none_or(|policy| access.policies.contains(&policy))
            && since.is_none_or(|since| access.at >= minutes_ago(since))
            && until.is_none_or(|until| access.at < minutes_ago(until))
    };
    let mut pairs = BTreeMap::<i64, Vec<&Access>>::new();
    for access in accesses.iter().filter(fits) {
        pairs.entry(theirs(access)).or_default().push(access);
    }
    let told = |(other, accesses): (i64, Vec<&Access>)| {
        let last = accesses.iter().max_by_key(|access| (access.at, access.number)).unwrap();
        let first = accesses.iter().map(|access| access.at).min().unwrap();
        let mut policies = BTreeMap::new();
        for access in &accesses {
            for policy in access.policies {
                let at = policies.entry(*policy).or_insert(access.at);
                *at = access.at.max(*at);
            }
        }
        let policies =
            policies.into_iter().map(|(policy, at)| (job_token_auth::allowlist::policy::name(policy), at)).collect();
        (other, first, last.at, accesses.len() as i64, last.job, last.user, policies)
    };
    pairs.into_iter().map(told).collect()
}

fn minutes(minutes: i64) -> String {
    proto::iso8601::seconds(START - Duration::minutes(minutes))
}

/// The pages of the list, two pairs each.
async fn listed(service: &Service, window: Window) -> Vec<Told> {
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
    let (millis, mut told) = (proto::timestamp::to_millis, Vec::new());
    loop {
        let answer = service.root().log().list_authentication_log(request.clone()).await.answer();
        told.extend(answer.entries.into_iter().map(|entry| {
            let other = if window.outbound { entry.accessed_project } else { entry.origin_project };
            let at = |at: &Option<prost_types::Timestamp>| millis(at.as_ref().unwrap());
            let names: Vec<_> = entry.job_token_policies_last_used.iter().map(|used| used.policy).collect();
            assert_eq!(names, entry.job_token_policies);
            let name = |policy| job_token_auth::allowlist::policy::name(policy);
            let used = entry.job_token_policies_last_used.iter();
            let used = used.map(|used| (name(used.policy()), at(&used.last_authorized_at))).collect();
            let (first, last) = (at(&entry.first_authorized_at), at(&entry.last_authorized_at));
            (other.unwrap().id, first, last, entry.access_count, entry.last_job_id, entry.last_user_id, used)
        }));
        request.cursor = answer.cursor.unwrap().next;
        if request.cursor.is_none() {
            return told;
        }
    }
}

/// The lines of the file, in the words of [`naive`].
async fn exported(service: &Service, window: Window) -> Vec<Value> {
    let request = StreamAuthenticationLogJsonLinesRequest {
        id: "20".to_owned(),
        direction: window.outbound.then_some(Direction::Outbound.into()),
        other_project_id: window.other,
        policy: window.policy.map(Into::into),
        since: window.since.map(minutes),
        until: window.until.map(minutes),
    };
    let mut lines = super::exports::whole(&super::exports::json_lines(&service.root(), request).await);
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("origin_project");
        line.remove("accessed_project");
        line.remove("job_token_policies");
    }
    lines
}

/// A line of the file, without what the list has shown to be right.
fn line(told: &Told) -> Value {
    let (_, first, last, count, job, user, policies) = told;
    let at = |millis: i64| {
        let time = OffsetDateTime::from_unix_timestamp(millis / 1000).unwrap();
        proto::iso8601::seconds(time).replace('Z', ".000Z")
    };
    let policies: Vec<_> =
        policies.iter().map(|(policy, used)| json!({"policy": policy, "last_authorized_at": at(*used)})).collect();
    json!({
        "last_authorized_at": at(*last),
        "job_token_policies_last_used": policies,
        "first_authorized_at": at(*first),
        "access_count": count,
        "last_job_id": job,
        "last_user_id": user,
    })
}

both_databases! {
    async fn a_window_tells_of_the_accesses_in_it_and_of_no_others(service) {
        service.project(20, "tools/charts", None);
        let accesses = accesses();
        record(service, &accesses).await;
        let (times, mut pairs) = ([None, Some(90), Some(45), Some(40), Some(0)], 0);
        for outbound in [false, true] {
            for other in [None, Some(11)] {
                for policy in [None, Some(ReadJobs), Some(ReadPackages)] {
                    for (since, until) in times.iter().flat_map(|since| times.map(|until| (*since, until))) {
                        let window = Window { outbound, other, policy, since, until };
                        let mut expected = naive(&accesses, window);
                        pairs += expected.len();
                        let lines: Vec<_> = expected.iter().map(line).collect();
                        assert_eq!(exported(service, window).await, lines, "{window:?}");
                        expected.sort_by_key(|told| std::cmp::Reverse((told.2, told.0)));
                        assert_eq!(listed(service, window).await, expected, "{window:?}");
                    }
                }
            }
        }
        assert!(pairs > 200, "{pairs}");
    }
}
