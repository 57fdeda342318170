use std::io::ErrorKind;

use proto::paddock::{
    contract::v1::TokenScope,
    directory::v1::{AuthenticateUserTokenRequest, DeleteUserRequest},
};
use runner_registry::{
    bootstrap_root,
    entity::{personal_access_token, user},
    replace_root_token,
};
use sea_orm::{EntityTrait as _, PaginatorTrait as _};
use time::Duration;

use crate::support::{Answer as _, both_databases};

both_databases! {
    async fn the_first_administrator_is_made_once(registry) {
        // The harness has created the user root.
        assert!(!bootstrap_root(&registry.database, &registry.clock, |_| Ok(())).await.unwrap());
        let users = user::Entity::find().all(&registry.database).await.unwrap();
        assert_eq!(users.len(), 1);
        assert_eq!((users[0].username.as_str(), users[0].admin), ("root", true));
        assert_eq!(personal_access_token::Entity::find().count(&registry.database).await.unwrap(), 1);
    }

    async fn a_lost_root_token_is_replaced_by_one_that_can_do_everything_and_never_expires(registry) {
        let lost = replace_root_token(&registry.database, &registry.clock).await.unwrap();
        let token = replace_root_token(&registry.database, &registry.clock).await.unwrap();
        let request = AuthenticateUserTokenRequest { token: lost.expose().to_owned() };
        let refused = registry.process().users().authenticate_user_token(request).await.reason();
        assert_eq!(refused, "user_token_revoked");
        registry.clock.advance(Duration::days(3650));
        let request = AuthenticateUserTokenRequest { token: token.expose().to_owned() };
        let who = registry.process().users().authenticate_user_token(request).await.answer();
        assert_eq!((who.username.as_str(), who.admin, who.expires_at), ("root", true, None));
        assert_eq!(who.scopes, TokenScope::ALL.map(i32::from));
    }

    async fn only_one_of_two_processes_makes_the_first_administrator(registry) {
        user::Entity::delete_many().exec(&registry.database).await.unwrap();
        let starts = (0..4).map(|_| bootstrap_root(&registry.database, &registry.clock, |_| Ok(())));
        let outcomes = futures::future::join_all(starts).await;
        assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok(true))).count(), 1, "{outcomes:?}");
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(user::Entity::find().count(&registry.database).await.unwrap(), 1);
    }

    async fn no_administrator_is_made_if_its_token_cannot_be_kept(registry) {
        user::Entity::delete_many().exec(&registry.database).await.unwrap();
        let failed = bootstrap_root(&registry.database, &registry.clock, |_| Err(ErrorKind::StorageFull.into())).await;
        assert!(failed.is_err());
        assert_eq!(user::Entity::find().count(&registry.database).await.unwrap(), 0);
        assert!(bootstrap_root(&registry.database, &registry.clock, |_| Ok(())).await.unwrap());
    }

    async fn without_an_administrator_no_token_can_be_issued(registry) {
        let alice = registry.user("alice").await;
        let root = registry.root().user_id();
        let admin = registry.as_user(alice.user_id(), "alice", true);
        admin.users().delete_user(DeleteUserRequest { id: root }).await.answer();
        assert!(replace_root_token(&registry.database, &registry.clock).await.is_err());
    }
}
