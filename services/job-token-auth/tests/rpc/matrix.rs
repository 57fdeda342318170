//! Checks every combination of scope, visibility, entries, permissions, policies, role and state of the job, in another project and in
//! the job's own, against the rules and their texts, written a second time in the plainest way.

use chassis::status::Rejection;
use job_token_auth::allowlist::policy;
use proto::paddock::{
    directory::v1::Visibility,
    job_token::v1::{
        IssueJobTokenRequest, JobStatus,
        JobTokenPolicy::{self, AdminJobs, AdminReleases, ReadJobs, ReadRepositories},
        StartJobRequest,
    },
};
use sea_orm::ConnectionTrait as _;
use time::Duration;

use crate::support::{ALICE, Actor, Answer as _, Service, both_databases, question};

const ORIGIN: i64 = 10;
const TARGET: i64 = 20;
const ORIGIN_PATH: &str = "shop/web/app";
const NEAR: i64 = 5;
const FAR: i64 = 6;

/// The grant of an entry: everything or policies. None: there is no entry.
type Grant = Option<Option<&'static [JobTokenPolicy]>>;

const EVERYTHING: Grant = Some(None);
const NOTHING: Grant = Some(Some(&[]));
const READING: Grant = Some(Some(&[ReadJobs]));
const CHANGING: Grant = Some(Some(&[AdminJobs, ReadRepositories]));

#[derive(Clone, Copy, Debug)]
struct Case {
    enforced: bool,
    visibility: Visibility,
    /// The entries for the project, the nearest group, and the group above it.
    entries: [Grant; 3],
    policies: &'static [JobTokenPolicy],
    role: Option<i32>,
    admin: bool,
    own: bool,
    job: JobState,
}

/// The state of the job at the time of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobState {
    Running,
    Created,
    Ended,
    /// It runs, and its token has expired.
    Expired,
}

const NOT_RUNNING: [JobState; 3] = [JobState::Created, JobState::Ended, JobState::Expired];

/// The code of the reason and the text; none: allowed.
type Expected = Option<(&'static str, &'static str)>;

fn includes(granted: &[JobTokenPolicy], policy: JobTokenPolicy) -> bool {
    granted.contains(&policy) || (policy == ReadJobs && granted.contains(&AdminJobs))
}

fn expected(case: &Case) -> Expected {
    match case.job {
        JobState::Running => {}
        JobState::Created | JobState::Ended => return Some(("job_not_running", "401 Unauthorized")),
        JobState::Expired => return Some(("job_token_expired", "401 Unauthorized")),
    }
    if case.visibility == Visibility::Private && case.role.is_none() && !case.admin {
        return Some(("project_not_found", "404 Project Not Found"));
    }
    if case.enforced && !case.own {
        let [project, near, far] = case.entries;
        let Some(grant) = project.or(near).or(far) else {
            let text = "Authentication by CI/CD job token not allowed from app to charts.";
            return Some(("job_token_not_in_scope", text));
        };
        if let Some(granted) = grant {
            if case.policies.is_empty() {
                let text = "This action is unauthorized for CI/CD job tokens.";
                return Some(("job_token_route_unauthorized", text));
            }
            let missing: Vec<_> = case.policies.iter().filter(|policy| !includes(granted, **policy)).collect();
            let text = match missing[..] {
                [] => None,
                [ReadJobs] => Some("The following token permission is required: read_jobs."),
                [AdminReleases] => Some("The following token permission is required: admin_releases."),
                [ReadRepositories, AdminReleases] => {
                    Some("The following token permissions are required: read_repositories, admin_releases.")
                }
                _ => panic!("{missing:?}"),
            };
            if let Some(text) = text {
                let whole = format!("Insufficient permissions to access this resource in project charts. {text}");
                return Some(("job_token_policy_missing", whole.leak()));
            }
        }
    }
    let name = if case.own { "app" } else { "charts" };
    let private = case.visibility == Visibility::Private;
    let (minimum, role) = match case.policies {
        [] => (0, ""),
        [ReadJobs] if private => (10, "Guest"),
        [ReadJobs] => (0, ""),
        _ => (30, "Developer"),
    };
    if case.admin || case.role.unwrap_or(0) >= minimum {
        return None;
    }
    let text = format!("403 Forbidden - The user of the job needs the {role} role in project {name}");
    Some(("access_denied", text.leak()))
}

const ENTRIES: [[Grant; 3]; 15] = [
    [None, None, None],
    [EVERYTHING, None, None],
    [READING, None, None],
    [CHANGING, None, None],
    [NOTHING, None, None],
    [None, EVERYTHING, None],
    [None, READING, None],
    [None, None, EVERYTHING],
    [None, None, CHANGING],
    // The nearest entry applies, whether it grants more or less.
    [READING, EVERYTHING, EVERYTHING],
    [NOTHING, EVERYTHING, None],
    [EVERYTHING, NOTHING, READING],
    [None, READING, EVERYTHING],
    [None, EVERYTHING, NOTHING],
    [CHANGING, None, READING],
];

const POLICIES: [&[JobTokenPolicy]; 3] = [&[], &[ReadJobs], &[ReadRepositories, AdminReleases]];

const VISIBILITIES: [Visibility; 3] = [Visibility::Private, Visibility::Internal, Visibility::Public];

/// Roles around the limits, and an administrator without a role.
const STANDINGS: [(Option<i32>, bool); 6] =
    [(None, false), (Some(5), false), (Some(10), false), (Some(29), false), (Some(30), false), (None, true)];

