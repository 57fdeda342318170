//! Every combination of scope, visibility, entries, permissions, policies, role and state of the job, in another project and
//! in the job's own, against the rules written once more as plainly as can be, texts included.

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
use chassis::status::Rejection;

const ORIGIN: i64 = 10;
const TARGET: i64 = 20;
const ORIGIN_PATH: &str = "shop/web/app";
const NEAR: i64 = 5;
const FAR: i64 = 6;

/// What the entry of one kind grants; none: there is no such entry.
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

/// What became of the job before it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobState {
    Running,
    Created,
    Ended,
    /// It runs, and its token has expired.
    Expired,
}

const DEAD: [JobState; 3] = [JobState::Created, JobState::Ended, JobState::Expired];

/// The code of the reason and the text; none: allowed.
type Expected = Option<(&'static str, &'static str)>;

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
            let has = |policy: &JobTokenPolicy| {
                granted.contains(policy) || (*policy == ReadJobs && granted.contains(&AdminJobs))
            };
            let missing: Vec<_> = case.policies.iter().filter(|policy| !has(policy)).collect();
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
    let (least, role) = match case.policies {
        [] => (0, ""),
        [ReadJobs] if private => (10, "Guest"),
        [ReadJobs] => (0, ""),
        _ => (30, "Developer"),
    };
    let text = || format!("403 Forbidden - The user of the job needs the {role} role in project {name}").leak();
    let has_role = case.admin || case.role.unwrap_or(0) >= least;
    if has_role { None } else { Some(("access_denied", text())) }
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
    // The nearest one counts, be it wider or narrower.
    [READING, EVERYTHING, EVERYTHING],
    [NOTHING, EVERYTHING, None],
    [EVERYTHING, NOTHING, READING],
    [None, READING, EVERYTHING],
    [None, EVERYTHING, NOTHING],
    [CHANGING, None, READING],
];

const POLICIES: [&[JobTokenPolicy]; 3] = [&[], &[ReadJobs], &[ReadRepositories, AdminReleases]];

const VISIBILITIES: [Visibility; 3] = [Visibility::Private, Visibility::Internal, Visibility::Public];

/// Roles around those that matter, and an administrator without one.
const STANDINGS: [(Option<i32>, bool); 6] =
    [(None, false), (Some(5), false), (Some(10), false), (Some(29), false), (Some(30), false), (None, true)];

/// Every combination of the rest with a scope.
fn cases(enforced: bool, entries: [Grant; 3], own: bool) -> Vec<Case> {
    let (mut cases, job) = (Vec::new(), JobState::Running);
    for visibility in VISIBILITIES {
        for policies in POLICIES {
            for (role, admin) in STANDINGS {
                cases.push(Case { enforced, visibility, entries, policies, role, admin, own, job });
            }
        }
    }
    // Of a job that does not run, or not any more, nothing else matters.
    let some = cases.iter().step_by(7);
    let dead = some.flat_map(|case| DEAD.map(|job| Case { job, ..*case })).collect::<Vec<_>>();
    cases.extend(dead);
    cases
}

/// Writes the entries into the tables of the project that is reached: that the service writes the same is another test.
async fn write(service: &Service, target: i64, enforced: bool, entries: [Grant; 3]) {
    let mut statements = vec![
        "DELETE FROM scopes".to_owned(),
        "DELETE FROM allowlist_projects".to_owned(),
        "DELETE FROM allowlist_groups".to_owned(),
        format!("INSERT INTO scopes (project_id, inbound_enabled) VALUES ({target}, {enforced})"),
    ];
    let places = [("project", ORIGIN), ("group", NEAR), ("group", FAR)];
    for (grant, (kind, id)) in entries.iter().zip(places) {
        let Some(grant) = grant else { continue };
        let names = grant.unwrap_or_default().iter().map(|policy| job_token_auth::allowlist::policy::name(*policy));
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
        let (tokens, gateway) = (start_world(service).await, service.gateway());
        let mut seen = std::collections::BTreeMap::<&str, u32>::new();
        // A job's own project asks no entry, so that few are enough.
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
                let (expected, answer) = (expected(&case), answer(&gateway, &case, &tokens).await);
                let answered = answer.as_ref().map(|(code, text)| (*code, text.as_str()));
                assert_eq!(answered, expected, "{case:?}");
                *seen.entry(expected.map_or("allowed", |(code, _)| code)).or_default() += 1;
            }
        }
        assert!(seen.len() == 8 && seen.values().sum::<u32>() == 33 * (54 + 8 * 3), "{seen:?}");
    }
}
