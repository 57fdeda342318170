//! Members of projects and groups: who may change them, and up to which role.

use chassis::status::{Refusal, Rejection};
use proto::{
    paddock::directory::v1::{
        AddGroupMemberRequest, AddProjectMemberRequest, CreateProjectRequest, DeleteGroupRequest, DeleteUserRequest,
        GetGroupMemberRequest, GetProjectMemberRequest, GetProjectRequest, Group, ListAllGroupMembersRequest,
        ListAllProjectMembersRequest, ListGroupMembersRequest, ListProjectMembersRequest, Member, Project,
        RemoveGroupMemberRequest, RemoveProjectMemberRequest, UpdateGroupMemberRequest, UpdateGroupRequest,
        UpdateProjectMemberRequest, Visibility,
    },
    role::Role::{Developer, Guest, Maintainer, Owner, Reporter},
};

use crate::support::{Actor, Answer as _, Registry, both_databases};

/// The reason of the refusal; none if the call succeeded.
macro_rules! refused {
    ($call:expr) => {
        $call.await.err().map(|status| Rejection::from(status).spec().code)
    };
}

fn add_to_project(project: &Project, user: &Actor, access_level: i32) -> AddProjectMemberRequest {
    AddProjectMemberRequest { id: project.id.to_string(), user_id: user.user_id(), access_level }
}

fn update_in_project(project: &Project, user: &Actor, access_level: i32) -> UpdateProjectMemberRequest {
    UpdateProjectMemberRequest { id: project.id.to_string(), user_id: user.user_id(), access_level }
}

fn remove_from_project(project: &Project, user: &Actor) -> RemoveProjectMemberRequest {
    RemoveProjectMemberRequest { id: project.id.to_string(), user_id: user.user_id() }
}

fn add_to_group(group: &Group, user: &Actor, access_level: i32) -> AddGroupMemberRequest {
    AddGroupMemberRequest { id: group.id.to_string(), user_id: user.user_id(), access_level }
}

fn update_in_group(group: &Group, user: &Actor, access_level: i32) -> UpdateGroupMemberRequest {
    UpdateGroupMemberRequest { id: group.id.to_string(), user_id: user.user_id(), access_level }
}

fn remove_from_group(group: &Group, user: &Actor) -> RemoveGroupMemberRequest {
    RemoveGroupMemberRequest { id: group.id.to_string(), user_id: user.user_id() }
}

fn pairs(members: &[Member]) -> Vec<(&str, i32)> {
    members.iter().map(|member| (member.username.as_str(), member.access_level)).collect()
}

async fn expect_direct(registry: &Registry, project: &Project, expected: &[(&str, i32)]) {
    let request = ListProjectMembersRequest { id: project.id.to_string(), ..Default::default() };
    let answer = registry.root().members().list_project_members(request).await.answer();
    assert_eq!(pairs(&answer.members), expected);
}

async fn expect_all(registry: &Registry, project: &Project, expected: &[(&str, i32)]) {
    let request = ListAllProjectMembersRequest { id: project.id.to_string(), ..Default::default() };
    let answer = registry.root().members().list_all_project_members(request).await.answer();
    assert_eq!(pairs(&answer.members), expected);
}

async fn expect_group(registry: &Registry, group: &Group, direct: &[(&str, i32)], all: &[(&str, i32)]) {
    let id = group.id.to_string();
    let request = ListGroupMembersRequest { id: id.clone(), ..Default::default() };
    let answer = registry.root().members().list_group_members(request).await.answer();
    assert_eq!(pairs(&answer.members), direct);
    let request = ListAllGroupMembersRequest { id, ..Default::default() };
    let answer = registry.root().members().list_all_group_members(request).await.answer();
    assert_eq!(pairs(&answer.members), all);
}

fn expect_last_owner(refusal: Refusal) {
    let shown = (refusal.spec().code, refusal.spec().http_status, refusal.message());
    assert_eq!(shown, ("last_owner", 403, "403 Forbidden - the group would have no owner"));
}

/// Adds, changes and removes `member` as the caller. All three succeed, or are refused with the expected code.
async fn expect_changes_in_group(
    registry: &Registry,
    caller: &Actor,
    group: &Group,
    member: &Actor,
    expected: Option<&str>,
) {
    let mut client = caller.members();
    assert_eq!(refused!(client.add_group_member(add_to_group(group, member, 10))), expected);
    if expected.is_some() {
        registry.join_group(member, group, Guest).await;
    }
    assert_eq!(refused!(client.update_group_member(update_in_group(group, member, 50))), expected);
    assert_eq!(refused!(client.remove_group_member(remove_from_group(group, member))), expected);
    if expected.is_some() {
        registry.root().members().remove_group_member(remove_from_group(group, member)).await.answer();
    }
}