/// Every combination of the other conditions with a scope.
fn cases(enforced: bool, entries: [Grant; 3], own: bool) -> Vec<Case> {
    let job = JobState::Running;
    let mut cases = Vec::new();
    for visibility in VISIBILITIES {
        for policies in POLICIES {
            for (role, admin) in STANDINGS {
                cases.push(Case { enforced, visibility, entries, policies, role, admin, own, job });
            }
        }
    }
    // If the job does not run, the rest does not matter, so some of the cases are enough.
    let some = cases.iter().step_by(7);
    let not_running = some.flat_map(|case| NOT_RUNNING.map(|job| Case { job, ..*case })).collect::<Vec<_>>();
    cases.extend(not_running);
    cases
}

/// Writes the entries into the tables of the target. Another test shows that the service writes the same.
async fn write(service: &Service, target: i64, enforced: bool, entries: [Grant; 3]) {
    let mut statements = vec![
        "DELETE FROM scopes".to_owned(),
        "DELETE FROM allowlist_projects".to_owned(),
        "DELETE FROM allowlist_groups".to_owned(),
        format!("INSERT INTO scopes (project_id, inbound_enabled) VALUES ({target}, {enforced})"),
    ];
    let targets = [("project", ORIGIN), ("group", NEAR), ("group", FAR)];
    for (grant, (kind, id)) in entries.iter().zip(targets) {
        let Some(grant) = grant else { continue };
        let names = grant.unwrap_or_default().iter().map(|policy| policy::name(*policy));
        statements.push(format!(
            "INSERT INTO allowlist_{kind}s (source_project_id, target_{kind}_id, default_permissions, policies, \
             autopopulated, added_by_id, created_at) VALUES ({target}, {id}, {}, '{}', false, NULL, 0)",
            grant.is_none(),
            names.collect::<Vec<_>>().join(",")
        ));
    }
    service.database.execute_unprepared(&statements.join(";")).await.unwrap();
}

/// The tokens of jobs in each state.
struct Tokens {
    running: String,
    created: String,
    ended: String,
    expired: String,
}

impl Tokens {
    fn of(&self, job: JobState) -> &str {
        match job {
            JobState::Running => &self.running,
            JobState::Created => &self.created,
            JobState::Ended => &self.ended,
            JobState::Expired => &self.expired,
        }
    }
}

async fn start_world(service: &Service) -> Tokens {
    service.registry.group(FAR, "shop", None, Visibility::Private);
    service.registry.group(NEAR, "shop/web", Some(FAR), Visibility::Private);
    service.registry.project(ORIGIN, ORIGIN_PATH, Some(NEAR), Visibility::Private);
    service.registry.role(ALICE, ORIGIN, Some(10));
    let (_, running) = service.running_job(ORIGIN).await;
    let (ended_job, ended) = service.running_job(ORIGIN).await;
    service.finish_job(ended_job.id).await;
    let mut client = service.gateway().jobs();
    let again = client.start_job(StartJobRequest { id: ended_job.id }).await;
    assert_eq!(again.reason(), "job_finished");
    let new = IssueJobTokenRequest { project_id: ORIGIN, user_id: ALICE, ..Default::default() };
    let created = IssueJobTokenRequest { status: Some(JobStatus::Created.into()), ..new.clone() };
    let created = client.issue_job_token(created).await.answer().token;
    let expired = client.issue_job_token(IssueJobTokenRequest { timeout: Some(1), ..new }).await.answer().token;
    service.clock.advance(Duration::seconds(1 + 5 * 60));
    Tokens { running, created, ended, expired }
}

async fn answer(gateway: &Actor, case: &Case, tokens: &Tokens) -> Option<(&'static str, String)> {
    let target = if case.own { ORIGIN_PATH } else { "tools/charts" };
    let question = question(tokens.of(case.job), &[target], case.policies);
    match gateway.authorization().authorize(question).await {
        Ok(answer) => {
            let recorded = answer.into_inner().capture.map(|capture| capture.target_project_ids);
            assert_eq!(recorded, (!case.own).then(|| vec![TARGET]));
            None
        }
        Err(status) => match Rejection::from(status) {
            Rejection::Refusal(refusal) => Some((refusal.spec().code, refusal.message().to_owned())),
            Rejection::Fault(fault) => panic!("{case:?}: {fault:?}"),
        },
    }
}

both_databases! {
    with |config| config.cache_ms = 0;

    async fn every_combination_is_decided_by_the_rules(service) {
        let tokens = start_world(service).await;
        let gateway = service.gateway();
        let mut outcomes = std::collections::BTreeMap::<&str, u32>::new();
        // Entries do not apply to the job's own project, so few of them are enough.
        let scopes = ENTRIES.into_iter().flat_map(|entries| [(true, entries, false), (false, entries, false)]);
        let own = [None, NOTHING, EVERYTHING].map(|grant| (true, [grant; 3], true));
        for (enforced, entries, own) in scopes.chain(own) {
            let target = if own { ORIGIN } else { TARGET };
            write(service, target, enforced, entries).await;
            for case in cases(enforced, entries, own) {
                match own {
                    true => service.registry.project(ORIGIN, ORIGIN_PATH, Some(NEAR), case.visibility),
                    false => service.registry.project(TARGET, "tools/charts", None, case.visibility),
                }
                service.registry.role(ALICE, target, case.role);
                service.registry.user(ALICE, "alice", case.admin);
                let expected = expected(&case);
                let answer = answer(&gateway, &case, &tokens).await;
                let answered = answer.as_ref().map(|(code, text)| (*code, text.as_str()));
                assert_eq!(answered, expected, "{case:?}");
                *outcomes.entry(expected.map_or("allowed", |(code, _)| code)).or_default() += 1;
            }
        }
        assert_eq!(outcomes.len(), 8, "{outcomes:?}");
        assert_eq!(outcomes.values().sum::<u32>(), 33 * (54 + 8 * 3), "{outcomes:?}");
    }
}
