//! Groups: their fields, their tree, and what is renamed and deleted with a group.

use proto::paddock::{
    directory::v1::{
        CreateGroupRequest, CreateProjectRequest, DeleteGroupRequest, GetGroupRequest, GetProjectRequest, Group,
        ListGroupsRequest, UpdateGroupRequest, Visibility,
    },
    runner::v1::{CreateRunnerRequest, RunnerType},
};
use runner_registry::entity::{group, group_ancestor, member, project, route, runner, runner_token};
use sea_orm::{EntityTrait as _, PaginatorTrait as _};

use crate::support::{Answer as _, Registry, START, both_databases, mask};

fn new(path: &str) -> CreateGroupRequest {
    CreateGroupRequest { name: format!("The {path}"), path: path.to_owned(), ..Default::default() }
}

fn update(group: &Group) -> UpdateGroupRequest {
    UpdateGroupRequest { id: group.id.to_string(), ..Default::default() }
}

fn visibility(visibility: Visibility) -> Option<i32> {
    Some(visibility.into())
}

async fn get(registry: &Registry, id: &str) -> Group {
    let request = GetGroupRequest { id: id.to_owned() };
    registry.root().groups().get_group(request).await.answer().group.unwrap()
}

async fn group_runner(registry: &Registry, group_id: i64) -> i64 {
    let request = CreateRunnerRequest {
        runner_type: RunnerType::GroupType.into(),
        group_id: Some(group_id),
        ..Default::default()
    };
    registry.root().runners().create_runner(request).await.answer().id
}

fn rename(group: &Group, path: &str) -> UpdateGroupRequest {
    UpdateGroupRequest { path: Some(path.to_owned()), ..update(group) }
}

fn show(group: &Group, level: Visibility) -> UpdateGroupRequest {
    UpdateGroupRequest { visibility: visibility(level), ..update(group) }
}

