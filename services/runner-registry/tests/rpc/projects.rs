//! Projects: their fields, their namespaces, and what remains when a project is deleted.

use proto::paddock::{
    directory::v1::{
        CreateProjectRequest, DeleteProjectRequest, GetProjectRequest, Namespace, Project, UpdateGroupRequest,
        UpdateProjectRequest, Visibility,
    },
    runner::v1::{AssignRunnerRequest, CreateRunnerRequest, RunnerType},
};
use runner_registry::entity::{member, project, route, runner, runner_project};
use sea_orm::{EntityTrait as _, PaginatorTrait as _};

use crate::support::{Answer as _, Registry, START, both_databases, mask};

fn new(name: &str) -> CreateProjectRequest {
    CreateProjectRequest { name: Some(name.to_owned()), ..Default::default() }
}

fn update(project: &Project) -> UpdateProjectRequest {
    UpdateProjectRequest { id: project.id.to_string(), ..Default::default() }
}

async fn get(registry: &Registry, id: &str) -> Project {
    let request = GetProjectRequest { id: id.to_owned() };
    registry.root().projects().get_project(request).await.answer().project.unwrap()
}

async fn project_runner(registry: &Registry, owner: &Project, others: &[&Project]) -> i64 {
    let mut client = registry.root().runners();
    let request = CreateRunnerRequest {
        runner_type: RunnerType::ProjectType.into(),
        project_id: Some(owner.id),
        ..Default::default()
    };
    let runner_id = client.create_runner(request).await.answer().id;
    for project in others {
        client.assign_runner(AssignRunnerRequest { id: project.id.to_string(), runner_id }).await.answer();
    }
    runner_id
}

