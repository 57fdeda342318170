//! Users: their fields, which of them each caller sees, and what is deleted with a user.

use proto::{
    paddock::directory::v1::{
        CreateProjectRequest, CreateUserRequest, DeleteUserRequest, GetCurrentUserRequest, GetProjectRequest,
        GetUserRequest, ListUsersRequest, UpdateUserRequest, User,
    },
    role::Role,
};
use runner_registry::entity::{personal_access_token, route};
use sea_orm::{EntityTrait as _, PaginatorTrait as _};

use crate::support::{Actor, Answer as _, Registry, START, both_databases, mask};

fn new(username: &str, email: &str) -> CreateUserRequest {
    CreateUserRequest { email: email.to_owned(), name: "A Name".to_owned(), username: username.to_owned(), admin: None }
}

fn update(id: i64) -> UpdateUserRequest {
    UpdateUserRequest { id, ..Default::default() }
}

async fn get(as_whom: &Actor, id: i64) -> User {
    as_whom.users().get_user(GetUserRequest { id }).await.answer().user.unwrap()
}

async fn project_path(registry: &Registry, id: i64) -> String {
    let request = GetProjectRequest { id: id.to_string() };
    registry.root().projects().get_project(request).await.answer().project.unwrap().path_with_namespace
}

fn rename(id: i64, username: &str) -> UpdateUserRequest {
    UpdateUserRequest { username: Some(username.to_owned()), ..update(id) }
}

