//! The scope of a project and its allowlists, as its maintainers see and change them.

use prost_types::{FieldMask, Timestamp};
use proto::paddock::{
    directory::v1::Visibility,
    job_token::v1::{
        AllowGroupRequest, AllowGroupResponse, AllowProjectRequest, AllowProjectResponse, AllowedGroup, AllowedProject,
        DisallowGroupRequest, DisallowProjectRequest, GetScopeRequest, GetScopeResponse,
        JobTokenPolicy::{AdminPackages, ReadJobs},
        ListAllowedGroupsRequest, ListAllowedProjectsRequest, ObjectState, UpdateAllowedGroupRequest,
        UpdateAllowedProjectRequest, UpdateScopeRequest,
    },
};
use sea_orm::{ConnectionTrait as _, Statement};
use tonic::Status;

use crate::support::{ALICE, Answer as _, Service, both_databases, question};

fn project(target_project_id: i64) -> AllowProjectRequest {
    AllowProjectRequest { id: "20".to_owned(), target_project_id, ..Default::default() }
}

fn group(target_group_id: i64) -> AllowGroupRequest {
    AllowGroupRequest { id: "20".to_owned(), target_group_id, ..Default::default() }
}

fn project_with(default_permissions: Option<bool>, policy: i32) -> AllowProjectRequest {
    AllowProjectRequest { default_permissions, job_token_policies: vec![policy], ..project(12) }
}

async fn projects(service: &Service) -> Vec<AllowedProject> {
    let request = ListAllowedProjectsRequest { id: "20".to_owned(), ..Default::default() };
    service.alice().scope().list_allowed_projects(request).await.answer().projects
}

async fn groups(service: &Service) -> Vec<AllowedGroup> {
    let request = ListAllowedGroupsRequest { id: "20".to_owned(), ..Default::default() };
    service.alice().scope().list_allowed_groups(request).await.answer().groups
}

/// The code of the decision on an access to project 20.
async fn decision(service: &Service, token: &str) -> &'static str {
    let answer = service.gateway().authorization().authorize(question(token, &["20"], &[ReadJobs])).await;
    if answer.is_ok() { "allowed" } else { answer.reason() }
}

fn update_project(
    target_project_id: i64,
    default_permissions: Option<bool>,
    policies: &[i32],
) -> UpdateAllowedProjectRequest {
    UpdateAllowedProjectRequest {
        id: "20".to_owned(),
        target_project_id,
        default_permissions,
        job_token_policies: policies.to_vec(),
        update_mask: None,
    }
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

/// The number of entries in a table.
async fn count_entries(service: &Service, table: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) AS n FROM {table} WHERE source_project_id = 20");
    let statement = Statement::from_string(service.database.get_database_backend(), sql);
    let row = service.database.query_one_raw(statement).await.unwrap().unwrap();
    row.try_get("", "n").unwrap()
}

/// Creates what alice may change, and what she may or may not see.
fn set_up(service: &Service) {
    service.project(20, "tools/charts", None);
    service.project(10, "shop/app", Some(5));
    service.registry.project(11, "shop/hidden", Some(5), Visibility::Private);
    service.registry.project(12, "shop/open", Some(5), Visibility::Internal);
    service.registry.group(5, "shop", None, Visibility::Public);
    service.registry.group(6, "shop/hidden", Some(5), Visibility::Private);
    service.registry.group(7, "mine", None, Visibility::Private);
    service.registry.group_role(ALICE, 7, 10);
}

