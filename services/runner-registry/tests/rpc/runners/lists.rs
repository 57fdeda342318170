//! The lists of runners: which runners each contains, and every filter.

use proto::{
    paddock::{
        directory::v1::{Group, Project},
        runner::v1::{
            CreateRunnerRequest, ListAllRunnersRequest, ListGroupRunnersRequest, ListProjectRunnersRequest,
            ListRunnersRequest, RequestJobRequest, Runner, RunnerInfo, RunnerStatus, RunnerType,
        },
    },
    role::Role,
};

use super::{after, at, instance, of_group, of_project, seconds};
use crate::support::{Actor, Answer as _, Registry, both_databases};

fn ids(runners: &[Runner]) -> Vec<i64> {
    runners.iter().map(|runner| runner.id).collect()
}

async fn all(registry: &Registry, request: ListAllRunnersRequest) -> Vec<i64> {
    ids(&registry.root().runners().list_all_runners(request).await.answer().runners)
}

async fn own(actor: &Actor) -> Vec<i64> {
    ids(&actor.runners().list_runners(ListRunnersRequest::default()).await.answer().runners)
}

fn tags(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("tag{number}")).collect()
}

/// A tree with a runner of each owner: the instance, three groups (top, sub, sibling), and a project in sub and in
/// sibling.
struct Scene {
    top: Group,
    sub: Group,
    sibling: Group,
    project: Project,
    runners: [i64; 6],
}

async fn scene(registry: &Registry) -> Scene {
    let top = registry.group("top", None).await;
    let sub = registry.group("sub", Some(&top)).await;
    let sibling = registry.group("sibling", Some(&top)).await;
    let project = registry.project("project", &sub).await;
    let other = registry.project("other", &sibling).await;
    let requests =
        [instance(), of_group(&top), of_group(&sub), of_group(&sibling), of_project(&project), of_project(&other)];
    let mut runners = [0; 6];
    for (runner, request) in runners.iter_mut().zip(requests) {
        *runner = registry.create(request).await.id;
    }
    Scene { top, sub, sibling, project, runners }
}

/// Creates a runner with these tags.
async fn tagged(registry: &Registry, tags: &[&str]) -> i64 {
    let tag_list = tags.iter().map(|tag| (*tag).to_owned()).collect();
    registry.create(CreateRunnerRequest { tag_list, ..instance() }).await.id
}

/// The expiry and the deadline that a list shows of the one runner.
async fn listed_times(registry: &Registry) -> (Option<i64>, Option<i64>) {
    let list = registry.root().runners().list_all_runners(ListAllRunnersRequest::default()).await.answer();
    let [runner] = list.runners.try_into().unwrap();
    (seconds(runner.token_expires_at), seconds(runner.token_rotation_deadline))
}

