//! Every combination of scope, visibility, entries, permissions, policies, role and state of the job, against the rules
//! written once more as plainly as can be, texts included.

use proto::paddock::{
    directory::v1::Visibility,
    job_token::v1::{
        JobTokenPolicy::{self, AdminJobs, AdminReleases, ReadJobs, ReadRepositories},
        StartJobRequest,
    },
};
use sea_orm::ConnectionTrait as _;

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
    running: bool,
}

/// The code of the reason and the text; none: allowed.
type Expected = Option<(&'static str, &'static str)>;

fn expected(case: &Case) -> Expected {
    if !case.running {
        return Some(("job_not_running", "401 Unauthorized"));
    }
    if case.visibility == Visibility::Private && case.role.is_none() && !case.admin {
        return Some(("project_not_found", "404 Project Not Found"));
    }
    if case.enforced {
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
    let private = case.visibility == Visibility::Private;
    let (least, text) = match case.policies {
        [] => (0, ""),
        [ReadJobs] if private => (10, "403 Forbidden - The user of the job needs the Guest role in project charts"),
        [ReadJobs] => (0, ""),
        _ => (30, "403 Forbidden - The user of the job needs the Developer role in project charts"),
    };
    let has_role = case.admin || case.role.unwrap_or(0) >= least;
    if has_role { None } else { Some(("access_denied", text)) }
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
fn cases(enforced: bool, entries: [Grant; 3]) -> Vec<Case> {
    let mut cases = Vec::new();
    for visibility in VISIBILITIES {
        for policies in POLICIES {
            for (role, admin) in STANDINGS {
                cases.push(Case { enforced, visibility, entries, policies, role, admin, running: true });
            }
        }
    }
    // Of a job that has ended nothing else matters.
    let ended = cases.iter().step_by(7).map(|case| Case { running: false, ..*case }).collect::<Vec<_>>();
    cases.extend(ended);
    cases
}

/// Writes the entries into the tables: that the service writes the same is another test.
async fn write(service: &Service, enforced: bool, entries: [Grant; 3]) {
    let mut statements = vec![
        "DELETE FROM scopes".to_owned(),
        "DELETE FROM allowlist_projects".to_owned(),
        "DELETE FROM allowlist_groups".to_owned(),
        format!("INSERT INTO scopes (project_id, inbound_enabled) VALUES ({TARGET}, {enforced})"),
    ];
    let places = [("project", ORIGIN), ("group", NEAR), ("group", FAR)];
    for (grant, (kind, id)) in entries.iter().zip(places) {
        let Some(grant) = grant else { continue };
        let names = grant.unwrap_or_default().iter().map(|policy| job_token_auth::policy::name(*policy));
        statements.push(format!(
            "INSERT INTO allowlist_{kind}s (source_project_id, target_{kind}_id, default_permissions, policies, \
             autopopulated, added_by_id, created_at) VALUES ({TARGET}, {id}, {}, '{}', false, NULL, 0)",
            grant.is_none(),
            names.collect::<Vec<_>>().join(",")
        ));
    }
    service.database.execute_unprepared(&statements.join(";")).await.unwrap();
}

async fn start_world(service: &Service) -> [String; 2] {
    service.registry.group(FAR, "shop", None, Visibility::Private);
    service.registry.group(NEAR, "shop/web", Some(FAR), Visibility::Private);
    service.registry.project(ORIGIN, ORIGIN_PATH, Some(NEAR), Visibility::Private);
    let (_, running) = service.running_job(ORIGIN).await;
    let (ended, token) = service.running_job(ORIGIN).await;
    service.finish_job(ended.id).await;
    let again = service.gateway().jobs().start_job(StartJobRequest { id: ended.id }).await;
    assert_eq!(again.reason(), "job_finished");
    [running, token]
}

async fn answer(gateway: &Actor, case: &Case, tokens: &[String; 2]) -> Option<(&'static str, String)> {
    let token = &tokens[usize::from(!case.running)];
    let question = question(token, &["tools/charts"], case.policies);
    match gateway.authorization().authorize(question).await {
        Ok(answer) => {
            assert_eq!(answer.into_inner().capture.unwrap().target_project_ids, [TARGET]);
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
        for (enforced, entries) in ENTRIES.into_iter().flat_map(|entries| [(true, entries), (false, entries)]) {
            write(service, enforced, entries).await;
            for case in cases(enforced, entries) {
                service.registry.project(TARGET, "tools/charts", None, case.visibility);
                service.registry.role(ALICE, TARGET, case.role);
                service.registry.user(ALICE, "alice", case.admin);
                let (expected, answer) = (expected(&case), answer(&gateway, &case, &tokens).await);
                let answered = answer.as_ref().map(|(code, text)| (*code, text.as_str()));
                assert_eq!(answered, expected, "{case:?}");
                *seen.entry(expected.map_or("allowed", |(code, _)| code)).or_default() += 1;
            }
        }
        assert!(seen.len() == 7 && seen.values().sum::<u32>() == 30 * (54 + 8), "{seen:?}");
    }
}
