//! Look-ups of projects, groups and users by other processes.

use prost::Message as _;
use proto::{
    paddock::directory::v1::{
        CreateGroupRequest, CreateProjectRequest, DeleteProjectRequest, DescribeGroupsRequest, DescribeProjectsRequest,
        DescribeUsersRequest, GetGroupRequest, GetProjectAccessRequest, GetProjectAccessResponse, GetProjectRequest,
        Group, Project, UpdateGroupRequest, UpdateProjectRequest, Visibility,
    },
    role::Role::{Developer, Guest, Maintainer, Owner},
};
use runner_registry::entity::member;
use sea_orm::EntityTrait as _;

use crate::support::{Answer as _, Registry, both_databases};

async fn access(registry: &Registry, project: impl ToString, user_id: Option<i64>) -> GetProjectAccessResponse {
    let request = GetProjectAccessRequest { project: project.to_string(), user_id };
    registry.process().directory().get_project_access(request).await.answer()
}

async fn show(registry: &Registry, group: &Group, project: &Project, visibility: Visibility) {
    let id = group.id.to_string();
    let visibility = Some(visibility.into());
    let request = UpdateGroupRequest { id, visibility, ..Default::default() };
    registry.root().groups().update_group(request).await.answer();
    let request = UpdateProjectRequest { id: project.id.to_string(), visibility, ..Default::default() };
    registry.root().projects().update_project(request).await.answer();
}

/// The ids of the described projects with the ancestors and the visibility.
async fn projects(registry: &Registry, ids: &[i64], viewer: Option<i64>, admin: bool) -> Vec<(i64, bool, Vec<i64>)> {
    let request =
        DescribeProjectsRequest { ids: ids.to_vec(), viewer_id: viewer, viewer_is_admin: admin, names_only: false };
    let answer = registry.process().directory().describe_projects(request).await.answer();
    let described = answer.projects.into_iter();
    let mut described: Vec<_> =
        described.map(|found| (found.project.unwrap().id, found.visible, found.ancestor_group_ids)).collect();
    described.sort();
    described
}

async fn groups(registry: &Registry, ids: &[i64], viewer: Option<i64>, admin: bool) -> Vec<(String, bool)> {
    let request = DescribeGroupsRequest { ids: ids.to_vec(), viewer_id: viewer, viewer_is_admin: admin };
    let answer = registry.process().directory().describe_groups(request).await.answer();
    let mut described: Vec<_> =
        answer.groups.into_iter().map(|found| (found.group.unwrap().full_name, found.visible)).collect();
    described.sort();
    described
}

/// What [`projects`] returns for these projects and their ancestors.
fn with_visibility(ancestors: &[(i64, Vec<i64>); 3], visible: [bool; 3]) -> Vec<(i64, bool, Vec<i64>)> {
    let both = ancestors.iter().zip(visible);
    both.map(|((project_id, group_ids), visible)| (*project_id, visible, group_ids.clone())).collect()
}

/// What [`groups`] returns for a top-level group and a subgroup.
fn top_and_sub(top_visible: bool, sub_visible: bool) -> [(String, bool); 2] {
    [("TOP".to_owned(), top_visible), ("TOP / SUB".to_owned(), sub_visible)]
}

/// The longest text of this many characters, in bytes.
fn longest(characters: usize) -> String {
    "\u{10ffff}".repeat(characters)
}