both_databases! {
    async fn the_allowlists_decide_until_they_are_switched_off(service) {
        set_up(service);
        let (_, token) = service.running_job(10).await;
        let mut client = service.alice().scope();
        let get_scope = GetScopeRequest { id: "tools/charts".to_owned() };
        let on = GetScopeResponse { inbound_enabled: true, outbound_enabled: false };
        assert_eq!(client.get_scope(get_scope.clone()).await.answer(), on);
        let access = question(&token, &["20"], &[ReadJobs]);
        let refused = service.gateway().authorization().authorize(access.clone()).await;
        assert_eq!(refused.reason(), "job_token_not_in_scope");
        for enabled in [false, false, true, true] {
            client.update_scope(UpdateScopeRequest { id: "20".to_owned(), enabled }).await.answer();
            assert_eq!(client.get_scope(get_scope.clone()).await.answer().inbound_enabled, enabled);
            let answer = service.gateway().authorization().authorize(access.clone()).await;
            assert_eq!(answer.is_ok(), !enabled, "at once in the process that changed it");
        }
    }

    async fn every_change_of_an_allowlist_is_seen_at_once(service) {
        set_up(service);
        let (_, token) = service.running_job(10).await;
        let client = service.alice().scope();
        assert_eq!(decision(service, &token).await, "job_token_not_in_scope");
        client.clone().allow_project(project(10)).await.answer();
        assert_eq!(decision(service, &token).await, "allowed");
        let nothing = UpdateAllowedProjectRequest {
            id: "20".to_owned(),
            target_project_id: 10,
            default_permissions: Some(false),
            ..Default::default()
        };
        client.clone().update_allowed_project(nothing).await.answer();
        assert_eq!(decision(service, &token).await, "job_token_policy_missing");
        client.clone().allow_group(group(5)).await.answer();
        assert_eq!(decision(service, &token).await, "job_token_policy_missing", "the entry of the project is nearer");
        let entry = DisallowProjectRequest { id: "20".to_owned(), target_project_id: 10 };
        client.clone().disallow_project(entry).await.answer();
        assert_eq!(decision(service, &token).await, "allowed", "by the group");
        let entry = DisallowGroupRequest { id: "20".to_owned(), target_group_id: 5 };
        client.clone().disallow_group(entry).await.answer();
        assert_eq!(decision(service, &token).await, "job_token_not_in_scope");
    }

    async fn projects_are_allowed_changed_and_disallowed(service) {
        set_up(service);
        let mut client = service.alice().scope();
        let added = client.allow_project(project(10)).await.answer();
        let everything = AllowProjectResponse {
            source_project_id: 20,
            target_project_id: 10,
            default_permissions: true,
            job_token_policies: vec![],
        };
        assert_eq!(added, everything);
        let limited = AllowProjectRequest {
            id: "tools/charts".to_owned(),
            default_permissions: Some(false),
            job_token_policies: vec![AdminPackages.into(), ReadJobs.into(), ReadJobs.into()],
            ..project(12)
        };
        let added = client.allow_project(limited).await.answer();
        let policies = vec![ReadJobs.into(), AdminPackages.into()];
        assert_eq!((added.default_permissions, added.job_token_policies), (false, policies.clone()));

        let listed = projects(service).await;
        assert_eq!(listed.iter().map(|project| project.id).collect::<Vec<_>>(), [20, 10, 12], "itself first");
        assert_eq!(listed[2], AllowedProject {
            id: 12,
            description: None,
            name: Some("OPEN".to_owned()),
            name_with_namespace: Some("SHOP / OPEN".to_owned()),
            path: Some("open".to_owned()),
            path_with_namespace: Some("shop/open".to_owned()),
            default_permissions: false,
            job_token_policies: policies,
            autopopulated: false,
            state: ObjectState::Visible.into(),
            created_at: Some(Timestamp { seconds: 1_700_000_012, nanos: 0 }),
            web_url: None,
        });
        assert!(listed[0].default_permissions && listed[0].path.as_deref() == Some("charts"));

        let changed = client.update_allowed_project(update_project(12, None, &[ReadJobs.into()])).await.answer();
        assert_eq!((changed.default_permissions, changed.job_token_policies), (false, vec![ReadJobs.into()]));
        let changed = client.update_allowed_project(update_project(12, Some(true), &[])).await.answer();
        assert_eq!((changed.source_project_id, changed.target_project_id), (20, 12));
        assert_eq!((changed.default_permissions, changed.job_token_policies), (true, vec![]));
        let changed = client.update_allowed_project(update_project(12, Some(false), &[])).await.answer();
        assert_eq!((changed.default_permissions, changed.job_token_policies), (false, vec![]), "it grants nothing");

        let gone = DisallowProjectRequest { id: "20".to_owned(), target_project_id: 12 };
        client.disallow_project(gone.clone()).await.answer();
        assert_eq!(client.disallow_project(gone).await.reason(), "allowlist_entry_not_found");
        assert_eq!(client.update_allowed_project(update_project(12, Some(true), &[])).await.reason(), "allowlist_entry_not_found");
        assert_eq!(projects(service).await.len(), 2);
    }

    async fn a_list_of_policies_is_lost_only_when_the_mask_names_it(service) {
        set_up(service);
        let mut client = service.alice().scope();
        client.allow_project(project(10)).await.answer();
        client.allow_group(group(7)).await.answer();
        let jobs: Vec<i32> = vec![ReadJobs.into()];
        let both = ["default_permissions", "job_token_policies"];
        let list = ["job_token_policies"];
        // The request, and the entry after it. Each case begins with the entry of the case before.
        let cases = [
            (Some(false), vec![], mask(&both[..1]), (false, vec![])),
            (None, jobs.clone(), mask(&list), (false, jobs.clone())),
            (Some(false), vec![], mask(&both[..1]), (false, jobs.clone())),
            (Some(false), vec![], None, (false, jobs.clone())),
            (Some(false), vec![], mask(&both), (false, vec![])),
            (Some(false), jobs.clone(), mask(&both), (false, jobs.clone())),
            (None, vec![], mask(&list), (false, vec![])),
            (Some(false), jobs.clone(), None, (false, jobs.clone())),
            (Some(true), vec![], mask(&both), (true, vec![])),
            (None, vec![], mask(&list), (true, vec![])),
            (Some(false), vec![], mask(&both[..1]), (false, vec![])),
        ];
        for (default_permissions, job_token_policies, update_mask, expected) in cases {
            let request = format!("{default_permissions:?} {job_token_policies:?} {update_mask:?}");
            let of_group = UpdateAllowedGroupRequest {
                id: "20".to_owned(),
                target_group_id: 7,
                default_permissions,
                job_token_policies: job_token_policies.clone(),
                update_mask: update_mask.clone(),
            };
            let of_project = UpdateAllowedProjectRequest {
                id: "20".to_owned(),
                target_project_id: 10,
                default_permissions,
                job_token_policies,
                update_mask,
            };
            let changed = client.update_allowed_project(of_project).await.answer();
            assert_eq!((changed.default_permissions, changed.job_token_policies), expected, "{request}");
            let changed = client.update_allowed_group(of_group).await.answer();
            assert_eq!((changed.default_permissions, changed.job_token_policies), expected, "{request}");
            let listed = (projects(service).await.remove(1), groups(service).await.remove(0));
            assert_eq!((listed.0.default_permissions, listed.0.job_token_policies), expected, "{request}");
            assert_eq!((listed.1.default_permissions, listed.1.job_token_policies), expected, "{request}");
        }
    }

    async fn entries_for_what_is_deleted_leave_a_full_allowlist(service) {
        set_up(service);
        for id in 1000..1200 {
            service.registry.project(id, &format!("many/p{id}"), None, Visibility::Public);
            service.registry.group(id, &format!("g{id}"), None, Visibility::Public);
            // The rows of both allowlists, as the service would write them.
            for kind in ["project", "group"] {
                let sql = format!("INSERT INTO allowlist_{kind}s VALUES (20, {id}, true, '', false, 1, 0)");
                service.database.execute_unprepared(&sql).await.unwrap();
            }
        }
        let mut client = service.alice().scope();
        assert_eq!(client.allow_project(project(10)).await.reason(), "allowlist_full");
        assert_eq!(client.allow_group(group(5)).await.reason(), "allowlist_full");
        for id in [1000, 1100] {
            service.registry.delete_project(id);
            service.registry.delete_group(id);
        }
        // Without runner-registry it is unknown what is deleted, and nothing is removed.
        service.registry.set_down(true);
        assert_eq!(client.allow_project(project(10)).await.fault(), "unavailable");
        service.registry.set_down(false);
        client.allow_project(project(10)).await.answer();
        client.allow_group(group(5)).await.answer();
        assert_eq!(count_entries(service, "allowlist_projects").await, 199);
        assert_eq!(count_entries(service, "allowlist_groups").await, 199);
        client.allow_project(project(12)).await.answer();
        assert_eq!(client.allow_project(project(10)).await.reason(), "allowlist_entry_exists");
        let mut root = service.root().scope();
        assert_eq!(root.allow_project(project(11)).await.reason(), "allowlist_full", "nothing else is deleted");
    }

    async fn groups_are_allowed_changed_and_disallowed(service) {
        set_up(service);
        let mut client = service.alice().scope();
        let added = client.allow_group(group(5)).await.answer();
        let everything = AllowGroupResponse {
            source_project_id: 20,
            target_group_id: 5,
            default_permissions: true,
            job_token_policies: vec![],
        };
        assert_eq!(added, everything);
        client.allow_group(group(7)).await.answer();
        let change = UpdateAllowedGroupRequest {
            id: "20".to_owned(),
            target_group_id: 7,
            default_permissions: Some(false),
            job_token_policies: vec![ReadJobs.into()],
            update_mask: None,
        };
        let changed = client.update_allowed_group(change.clone()).await.answer();
        assert_eq!((changed.default_permissions, changed.job_token_policies), (false, vec![ReadJobs.into()]));
        let listed = groups(service).await;
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[1], AllowedGroup {
            id: 7,
            name: Some("MINE".to_owned()),
            path: Some("mine".to_owned()),
            full_path: Some("mine".to_owned()),
            default_permissions: false,
            job_token_policies: vec![ReadJobs.into()],
            autopopulated: false,
            state: ObjectState::Visible.into(),
            web_url: None,
        });
        let gone = DisallowGroupRequest { id: "20".to_owned(), target_group_id: 7 };
        client.disallow_group(gone.clone()).await.answer();
        assert_eq!(client.disallow_group(gone).await.reason(), "allowlist_entry_not_found");
        assert_eq!(client.update_allowed_group(change).await.reason(), "allowlist_entry_not_found");
    }

    async fn invalid_entries_are_refused_with_the_reason(service) {
        set_up(service);
        let mut client = service.alice().scope();
        client.allow_project(project(10)).await.answer();
        client.allow_group(group(5)).await.answer();
        let exists = "400 Bad request - the target is already in the job token scope";
        let no_list = "job_token_policies can only be given when default_permissions is false";
        let cases = [
            (project(10), exists),
            (project(20), exists),
            (project(11), "404 target_project_id not found Not Found"),
            (project(99), "404 target_project_id not found Not Found"),
            (project_with(None, ReadJobs.into()), no_list),
            (project_with(Some(true), ReadJobs.into()), no_list),
            (project_with(Some(false), 0), "job_token_policies does not have a valid value"),
            (project_with(Some(false), 999), "job_token_policies does not have a valid value"),
        ];
        for (request, text) in cases {
            assert_eq!(client.allow_project(request).await.refusal().message(), text);
        }
        for (request, text) in [
            (group(5), exists),
            (group(6), "404 target_group_id not found Not Found"),
            (group(99), "404 target_group_id not found Not Found"),
        ] {
            assert_eq!(client.allow_group(request).await.refusal().message(), text);
        }
        let nothing = UpdateAllowedProjectRequest { id: "20".to_owned(), target_project_id: 10, ..Default::default() };
        let text = "default_permissions, job_token_policies are missing, at least one parameter must be provided";
        assert_eq!(client.update_allowed_project(nothing).await.refusal().message(), text);
        assert_eq!((projects(service).await.len(), groups(service).await.len()), (2, 1));
    }

    async fn an_allowlist_holds_two_hundred_entries_even_in_a_race(service) {
        set_up(service);
        for id in 1000..1210 {
            service.registry.project(id, &format!("many/p{id}"), None, Visibility::Public);
            service.registry.group(id, &format!("g{id}"), None, Visibility::Public);
        }
        let client = service.alice().scope();
        let mut adding = tokio::task::JoinSet::new();
        for id in 1000..1210 {
            let mut client = client.clone();
            adding.spawn(async move {
                let project = client.allow_project(project(id)).await;
                let group = client.allow_group(group(id)).await;
                (project.map(|_| ()), group.map(|_| ()))
            });
        }
        let mut projects = 0;
        let mut groups = 0;
        for (project, group) in adding.join_all().await {
            projects += u32::from(project.is_ok());
            groups += u32::from(group.is_ok());
        }
        assert_eq!((projects, groups), (200, 200));
        let full = client.clone().allow_project(project(10)).await.refusal();
        assert_eq!((full.spec().code, full.message()), (
            "allowlist_full",
            "400 Bad request - Source project exceeds the allowable number of project links",
        ));
        let full = client.clone().allow_group(group(5)).await.refusal();
        assert_eq!(full.message(), "400 Bad request - Source project exceeds the allowable number of group links");

        let page = ListAllowedProjectsRequest { id: "20".to_owned(), page: Some(3), per_page: Some(100) };
        let page = client.clone().list_allowed_projects(page).await.answer();
        let at = page.page.unwrap();
        assert_eq!((page.projects.len(), at.total, at.has_next), (1, Some(201), false), "two hundred and itself");
    }

    async fn deleted_and_hidden_targets_stay_in_the_list_without_a_name(service) {
        set_up(service);
        let mut root = service.root().scope();
        for id in [10, 11, 12] {
            root.allow_project(project(id)).await.answer();
        }
        for id in [5, 6, 7] {
            root.allow_group(group(id)).await.answer();
        }
        service.registry.delete_project(10);
        service.registry.delete_group(5);
        let listed = projects(service).await;
        let states: Vec<_> = listed.iter().map(|project| (project.id, project.state(), project.path.is_some())).collect();
        assert_eq!(states, [
            (20, ObjectState::Visible, true),
            (10, ObjectState::Deleted, false),
            (11, ObjectState::Hidden, false),
            (12, ObjectState::Visible, true),
        ]);
        let nothing = AllowedProject {
            id: 11,
            default_permissions: true,
            state: ObjectState::Hidden.into(),
            ..AllowedProject::default()
        };
        assert_eq!(listed[2], nothing, "a hidden project has no details");
        let states: Vec<_> = groups(service).await.iter().map(|group| (group.id, group.state(), group.name.is_some())).collect();
        assert_eq!(states, [
            (5, ObjectState::Deleted, false),
            (6, ObjectState::Hidden, false),
            (7, ObjectState::Visible, true),
        ]);
        let gone = DisallowProjectRequest { id: "20".to_owned(), target_project_id: 10 };
        service.alice().scope().disallow_project(gone).await.answer();
    }

    async fn scopes_are_for_maintainers(service) {
        set_up(service);
        let mut client = service.alice().scope();
        for (role, visibility, expected) in [
            (Some(40), Visibility::Private, None),
            (Some(50), Visibility::Private, None),
            (Some(39), Visibility::Private, Some("access_denied")),
            (None, Visibility::Private, Some("project_not_found")),
            (None, Visibility::Internal, Some("access_denied")),
        ] {
            service.registry.project(20, "tools/charts", None, visibility);
            service.registry.role(ALICE, 20, role);
            let id = "20".to_owned();
            let reasons = [
                client.get_scope(GetScopeRequest { id: id.clone() }).await.err(),
                client.update_scope(UpdateScopeRequest { id: id.clone(), enabled: true }).await.err(),
                client.list_allowed_projects(ListAllowedProjectsRequest { id: id.clone(), ..Default::default() }).await.err(),
                client.list_allowed_groups(ListAllowedGroupsRequest { id: id.clone(), ..Default::default() }).await.err(),
            ];
            for error in reasons {
                assert_eq!(error.map(code), expected, "{role:?} {visibility:?}");
            }
            let Some(expected) = expected else { continue };
            let target_project_id = 10;
            let target_group_id = 5;
            let reasons = [
                client.allow_project(project(10)).await.err(),
                client.allow_group(group(5)).await.err(),
                client.update_allowed_project(UpdateAllowedProjectRequest { id: id.clone(), target_project_id, ..Default::default() }).await.err(),
                client.update_allowed_group(UpdateAllowedGroupRequest { id: id.clone(), target_group_id, ..Default::default() }).await.err(),
                client.disallow_project(DisallowProjectRequest { id: id.clone(), target_project_id }).await.err(),
                client.disallow_group(DisallowGroupRequest { id: id.clone(), target_group_id }).await.err(),
            ];
            for error in reasons {
                assert_eq!(error.map(code), Some(expected), "{role:?} {visibility:?}");
            }
        }
        assert_eq!(client.get_scope(GetScopeRequest { id: "99".to_owned() }).await.reason(), "project_not_found");
        service.root().scope().get_scope(GetScopeRequest { id: "20".to_owned() }).await.answer();
        let by_process = service.gateway().scope().get_scope(GetScopeRequest { id: "20".to_owned() }).await;
        assert_eq!(by_process.fault(), "caller_not_accepted");
    }
}

fn code(status: Status) -> &'static str {
    chassis::status::Rejection::from(status).spec().code
}
