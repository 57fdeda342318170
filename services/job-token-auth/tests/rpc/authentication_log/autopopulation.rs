//! Allowlist entries made from the log.

use proto::paddock::{
    directory::v1::Visibility,
    job_token::v1::{
        AllowGroupRequest, AllowProjectRequest, AutopopulateAllowlistRequest, AutopopulateAllowlistResponse,
        DryRunAllowlistRequest,
        JobTokenPolicy::{AdminJobs, ReadJobs, ReadPackages},
        ListAllowedGroupsRequest, ListAllowedProjectsRequest,
    },
};
use sea_orm::{ConnectionTrait as _, Statement};

use super::{Access, execute, minutes_ago, record};
use crate::support::{ALICE, Answer as _, Service, both_databases, question};

fn request() -> AutopopulateAllowlistRequest {
    AutopopulateAllowlistRequest { id: "20".to_owned(), ..Default::default() }
}

async fn autopopulate(service: &Service, request: AutopopulateAllowlistRequest) -> AutopopulateAllowlistResponse {
    service.alice().log().autopopulate_allowlist(request).await.answer()
}

fn added(projects: &[i64], groups: &[i64]) -> AutopopulateAllowlistResponse {
    AutopopulateAllowlistResponse {
        added_project_ids: projects.to_vec(),
        added_group_ids: groups.to_vec(),
        still_refused_project_ids: Vec::new(),
    }
}

fn refused(projects: &[i64], still_refused: &[i64]) -> AutopopulateAllowlistResponse {
    AutopopulateAllowlistResponse { still_refused_project_ids: still_refused.to_vec(), ..added(projects, &[]) }
}

/// An entry: id, whether it grants everything, policies, and whether it was made from the log.
type EntryFields = (i64, bool, Vec<i32>, bool);

/// An entry for everything that was made from the log.
fn everything(id: i64) -> EntryFields {
    (id, true, vec![], true)
}

/// The entries of both allowlists, without the project itself.
async fn entries(service: &Service) -> (Vec<EntryFields>, Vec<EntryFields>) {
    let id = "20".to_owned();
    let per_page = Some(100);
    let list = ListAllowedProjectsRequest { id: id.clone(), page: None, per_page };
    let projects = service.root().scope().list_allowed_projects(list).await.answer().projects.into_iter().skip(1);
    let projects =
        projects.map(|entry| (entry.id, entry.default_permissions, entry.job_token_policies, entry.autopopulated));
    let list = ListAllowedGroupsRequest { id, page: None, per_page };
    let groups = service.root().scope().list_allowed_groups(list).await.answer().groups.into_iter();
    let groups =
        groups.map(|entry| (entry.id, entry.default_permissions, entry.job_token_policies, entry.autopopulated));
    (projects.collect(), groups.collect())
}

async fn refused_in_dry_run(service: &Service) -> i64 {
    let request = DryRunAllowlistRequest { id: "20".to_owned(), ..Default::default() };
    service.alice().log().dry_run_allowlist(request).await.answer().refused
}

/// The number of entries in a table.
async fn count_entries(service: &Service, table: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) AS n FROM {table} WHERE source_project_id = 20");
    let statement = Statement::from_string(service.database.get_database_backend(), sql);
    let row = service.database.query_one_raw(statement).await.unwrap().unwrap();
    row.try_get("", "n").unwrap()
}

/// Creates a group with projects, and an access by each of them.
async fn record_group(service: &Service, group: i64, parent: Option<i64>, first: i64, count: i64) {
    service.registry.group(group, &format!("g{group}"), parent, Visibility::Internal);
    for id in first..first + count {
        service.registry.project(id, &format!("g{group}/p{id}"), Some(group), Visibility::Internal);
        let number = u32::try_from(id).unwrap();
        record(service, &[Access { number, origin: id, ..Default::default() }]).await;
    }
}

