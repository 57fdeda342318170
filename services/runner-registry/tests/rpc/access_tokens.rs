//! Personal access tokens: their creation and their authentication.

use proto::{
    paddock::{
        contract::v1::{CredentialKind, TokenScope},
        directory::v1::{
            AuthenticateUserTokenRequest, AuthenticateUserTokenResponse, CreatePersonalAccessTokenRequest,
            CreatePersonalAccessTokenResponse, DeleteUserRequest, UpdateUserRequest,
        },
    },
    timestamp::millis,
};
use runner_registry::{
    UserToken,
    entity::{personal_access_token, runner::RunnerType},
    runner::token::RunnerToken,
};
use sea_orm::{ActiveModelTrait as _, ActiveValue::Set, EntityTrait as _, IntoActiveModel as _};
use time::Duration;
use tonic::{Response, Status};

use crate::support::{Actor, Answer as _, Registry, START, both_databases};

fn new(user: &Actor) -> CreatePersonalAccessTokenRequest {
    CreatePersonalAccessTokenRequest {
        user_id: user.user_id(),
        name: "automation".to_owned(),
        scopes: vec!["create_runner".to_owned()],
        expires_at: None,
    }
}

async fn create(registry: &Registry, request: CreatePersonalAccessTokenRequest) -> CreatePersonalAccessTokenResponse {
    registry.root().users().create_personal_access_token(request).await.answer()
}

async fn authenticate(registry: &Registry, token: &str) -> Result<Response<AuthenticateUserTokenResponse>, Status> {
    let request = AuthenticateUserTokenRequest { token: token.to_owned() };
    registry.process().users().authenticate_user_token(request).await
}

async fn row(registry: &Registry, id: i64) -> personal_access_token::Model {
    personal_access_token::Entity::find_by_id(id).one(&registry.database).await.unwrap().unwrap()
}