both_databases! {
    async fn a_created_group_is_complete_and_its_creators(registry) {
        let alice = registry.user("alice").await;
        let request = CreateGroupRequest {
            description: Some("what we do".to_owned()),
            visibility: visibility(Visibility::Internal),
            runner_token_expiration_interval: Some(1),
            subgroup_runner_token_expiration_interval: Some(2),
            project_runner_token_expiration_interval: Some(3_155_760_000),
            ..new("Team")
        };
        let parent = alice.groups().create_group(request).await.answer().group.unwrap();
        let expected = Group {
            id: parent.id,
            name: "The Team".to_owned(),
            path: "Team".to_owned(),
            description: Some("what we do".to_owned()),
            visibility: Visibility::Internal.into(),
            full_name: "The Team".to_owned(),
            full_path: "Team".to_owned(),
            parent_id: None,
            created_at: Some(prost_types::Timestamp { seconds: START.unix_timestamp(), nanos: 0 }),
            web_url: None,
            runner_token_expiration_interval: Some(1),
            subgroup_runner_token_expiration_interval: Some(2),
            project_runner_token_expiration_interval: Some(3_155_760_000),
        };
        assert_eq!(parent, expected);

        let request = CreateGroupRequest { parent_id: Some(parent.id), ..new("sub") };
        let child = alice.groups().create_group(request).await.answer().group.unwrap();
        assert_eq!((child.full_path.as_str(), child.full_name.as_str()), ("Team/sub", "The Team / The sub"));
        assert_eq!((child.parent_id, child.visibility), (Some(parent.id), Visibility::Private.into()));
        assert_eq!(child.runner_token_expiration_interval, None);
        let members = member::Entity::find().all(&registry.database).await.unwrap();
        let owners: Vec<_> = members.iter().map(|member| (member.user_id, member.group_id)).collect();
        assert_eq!(owners, [(alice.user_id(), Some(parent.id)), (alice.user_id(), Some(child.id))]);
    }

    async fn a_group_is_found_by_number_and_by_path_in_any_case(registry) {
        let top = registry.group("Top", None).await;
        let sub = registry.group("Sub.1", Some(&top)).await;
        for id in [sub.id.to_string(), format!("00{}", sub.id), "Top/Sub.1".to_owned(), "TOP/sub.1".to_owned()] {
            assert_eq!(get(registry, &id).await.id, sub.id, "{id}");
        }
        registry.project("project", &top).await;
        let mut client = registry.root().groups();
        for id in [
            "999",
            "0",
            "-1",
            "9223372036854775808",
            "",
            "/",
            "top/",
            "/top",
            "top//sub.1",
            "top/..",
            "Sub.1",
            "root",
            "top/project",
            "t_p",
            "top%2Fsub.1",
            "\0",
            "top/sub.1\0",
            "é",
        ] {
            let request = GetGroupRequest { id: id.to_owned() };
            assert_eq!(client.get_group(request).await.reason(), "group_not_found", "{id:?}");
        }
    }

    async fn each_wrong_field_of_a_group_is_named(registry) {
        let mut client = registry.root().groups();
        let request = CreateGroupRequest {
            name: String::new(),
            path: "-x".to_owned(),
            description: Some("x".repeat(501)),
            runner_token_expiration_interval: Some(0),
            subgroup_runner_token_expiration_interval: Some(-5),
            project_runner_token_expiration_interval: Some(3_155_760_001),
            ..Default::default()
        };
        let wrong = client.create_group(request).await.invalid();
        assert_eq!(
            wrong,
            [
                "description: is too long (maximum is 500 characters)",
                "name: can't be blank",
                "path: can contain only letters, digits, '_', '-' and '.'. Cannot start with '-' or '.', or end in \
                 '.', '.git' or '.atom'",
                "project_runner_token_expiration_interval: must be less than or equal to 3155760000",
                "runner_token_expiration_interval: must be greater than or equal to 1",
                "subgroup_runner_token_expiration_interval: must be greater than or equal to 1",
            ]
        );
        for wrong in [0, 4, -1] {
            let request = CreateGroupRequest { visibility: Some(wrong), ..new("team") };
            let refusal = client.create_group(request).await.refusal();
            assert_eq!(
                (refusal.spec().code, refusal.message()),
                ("parameter_invalid", "visibility does not have a valid value")
            );
        }
        let request = CreateGroupRequest { description: Some("nul\0".to_owned()), ..new("team") };
        assert_eq!(client.create_group(request).await.invalid(), ["description: is invalid"]);
        let request = CreateGroupRequest { parent_id: Some(999), ..new("team") };
        assert_eq!(client.create_group(request).await.reason(), "group_not_found");
        assert_eq!(group::Entity::find().count(&registry.database).await.unwrap(), 0);
    }

    async fn a_path_is_taken_once_per_namespace_regardless_of_case_and_kind(registry) {
        registry.user("alice").await;
        let top = registry.group("top", None).await;
        registry.group("sub", Some(&top)).await;
        registry.project("project", &top).await;
        let mut client = registry.root().groups();
        for (path, parent_id) in
            [("TOP", None), ("alice", None), ("Root", None), ("sub", Some(top.id)), ("Project", Some(top.id))]
        {
            let request = CreateGroupRequest { parent_id, ..new(path) };
            assert_eq!(client.create_group(request).await.invalid(), ["path: has already been taken"], "{path}");
        }
        let request = CreateGroupRequest { parent_id: Some(top.id), ..new("top") };
        assert_eq!(client.create_group(request).await.answer().group.unwrap().full_path, "top/top");
    }

    async fn groups_nest_twenty_levels_and_255_characters_deep(registry) {
        let mut parent = registry.group("g", None).await;
        for _ in 1..20 {
            parent = registry.group("g", Some(&parent)).await;
        }
        let mut client = registry.root().groups();
        let request = CreateGroupRequest { parent_id: Some(parent.id), ..new("g") };
        assert_eq!(client.create_group(request).await.invalid(), ["parent_id: has too deep level of nesting"]);

        let long = registry.group(&"a".repeat(200), None).await;
        let fits = CreateGroupRequest { parent_id: Some(long.id), ..new(&"b".repeat(54)) };
        assert_eq!(client.create_group(fits).await.answer().group.unwrap().full_path.len(), 255);
        let too_long = CreateGroupRequest { parent_id: Some(long.id), ..new(&"c".repeat(55)) };
        assert_eq!(client.create_group(too_long).await.invalid(), ["path: is too long (maximum is 255 characters)"]);
    }

    async fn an_update_changes_what_the_mask_lists(registry) {
        let group = registry.group("team", None).await;
        let mut client = registry.root().groups();
        assert_eq!(client.update_group(update(&group)).await.answer().group, Some(group.clone()));

        let request = UpdateGroupRequest {
            name: Some("New".to_owned()),
            description: Some("what we do".to_owned()),
            visibility: visibility(Visibility::Public),
            runner_token_expiration_interval: Some(10),
            subgroup_runner_token_expiration_interval: Some(20),
            project_runner_token_expiration_interval: Some(30),
            ..update(&group)
        };
        let changed = client.update_group(request).await.answer().group.unwrap();
        let expected = Group {
            name: "New".to_owned(),
            full_name: "New".to_owned(),
            description: Some("what we do".to_owned()),
            visibility: Visibility::Public.into(),
            runner_token_expiration_interval: Some(10),
            subgroup_runner_token_expiration_interval: Some(20),
            project_runner_token_expiration_interval: Some(30),
            ..group.clone()
        };
        assert_eq!(changed, expected);

        let listed = ["description", "visibility", "subgroup_runner_token_expiration_interval", "id", "unknown"];
        let request =
            UpdateGroupRequest { name: Some("Ignored".to_owned()), update_mask: mask(&listed), ..update(&group) };
        let changed = client.update_group(request).await.answer().group.unwrap();
        let expected = Group {
            description: None,
            visibility: Visibility::Private.into(),
            subgroup_runner_token_expiration_interval: None,
            ..expected
        };
        assert_eq!(changed, expected);
        assert_eq!(get(registry, "team").await, expected);

        let request = UpdateGroupRequest { update_mask: mask(&["name", "path"]), ..update(&group) };
        assert_eq!(client.update_group(request).await.invalid(), ["name: can't be blank", "path: can't be blank"]);
        let request = UpdateGroupRequest { runner_token_expiration_interval: Some(0), ..update(&group) };
        let wrong = client.update_group(request).await.invalid();
        assert_eq!(wrong, ["runner_token_expiration_interval: must be greater than or equal to 1"]);
        let request = UpdateGroupRequest { visibility: Some(9), ..update(&group) };
        assert_eq!(client.update_group(request).await.reason(), "parameter_invalid");
    }

    async fn a_renamed_group_takes_everything_below_along(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let deep = registry.group("deep", Some(&sub)).await;
        let project = registry.project("project", &deep).await;
        // These paths look similar, but are not below; `_` must not act as a wildcard.
        let near = registry.group("top-2", None).await;
        let wild = registry.group("t_p", None).await;
        let sibling = registry.project("sub", &near).await;

        let mut client = registry.root().groups();
        let renamed = client.update_group(rename(&top, "Renamed.Top")).await.answer().group.unwrap();
        assert_eq!((renamed.path.as_str(), renamed.full_path.as_str()), ("Renamed.Top", "Renamed.Top"));
        assert_eq!(get(registry, "renamed.top/SUB/deep").await.full_path, "Renamed.Top/sub/deep");
        let by_path = GetProjectRequest { id: "Renamed.Top/sub/deep/project".to_owned() };
        let moved = registry.root().projects().get_project(by_path).await.answer().project.unwrap();
        assert_eq!((moved.id, moved.namespace.unwrap().full_path.as_str()), (project.id, "Renamed.Top/sub/deep"));
        assert_eq!(get(registry, "t_p").await.id, wild.id);
        let kept = GetProjectRequest { id: sibling.id.to_string() };
        let kept = registry.root().projects().get_project(kept).await.answer().project.unwrap();
        assert_eq!(kept.path_with_namespace, "top-2/sub");

        // The old paths are free again, a subgroup can be renamed, and a new path may differ in case only.
        registry.group("top", None).await;
        let request = UpdateGroupRequest { path: Some("New-Sub".to_owned()), ..update(&sub) };
        assert_eq!(client.update_group(request).await.answer().group.unwrap().full_path, "Renamed.Top/New-Sub");
        assert_eq!(client.update_group(rename(&top, "RENAMED.top")).await.answer().group.unwrap().full_path, "RENAMED.top");
        assert_eq!(get(registry, &deep.id.to_string()).await.full_path, "RENAMED.top/New-Sub/deep");
    }

    async fn a_rename_that_cannot_be_changes_nothing(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        registry.project(&"p".repeat(200), &sub).await;
        registry.user("alice").await;
        registry.group("other", None).await;
        let before = route::Entity::find().all(&registry.database).await.unwrap();

        let mut client = registry.root().groups();
        let cases = [
            ("alice".to_owned(), "path: has already been taken"),
            ("OTHER".to_owned(), "path: has already been taken"),
            // 51 + "/sub/" + 200 characters.
            ("t".repeat(51), "path: is too long (maximum is 255 characters)"),
        ];
        for (path, expected) in cases {
            let request = UpdateGroupRequest { name: Some("New".to_owned()), path: Some(path), ..update(&top) };
            assert_eq!(client.update_group(request).await.invalid(), [expected]);
        }
        assert_eq!(route::Entity::find().all(&registry.database).await.unwrap(), before);
        assert_eq!(get(registry, "top").await, top);
        let request = UpdateGroupRequest { path: Some("t".repeat(50)), ..update(&top) };
        client.update_group(request).await.answer();
    }

    async fn a_deleted_group_takes_everything_below_along(registry) {
        let top = registry.group("top", None).await;
        let other = registry.group("other", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        registry.project("a", &top).await;
        registry.project("b", &sub).await;
        let kept_project = registry.project("c", &other).await;
        group_runner(registry, top.id).await;
        group_runner(registry, sub.id).await;
        let kept_runner = group_runner(registry, other.id).await;

        let mut client = registry.root().groups();
        client.delete_group(DeleteGroupRequest { id: "TOP".to_owned() }).await.answer();
        let db = &registry.database;
        let groups: Vec<_> = group::Entity::find().all(db).await.unwrap().iter().map(|group| group.id).collect();
        assert_eq!(groups, [other.id]);
        let projects: Vec<_> =
            project::Entity::find().all(db).await.unwrap().iter().map(|project| project.id).collect();
        assert_eq!(projects, [kept_project.id]);
        let runners: Vec<_> = runner::Entity::find().all(db).await.unwrap().iter().map(|runner| runner.id).collect();
        assert_eq!(runners, [kept_runner]);
        assert_eq!(runner_token::Entity::find().count(db).await.unwrap(), 1);
        assert_eq!(group_ancestor::Entity::find().count(db).await.unwrap(), 1);
        assert_eq!(member::Entity::find().count(db).await.unwrap(), 2);
        assert_eq!(route::Entity::find().count(db).await.unwrap(), 3);

        let again = client.delete_group(DeleteGroupRequest { id: top.id.to_string() }).await;
        assert_eq!(again.reason(), "group_not_found");
        registry.group("top", None).await;
    }

    async fn a_group_shows_no_more_than_its_parent_and_no_less_than_what_it_holds(registry) {
        let top = registry.group("top", None).await;
        let mut client = registry.root().groups();
        let request =
            CreateGroupRequest { parent_id: Some(top.id), visibility: visibility(Visibility::Internal), ..new("x") };
        let wrong = client.create_group(request).await.invalid();
        assert_eq!(
            wrong,
            ["visibility_level: internal is not allowed since the parent group has a private visibility"]
        );

        let sub = registry.group("sub", Some(&top)).await;
        let wrong = client.update_group(show(&sub, Visibility::Public)).await.invalid();
        assert_eq!(wrong, ["visibility_level: public is not allowed since the parent group has a private visibility"]);

        client.update_group(show(&top, Visibility::Public)).await.answer();
        client.update_group(show(&sub, Visibility::Internal)).await.answer();
        let wrong = client.update_group(show(&top, Visibility::Private)).await.invalid();
        assert_eq!(
            wrong,
            ["visibility_level: private is not allowed since there are sub-groups with higher visibility"]
        );

        let request = CreateProjectRequest {
            name: Some("project".to_owned()),
            namespace_id: Some(sub.id),
            visibility: visibility(Visibility::Internal),
            ..Default::default()
        };
        registry.root().projects().create_project(request).await.answer();
        let wrong = client.update_group(show(&sub, Visibility::Private)).await.invalid();
        assert_eq!(
            wrong,
            ["visibility_level: private is not allowed since this group contains projects with higher visibility"]
        );
        client.update_group(show(&top, Visibility::Internal)).await.answer();
    }

    async fn groups_are_listed_by_name(registry) {
        let top = registry.group("m", None).await;
        for path in ["z", "a"] {
            registry.group(path, Some(&top)).await;
        }
        let mut client = registry.root().groups();
        let answer = client.list_groups(ListGroupsRequest::default()).await.answer();
        let names: Vec<_> = answer.groups.iter().map(|group| group.full_name.as_str()).collect();
        assert_eq!(names, ["M / A", "M", "M / Z"]);
        let request = ListGroupsRequest { search: Some("Z".to_owned()), ..Default::default() };
        let found = client.list_groups(request).await.answer().groups;
        assert_eq!(found.iter().map(|group| group.full_path.as_str()).collect::<Vec<_>>(), ["m/z"]);
    }
}
