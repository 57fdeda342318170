//! Dry runs of an allowlist, compared with real decisions.

use proto::paddock::{
    directory::v1::Visibility,
    job_token::v1::{
        AllowGroupRequest, AllowProjectRequest, AutopopulateAllowlistRequest, DryRunAllowlistRequest,
        DryRunAllowlistResponse,
        JobTokenPolicy::{self, AdminJobs, ReadJobs, ReadPackages},
        ObjectState,
    },
};

use super::{Access, ROUTE, minutes_ago, record};
use crate::support::{Answer as _, Service, both_databases, question};

const OTHER_ROUTE: &str = "PUT /api/v4/projects/{id}/packages";

/// The policies that the accesses of the log required.
const POLICIES: [&[JobTokenPolicy]; 4] = [&[ReadJobs], &[AdminJobs], &[ReadJobs, ReadPackages], &[]];

fn request() -> DryRunAllowlistRequest {
    DryRunAllowlistRequest { id: "20".to_owned(), ..Default::default() }
}

async fn dry_run(service: &Service, request: DryRunAllowlistRequest) -> DryRunAllowlistResponse {
    service.alice().log().dry_run_allowlist(request).await.answer()
}

fn counts(answer: &DryRunAllowlistResponse) -> (i64, i64, i64) {
    (answer.examined, answer.allowed, answer.refused)
}

/// The project, route, count, reason and missing policies of each refusal.
fn refusals(answer: &DryRunAllowlistResponse) -> Vec<(i64, &str, i64, &str, Vec<JobTokenPolicy>)> {
    let fields = answer.refusals.iter().map(|refused| {
        let origin = refused.origin_project.as_ref().unwrap().id;
        (origin, refused.route.as_str(), refused.count, refused.reason.as_str(), refused.missing_policies().collect())
    });
    fields.collect()
}

/// Creates the target, and origins for each kind of entry.
async fn set_up(service: &Service) {
    service.project(20, "tools/charts", None);
    service.registry.group(5, "shop", None, Visibility::Internal);
    service.registry.group(6, "shop/sub", Some(5), Visibility::Internal);
    service.registry.group(7, "else", None, Visibility::Private);
    service.project(10, "shop/app", Some(5));
    service.project(11, "shop/sub/app", Some(6));
    service.project(12, "else/app", Some(7));
    service.project(13, "alone", None);
    service.project(14, "shop/sub/limited", Some(6));
}

/// Allows 10 and 11 by a group with packages only, 12 by a group, and 14 by its own entry with jobs only; not 13.
async fn allow_some(service: &Service) {
    let mut client = service.root().scope();
    let packages_only = AllowGroupRequest {
        id: "20".to_owned(),
        target_group_id: 5,
        default_permissions: Some(false),
        job_token_policies: vec![ReadPackages.into()],
    };
    client.allow_group(packages_only).await.answer();
    let everything = AllowGroupRequest { id: "20".to_owned(), target_group_id: 7, ..Default::default() };
    client.allow_group(everything).await.answer();
    let limited = AllowProjectRequest {
        id: "20".to_owned(),
        target_project_id: 14,
        default_permissions: Some(false),
        job_token_policies: vec![AdminJobs.into()],
    };
    client.allow_project(limited).await.answer();
}