both_databases! {
    async fn a_created_token_is_shown_once_and_stored_as_a_digest(registry) {
        let alice = registry.user("alice").await;
        let scopes = vec!["api".to_owned(), "read_user".to_owned(), "api".to_owned()];
        let request =
            CreatePersonalAccessTokenRequest { scopes, expires_at: Some("2026-02-01".to_owned()), ..new(&alice) };
        let created = create(registry, request).await;
        assert_eq!((created.name.as_str(), created.user_id), ("automation", alice.user_id()));
        assert_eq!((created.active, created.revoked), (true, false));
        assert_eq!(created.scopes, ["api", "read_user"]);
        assert_eq!(created.expires_at.as_deref(), Some("2026-02-01"));
        assert_eq!(created.created_at.unwrap().seconds, START.unix_timestamp());

        let token = UserToken::parse(&created.token).unwrap();
        assert_eq!(row(registry, created.id).await.digest, token.digest().as_bytes());

        let who = authenticate(registry, &created.token).await.answer();
        assert_eq!((who.user_id, who.username.as_str(), who.admin), (alice.user_id(), "alice", false));
        assert_eq!(who.scopes, [i32::from(TokenScope::Api), i32::from(TokenScope::ReadUser)]);
    }

    async fn without_a_day_a_token_lives_a_year_and_never_longer_than_400_days(registry) {
        let alice = registry.user("alice").await;
        let created = create(registry, new(&alice)).await;
        assert_eq!(created.expires_at.as_deref(), Some("2027-01-15"));
        let last = CreatePersonalAccessTokenRequest { expires_at: Some("2027-02-19".to_owned()), ..new(&alice) };
        assert_eq!(create(registry, last).await.expires_at.as_deref(), Some("2027-02-19"));

        let mut client = registry.root().users();
        let cases = [
            ("2027-02-20", "expires_at: must be on or before 2027-02-19"),
            ("2026-01-15", "expires_at: must be in the future"),
            ("2020-01-01", "expires_at: must be in the future"),
        ];
        for (day, text) in cases {
            let request = CreatePersonalAccessTokenRequest { expires_at: Some(day.to_owned()), ..new(&alice) };
            assert_eq!(client.create_personal_access_token(request).await.invalid(), [text]);
        }
        let request = CreatePersonalAccessTokenRequest { expires_at: Some("soon".to_owned()), ..new(&alice) };
        let refusal = client.create_personal_access_token(request).await.refusal();
        assert_eq!((refusal.spec().code, refusal.message()), ("parameter_invalid", "expires_at is invalid"));
    }

    async fn each_wrong_field_of_a_token_is_named(registry) {
        let alice = registry.user("alice").await;
        let mut client = registry.root().users();
        let request = CreatePersonalAccessTokenRequest { name: " ".to_owned(), scopes: Vec::new(), ..new(&alice) };
        let wrong = client.create_personal_access_token(request).await.invalid();
        assert_eq!(wrong, ["name: can't be blank", "scopes: can't be blank"]);
        let scopes = vec!["api".to_owned(), "sudo".to_owned()];
        let request = CreatePersonalAccessTokenRequest { scopes, ..new(&alice) };
        let wrong = client.create_personal_access_token(request).await.invalid();
        assert_eq!(wrong, ["scopes: can only contain available scopes"]);
        let request = CreatePersonalAccessTokenRequest { user_id: 999, ..new(&alice) };
        assert_eq!(client.create_personal_access_token(request).await.reason(), "user_not_found");
        let own = alice.users().create_personal_access_token(new(&alice)).await;
        assert_eq!(own.reason(), "admin_required");
    }

    async fn a_token_expires_at_the_start_of_its_day(registry) {
        let alice = registry.user("alice").await;
        let request = CreatePersonalAccessTokenRequest { expires_at: Some("2026-01-16".to_owned()), ..new(&alice) };
        let token = create(registry, request).await.token;
        let midnight = START + Duration::hours(12);
        let alice_id = format!("user/{}", alice.user_id());
        for (offset, expected) in
            [(-1000, None), (-1, None), (0, Some("user_token_expired")), (1, Some("user_token_expired"))]
        {
            registry.clock.set(midnight + Duration::milliseconds(offset));
            let outcome = authenticate(registry, &token).await;
            assert_eq!(outcome.owner().as_deref(), Some(alice_id.as_str()), "{offset} ms");
            match expected {
                None => assert_eq!(outcome.answer().expires_at.unwrap().seconds, midnight.unix_timestamp()),
                Some(reason) => assert_eq!(outcome.reason(), reason, "{offset} ms"),
            }
        }
    }

    async fn each_flaw_of_a_token_has_its_reason(registry) {
        let alice = registry.user("alice").await;
        let created = create(registry, new(&alice)).await;
        let runner = RunnerToken::generate(RunnerType::Project).unwrap();
        let prefix = CredentialKind::UserToken.spec().unwrap().prefix;
        let cases = [
            (UserToken::generate().unwrap().expose().to_owned(), "user_token_unknown"),
            (runner.expose().to_owned(), "user_token_wrong_kind"),
            (created.token[1..].to_owned(), "user_token_malformed"),
            (format!("{}x", created.token), "user_token_malformed"),
            (created.token.to_uppercase(), "user_token_malformed"),
            (prefix.to_owned(), "user_token_malformed"),
            (String::new(), "user_token_malformed"),
            ("\0".to_owned(), "user_token_malformed"),
            ("x".repeat(100_000), "user_token_malformed"),
        ];
        for (token, reason) in cases {
            let outcome = authenticate(registry, &token).await;
            assert_eq!((outcome.owner(), outcome.reason()), (None, reason));
        }

        let mut revoked = row(registry, created.id).await.into_active_model();
        revoked.revoked_at = Set(Some(millis(START)));
        revoked.update(&registry.database).await.unwrap();
        let outcome = authenticate(registry, &created.token).await;
        assert_eq!(outcome.owner(), Some(format!("user/{}", alice.user_id())));
        assert_eq!(outcome.reason(), "user_token_revoked");
    }

    async fn a_token_speaks_for_the_user_as_the_user_is_now(registry) {
        let alice = registry.user("alice").await;
        let token = create(registry, new(&alice)).await.token;
        let request = UpdateUserRequest {
            id: alice.user_id(),
            username: Some("alicia".to_owned()),
            admin: Some(true),
            ..Default::default()
        };
        registry.root().users().update_user(request).await.answer();
        let who = authenticate(registry, &token).await.answer();
        assert_eq!((who.username.as_str(), who.admin), ("alicia", true));

        registry.root().users().delete_user(DeleteUserRequest { id: alice.user_id() }).await.answer();
        assert_eq!(authenticate(registry, &token).await.reason(), "user_token_unknown");
    }

    async fn the_last_use_is_noted_once_per_interval(registry) {
        let alice = registry.user("alice").await;
        let created = create(registry, new(&alice)).await;
        assert_eq!(row(registry, created.id).await.last_used_at, None);
        // The default interval is a minute.
        for (after, noted) in [(0, 0), (59, 0), (60, 60), (61, 60), (119, 60), (120, 120), (61, 120), (60, 60)] {
            // The last two: the clock was set back.
            registry.clock.set(START + Duration::seconds(after));
            authenticate(registry, &created.token).await.answer();
            let expected = Some(millis(START + Duration::seconds(noted)));
            assert_eq!(row(registry, created.id).await.last_used_at, expected, "after {after} s");
        }
    }

    async fn only_processes_ask_whose_a_token_is(registry) {
        let request = AuthenticateUserTokenRequest { token: "any".to_owned() };
        for actor in [registry.root(), registry.runner()] {
            let status = actor.users().authenticate_user_token(request.clone()).await.unwrap_err();
            assert_eq!(chassis::status::Rejection::from(status).spec().code, "caller_not_accepted");
        }
    }
}