both_databases! {
    async fn a_created_user_is_complete(registry) {
        let request = CreateUserRequest { admin: Some(true), ..new("Al.ice_1-x", "Alice@Example.COM") };
        let user = registry.root().users().create_user(request).await.answer().user.unwrap();
        let expected = User {
            id: user.id,
            username: "Al.ice_1-x".to_owned(),
            name: "A Name".to_owned(),
            state: "active".to_owned(),
            avatar_url: None,
            web_url: None,
            created_at: Some(prost_types::Timestamp { seconds: START.unix_timestamp(), nanos: 0 }),
            email: Some("alice@example.com".to_owned()),
            is_admin: Some(true),
        };
        assert_eq!(user, expected);
        assert_eq!(get(&registry.root(), user.id).await, expected);
    }

    async fn each_wrong_field_of_a_user_is_named(registry) {
        let mut client = registry.root().users();
        let empty = client.create_user(CreateUserRequest::default()).await.invalid();
        assert_eq!(empty, ["email: can't be blank", "name: can't be blank", "username: can't be blank"]);

        let long = "x".repeat(256);
        let request = CreateUserRequest { name: long.clone(), ..new("a/b", "no address") };
        let wrong = client.create_user(request).await.invalid();
        assert_eq!(wrong[..2], ["email: is invalid", "name: is too long (maximum is 255 characters)"]);
        assert!(wrong[2].starts_with("username: can contain only"), "{wrong:?}");

        let wrong = client.create_user(new(&long, "nul\0@example.com")).await.invalid();
        assert_eq!(wrong, ["email: is invalid", "username: is too long (maximum is 255 characters)"]);
    }

    async fn a_name_or_address_is_taken_regardless_of_case(registry) {
        registry.user("alice").await;
        registry.group("team", None).await;
        let mut client = registry.root().users();
        let taken = "has already been taken";
        assert_eq!(
            client.create_user(new("ALICE", "other@example.com")).await.invalid(),
            [format!("username: {taken}")]
        );
        assert_eq!(
            client.create_user(new("Team", "other@example.com")).await.invalid(),
            [format!("username: {taken}")]
        );
        assert_eq!(client.create_user(new("other", "Alice@example.com")).await.invalid(), [format!("email: {taken}")]);
        // A refused creation leaves nothing behind.
        client.create_user(new("other", "other@example.com")).await.answer();
    }

    async fn address_and_rank_are_private(registry) {
        let alice = registry.user("alice").await;
        let bob = registry.user("bob").await;
        let seen = get(&bob, alice.user_id()).await;
        assert_eq!((seen.username.as_str(), seen.email, seen.is_admin), ("alice", None, None));
        let own = get(&alice, alice.user_id()).await;
        assert_eq!((own.email.as_deref(), own.is_admin), (Some("alice@example.com"), Some(false)));
        assert_eq!(get(&registry.root(), alice.user_id()).await, own);

        let current = alice.users().get_current_user(GetCurrentUserRequest {}).await.answer().user.unwrap();
        assert_eq!(current, own);
        let listed = bob.users().list_users(ListUsersRequest::default()).await.answer().users;
        let addresses: Vec<_> = listed.iter().map(|user| user.email.as_deref()).collect();
        assert_eq!(addresses, [Some("bob@example.com"), None, None]);
    }

    async fn users_are_found_by_name_and_text(registry) {
        for username in ["alice", "al_bert", "bob"] {
            registry.user(username).await;
        }
        let mut client = registry.user("zoe").await.users();
        let cases: [(Option<&str>, Option<&str>, &[&str]); 9] = [
            (None, None, &["zoe", "bob", "al_bert", "alice", "root"]),
            (Some("ALICE"), None, &["alice"]),
            (Some("al"), None, &[]),
            (None, Some("AL"), &["al_bert", "alice"]),
            (None, Some("l_b"), &["al_bert"]),
            (None, Some("_"), &["al_bert"]),
            (None, Some("%"), &[]),
            (None, Some("the user"), &["zoe", "bob", "al_bert", "alice"]),
            (Some("bob"), Some("alice"), &[]),
        ];
        for (username, search, expected) in cases {
            let request = ListUsersRequest {
                username: username.map(str::to_owned),
                search: search.map(str::to_owned),
                ..Default::default()
            };
            let answer = client.list_users(request).await.answer();
            let names: Vec<_> = answer.users.iter().map(|user| user.username.as_str()).collect();
            assert_eq!(names, expected, "{username:?} {search:?}");
            assert_eq!(answer.page.unwrap().total, Some(i64::try_from(expected.len()).unwrap()));
        }
    }

    async fn an_unknown_user_is_not_found(registry) {
        let mut client = registry.root().users();
        for id in [0, -1, 999, i64::MAX, i64::MIN] {
            assert_eq!(client.get_user(GetUserRequest { id }).await.reason(), "user_not_found");
            assert_eq!(client.update_user(update(id)).await.reason(), "user_not_found");
            assert_eq!(client.delete_user(DeleteUserRequest { id }).await.reason(), "user_not_found");
        }
        let gone = registry.as_user(999, "gone", false);
        let current = gone.users().get_current_user(GetCurrentUserRequest {}).await;
        assert_eq!(current.reason(), "user_token_unknown");
    }

    async fn an_update_changes_what_the_mask_lists(registry) {
        let alice = registry.user("alice").await;
        let id = alice.user_id();
        let mut client = registry.root().users();
        let before = get(&registry.root(), id).await;
        let same = client.update_user(update(id)).await.answer().user.unwrap();
        assert_eq!(same, before);

        let request = UpdateUserRequest { name: Some("New".to_owned()), admin: Some(true), ..update(id) };
        let changed = client.update_user(request).await.answer().user.unwrap();
        let expected = User { name: "New".to_owned(), is_admin: Some(true), ..before };
        assert_eq!(changed, expected);

        // Listed: the address, and the rank without a value. Not listed: the name.
        let request = UpdateUserRequest {
            email: Some("NEW@example.com".to_owned()),
            name: Some("Ignored".to_owned()),
            update_mask: mask(&["email", "admin", "unknown"]),
            ..update(id)
        };
        let changed = client.update_user(request).await.answer().user.unwrap();
        let expected = User { email: Some("new@example.com".to_owned()), is_admin: Some(false), ..expected };
        assert_eq!(changed, expected);

        let request = UpdateUserRequest { update_mask: mask(&["email", "name", "username"]), ..update(id) };
        let wrong = client.update_user(request).await.invalid();
        assert_eq!(wrong, ["email: can't be blank", "name: can't be blank", "username: can't be blank"]);
        assert_eq!(get(&registry.root(), id).await, expected);
    }

    async fn a_renamed_user_takes_the_personal_projects_along(registry) {
        let alice = registry.user("alice").await;
        let request = CreateProjectRequest { name: Some("tool".to_owned()), ..Default::default() };
        let project = alice.projects().create_project(request).await.answer().project.unwrap();
        assert_eq!(project.path_with_namespace, "alice/tool");

        let mut client = registry.root().users();
        let id = alice.user_id();
        client.update_user(rename(id, "Alice.Longer")).await.answer();
        assert_eq!(project_path(registry, project.id).await, "Alice.Longer/tool");
        let by_path = GetProjectRequest { id: "ALICE.longer/Tool".to_owned() };
        assert_eq!(alice.projects().get_project(by_path).await.answer().project.unwrap().id, project.id);
        let by_old_path = GetProjectRequest { id: "alice/tool".to_owned() };
        assert_eq!(alice.projects().get_project(by_old_path).await.reason(), "project_not_found");

        // The old name is free again, the new one is not, and a name too long for what is below is refused.
        registry.group("alice", None).await;
        assert_eq!(client.update_user(rename(id, "alice")).await.invalid(), ["username: has already been taken"]);
        let too_long = client.update_user(rename(id, &"a".repeat(251))).await.invalid();
        assert_eq!(too_long, ["username: is too long (maximum is 255 characters)"]);
        client.update_user(rename(id, &"a".repeat(250))).await.answer();
        let taken = UpdateUserRequest { email: Some("root@localhost".to_owned()), ..update(alice.user_id()) };
        assert_eq!(client.update_user(taken).await.invalid(), ["email: has already been taken"]);
    }

    async fn a_deleted_user_leaves_no_token_project_or_path_but_what_others_have(registry) {
        let alice = registry.user("alice").await;
        let group = registry.group("team", None).await;
        registry.join_group(&alice, &group, Role::Maintainer).await;
        let request = CreateProjectRequest { name: Some("mine".to_owned()), ..Default::default() };
        let personal = alice.projects().create_project(request.clone()).await.answer().project.unwrap();
        let request = CreateProjectRequest { namespace_id: Some(group.id), ..request };
        let shared = alice.projects().create_project(request).await.answer().project.unwrap();
        assert_eq!(shared.creator_id, Some(alice.user_id()));
        let tokens = personal_access_token::Entity::find().count(&registry.database).await.unwrap();

        let request = DeleteUserRequest { id: alice.user_id() };
        registry.root().users().delete_user(request).await.answer();
        let mut projects = registry.root().projects();
        let request = GetProjectRequest { id: personal.id.to_string() };
        assert_eq!(projects.get_project(request).await.reason(), "project_not_found");
        let request = GetProjectRequest { id: shared.id.to_string() };
        let kept = projects.get_project(request).await.answer().project.unwrap();
        assert_eq!((kept.path_with_namespace.as_str(), kept.creator_id), ("team/mine", None));
        assert_eq!(personal_access_token::Entity::find().count(&registry.database).await.unwrap(), tokens);
        let routes = route::Entity::find().all(&registry.database).await.unwrap();
        let mut paths: Vec<_> = routes.into_iter().map(|route| route.path_key).collect();
        paths.sort();
        assert_eq!(paths, ["root", "team", "team/mine"]);
        registry.user("alice").await;
    }

    async fn a_user_cannot_delete_itself(registry) {
        let root = registry.root();
        let refusal = root.users().delete_user(DeleteUserRequest { id: root.user_id() }).await.refusal();
        assert_eq!(refusal.spec().code, "bad_request");
        assert_eq!(refusal.message(), "400 Bad request - you cannot delete yourself");
        get(&root, root.user_id()).await;
    }

    async fn users_are_managed_by_administrators(registry) {
        let alice = registry.user("alice").await;
        let mut client = alice.users();
        let id = alice.user_id();
        assert_eq!(client.create_user(new("bob", "bob@example.com")).await.reason(), "admin_required");
        let promotion = UpdateUserRequest { admin: Some(true), ..update(id) };
        assert_eq!(client.update_user(promotion).await.reason(), "admin_required");
        let root = registry.root().user_id();
        assert_eq!(client.delete_user(DeleteUserRequest { id: root }).await.reason(), "admin_required");
    }
}