both_databases! {
    async fn a_project_lists_its_own_those_of_its_groups_and_the_shared(registry) {
        let Scene { project, runners: [shared, top, sub, _, own, _], .. } = scene(registry).await;
        let request = ListProjectRunnersRequest { id: project.id.to_string(), ..Default::default() };
        let maintainer = registry.user("maintainer").await;
        registry.join_project(&maintainer, &project, Role::Maintainer).await;
        for actor in [registry.root(), maintainer] {
            let list = actor.runners().list_project_runners(request.clone()).await.answer();
            assert_eq!(ids(&list.runners), [own, sub, top, shared], "newest first");
        }
        let developer = registry.user("developer").await;
        assert_eq!(developer.runners().list_project_runners(request.clone()).await.reason(), "project_not_found");
        registry.join_project(&developer, &project, Role::Developer).await;
        assert_eq!(developer.runners().list_project_runners(request).await.reason(), "access_denied");
    }

    async fn a_group_lists_its_own_those_of_its_ancestors_and_the_shared(registry) {
        let Scene { top, sub, sibling, runners: [shared, of_top, of_sub, of_sibling, ..], .. } = scene(registry).await;
        let cases = [
            (&top, vec![of_top, shared]),
            (&sub, vec![of_sub, of_top, shared]),
            (&sibling, vec![of_sibling, of_top, shared]),
        ];
        for (group, expected) in cases {
            let request = ListGroupRunnersRequest { id: group.full_path.clone(), ..Default::default() };
            let list = registry.root().runners().list_group_runners(request).await.answer();
            assert_eq!(ids(&list.runners), expected, "{}", group.full_path);
        }
        let request = ListGroupRunnersRequest { id: sub.id.to_string(), ..Default::default() };
        let developer = registry.user("developer").await;
        assert_eq!(developer.runners().list_group_runners(request.clone()).await.reason(), "group_not_found");
        registry.join_group(&developer, &top, Role::Developer).await;
        assert_eq!(developer.runners().list_group_runners(request).await.reason(), "access_denied");
    }

    async fn a_user_lists_what_the_user_may_administer(registry) {
        let Scene { sub, project, runners: [_, _, of_sub, _, of_project, _], .. } = scene(registry).await;
        let without_runners = registry.user("carol").await;
        assert_eq!(own(&without_runners).await, [0i64; 0]);
        let maintainer = registry.user("maintainer").await;
        registry.join_group(&maintainer, &sub, Role::Maintainer).await;
        assert_eq!(own(&maintainer).await, [of_project]);
        let owner = registry.user("owner").await;
        registry.join_group(&owner, &sub, Role::Owner).await;
        assert_eq!(own(&owner).await, [of_project, of_sub]);
        let of_one = registry.user("of_one").await;
        registry.join_project(&of_one, &project, Role::Maintainer).await;
        assert_eq!(own(&of_one).await, [of_project]);
    }

    async fn an_administrator_lists_all(registry) {
        let Scene { runners, .. } = scene(registry).await;
        let newest_first: Vec<_> = runners.into_iter().rev().collect();
        assert_eq!(own(&registry.root()).await, newest_first);
        assert_eq!(all(registry, ListAllRunnersRequest::default()).await, newest_first);
        let user = registry.user("user").await;
        let answer = user.runners().list_all_runners(ListAllRunnersRequest::default()).await;
        assert_eq!(answer.reason(), "admin_required");
    }

    async fn the_type_is_filtered_and_the_old_scope_too(registry) {
        let Scene { runners: [shared, top, sub, sibling, project, other], .. } = scene(registry).await;
        let cases = [
            (RunnerType::InstanceType, ["instance_type", "shared"].as_slice(), vec![shared]),
            (RunnerType::GroupType, &["group_type"], vec![sibling, sub, top]),
            (RunnerType::ProjectType, &["project_type", "specific"], vec![other, project]),
        ];
        for (runner_type, words, expected) in cases {
            let request = ListAllRunnersRequest { r#type: Some(runner_type.into()), ..Default::default() };
            assert_eq!(all(registry, request).await, expected, "{runner_type:?}");
            for word in words {
                let request = ListAllRunnersRequest { scope: Some((*word).into()), ..Default::default() };
                assert_eq!(all(registry, request).await, expected, "{word}");
            }
        }
        let both = ListAllRunnersRequest {
            scope: Some("shared".into()),
            r#type: Some(RunnerType::GroupType.into()),
            ..Default::default()
        };
        assert_eq!(all(registry, both).await, [0i64; 0]);
    }

    async fn paused_runners_are_filtered_in_three_ways(registry) {
        let paused = registry.create(CreateRunnerRequest { paused: Some(true), ..instance() }).await.id;
        let active = registry.create(instance()).await.id;
        for (is_paused, word, status, expected) in [
            (true, "paused", RunnerStatus::Paused, paused),
            (false, "active", RunnerStatus::Active, active),
        ] {
            let requests = [
                ListAllRunnersRequest { paused: Some(is_paused), ..Default::default() },
                ListAllRunnersRequest { scope: Some(word.into()), ..Default::default() },
                ListAllRunnersRequest { status: Some(status.into()), ..Default::default() },
            ];
            for request in requests {
                assert_eq!(all(registry, request).await, [expected]);
            }
        }
    }

    async fn the_status_that_is_filtered_is_the_status_that_is_shown(registry) {
        const WEEK: i64 = 7 * 86_400;
        const MILLI: time::Duration = time::Duration::MILLISECOND;
        let never = registry.create(instance()).await;
        let old = registry.create(instance()).await;
        registry.verify(&old.token).await.answer();
        registry.set_clock(2);
        let newer = registry.create(instance()).await;
        registry.verify(&newer.token).await.answer();
        let instants = [at(3), at(7200), at(7201), at(7202), at(WEEK), at(WEEK + 2)];
        let statuses = [RunnerStatus::Online, RunnerStatus::Offline, RunnerStatus::Stale, RunnerStatus::NeverContacted];
        for now in instants.into_iter().flat_map(|now| [now, now + MILLI, now + 500 * MILLI]) {
            registry.clock.set(now);
            let shown = registry.root().runners().list_all_runners(ListAllRunnersRequest::default()).await.answer().runners;
            assert_eq!(ids(&shown), [newer.id, old.id, never.id]);
            for status in statuses {
                let request = ListAllRunnersRequest { status: Some(status.into()), ..Default::default() };
                let expected: Vec<_> = shown.iter().filter(|runner| runner.status() == status).cloned().collect();
                assert_eq!(all(registry, request).await, ids(&expected), "{now} {status:?}");
            }
        }
    }

    async fn the_status_changes_with_time(registry) {
        const WEEK: i64 = 7 * 86_400;
        let created = registry.create(instance()).await;
        registry.verify(&created.token).await.answer();
        let silent = registry.create(instance()).await;
        let cases = [
            (0, RunnerStatus::Online, RunnerStatus::NeverContacted),
            (7200, RunnerStatus::Online, RunnerStatus::NeverContacted),
            (7201, RunnerStatus::Offline, RunnerStatus::NeverContacted),
            (WEEK, RunnerStatus::Offline, RunnerStatus::NeverContacted),
            (WEEK + 1, RunnerStatus::Stale, RunnerStatus::Stale),
        ];
        for (now, expected, expected_silent) in cases {
            registry.set_clock(now);
            let shown = registry.details(created.id).await;
            assert_eq!((shown.status(), shown.online), (expected, Some(expected == RunnerStatus::Online)), "{now}");
            let shown = registry.details(silent.id).await;
            assert_eq!((shown.status(), shown.online), (expected_silent, None), "{now}");
        }
    }

    async fn a_runner_is_found_by_all_of_the_tags(registry) {
        let none = tagged(registry, &[]).await;
        let a = tagged(registry, &["a"]).await;
        let ab = tagged(registry, &["b", "a"]).await;
        let odd = tagged(registry, &["it's \"%_\\"]).await;
        let cases = [
            (vec![], vec![odd, ab, a, none]),
            (vec!["a"], vec![ab, a]),
            (vec!["a", "b"], vec![ab]),
            (vec!["a,b"], vec![ab]),
            (vec!["a", "c"], vec![]),
            (vec!["A"], vec![]),
            (vec!["it's \"%_\\"], vec![odd]),
            (vec!["%"], vec![]),
        ];
        for (tags, expected) in cases {
            let tag_list = tags.iter().map(|tag| (*tag).to_owned()).collect();
            assert_eq!(all(registry, ListAllRunnersRequest { tag_list, ..Default::default() }).await, expected, "{tags:?}");
        }
        // As many tags as a runner can have.
        assert!(all(registry, ListAllRunnersRequest { tag_list: tags(50), ..Default::default() }).await.is_empty());
    }

    async fn a_runner_is_found_by_the_version_of_a_manager(registry) {
        let runner = registry.create(instance()).await;
        registry.create(instance()).await;
        for (system_id, version) in [("s_1", "18.4.0"), ("s_2", "17.11.1"), ("s_3", "17.11.2")] {
            let request = RequestJobRequest {
                token: runner.token.clone(),
                system_id: Some(system_id.into()),
                info: Some(RunnerInfo { version: Some(version.into()), ..Default::default() }),
                last_update: None,
            };
            registry.runner().runner_tokens().request_job(request).await.answer();
        }
        for (prefix, found) in [("18", true), ("18.4.0", true), ("17.11", true), ("8.4", false), ("18.4.00", false), ("1.", false)] {
            let request = ListAllRunnersRequest { version_prefix: Some(prefix.into()), ..Default::default() };
            let expected = if found { vec![runner.id] } else { vec![] };
            assert_eq!(all(registry, request).await, expected, "{prefix}");
        }
    }

    async fn a_filter_that_means_nothing_is_refused(registry) {
        let cases = [
            (ListAllRunnersRequest { scope: Some("all".into()), ..Default::default() }, "bad_request", "Scope contains invalid value"),
            (ListAllRunnersRequest { status: Some(99), ..Default::default() }, "parameter_invalid", "status does not have a valid value"),
            (ListAllRunnersRequest { r#type: Some(99), ..Default::default() }, "parameter_invalid", "type does not have a valid value"),
            (ListAllRunnersRequest { version_prefix: Some("v18".into()), ..Default::default() }, "parameter_invalid", "version_prefix is invalid"),
            (ListAllRunnersRequest { version_prefix: Some("1".repeat(60_000)), ..Default::default() }, "parameter_invalid", "version_prefix is invalid"),
            (ListAllRunnersRequest { tag_list: tags(51), ..Default::default() }, "parameter_invalid", "tag_list is invalid"),
            (ListAllRunnersRequest { tag_list: vec!["\0".into()], ..Default::default() }, "parameter_invalid", "tag_list is invalid"),
            (ListAllRunnersRequest { page: Some(0), ..Default::default() }, "parameter_invalid", "page does not have a valid value"),
        ];
        for (request, reason, message) in cases {
            let refusal = registry.root().runners().list_all_runners(request).await.refusal();
            assert_eq!((refusal.spec().code, refusal.message()), (reason, message));
        }
    }

    async fn pages_follow_each_other(registry) {
        let mut expected = Vec::new();
        for _ in 0..5 {
            expected.insert(0, registry.create(instance()).await.id);
        }
        for (page, items, has_next) in [(1, &expected[..2], true), (2, &expected[2..4], true), (3, &expected[4..], false), (4, &[], false)] {
            let request = ListAllRunnersRequest { page: Some(page), per_page: Some(2), ..Default::default() };
            let answer = registry.root().runners().list_all_runners(request).await.answer();
            assert_eq!(ids(&answer.runners), items);
            let page = answer.page.unwrap();
            assert_eq!((page.total, page.has_next), (Some(5), has_next));
        }
    }

    async fn a_list_shows_the_times_of_the_current_token(registry) {
        let request = CreateRunnerRequest {
            token_expires_at: Some(after(7200)),
            token_rotation_deadline: Some(after(600)),
            ..instance()
        };
        let created = registry.create(request).await;
        assert_eq!(listed_times(registry).await, (Some(7200), Some(600)));
        let successor = registry.rotate(&created.token).await.answer().token;
        assert_eq!(listed_times(registry).await, (Some(7200), Some(600)), "the successor was not used yet");
        registry.verify(&successor).await.answer();
        assert_eq!(listed_times(registry).await, (None, None));
    }
}