both_databases! {
    async fn a_dry_run_refuses_what_a_job_is_refused(service) {
        set_up(service).await;
        allow_some(service).await;
        let mut number = 0;
        let mut refused_jobs = Vec::new();
        let mut allowed_jobs = 0;
        for origin in [10, 11, 12, 13, 14] {
            let (_, token) = service.running_job(origin).await;
            for (index, policies) in POLICIES.into_iter().enumerate() {
                number += 1;
                // Each has a different route, so that each becomes a separate item.
                let route = ["GET /a", "GET /b", "GET /c", "GET /d"][index];
                record(service, &[Access { number, origin, policies, route, ..Default::default() }]).await;
                let answer = service.gateway().authorization().authorize(question(&token, &["20"], policies)).await;
                match answer {
                    Ok(_) => allowed_jobs += 1,
                    refused => refused_jobs.push((origin, route, refused.reason())),
                }
            }
        }
        let answer = dry_run(service, request()).await;
        let mut dry_run_refusals: Vec<_> =
            refusals(&answer).into_iter().map(|(origin, route, _, reason, _)| (origin, route, reason)).collect();
        dry_run_refusals.sort();
        assert_eq!(dry_run_refusals, refused_jobs);
        assert_eq!(counts(&answer), (20, allowed_jobs, 20 - allowed_jobs));
        // Each reason occurs.
        for reason in ["job_token_not_in_scope", "job_token_policy_missing", "job_token_route_unauthorized"] {
            assert!(refused_jobs.iter().any(|(_, _, refused)| *refused == reason), "{reason}");
        }
        assert_eq!(allowed_jobs, 6);
    }

    async fn refusals_are_merged_by_project_and_route(service) {
        set_up(service).await;
        allow_some(service).await;
        record(service, &[
            Access { number: 1, origin: 10, at: minutes_ago(50), ..Default::default() },
            Access { number: 2, origin: 10, at: minutes_ago(40), policies: &[AdminJobs], ..Default::default() },
            Access { number: 3, origin: 10, at: minutes_ago(30), ..Default::default() },
            Access { number: 4, origin: 10, route: OTHER_ROUTE, policies: &[ReadPackages], ..Default::default() },
            Access { number: 5, origin: 13, route: OTHER_ROUTE, at: minutes_ago(20), ..Default::default() },
            Access { number: 6, origin: 13, at: minutes_ago(10), ..Default::default() },
            Access { number: 7, origin: 99, at: minutes_ago(5), ..Default::default() },
            Access { number: 8, origin: 10, target: 21, ..Default::default() },
        ]).await;
        let answer = dry_run(service, request()).await;
        assert_eq!(counts(&answer), (7, 1, 6));
        assert_eq!(refusals(&answer), [
            (10, ROUTE, 3, "job_token_policy_missing", vec![ReadJobs, AdminJobs]),
            (13, ROUTE, 1, "job_token_not_in_scope", vec![]),
            (13, OTHER_ROUTE, 1, "job_token_not_in_scope", vec![]),
            (99, ROUTE, 1, "job_token_not_in_scope", vec![]),
        ]);
        let first = &answer.refusals[0];
        assert_eq!(first.last_authorized_at, Some(proto::timestamp::from_millis(minutes_ago(30))));
        assert_eq!(first.origin_project.as_ref().unwrap().path_with_namespace.as_deref(), Some("shop/app"));
        assert_eq!(answer.refusals[3].origin_project.as_ref().unwrap().state(), ObjectState::Deleted);
    }

    async fn a_dry_run_of_another_allowlist_changes_nothing(service) {
        set_up(service).await;
        record(service, &[
            Access { number: 1, origin: 10, ..Default::default() },
            Access { number: 2, origin: 11, policies: &[ReadPackages], ..Default::default() },
            Access { number: 3, origin: 13, ..Default::default() },
        ]).await;
        let none = request();
        let jobs = vec![ReadJobs.into()];
        for (request, expected) in [
            (none.clone(), (3, 0, 3)),
            (DryRunAllowlistRequest { group_ids: vec![5], ..none.clone() }, (3, 2, 1)),
            (DryRunAllowlistRequest { group_ids: vec![6], ..none.clone() }, (3, 1, 2)),
            (DryRunAllowlistRequest { project_ids: vec![13, 10, 13], ..none.clone() }, (3, 2, 1)),
            (DryRunAllowlistRequest { project_ids: vec![13], group_ids: vec![5], ..none.clone() }, (3, 3, 0)),
            (
                DryRunAllowlistRequest {
                    project_ids: vec![13],
                    group_ids: vec![5],
                    default_permissions: Some(false),
                    job_token_policies: jobs.clone(),
                    ..none.clone()
                },
                (3, 2, 1),
            ),
            (
                DryRunAllowlistRequest { group_ids: vec![5], default_permissions: Some(false), ..none.clone() },
                (3, 0, 3),
            ),
            (DryRunAllowlistRequest { project_ids: vec![999], ..none.clone() }, (3, 0, 3)),
            (none.clone(), (3, 0, 3)),
        ] {
            assert_eq!(counts(&dry_run(service, request.clone()).await), expected, "{request:?}");
        }
        let mut client = service.alice().log();
        let contradiction = DryRunAllowlistRequest { project_ids: vec![1], job_token_policies: jobs.clone(), ..none.clone() };
        assert_eq!(client.dry_run_allowlist(contradiction).await.reason(), "parameter_invalid");
        let without_targets = DryRunAllowlistRequest { default_permissions: Some(false), job_token_policies: jobs, ..none.clone() };
        assert_eq!(client.dry_run_allowlist(without_targets).await.reason(), "parameter_missing");
        let unknown = DryRunAllowlistRequest {
            project_ids: vec![1],
            default_permissions: Some(false),
            job_token_policies: vec![999],
            ..none
        };
        assert_eq!(client.dry_run_allowlist(unknown).await.reason(), "parameter_invalid");
    }

    async fn projects_that_the_caller_does_not_see_get_no_entry_in_a_dry_run_nor_in_earnest(service) {
        set_up(service).await;
        // The group of project 12 is hidden from alice, and so is project 15.
        service.registry.project(15, "hidden", None, Visibility::Private);
        record(service, &[
            Access { number: 1, origin: 12, ..Default::default() },
            Access { number: 2, origin: 15, ..Default::default() },
        ]).await;
        for request in [
            DryRunAllowlistRequest { group_ids: vec![7], ..request() },
            DryRunAllowlistRequest { project_ids: vec![15], ..request() },
        ] {
            assert_eq!(counts(&dry_run(service, request.clone()).await), (2, 0, 2));
            let answer = service.root().log().dry_run_allowlist(request).await.answer();
            assert_eq!(counts(&answer), (2, 1, 1));
        }
        let id = "20".to_owned();
        let project = AllowProjectRequest { id: id.clone(), target_project_id: 15, ..Default::default() };
        let group = AllowGroupRequest { id: id.clone(), target_group_id: 7, ..Default::default() };
        let mut alice = service.alice().scope();
        let mut root = service.root().scope();
        assert_eq!(alice.allow_project(project.clone()).await.reason(), "allowlist_project_not_found");
        assert_eq!(alice.allow_group(group.clone()).await.reason(), "allowlist_group_not_found");
        let from_log = AutopopulateAllowlistRequest { id, ..Default::default() };
        let added = service.alice().log().autopopulate_allowlist(from_log).await.answer();
        assert_eq!((added.added_project_ids, added.still_refused_project_ids), (vec![12], vec![15]));
        root.allow_project(project).await.answer();
        root.allow_group(group).await.answer();
    }

    async fn a_dry_run_ignores_that_the_scope_is_off(service) {
        set_up(service).await;
        allow_some(service).await;
        record(service, &[Access { number: 1, origin: 13, ..Default::default() }]).await;
        service.enforce(20, false).await;
        assert_eq!(counts(&dry_run(service, request()).await), (1, 0, 1));
    }

    async fn only_the_given_days_count(service) {
        set_up(service).await;
        let day = 24 * 60;
        let times = [
            minutes_ago(0),
            minutes_ago(day),
            minutes_ago(day) - 1,
            minutes_ago(30 * day),
            minutes_ago(30 * day) - 1,
            minutes_ago(366 * day),
            minutes_ago(366 * day) - 1,
        ];
        for (number, at) in (1..).zip(times) {
            record(service, &[Access { number, at, ..Default::default() }]).await;
        }
        for (days, expected) in [(Some(1), 2), (Some(30), 4), (None, 4), (Some(366), 6)] {
            let answer = dry_run(service, DryRunAllowlistRequest { days, ..request() }).await;
            assert_eq!(answer.examined, expected, "{days:?}");
        }
    }
}