both_databases! {
    async fn a_project_in_groups_comes_with_its_ancestors_and_the_role_of_the_user(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let deep = registry.group("deep", Some(&sub)).await;
        let project = registry.project("tool", &deep).await;
        let other = registry.project("other", &registry.group("aside", None).await).await;
        let alice = registry.user("alice").await;

        let expected = GetProjectAccessResponse {
            project: Some(project.clone()),
            ancestor_group_ids: vec![deep.id, sub.id, top.id],
            access_level: None,
            user_exists: true,
            user_is_admin: false,
            username: "alice".to_owned(),
        };
        assert_eq!(access(registry, project.id, Some(alice.user_id())).await, expected);
        // The greatest role counts, direct or inherited. Paths are compared regardless of case.
        for (group, role, level) in [(&top, Guest, 10), (&deep, Developer, 30), (&sub, Maintainer, 40)] {
            registry.join_group(&alice, group, role).await;
            let found = access(registry, "TOP/sub/Deep/tool", Some(alice.user_id())).await;
            assert_eq!(found, GetProjectAccessResponse { access_level: Some(level), ..expected.clone() });
        }
        registry.join_project(&alice, &project, Owner).await;
        assert_eq!(access(registry, project.id, Some(alice.user_id())).await.access_level, Some(50));
        assert_eq!(access(registry, other.id, Some(alice.user_id())).await.access_level, None);
    }

    async fn an_absent_user_an_unknown_user_and_an_administrator_differ(registry) {
        let project = registry.project("tool", &registry.group("top", None).await).await;
        let absent = access(registry, project.id, None).await;
        assert_eq!((absent.user_exists, absent.username.as_str(), absent.access_level), (false, "", None));
        assert_eq!(access(registry, project.id, Some(9_999)).await, absent);
        let root = access(registry, project.id, Some(registry.root().user_id())).await;
        assert!(root.user_exists && root.user_is_admin);
        assert_eq!((root.username.as_str(), root.access_level), ("root", Some(50)));
    }

    async fn a_personal_project_is_owned_by_the_user_of_its_namespace(registry) {
        let alice = registry.user("alice").await;
        let bob = registry.user("bob").await;
        let request = CreateProjectRequest { path: Some("tool".to_owned()), ..Default::default() };
        let project = alice.projects().create_project(request).await.answer().project.unwrap();
        // The owner of the namespace needs no row as a member.
        member::Entity::delete_many().exec(&registry.database).await.unwrap();
        let found = access(registry, "alice/tool", Some(alice.user_id())).await;
        assert_eq!((found.project.unwrap(), found.access_level), (project.clone(), Some(50)));
        assert_eq!(found.ancestor_group_ids, Vec::<i64>::new());
        assert_eq!(access(registry, project.id, Some(bob.user_id())).await.access_level, None);
    }

    async fn a_project_that_does_not_exist_is_not_found(registry) {
        let project = registry.project("tool", &registry.group("top", None).await).await;
        let request = DeleteProjectRequest { id: project.id.to_string() };
        registry.root().projects().delete_project(request).await.answer();
        for wrong in [project.id.to_string(), "top/tool".to_owned(), "top".to_owned(), "../x".to_owned(), String::new()] {
            let request = GetProjectAccessRequest { project: wrong, user_id: None };
            let refused = registry.process().directory().get_project_access(request).await;
            assert_eq!(refused.reason(), "project_not_found");
        }
    }

    async fn projects_are_described_without_those_that_do_not_exist(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let shallow = registry.project("a", &top).await;
        let deep = registry.project("b", &sub).await;
        let alice = registry.user("alice").await;
        let request = CreateProjectRequest { path: Some("own".to_owned()), ..Default::default() };
        let own = alice.projects().create_project(request).await.answer().project.unwrap();
        let ids = [shallow.id, deep.id, own.id, 9_999, deep.id];
        let ancestors = [(shallow.id, vec![top.id]), (deep.id, vec![sub.id, top.id]), (own.id, Vec::new())];
        let alice_id = Some(alice.user_id());
        assert_eq!(projects(registry, &ids, None, false).await, with_visibility(&ancestors, [false; 3]));
        assert_eq!(projects(registry, &ids, None, true).await, with_visibility(&ancestors, [true; 3]));
        assert_eq!(projects(registry, &ids, alice_id, false).await, with_visibility(&ancestors, [false, false, true]));
        assert_eq!(projects(registry, &[], alice_id, false).await, []);
        // A role in a subgroup does not show what is above it; a role in a group shows everything below it.
        registry.join_group(&alice, &sub, Guest).await;
        assert_eq!(projects(registry, &ids, alice_id, false).await, with_visibility(&ancestors, [false, true, true]));
        registry.join_group(&alice, &top, Guest).await;
        assert_eq!(projects(registry, &ids, alice_id, false).await, with_visibility(&ancestors, [true; 3]));
        // The description is what a request for the project returns.
        let request = DescribeProjectsRequest { ids: vec![deep.id], ..Default::default() };
        let answer = registry.process().directory().describe_projects(request).await.answer();
        let itself = GetProjectRequest { id: deep.id.to_string() };
        let itself = registry.root().projects().get_project(itself).await.answer().project;
        assert_eq!(answer.projects[0].project, itself);
    }

    async fn visibility_shows_a_project_and_a_group_to_those_it_names(registry) {
        let group = registry.group("top", None).await;
        let project = registry.project("tool", &group).await;
        let alice = Some(registry.user("alice").await.user_id());
        for (visibility, seen_by_anonymous, seen_by_alice) in
            [(Visibility::Private, false, false), (Visibility::Internal, false, true), (Visibility::Public, true, true)]
        {
            show(registry, &group, &project, visibility).await;
            for (viewer, seen) in [(None, seen_by_anonymous), (alice, seen_by_alice)] {
                assert_eq!(projects(registry, &[project.id], viewer, false).await[0].1, seen, "{visibility:?}");
                assert_eq!(groups(registry, &[group.id], viewer, false).await, [("TOP".to_owned(), seen)]);
            }
        }
    }

    async fn groups_and_users_are_described_without_those_that_do_not_exist(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let alice = registry.user("alice").await;
        registry.join_group(&alice, &sub, Guest).await;
        let ids = [sub.id, 9_999, top.id];
        assert_eq!(groups(registry, &ids, Some(alice.user_id()), false).await, top_and_sub(false, true));
        assert_eq!(groups(registry, &ids, Some(alice.user_id()), true).await, top_and_sub(true, true));
        let request = DescribeGroupsRequest { ids: vec![sub.id], ..Default::default() };
        let answer = registry.process().directory().describe_groups(request).await.answer();
        let itself = registry.root().groups().get_group(GetGroupRequest { id: sub.id.to_string() }).await.answer().group;
        assert_eq!(answer.groups[0].group, itself);

        let root = registry.root().user_id();
        let request = DescribeUsersRequest { ids: vec![alice.user_id(), 9_999, root] };
        let users = registry.process().directory().describe_users(request).await.answer().users;
        let mut described: Vec<_> = users.into_iter().map(|user| (user.id, user.username, user.name, user.is_admin)).collect();
        described.sort();
        let alice = (alice.user_id(), "alice".to_owned(), "alice the user".to_owned(), false);
        assert_eq!(described.len(), 2);
        assert!(described.contains(&alice) && described.iter().any(|user| user.0 == root && user.3));
    }

    async fn the_largest_answers_fit_into_a_message(registry) {
        // Each text has its greatest length, in characters of four bytes, and the groups their greatest depth.
        let alice = registry.user("alice").await;
        let mut parent_id = None;
        for _ in 0..20 {
            let name = longest(255);
            let path = "g".to_owned();
            let description = Some(longest(500));
            let request = CreateGroupRequest { name, path, description, parent_id, ..Default::default() };
            parent_id = Some(alice.groups().create_group(request).await.answer().group.unwrap().id);
        }
        let mut projects = Vec::new();
        let mut groups = Vec::new();
        for number in 0..100 {
            // The full path is 255 characters long.
            let path = Some(format!("{number:0215}"));
            let namespace_id = parent_id;
            let request = CreateProjectRequest { name: Some(longest(255)), path, namespace_id, description: Some(longest(2000)), ..Default::default() };
            projects.push(alice.projects().create_project(request).await.answer().project.unwrap());
            groups.push(parent_id.unwrap());
        }
        let ids: Vec<_> = projects.iter().map(|project| project.id).collect();
        let mut request = DescribeProjectsRequest { ids, ..Default::default() };
        let mut client = registry.process().directory();
        let all = client.describe_projects(request.clone()).await.answer();
        assert_eq!(all.projects.len(), 100);
        assert!((3 << 20..4 << 20).contains(&all.encoded_len()), "{}", all.encoded_len());
        // A caller that lists names is not sent texts that others may make long.
        request.names_only = true;
        let names = client.describe_projects(request).await.answer();
        let mut shown: Vec<_> = names.projects.into_iter().map(|found| found.project.unwrap()).collect();
        shown.sort_by_key(|project| project.id);
        let expected = projects.into_iter();
        let expected = expected.map(|project| Project { description: None, name_with_namespace: String::new(), ..project });
        assert_eq!(shown, expected.collect::<Vec<_>>());
        // A response with one group shows how large one with a hundred groups can be.
        let request = DescribeGroupsRequest { ids: groups, ..Default::default() };
        let one = client.describe_groups(request).await.answer();
        assert_eq!((one.groups.len(), one.groups[0].group.as_ref().unwrap().description.as_ref()), (1, None));
        assert!(one.encoded_len() * 100 < 4 << 20, "{}", one.encoded_len());
    }

    async fn one_call_asks_for_a_hundred_objects_at_most(registry) {
        let mut client = registry.process().directory();
        let few: Vec<i64> = (1..=100).collect();
        let many: Vec<i64> = (1..=101).collect();
        let request = DescribeProjectsRequest { ids: few.clone(), viewer_id: Some(1), ..Default::default() };
        client.describe_projects(request.clone()).await.answer();
        let request = DescribeProjectsRequest { ids: many.clone(), ..request };
        assert_eq!(client.describe_projects(request).await.reason(), "parameter_invalid");
        let request = DescribeGroupsRequest { ids: few.clone(), viewer_id: Some(1), viewer_is_admin: false };
        client.describe_groups(request.clone()).await.answer();
        let request = DescribeGroupsRequest { ids: many.clone(), ..request };
        assert_eq!(client.describe_groups(request).await.reason(), "parameter_invalid");
        client.describe_users(DescribeUsersRequest { ids: few }).await.answer();
        let refusal = client.describe_users(DescribeUsersRequest { ids: many }).await.refusal();
        assert_eq!(refusal.message(), "ids does not have a valid value");
    }
}