both_databases! {
    async fn a_project_without_a_group_lives_with_its_creator(registry) {
        let alice = registry.user("alice").await;
        let request = CreateProjectRequest {
            path: Some("The.Tool".to_owned()),
            description: Some("what it does".to_owned()),
            visibility: Some(Visibility::Public.into()),
            runner_token_expiration_interval: Some(3600),
            ..new("My Tool")
        };
        let project = alice.projects().create_project(request).await.answer().project.unwrap();
        let expected = Project {
            id: project.id,
            description: Some("what it does".to_owned()),
            name: "My Tool".to_owned(),
            name_with_namespace: "alice the user / My Tool".to_owned(),
            path: "The.Tool".to_owned(),
            path_with_namespace: "alice/The.Tool".to_owned(),
            created_at: Some(prost_types::Timestamp { seconds: START.unix_timestamp(), nanos: 0 }),
            web_url: None,
            namespace: Some(Namespace {
                id: alice.user_id(),
                name: "alice the user".to_owned(),
                path: "alice".to_owned(),
                kind: "user".to_owned(),
                full_path: "alice".to_owned(),
            }),
            visibility: Visibility::Public.into(),
            creator_id: Some(alice.user_id()),
            runner_token_expiration_interval: Some(3600),
        };
        assert_eq!(project, expected);
        assert_eq!(get(registry, "ALICE/the.tool").await, expected);
        let members = member::Entity::find().all(&registry.database).await.unwrap();
        assert_eq!((members[0].user_id, members[0].project_id), (alice.user_id(), Some(project.id)));
    }

    async fn a_project_in_a_group_carries_the_names_above(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let request = CreateProjectRequest { namespace_id: Some(sub.id), ..new("Tool") };
        let project = registry.root().projects().create_project(request).await.answer().project.unwrap();
        assert_eq!(project.name_with_namespace, "TOP / SUB / Tool");
        assert_eq!((project.path.as_str(), project.path_with_namespace.as_str()), ("tool", "top/sub/tool"));
        assert_eq!((project.visibility, project.description), (Visibility::Private.into(), None));
        let namespace = project.namespace.unwrap();
        assert_eq!((namespace.id, namespace.kind.as_str(), namespace.full_path.as_str()), (sub.id, "group", "top/sub"));
    }

    async fn name_and_path_follow_from_each_other(registry) {
        let mut client = registry.root().projects();
        let named = client.create_project(new("Büro & Co. 2")).await.answer().project.unwrap();
        assert_eq!((named.name.as_str(), named.path.as_str()), ("Büro & Co. 2", "b-ro-co-2"));
        let request = CreateProjectRequest { path: Some("Some.Path".to_owned()), ..Default::default() };
        let pathed = client.create_project(request).await.answer().project.unwrap();
        assert_eq!((pathed.name.as_str(), pathed.path.as_str()), ("Some.Path", "Some.Path"));

        assert_eq!(client.create_project(new("日本")).await.invalid(), ["path: can't be blank"]);
        let refusal = client.create_project(CreateProjectRequest::default()).await.refusal();
        assert_eq!(refusal.spec().code, "parameter_missing");
        assert_eq!(refusal.message(), "name, path are missing, at least one parameter must be provided");
    }

    async fn each_wrong_field_of_a_project_is_named(registry) {
        let mut client = registry.root().projects();
        let request = CreateProjectRequest {
            path: Some("a.git".to_owned()),
            description: Some("x".repeat(2001)),
            runner_token_expiration_interval: Some(0),
            ..new(&"x".repeat(256))
        };
        let wrong = client.create_project(request).await.invalid();
        assert_eq!(wrong.len(), 4, "{wrong:?}");
        assert_eq!(wrong[0], "description: is too long (maximum is 2000 characters)");
        assert_eq!(wrong[1], "name: is too long (maximum is 255 characters)");
        assert!(wrong[2].starts_with("path: can contain only"));
        assert_eq!(wrong[3], "runner_token_expiration_interval: must be greater than or equal to 1");

        let request = CreateProjectRequest { visibility: Some(0), ..new("tool") };
        assert_eq!(client.create_project(request).await.reason(), "parameter_invalid");
        let request = CreateProjectRequest { namespace_id: Some(999), ..new("tool") };
        assert_eq!(client.create_project(request).await.reason(), "group_not_found");
        let long = registry.group(&"g".repeat(200), None).await;
        let request = CreateProjectRequest { namespace_id: Some(long.id), ..new(&"p".repeat(55)) };
        assert_eq!(client.create_project(request).await.invalid(), ["path: is too long (maximum is 255 characters)"]);
        assert_eq!(project::Entity::find().count(&registry.database).await.unwrap(), 0);
    }

    async fn a_path_is_taken_once_per_namespace_regardless_of_case_and_kind(registry) {
        let alice = registry.user("alice").await;
        let top = registry.group("top", None).await;
        registry.group("sub", Some(&top)).await;
        registry.project("tool", &top).await;
        let mut client = registry.root().projects();
        for path in ["TOOL", "sub"] {
            let request = CreateProjectRequest { namespace_id: Some(top.id), ..new(path) };
            assert_eq!(client.create_project(request).await.invalid(), ["path: has already been taken"], "{path}");
        }
        // The same path elsewhere is another one.
        client.create_project(new("tool")).await.answer();
        alice.projects().create_project(new("tool")).await.answer();
        assert_eq!(alice.projects().create_project(new("Tool")).await.invalid(), ["path: has already been taken"]);
    }

    async fn a_project_shows_no_more_than_its_group(registry) {
        let top = registry.group("top", None).await;
        let mut client = registry.root().projects();
        let request = CreateProjectRequest {
            namespace_id: Some(top.id),
            visibility: Some(Visibility::Public.into()),
            ..new("tool")
        };
        let refused = "visibility_level: public is not allowed in a private group";
        assert_eq!(client.create_project(request).await.invalid(), [refused]);
        let project = registry.project("tool", &top).await;
        let request = UpdateProjectRequest { visibility: Some(Visibility::Public.into()), ..update(&project) };
        assert_eq!(client.update_project(request.clone()).await.invalid(), [refused]);

        let open = UpdateGroupRequest {
            id: "top".to_owned(),
            visibility: Some(Visibility::Public.into()),
            ..Default::default()
        };
        registry.root().groups().update_group(open).await.answer();
        let shown = client.update_project(request).await.answer().project.unwrap();
        assert_eq!(shown.visibility, i32::from(Visibility::Public));
    }

    async fn an_unknown_project_is_not_found(registry) {
        let top = registry.group("top", None).await;
        registry.project("tool", &top).await;
        let mut client = registry.root().projects();
        for id in [
            "999",
            "-1",
            "",
            "top",
            "tool",
            "top/",
            "top/tool/",
            "top/tool/x",
            "root",
            "top%2Ftool",
            "top/tool\0",
            "..",
        ] {
            let id = id.to_owned();
            let request = GetProjectRequest { id: id.clone() };
            assert_eq!(client.get_project(request).await.reason(), "project_not_found", "{id:?}");
            let request = UpdateProjectRequest { id: id.clone(), ..Default::default() };
            assert_eq!(client.update_project(request).await.reason(), "project_not_found");
            assert_eq!(client.delete_project(DeleteProjectRequest { id }).await.reason(), "project_not_found");
        }
    }

    async fn an_update_changes_what_the_mask_lists(registry) {
        let top = registry.group("top", None).await;
        let project = registry.project("tool", &top).await;
        let mut client = registry.root().projects();
        assert_eq!(client.update_project(update(&project)).await.answer().project, Some(project.clone()));

        let request = UpdateProjectRequest {
            name: Some("New".to_owned()),
            path: Some("New.Path".to_owned()),
            description: Some("what it does".to_owned()),
            runner_token_expiration_interval: Some(60),
            ..update(&project)
        };
        let changed = client.update_project(request).await.answer().project.unwrap();
        let expected = Project {
            name: "New".to_owned(),
            name_with_namespace: "TOP / New".to_owned(),
            path: "New.Path".to_owned(),
            path_with_namespace: "top/New.Path".to_owned(),
            description: Some("what it does".to_owned()),
            runner_token_expiration_interval: Some(60),
            ..project.clone()
        };
        assert_eq!(changed, expected);
        assert_eq!(get(registry, "top/new.path").await, expected);
        let by_old_path = GetProjectRequest { id: "top/tool".to_owned() };
        assert_eq!(client.get_project(by_old_path).await.reason(), "project_not_found");

        let listed = ["description", "runner_token_expiration_interval", "visibility"];
        let request =
            UpdateProjectRequest { name: Some("Ignored".to_owned()), update_mask: mask(&listed), ..update(&project) };
        let changed = client.update_project(request).await.answer().project.unwrap();
        assert_eq!(changed, Project { description: None, runner_token_expiration_interval: None, ..expected });

        let request = UpdateProjectRequest { update_mask: mask(&["name", "path"]), ..update(&project) };
        assert_eq!(client.update_project(request).await.invalid(), ["name: can't be blank", "path: can't be blank"]);
        registry.project("other", &top).await;
        let request = UpdateProjectRequest { path: Some("OTHER".to_owned()), ..update(&project) };
        assert_eq!(client.update_project(request).await.invalid(), ["path: has already been taken"]);
        let request = UpdateProjectRequest { path: Some("x".repeat(252)), ..update(&project) };
        assert_eq!(client.update_project(request).await.invalid(), ["path: is too long (maximum is 255 characters)"]);
    }

    async fn a_deleted_project_leaves_its_runners_unassigned(registry) {
        let top = registry.group("top", None).await;
        let gone = registry.project("gone", &top).await;
        let kept = registry.project("kept", &top).await;
        let only = project_runner(registry, &gone, &[]).await;
        let shared = project_runner(registry, &gone, &[&kept]).await;
        let request = DeleteProjectRequest { id: "top/GONE".to_owned() };
        registry.root().projects().delete_project(request).await.answer();

        let db = &registry.database;
        let runners: Vec<_> = runner::Entity::find().all(db).await.unwrap().iter().map(|runner| runner.id).collect();
        assert_eq!(runners, [only, shared]);
        let assignments = runner_project::Entity::find().all(db).await.unwrap();
        let assignments: Vec<_> = assignments.iter().map(|row| (row.runner_id, row.project_id)).collect();
        assert_eq!(assignments, [(shared, kept.id)]);
        assert_eq!(route::Entity::find_by_id("top/gone").one(db).await.unwrap(), None);
        registry.project("gone", &top).await;
    }
}