both_databases! {
    async fn projects_in_the_log_get_entries_that_apply_at_once(service) {
        service.project(20, "tools/charts", None);
        service.project(10, "shop/app", None);
        // Alice does not see this one.
        service.registry.project(11, "shop/hidden", None, Visibility::Private);
        record(service, &[
            Access { number: 1, origin: 10, ..Default::default() },
            Access { number: 2, origin: 10, policies: &[ReadPackages], ..Default::default() },
            Access { number: 3, origin: 11, ..Default::default() },
            Access { number: 4, origin: 99, ..Default::default() },
            Access { number: 5, origin: 10, target: 21, ..Default::default() },
        ]).await;
        let (_, token) = service.running_job(10).await;
        let access = question(&token, &["20"], &[ReadJobs]);
        let mut gateway = service.gateway().authorization();
        assert_eq!(gateway.authorize(access.clone()).await.reason(), "job_token_not_in_scope");
        assert_eq!(autopopulate(service, request()).await, refused(&[10], &[11]), "99 is deleted");
        gateway.authorize(access.clone()).await.answer();
        assert_eq!(entries(service).await, (vec![everything(10)], vec![]));
        let rows = Statement::from_string(
            service.database.get_database_backend(),
            "SELECT added_by_id, created_at FROM allowlist_projects",
        );
        for row in service.database.query_all_raw(rows).await.unwrap() {
            let added: (i64, i64) = (row.try_get("", "added_by_id").unwrap(), row.try_get("", "created_at").unwrap());
            assert_eq!(added, (ALICE, minutes_ago(0)));
        }
        // A second call adds nothing, except for a user who sees more.
        assert_eq!(autopopulate(service, request()).await, refused(&[], &[11]));
        assert_eq!(entries(service).await.0.len(), 1);
        let by_root = service.root().log().autopopulate_allowlist(request()).await.answer();
        assert_eq!(by_root, added(&[11], &[]));
    }

    async fn entries_can_grant_only_what_was_used(service) {
        service.project(20, "tools/charts", None);
        service.project(10, "shop/app", None);
        service.project(11, "shop/other", None);
        record(service, &[
            Access { number: 1, origin: 10, ..Default::default() },
            Access { number: 2, origin: 10, policies: &[ReadPackages, ReadJobs], ..Default::default() },
            Access { number: 3, origin: 11, policies: &[AdminJobs], ..Default::default() },
        ]).await;
        let request = AutopopulateAllowlistRequest { used_policies_only: Some(true), ..request() };
        assert_eq!(autopopulate(service, request).await, added(&[10, 11], &[]));
        let jobs_and_packages = vec![ReadJobs.into(), ReadPackages.into()];
        let expected = vec![(10, false, jobs_and_packages, true), (11, false, vec![AdminJobs.into()], true)];
        assert_eq!(entries(service).await, (expected, vec![]));
        assert_eq!(refused_in_dry_run(service).await, 0);
    }

    async fn present_entries_do_not_change(service) {
        service.project(20, "tools/charts", None);
        record_group(service, 5, None, 100, 2).await;
        service.project(10, "shop/app", None);
        record(service, &[Access { number: 1, origin: 10, ..Default::default() }]).await;
        let limited = AllowProjectRequest {
            id: "20".to_owned(),
            target_project_id: 10,
            default_permissions: Some(false),
            job_token_policies: vec![ReadPackages.into()],
        };
        service.root().scope().allow_project(limited).await.answer();
        assert_eq!(autopopulate(service, request()).await, refused(&[100, 101], &[10]), "its present entry grants too little");
        let kept = (10, false, vec![ReadPackages.into()], false);
        assert_eq!(entries(service).await, (vec![kept, everything(100), everything(101)], vec![]));
        assert_eq!(refused_in_dry_run(service).await, 1);
    }

    async fn a_project_gets_an_entry_if_that_of_its_group_grants_too_little(service) {
        service.project(20, "tools/charts", None);
        service.registry.group(5, "g5", None, Visibility::Internal);
        for (number, origin, policies) in [
            (1, 10, &[ReadJobs][..]),
            (2, 11, &[ReadPackages]),
            (3, 12, &[]),
        ] {
            service.project(origin, &format!("g5/p{origin}"), Some(5));
            record(service, &[Access { number, origin, policies, ..Default::default() }]).await;
        }
        let limited = AllowGroupRequest {
            id: "20".to_owned(),
            target_group_id: 5,
            default_permissions: Some(false),
            job_token_policies: vec![ReadJobs.into()],
        };
        service.root().scope().allow_group(limited).await.answer();
        let kept = (5, false, vec![ReadJobs.into()], false);
        let used_only = AutopopulateAllowlistRequest { used_policies_only: Some(true), ..request() };
        assert_eq!(autopopulate(service, used_only.clone()).await, refused(&[11], &[12]), "no policy helps 12");
        // The new entry also grants what that of the group grants.
        let both = (11, false, vec![ReadJobs.into(), ReadPackages.into()], true);
        assert_eq!(entries(service).await, (vec![both.clone()], vec![kept.clone()]));
        assert_eq!(autopopulate(service, used_only).await, refused(&[], &[12]));
        assert_eq!(autopopulate(service, request()).await, added(&[12], &[]));
        assert_eq!(entries(service).await, (vec![both, (12, true, vec![], true)], vec![kept]));
        assert_eq!(refused_in_dry_run(service).await, 0);
    }

    async fn entries_for_deleted_projects_are_removed_first(service) {
        service.project(20, "tools/charts", None);
        let rows: Vec<_> = (1..=199).map(|id| format!("(20, {}, true, '', false, 1, 0)", 5000 + id)).collect();
        execute(service, &format!("INSERT INTO allowlist_projects VALUES {}", rows.join(", "))).await;
        for id in 1..=198 {
            service.registry.project(5000 + id, &format!("many/p{id}"), None, Visibility::Private);
        }
        record_group(service, 5, None, 100, 1).await;
        assert_eq!(autopopulate(service, request()).await, added(&[100], &[]));
        assert_eq!(count_entries(service, "allowlist_projects").await, 200, "the entry for a deleted project was removed");
        record_group(service, 5, None, 101, 1).await;
        assert_eq!(autopopulate(service, request()).await, added(&[101], &[]), "a project, not a group");
        assert_eq!(count_entries(service, "allowlist_projects").await, 200);
        assert_eq!(count_entries(service, "allowlist_groups").await, 0);
    }

    async fn only_the_given_days_count(service) {
        service.project(20, "tools/charts", None);
        for (number, origin, age) in [(1, 10, 1), (2, 11, 29), (3, 12, 31)] {
            service.project(origin, &format!("shop/p{origin}"), None);
            record(service, &[Access { number, origin, at: minutes_ago(age * 24 * 60), ..Default::default() }]).await;
        }
        for (days, expected) in [(Some(2), 10), (None, 11), (Some(366), 12)] {
            let request = AutopopulateAllowlistRequest { days, ..request() };
            assert_eq!(autopopulate(service, request).await, added(&[expected], &[]));
        }
    }

    async fn groups_replace_projects_that_do_not_fit(service) {
        service.project(20, "tools/charts", None);
        service.registry.group(50, "g50", None, Visibility::Internal);
        record_group(service, 5, Some(50), 1000, 90).await;
        record_group(service, 6, Some(50), 2000, 60).await;
        record_group(service, 7, None, 3000, 51).await;
        let answer = autopopulate(service, AutopopulateAllowlistRequest { used_policies_only: Some(true), ..request() }).await;
        // 201 projects: the group that replaces most of them is enough; the one above it would admit more projects.
        let expected: Vec<i64> = (2000..2060).chain(3000..3051).collect();
        assert_eq!(answer, added(&expected, &[5]));
        let (projects, groups) = entries(service).await;
        assert_eq!((projects.len(), groups), (99, vec![(5, false, vec![ReadJobs.into()], true)]), "a page of a hundred");
        assert_eq!(refused_in_dry_run(service).await, 0);
        assert_eq!(autopopulate(service, request()).await, added(&[], &[]));
    }

    async fn entries_that_do_not_fit_are_refused_without_a_change(service) {
        service.project(20, "tools/charts", None);
        let rows: Vec<_> = (1..=199).map(|id| format!("(20, {}, true, '', false, 1, 0)", 5000 + id)).collect();
        execute(service, &format!("INSERT INTO allowlist_projects VALUES {}", rows.join(", "))).await;
        for id in 5001..=5199 {
            service.registry.project(id, &format!("many/p{id}"), None, Visibility::Private);
        }
        for (number, origin) in [(1, 10), (2, 11)] {
            service.project(origin, &format!("alone{origin}"), None);
            record(service, &[Access { number, origin, ..Default::default() }]).await;
        }
        let refusal = service.alice().log().autopopulate_allowlist(request()).await.refusal();
        assert_eq!((refusal.spec().code, refusal.spec().http_status), ("allowlist_full", 400));
        execute(service, "DELETE FROM allowlist_projects WHERE target_project_id = 5001").await;
        assert_eq!(autopopulate(service, request()).await, added(&[10, 11], &[]));
    }

    async fn a_group_that_the_caller_does_not_see_replaces_nothing(service) {
        service.project(20, "tools/charts", None);
        record_group(service, 5, None, 1000, 201).await;
        service.registry.group(5, "g5", None, Visibility::Private);
        let refusal = service.alice().log().autopopulate_allowlist(request()).await;
        assert_eq!(refusal.reason(), "allowlist_full");
        let answer = service.root().log().autopopulate_allowlist(request()).await.answer();
        assert_eq!(answer, added(&[], &[5]));
    }

    async fn calls_at_the_same_moment_add_each_entry_once(service) {
        service.project(20, "tools/charts", None);
        record_group(service, 5, None, 1000, 30).await;
        let calls = (0..6).map(|_| {
            let mut client = service.alice().log();
            tokio::spawn(async move { client.autopopulate_allowlist(request()).await })
        });
        let answers = futures::future::join_all(calls).await.into_iter().map(|answer| answer.unwrap().answer());
        let mut ids: Vec<i64> = answers.flat_map(|answer| answer.added_project_ids).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1000..1030).collect::<Vec<_>>());
    }
}
