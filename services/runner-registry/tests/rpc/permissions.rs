//! Who may see and do what: every role from none to the greatest, on a group, a subgroup and a project in it.

use proto::{
    paddock::directory::v1::{
        CreateGroupRequest, CreateProjectRequest, DeleteGroupRequest, DeleteProjectRequest, GetGroupRequest,
        GetProjectRequest, Group, ListGroupsRequest, ListProjectsRequest, Project, UpdateGroupRequest,
        UpdateProjectRequest, Visibility,
    },
    role::Role::{self, Guest, Maintainer, Owner},
};
use runner_registry::entity::member;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use crate::support::{Actor, Answer as _, Registry, both_databases};

/// The reason of the refusal; none if the call succeeded.
macro_rules! refused {
    ($call:expr) => {
        $call.await.err().map(|status| chassis::status::Rejection::from(status).spec().code)
    };
}

async fn show(registry: &Registry, group: &Group, visibility: Visibility) {
    let request =
        UpdateGroupRequest { id: group.id.to_string(), visibility: Some(visibility.into()), ..Default::default() };
    registry.root().groups().update_group(request).await.answer();
}

async fn visible_groups(actor: &Actor) -> Vec<String> {
    let answer = actor.groups().list_groups(ListGroupsRequest::default()).await.answer();
    assert_eq!(answer.page.unwrap().total, Some(i64::try_from(answer.groups.len()).unwrap()));
    answer.groups.into_iter().map(|group| group.full_path).collect()
}

async fn visible_projects(actor: &Actor) -> Vec<String> {
    let answer = actor.projects().list_projects(ListProjectsRequest::default()).await.answer();
    assert_eq!(answer.page.unwrap().total, Some(i64::try_from(answer.projects.len()).unwrap()));
    answer.projects.into_iter().map(|project| project.path_with_namespace).collect()
}

async fn get_group(actor: &Actor, group: &Group) -> Option<&'static str> {
    refused!(actor.groups().get_group(GetGroupRequest { id: group.full_path.clone() }))
}

async fn update_group(actor: &Actor, group: &Group) -> Option<&'static str> {
    let request =
        UpdateGroupRequest { id: group.full_path.clone(), description: Some("x".to_owned()), ..Default::default() };
    refused!(actor.groups().update_group(request))
}

async fn delete_group(actor: &Actor, group: &Group) -> Option<&'static str> {
    refused!(actor.groups().delete_group(DeleteGroupRequest { id: group.id.to_string() }))
}

async fn create_group(actor: &Actor, parent: &Group, path: &str) -> Option<&'static str> {
    let request = CreateGroupRequest {
        name: path.to_owned(),
        path: path.to_owned(),
        parent_id: Some(parent.id),
        ..Default::default()
    };
    refused!(actor.groups().create_group(request))
}

async fn get_project(actor: &Actor, project: &Project) -> Option<&'static str> {
    refused!(actor.projects().get_project(GetProjectRequest { id: project.path_with_namespace.clone() }))
}

async fn update_project(actor: &Actor, project: &Project) -> Option<&'static str> {
    let request =
        UpdateProjectRequest { id: project.id.to_string(), description: Some("x".to_owned()), ..Default::default() };
    refused!(actor.projects().update_project(request))
}

async fn delete_project(actor: &Actor, project: &Project) -> Option<&'static str> {
    refused!(actor.projects().delete_project(DeleteProjectRequest { id: project.id.to_string() }))
}

async fn create_project(actor: &Actor, group: &Group, path: &str) -> Option<&'static str> {
    let request =
        CreateProjectRequest { path: Some(path.to_owned()), namespace_id: Some(group.id), ..Default::default() };
    refused!(actor.projects().create_project(request))
}