both_databases! {
    async fn a_member_of_a_project_is_added_changed_and_removed(registry) {
        let project = registry.project("tool", &registry.group("top", None).await).await;
        let alice = registry.user("alice").await;
        let mut client = registry.root().members();
        let added = client.add_project_member(add_to_project(&project, &alice, 30)).await.answer().member.unwrap();
        let expected = Member {
            id: alice.user_id(),
            username: "alice".to_owned(),
            name: "alice the user".to_owned(),
            state: "active".to_owned(),
            access_level: 30,
            membership_state: "active".to_owned(),
            ..Default::default()
        };
        assert_eq!(added, expected);
        let get = GetProjectMemberRequest { id: "TOP/tool".to_owned(), user_id: alice.user_id() };
        assert_eq!(client.get_project_member(get.clone()).await.answer().member.unwrap(), expected);
        let changed = client.update_project_member(update_in_project(&project, &alice, 40)).await.answer();
        assert_eq!(changed.member.unwrap(), Member { access_level: 40, ..expected });
        expect_direct(registry, &project, &[("root", 50), ("alice", 40)]).await;
        client.remove_project_member(remove_from_project(&project, &alice)).await.answer();
        expect_direct(registry, &project, &[("root", 50)]).await;

        assert_eq!(client.get_project_member(get).await.reason(), "member_not_found");
        let again = client.update_project_member(update_in_project(&project, &alice, 40)).await;
        assert_eq!(again.reason(), "member_not_found");
        let again = client.remove_project_member(remove_from_project(&project, &alice)).await;
        assert_eq!(again.reason(), "member_not_found");
    }

    async fn a_role_counts_at_once(registry) {
        let group = registry.group("top", None).await;
        let project = registry.project("tool", &group).await;
        let alice = registry.user("alice").await;
        let get = GetProjectRequest { id: project.id.to_string() };
        assert_eq!(alice.projects().get_project(get.clone()).await.reason(), "project_not_found");
        registry.root().members().add_group_member(add_to_group(&group, &alice, 10)).await.answer();
        alice.projects().get_project(get.clone()).await.answer();
        registry.root().members().remove_group_member(remove_from_group(&group, &alice)).await.answer();
        assert_eq!(alice.projects().get_project(get).await.reason(), "project_not_found");
    }

    async fn inherited_members_are_listed_with_their_greatest_role(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let project = registry.project("tool", &sub).await;
        let alice = registry.user("alice").await;
        let bob = registry.user("bob").await;
        let carol = registry.user("carol").await;
        registry.join_group(&alice, &top, Developer).await;
        registry.join_group(&alice, &sub, Maintainer).await;
        registry.join_project(&alice, &project, Guest).await;
        registry.join_group(&bob, &top, Reporter).await;
        registry.join_project(&carol, &project, Guest).await;

        let top_members = [("root", 50), ("alice", 30), ("bob", 20)];
        expect_group(registry, &top, &top_members, &top_members).await;
        let all = [("root", 50), ("alice", 40), ("bob", 20)];
        expect_group(registry, &sub, &[("root", 50), ("alice", 40)], &all).await;
        expect_direct(registry, &project, &[("root", 50), ("alice", 10), ("carol", 10)]).await;
        expect_all(registry, &project, &[("root", 50), ("alice", 40), ("bob", 20), ("carol", 10)]).await;

        // An inherited role is not a direct one.
        let mut client = registry.root().members();
        let get = GetGroupMemberRequest { id: sub.id.to_string(), user_id: bob.user_id() };
        assert_eq!(client.get_group_member(get).await.reason(), "member_not_found");
        assert_eq!(client.remove_group_member(remove_from_group(&sub, &bob)).await.reason(), "member_not_found");
        let request = ListAllProjectMembersRequest { id: project.id.to_string(), page: Some(2), per_page: Some(3) };
        let last = client.list_all_project_members(request).await.answer();
        assert_eq!(pairs(&last.members), [("carol", 10)]);
        assert_eq!((last.page.unwrap().total, last.page.unwrap().has_next), (Some(4), false));
    }

    async fn the_owner_of_the_namespace_is_listed_as_owner_of_a_personal_project(registry) {
        let alice = registry.user("alice").await;
        let request = CreateProjectRequest { path: Some("own".to_owned()), ..Default::default() };
        let project = alice.projects().create_project(request).await.answer().project.unwrap();
        alice.members().remove_project_member(remove_from_project(&project, &alice)).await.answer();
        expect_direct(registry, &project, &[]).await;
        expect_all(registry, &project, &[("alice", 50)]).await;
        // It still owns it.
        let bob = registry.user("bob").await;
        alice.members().add_project_member(add_to_project(&project, &bob, 50)).await.answer();
        expect_all(registry, &project, &[("alice", 50), ("bob", 50)]).await;
    }

    async fn only_the_five_roles_exist(registry) {
        let group = registry.group("top", None).await;
        let project = registry.project("tool", &group).await;
        let alice = registry.user("alice").await;
        let mut client = registry.root().members();
        for level in [0, 5, 15, 45, 60, -10, 65_546, i32::MAX] {
            let refusals = [
                client.add_project_member(add_to_project(&project, &alice, level)).await.refusal(),
                client.update_project_member(update_in_project(&project, &alice, level)).await.refusal(),
                client.add_group_member(add_to_group(&group, &alice, level)).await.refusal(),
                client.update_group_member(update_in_group(&group, &alice, level)).await.refusal(),
            ];
            for refusal in refusals {
                let shown = (refusal.spec().code, refusal.message());
                assert_eq!(shown, ("parameter_invalid", "access_level does not have a valid value"), "{level}");
            }
        }
        for level in [10, 20, 30, 40, 50] {
            client.add_project_member(add_to_project(&project, &alice, level)).await.answer();
            client.remove_project_member(remove_from_project(&project, &alice)).await.answer();
        }
    }

    async fn members_of_a_project_are_changed_from_maintainer_up_to_the_own_role(registry) {
        let project = registry.project("tool", &registry.group("top", None).await).await;
        let alice = registry.user("alice").await;
        let bob = registry.user("bob").await;
        let mut root = registry.root().members();
        let denied = Some("access_denied");
        let roles = [(Guest, 10), (Reporter, 20), (Developer, 30), (Maintainer, 40), (Owner, 50)];
        for (role, own) in roles {
            registry.join_project(&alice, &project, role).await;
            let mut client = alice.members();
            for level in [10, 20, 30, 40, 50] {
                let expected = if own >= 40 && level <= own { None } else { denied };
                // Gives the role to a new member, raises a smaller role to it, and removes it.
                let case = format!("{role:?} {level}");
                assert_eq!(refused!(client.add_project_member(add_to_project(&project, &bob, level))), expected, "{case}");
                let _ = root.remove_project_member(remove_from_project(&project, &bob)).await;
                root.add_project_member(add_to_project(&project, &bob, 10)).await.answer();
                let update = client.update_project_member(update_in_project(&project, &bob, level));
                assert_eq!(refused!(update), expected, "{case}");
                root.update_project_member(update_in_project(&project, &bob, level)).await.answer();
                let lowered = client.update_project_member(update_in_project(&project, &bob, 10));
                assert_eq!(refused!(lowered), expected, "{case}");
                root.update_project_member(update_in_project(&project, &bob, level)).await.answer();
                let removed = client.remove_project_member(remove_from_project(&project, &bob));
                assert_eq!(refused!(removed), expected, "{case}");
                let _ = root.remove_project_member(remove_from_project(&project, &bob)).await;
            }
            root.remove_project_member(remove_from_project(&project, &alice)).await.answer();
        }
    }

    async fn members_of_a_group_are_changed_by_owners(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let alice = registry.user("alice").await;
        let bob = registry.user("bob").await;
        registry.join_group(&alice, &top, Maintainer).await;
        expect_changes_in_group(registry, &alice, &sub, &bob, Some("access_denied")).await;
        registry.root().members().update_group_member(update_in_group(&top, &alice, 50)).await.answer();
        expect_changes_in_group(registry, &alice, &sub, &bob, None).await;
    }

    async fn an_object_that_the_caller_does_not_see_does_not_exist(registry) {
        let group = registry.group("top", None).await;
        let project = registry.project("tool", &group).await;
        let alice = registry.user("alice").await;
        let mut client = alice.members();
        let id = project.id.to_string();
        let user_id = alice.user_id();
        let refusals = [
            refused!(client.list_project_members(ListProjectMembersRequest { id: id.clone(), ..Default::default() })),
            refused!(client.list_all_project_members(ListAllProjectMembersRequest { id: id.clone(), ..Default::default() })),
            refused!(client.get_project_member(GetProjectMemberRequest { id, user_id })),
            refused!(client.add_project_member(add_to_project(&project, &alice, 10))),
            refused!(client.update_project_member(update_in_project(&project, &alice, 10))),
            refused!(client.remove_project_member(remove_from_project(&project, &alice))),
        ];
        assert_eq!(refusals, [Some("project_not_found"); 6]);
        let id = group.full_path.clone();
        let refusals = [
            refused!(client.list_group_members(ListGroupMembersRequest { id: id.clone(), ..Default::default() })),
            refused!(client.list_all_group_members(ListAllGroupMembersRequest { id: id.clone(), ..Default::default() })),
            refused!(client.get_group_member(GetGroupMemberRequest { id, user_id })),
            refused!(client.add_group_member(add_to_group(&group, &alice, 10))),
            refused!(client.update_group_member(update_in_group(&group, &alice, 10))),
            refused!(client.remove_group_member(remove_from_group(&group, &alice))),
        ];
        assert_eq!(refusals, [Some("group_not_found"); 6]);

        // Every user sees the members of a public group; only its owners change them.
        let visibility = Some(Visibility::Public.into());
        let request = UpdateGroupRequest { id: group.id.to_string(), visibility, ..Default::default() };
        registry.root().groups().update_group(request).await.answer();
        let request = ListGroupMembersRequest { id: group.id.to_string(), ..Default::default() };
        assert_eq!(pairs(&client.list_group_members(request).await.answer().members), [("root", 50)]);
        assert_eq!(refused!(client.add_group_member(add_to_group(&group, &alice, 10))), Some("access_denied"));
    }

    async fn every_member_may_leave_except_the_last_owner_of_a_group(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let project = registry.project("tool", &sub).await;
        let alice = registry.user("alice").await;
        let bob = registry.user("bob").await;
        registry.join_project(&alice, &project, Guest).await;
        alice.members().remove_project_member(remove_from_project(&project, &alice)).await.answer();
        registry.join_group(&alice, &top, Guest).await;
        alice.members().remove_group_member(remove_from_group(&top, &alice)).await.answer();

        let root = registry.root();
        // The rule holds for administrators too, although they could repair the group.
        expect_last_owner(root.members().remove_group_member(remove_from_group(&top, &root)).await.refusal());
        expect_last_owner(root.members().update_group_member(update_in_group(&top, &root, 40)).await.refusal());
        root.members().update_group_member(update_in_group(&top, &root, 50)).await.answer();
        // A subgroup inherits the owners above it, a project those of its namespace.
        root.members().remove_group_member(remove_from_group(&sub, &root)).await.answer();
        root.members().remove_project_member(remove_from_project(&project, &root)).await.answer();
        registry.join_group(&bob, &top, Owner).await;
        root.members().remove_group_member(remove_from_group(&top, &root)).await.answer();
        expect_last_owner(bob.members().remove_group_member(remove_from_group(&top, &bob)).await.refusal());
        expect_group(registry, &top, &[("bob", 50)], &[("bob", 50)]).await;
    }

    async fn a_user_who_does_not_exist_or_is_a_member_is_not_added(registry) {
        let group = registry.group("top", None).await;
        let project = registry.project("tool", &group).await;
        let alice = registry.user("alice").await;
        let mut client = registry.root().members();
        client.add_group_member(add_to_group(&group, &alice, 30)).await.answer();
        let again = client.add_group_member(add_to_group(&group, &alice, 30)).await.refusal();
        let refusal = (again.spec().code, again.spec().http_status, again.message());
        assert_eq!(refusal, ("member_exists", 409, "Member already exists"));
        // An inherited role does not prevent a direct one.
        client.add_project_member(add_to_project(&project, &alice, 10)).await.answer();
        let again = client.add_project_member(add_to_project(&project, &alice, 40)).await;
        assert_eq!(again.reason(), "member_exists");
        let gone = registry.as_user(9_999, "gone", false);
        assert_eq!(client.add_project_member(add_to_project(&project, &gone, 10)).await.reason(), "user_not_found");
        assert_eq!(client.add_group_member(add_to_group(&group, &gone, 10)).await.reason(), "user_not_found");
    }

    async fn a_deleted_member_is_not_a_member(registry) {
        let group = registry.group("top", None).await;
        let alice = registry.user("alice").await;
        registry.join_group(&alice, &group, Owner).await;
        registry.root().users().delete_user(DeleteUserRequest { id: alice.user_id() }).await.answer();
        expect_group(registry, &group, &[("root", 50)], &[("root", 50)]).await;
        registry.root().groups().delete_group(DeleteGroupRequest { id: group.id.to_string() }).await.answer();
        let add = registry.root().members().add_group_member(add_to_group(&group, &registry.root(), 10)).await;
        assert_eq!(add.reason(), "group_not_found");
    }
}
