//! Concurrent calls on the same row: exactly one wins, the others are refused as if they had come later, and no call
//! fails.

use std::future::Future;

use chassis::status::Rejection;
use proto::{
    paddock::directory::v1::{
        AddProjectMemberRequest, CreateGroupRequest, CreateProjectRequest, CreateUserRequest, DeleteGroupRequest,
        DeleteProjectRequest, RemoveGroupMemberRequest, RemoveProjectMemberRequest, UpdateGroupMemberRequest,
        UpdateGroupRequest, UpdateProjectRequest,
    },
    role::Role,
};
use runner_registry::entity::{group, member, project, route};
use sea_orm::{ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _};
use tonic::{Response, Status};

use crate::support::{Registry, both_databases};

/// The number of concurrent calls.
const CALLS: usize = 8;

/// Runs the calls concurrently. Returns how many succeeded, and the codes with which the others were refused.
async fn race<T, F>(calls: impl IntoIterator<Item = F>) -> (usize, Vec<&'static str>)
where
    F: Future<Output = Result<Response<T>, Status>> + Send + 'static,
    T: Send + 'static,
{
    let tasks: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    let outcomes = futures::future::join_all(tasks).await;
    let total = outcomes.len();
    let refused: Vec<_> = outcomes
        .into_iter()
        .filter_map(|outcome| outcome.unwrap().err())
        .map(|status| match Rejection::from(status) {
            Rejection::Refusal(refusal) => refusal.spec().code,
            Rejection::Fault(fault) => panic!("{fault:?}"),
        })
        .collect();
    (total - refused.len(), refused)
}

/// The full path of a segment below a group, or at the top.
fn path_below(groups: &[group::Model], group_id: Option<i64>, segment: &str) -> String {
    match groups.iter().find(|group| Some(group.id) == group_id) {
        Some(group) => format!("{}/{segment}", group.full_path),
        None => segment.to_owned(),
    }
}

/// Checks that the path of each group and project is that of its parent and its segment, and that its route agrees.
async fn assert_paths_fit(registry: &Registry) {
    let db = &registry.database;
    let groups = group::Entity::find().all(db).await.unwrap();
    let routes = route::Entity::find().all(db).await.unwrap();
    for group in &groups {
        assert_eq!(group.full_path, path_below(&groups, group.parent_id, &group.path));
        let route = routes.iter().find(|route| route.group_id == Some(group.id)).unwrap();
        assert_eq!(route.path_key, group.full_path.to_lowercase());
    }
    for project in project::Entity::find().all(db).await.unwrap() {
        assert_eq!(project.full_path, path_below(&groups, project.group_id, &project.path));
        let route = routes.iter().find(|route| route.project_id == Some(project.id)).unwrap();
        assert_eq!(route.path_key, project.full_path.to_lowercase());
    }
}

fn new_group(path: &str, parent_id: Option<i64>) -> CreateGroupRequest {
    CreateGroupRequest { name: path.to_owned(), path: path.to_owned(), parent_id, ..Default::default() }
}

fn new_project(path: &str, group_id: i64) -> CreateProjectRequest {
    CreateProjectRequest { path: Some(path.to_owned()), namespace_id: Some(group_id), ..Default::default() }
}

fn rename(group_id: i64, to: &str) -> UpdateGroupRequest {
    UpdateGroupRequest { id: group_id.to_string(), path: Some(to.to_owned()), ..Default::default() }
}

both_databases! {
    async fn one_path_goes_to_one_of_many_groups_users_and_projects(registry) {
        let root = registry.root();
        let groups = (0..CALLS).map(|_| {
            let mut client = root.groups();
            async move { client.create_group(new_group("same", None)).await }
        });
        let (won, refused) = race(groups).await;
        assert_eq!((won, refused), (1, vec!["validation_failed"; CALLS - 1]));

        let users = (0..CALLS).map(|number| {
            let mut client = root.users();
            let request = CreateUserRequest {
                email: format!("{number}@example.com"),
                name: "name".to_owned(),
                username: "user".to_owned(),
                admin: None,
            };
            async move { client.create_user(request).await }
        });
        let (won, refused) = race(users).await;
        assert_eq!((won, refused), (1, vec!["validation_failed"; CALLS - 1]));

        let team = registry.group("team", None).await;
        let projects = (0..CALLS).map(|_| {
            let mut client = root.projects();
            let request = new_project("same", team.id);
            async move { client.create_project(request).await }
        });
        let (won, refused) = race(projects).await;
        assert_eq!((won, refused), (1, vec!["validation_failed"; CALLS - 1]));
    }

    async fn renames_and_creations_below_leave_every_path_right(registry) {
        let top = registry.group("top", None).await;
        let sub = registry.group("sub", Some(&top)).await;
        let root = registry.root();
        let calls = (0..3 * CALLS).map(|number| {
            let mut groups = root.groups();
            let mut projects = root.projects();
            let top_id = top.id;
            let sub_id = sub.id;
            async move {
                match number % 3 {
                    0 => groups.update_group(rename(top_id, &format!("top{number}"))).await.map(drop),
                    1 => groups.create_group(new_group(&format!("g{number}"), Some(sub_id))).await.map(drop),
                    _ => projects.create_project(new_project(&format!("p{number}"), sub_id)).await.map(drop),
                }
                .map(Response::new)
            }
        });
        let (won, refused) = race(calls).await;
        assert_eq!((won, refused), (3 * CALLS, Vec::new()));
        assert_paths_fit(registry).await;
    }

    async fn renames_of_one_project_and_its_group_leave_its_path_right(registry) {
        let top = registry.group("top", None).await;
        let project = registry.project("tool", &top).await;
        let root = registry.root();
        let calls = (0..2 * CALLS).map(|number| {
            let mut groups = root.groups();
            let mut projects = root.projects();
            let group_id = top.id;
            let id = project.id.to_string();
            let name = format!("n{}", "x".repeat(number));
            async move {
                if number % 2 == 0 {
                    groups.update_group(rename(group_id, &name)).await.map(drop).map(Response::new)
                } else {
                    let request = UpdateProjectRequest { id, path: Some(name), ..Default::default() };
                    projects.update_project(request).await.map(drop).map(Response::new)
                }
            }
        });
        let (won, refused) = race(calls).await;
        assert_eq!((won, refused), (2 * CALLS, Vec::new()));
        assert_paths_fit(registry).await;
    }

    async fn renames_of_a_group_and_deletions_in_it_all_succeed(registry) {
        let top = registry.group("top", None).await;
        let root = registry.root();
        let mut projects = Vec::new();
        for number in 0..3 * CALLS {
            projects.push(registry.project(&format!("p{number}"), &top).await.id);
        }
        let calls = projects.into_iter().enumerate().map(|(number, id)| {
            let mut groups = root.groups();
            let mut projects = root.projects();
            let group_id = top.id;
            async move {
                groups.update_group(rename(group_id, &format!("top{number}"))).await?;
                projects.delete_project(DeleteProjectRequest { id: id.to_string() }).await
            }
        });
        let (won, refused) = race(calls).await;
        assert_eq!((won, refused), (3 * CALLS, Vec::new()));
        assert_eq!(project::Entity::find().all(&registry.database).await.unwrap(), []);
    }

    async fn what_is_created_in_a_group_that_goes_is_refused_or_goes_with_it(registry) {
        let root = registry.root();
        for round in 0..4 {
            let group = registry.group(&format!("round{round}"), None).await;
            let calls = (0..CALLS).map(|number| {
                let mut groups = root.groups();
                let mut projects = root.projects();
                let id = group.id;
                async move {
                    match number {
                        3 => groups.delete_group(DeleteGroupRequest { id: id.to_string() }).await.map(drop),
                        _ if number % 2 == 0 => {
                            groups.create_group(new_group(&format!("g{number}"), Some(id))).await.map(drop)
                        }
                        _ => projects.create_project(new_project(&format!("p{number}"), id)).await.map(drop),
                    }
                    .map(Response::new)
                }
            });
            let (won, refused) = race(calls).await;
            assert!(won >= 1);
            assert!(refused.iter().all(|code| ["group_not_found", "project_not_found"].contains(code)), "{refused:?}");
            assert_eq!(group::Entity::find().all(&registry.database).await.unwrap(), []);
            assert_eq!(project::Entity::find().all(&registry.database).await.unwrap(), []);
        }
    }

    async fn one_user_becomes_a_member_once(registry) {
        let group = registry.group("top", None).await;
        let project = registry.project("tool", &group).await;
        let alice = registry.user("alice").await;
        let root = registry.root();
        let id = project.id.to_string();
        let user_id = alice.user_id();
        let calls = (0..CALLS).map(|_| {
            let mut client = root.members();
            let id = id.clone();
            async move { client.add_project_member(AddProjectMemberRequest { id, user_id, access_level: 30 }).await }
        });
        let (won, refused) = race(calls).await;
        assert_eq!((won, refused), (1, vec!["member_exists"; CALLS - 1]));
        let calls = (0..CALLS).map(|_| {
            let mut client = root.members();
            let id = id.clone();
            async move { client.remove_project_member(RemoveProjectMemberRequest { id, user_id }).await }
        });
        let (won, refused) = race(calls).await;
        assert_eq!((won, refused), (1, vec!["member_not_found"; CALLS - 1]));
    }

    async fn owners_who_leave_at_once_leave_one_owner(registry) {
        for round in 0..4 {
            let group = registry.group(&format!("round{round}"), None).await;
            let mut owners = vec![registry.root()];
            for number in 1..CALLS {
                let owner = registry.user(&format!("owner{round}-{number}")).await;
                registry.join_group(&owner, &group, Role::Owner).await;
                owners.push(owner);
            }
            let calls = owners.into_iter().enumerate().map(|(number, owner)| {
                let mut client = owner.members();
                let id = group.id.to_string();
                let user_id = owner.user_id();
                async move {
                    if number % 2 == 0 {
                        client.remove_group_member(RemoveGroupMemberRequest { id, user_id }).await.map(drop)
                    } else {
                        let request = UpdateGroupMemberRequest { id, user_id, access_level: 10 };
                        client.update_group_member(request).await.map(drop)
                    }
                    .map(Response::new)
                }
            });
            let (won, refused) = race(calls).await;
            assert_eq!((won, refused), (CALLS - 1, vec!["last_owner"]));
            let owners = member::Entity::find()
                .filter(member::Column::GroupId.eq(group.id))
                .filter(member::Column::AccessLevel.eq(Role::Owner.number()));
            assert_eq!(owners.count(&registry.database).await.unwrap(), 1);
        }
    }
}