/// The refusal of a caller whose role is less than the least.
fn unless(reason: &'static str, role: Role, least: Role) -> Option<&'static str> {
    (role < least).then_some(reason)
}

both_databases! {
    async fn what_is_private_does_not_exist_for_strangers(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let project = registry.project("tool", &sub).await;
        let stranger = registry.user("stranger").await;
        assert_eq!(get_group(&stranger, &top).await, Some("group_not_found"));
        assert_eq!(update_group(&stranger, &top).await, Some("group_not_found"));
        assert_eq!(delete_group(&stranger, &sub).await, Some("group_not_found"));
        assert_eq!(create_group(&stranger, &sub, "x").await, Some("group_not_found"));
        assert_eq!(create_project(&stranger, &sub, "x").await, Some("group_not_found"));
        assert_eq!(get_project(&stranger, &project).await, Some("project_not_found"));
        assert_eq!(update_project(&stranger, &project).await, Some("project_not_found"));
        assert_eq!(delete_project(&stranger, &project).await, Some("project_not_found"));
        assert!(visible_groups(&stranger).await.is_empty());
        assert!(visible_projects(&stranger).await.is_empty());
    }

    async fn what_is_visible_can_be_seen_by_strangers_and_no_more(registry) {
        let top = registry.group("top", None).await;
        let stranger = registry.user("stranger").await;
        for (path, visibility) in [("a", Visibility::Internal), ("b", Visibility::Public)] {
            show(registry, &top, visibility).await;
            let request = CreateProjectRequest {
                path: Some(path.to_owned()),
                namespace_id: Some(top.id),
                visibility: Some(visibility.into()),
                ..Default::default()
            };
            let project = registry.root().projects().create_project(request).await.answer().project.unwrap();
            assert_eq!(get_group(&stranger, &top).await, None);
            assert_eq!(update_group(&stranger, &top).await, Some("access_denied"));
            assert_eq!(delete_group(&stranger, &top).await, Some("access_denied"));
            assert_eq!(create_group(&stranger, &top, "x").await, Some("insufficient_permissions"));
            assert_eq!(create_project(&stranger, &top, "x").await, Some("insufficient_permissions"));
            assert_eq!(get_project(&stranger, &project).await, None);
            assert_eq!(update_project(&stranger, &project).await, Some("access_denied"));
            assert_eq!(delete_project(&stranger, &project).await, Some("access_denied"));
        }
        registry.project("hidden", &top).await;
        assert_eq!(visible_groups(&stranger).await, ["top"]);
        assert_eq!(visible_projects(&stranger).await, ["top/b", "top/a"]);
    }

    async fn a_role_in_a_group_holds_below_it(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let sibling = registry.group("sibling", None).await;
        for role in Role::ALL {
            let name = format!("{role:?}").to_lowercase();
            let project = registry.project(&name, &sub).await;
            let member = registry.user(&name).await;
            registry.join_group(&member, &top, role).await;
            assert_eq!(get_group(&member, &sub).await, None, "{role:?}");
            assert_eq!(get_project(&member, &project).await, None, "{role:?}");
            assert_eq!(update_group(&member, &sub).await, unless("access_denied", role, Owner), "{role:?}");
            let creation = unless("insufficient_permissions", role, Maintainer);
            assert_eq!(create_group(&member, &sub, &format!("{name}-g")).await, creation, "{role:?}");
            assert_eq!(create_project(&member, &sub, &format!("{name}-p")).await, creation, "{role:?}");
            assert_eq!(update_project(&member, &project).await, unless("access_denied", role, Maintainer), "{role:?}");
            assert_eq!(delete_project(&member, &project).await, unless("access_denied", role, Owner), "{role:?}");
            assert_eq!(get_group(&member, &sibling).await, Some("group_not_found"));
            assert!(visible_groups(&member).await.contains(&"top/sub".to_owned()));
            assert!(!visible_groups(&member).await.contains(&"sibling".to_owned()));
        }
    }

    async fn a_role_in_a_subgroup_or_project_does_not_hold_above_it(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let above = registry.project("above", &top).await;
        let within = registry.project("within", &sub).await;
        let alice = registry.user("alice").await;
        registry.join_group(&alice, &sub, Owner).await;
        assert_eq!(get_group(&alice, &top).await, Some("group_not_found"));
        assert_eq!(get_project(&alice, &above).await, Some("project_not_found"));
        assert_eq!(update_project(&alice, &within).await, None);
        assert_eq!(visible_groups(&alice).await, ["top/sub"]);
        assert_eq!(visible_projects(&alice).await, ["top/sub/within"]);

        let bob = registry.user("bob").await;
        registry.join_project(&bob, &within, Maintainer).await;
        assert_eq!(get_group(&bob, &sub).await, Some("group_not_found"));
        assert_eq!(update_project(&bob, &within).await, None);
        assert_eq!(delete_project(&bob, &within).await, Some("access_denied"));
        assert_eq!(visible_projects(&bob).await, ["top/sub/within"]);
        assert!(visible_groups(&bob).await.is_empty());
    }

    async fn the_greatest_of_several_roles_counts(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let project = registry.project("tool", &sub).await;
        let alice = registry.user("alice").await;
        registry.join_group(&alice, &top, Owner).await;
        registry.join_group(&alice, &sub, Guest).await;
        registry.join_project(&alice, &project, Role::Reporter).await;
        assert_eq!(update_group(&alice, &sub).await, None);
        assert_eq!(visible_projects(&alice).await, ["top/sub/tool"]);
        assert_eq!(delete_project(&alice, &project).await, None);
    }

    async fn a_creator_owns_what_is_created(registry) {
        let alice = registry.user("alice").await;
        let bob = registry.user("bob").await;
        let request = CreateGroupRequest { name: "team".to_owned(), path: "team".to_owned(), ..Default::default() };
        let team = alice.groups().create_group(request).await.answer().group.unwrap();
        let request = CreateProjectRequest { name: Some("own".to_owned()), ..Default::default() };
        let own = alice.projects().create_project(request).await.answer().project.unwrap();
        assert_eq!(get_project(&bob, &own).await, Some("project_not_found"));
        assert_eq!(update_project(&alice, &own).await, None);
        // The creator owns the namespace, with or without a role in the project.
        member::Entity::delete_many()
            .filter(member::Column::ProjectId.eq(own.id))
            .exec(&registry.database)
            .await
            .unwrap();
        assert_eq!(visible_projects(&alice).await, ["alice/own"]);
        assert_eq!(delete_project(&alice, &own).await, None);

        // A maintainer of a group owns the project that it creates there, but not the others.
        registry.join_group(&bob, &team, Maintainer).await;
        let request =
            CreateProjectRequest { name: Some("made".to_owned()), namespace_id: Some(team.id), ..Default::default() };
        let made = bob.projects().create_project(request).await.answer().project.unwrap();
        assert_eq!(delete_group(&bob, &team).await, Some("access_denied"));
        assert_eq!(delete_project(&bob, &made).await, None);
        assert_eq!(delete_group(&alice, &team).await, None);
    }

    async fn administrators_see_and_do_everything(registry) {
        let alice = registry.user("alice").await;
        let request = CreateProjectRequest { name: Some("own".to_owned()), ..Default::default() };
        let own = alice.projects().create_project(request).await.answer().project.unwrap();
        let request = CreateGroupRequest { name: "team".to_owned(), path: "team".to_owned(), ..Default::default() };
        let team = alice.groups().create_group(request).await.answer().group.unwrap();
        let root = registry.root();
        assert_eq!(visible_groups(&root).await, ["team"]);
        assert_eq!(visible_projects(&root).await, ["alice/own"]);
        assert_eq!(update_project(&root, &own).await, None);
        assert_eq!(create_group(&root, &team, "sub").await, None);
        assert_eq!(create_project(&root, &team, "tool").await, None);
        assert_eq!(delete_project(&root, &own).await, None);
        assert_eq!(delete_group(&root, &team).await, None);
    }
}
