//! The life of a token and its successor, from the rotation to the first use and the expiry.

use std::collections::HashSet;

use proto::paddock::{
    contract::v1::CredentialKind,
    directory::v1::Settings,
    runner::v1::{
        CreateRunnerRequest, RegisterRunnerRequest, RegisterRunnerResponse, ResetAuthenticationTokenRequest,
        UnregisterRunnerManagerRequest,
    },
};
use runner_registry::{
    entity::{
        runner::RunnerType,
        runner_token::{self, TokenState},
    },
    runner::token::RunnerToken,
};
use sea_orm::{EntityTrait as _, QueryOrder as _};
use tokio::task::JoinSet;
use tonic::{Response, Status};

use super::{after, instance, seconds};
use crate::support::{Answer as _, Registry, both_databases};

async fn tokens(registry: &Registry) -> Vec<runner_token::Model> {
    let tokens = runner_token::Entity::find().order_by_asc(runner_token::Column::Generation);
    tokens.all(&registry.database).await.unwrap()
}

async fn states(registry: &Registry) -> Vec<(i32, TokenState)> {
    tokens(registry).await.iter().map(|token| (token.generation, token.state)).collect()
}

/// Rotates the token in many concurrent calls.
async fn rotate_at_once(registry: &Registry, token: &str, times: usize) -> HashSet<String> {
    let mut calls = JoinSet::new();
    for _ in 0..times {
        // One channel for each call, so that they do not queue in one connection.
        let mut client = registry.runner().runner_tokens();
        let request = ResetAuthenticationTokenRequest { token: token.to_owned() };
        calls.spawn(async move { client.reset_authentication_token(request).await.answer().token });
    }
    calls.join_all().await.into_iter().collect()
}

async fn register(registry: &Registry, token: &str) -> Result<Response<RegisterRunnerResponse>, Status> {
    let request = RegisterRunnerRequest { token: token.to_owned(), ..Default::default() };
    registry.runner().runner_tokens().register_runner(request).await
}

both_databases! {
    async fn both_tokens_work_until_the_successor_is_first_used(registry) {
        let old = registry.create(instance()).await.token;
        let new = registry.rotate(&old).await.answer().token;
        assert_ne!(new, old);
        assert_eq!(states(registry).await, [(1, TokenState::Current), (2, TokenState::Successor)]);
        registry.verify(&old).await.answer();
        registry.request_job(&old).await.answer();
        registry.verify(&new).await.answer();
        assert_eq!(states(registry).await, [(1, TokenState::Retiring), (2, TokenState::Current)]);
        for answer in [registry.verify(&old).await.reason(), registry.rotate(&old).await.reason()] {
            assert_eq!(answer, "runner_token_superseded");
        }
        registry.verify(&new).await.answer();
    }

    async fn a_repeated_rotation_returns_the_same_successor(registry) {
        registry.set_intervals(Settings { runner_token_expiration_interval: Some(86_400), ..Default::default() }).await;
        let old = registry.create(instance()).await.token;
        let first = registry.rotate(&old).await.answer();
        registry.set_clock(3600);
        let again = registry.rotate(&old).await.answer();
        assert_eq!(first, again);
        assert_eq!(seconds(again.token_expires_at), Some(86_400));
        assert_eq!(states(registry).await, [(1, TokenState::Current), (2, TokenState::Successor)]);
    }

    async fn the_successor_is_sealed_until_its_first_use(registry) {
        let old = registry.create(instance()).await.token;
        let new = registry.rotate(&old).await.answer().token;
        let [_, successor] = tokens(registry).await.try_into().unwrap();
        let sealed = successor.sealed.unwrap();
        assert!(!sealed.windows(16).any(|window| new.as_bytes().windows(16).any(|part| part == window)));
        assert!(successor.sealed_key_id.is_some());
        registry.verify(&new).await.answer();
        let [_, promoted] = tokens(registry).await.try_into().unwrap();
        assert_eq!((promoted.sealed, promoted.sealed_key_id), (None, None));
        assert!(promoted.promoted_at.is_some());
    }

    async fn any_authenticated_call_promotes_the_successor(registry) {
        let client = registry.runner().runner_tokens();
        for call in 0..4 {
            let old = registry.create(instance()).await.token;
            let new = registry.rotate(&old).await.answer().token;
            match call {
                0 => drop(registry.request_job(&new).await.answer()),
                1 => drop(registry.rotate(&new).await.answer()),
                2 => {
                    let request = RegisterRunnerRequest { token: new.clone(), ..Default::default() };
                    assert_eq!(client.clone().register_runner(request).await.answer().token, new);
                }
                _ => {
                    let request = UnregisterRunnerManagerRequest { token: new.clone(), system_id: "none".into() };
                    let answer = client.clone().unregister_runner_manager(request).await;
                    assert_eq!(answer.reason(), "runner_manager_not_found");
                }
            }
            assert_eq!(registry.verify(&old).await.reason(), "runner_token_superseded", "call {call}");
        }
    }

    async fn rotating_with_the_successor_promotes_it_and_mints_the_next(registry) {
        let first = registry.create(instance()).await.token;
        let second = registry.rotate(&first).await.answer().token;
        let third = registry.rotate(&second).await.answer().token;
        let expected = [(1, TokenState::Retiring), (2, TokenState::Current), (3, TokenState::Successor)];
        assert_eq!(states(registry).await, expected);
        assert_eq!(registry.rotate(&second).await.answer().token, third);
        registry.verify(&second).await.answer();
    }

    async fn the_old_token_expires_although_its_successor_is_unused(registry) {
        let request = CreateRunnerRequest { token_expires_at: Some(after(600)), ..instance() };
        let old = registry.create(request).await.token;
        let new = registry.rotate(&old).await.answer().token;
        registry.set_clock(599);
        registry.verify(&old).await.answer();
        registry.set_clock(600);
        assert_eq!(registry.verify(&old).await.reason(), "runner_token_expired");
        assert_eq!(registry.rotate(&old).await.reason(), "runner_token_expired");
        registry.verify(&new).await.answer();
    }

    async fn after_the_deadline_the_same_successor_is_still_returned(registry) {
        let request = CreateRunnerRequest {
            token_expires_at: Some(after(7200)),
            token_rotation_deadline: Some(after(600)),
            ..instance()
        };
        let old = registry.create(request).await.token;
        registry.set_clock(599);
        let new = registry.rotate(&old).await.answer().token;
        for now in [600, 601] {
            registry.set_clock(now);
            assert_eq!(registry.rotate(&old).await.answer().token, new);
        }
    }

    async fn a_successor_that_expired_unused_is_replaced(registry) {
        let old = registry.create(instance()).await.token;
        registry.set_intervals(Settings { runner_token_expiration_interval: Some(600), ..Default::default() }).await;
        let lost = registry.rotate(&old).await.answer().token;
        registry.set_clock(600);
        assert_eq!(registry.verify(&lost).await.reason(), "runner_token_expired");
        let next = registry.rotate(&old).await.answer();
        assert_ne!(next.token, lost);
        assert_eq!(seconds(next.token_expires_at), Some(1200));
        let expected = [(1, TokenState::Current), (2, TokenState::Retiring), (3, TokenState::Successor)];
        assert_eq!(states(registry).await, expected);
    }

    async fn what_is_not_a_token_is_refused_by_its_form(registry) {
        let token = registry.create(instance()).await.token;
        let mut changed = token.clone();
        let last = if changed.pop() == Some('0') { '1' } else { '0' };
        changed.push(last);
        let cases = [
            (String::new(), "parameter_missing"),
            (changed, "runner_token_malformed"),
            (format!("{token} "), "runner_token_malformed"),
            ("x".repeat(100_000), "runner_token_malformed"),
            (format!("{}abc", CredentialKind::UserToken.spec().unwrap().prefix), "runner_token_wrong_kind"),
            (format!("{}t1_\0", CredentialKind::RunnerToken.spec().unwrap().prefix), "runner_token_malformed"),
        ];
        for (text, reason) in cases {
            assert_eq!(registry.rotate(&text).await.reason(), reason);
            assert_eq!(registry.verify(&text).await.reason(), reason);
            assert_eq!(registry.request_job(&text).await.reason(), reason);
        }
    }

    async fn a_token_that_was_never_made_here_is_unknown(registry) {
        let foreign = RunnerToken::generate(RunnerType::Instance).unwrap();
        assert_eq!(registry.rotate(foreign.expose()).await.reason(), "runner_token_unknown");
        assert_eq!(registry.verify(foreign.expose()).await.reason(), "runner_token_unknown");
    }

    async fn resets_at_the_same_moment_return_one_successor(registry) {
        let old = registry.create(instance()).await.token;
        let successors = rotate_at_once(registry, &old, 32).await;
        assert_eq!(successors.len(), 1);
        assert_eq!(states(registry).await, [(1, TokenState::Current), (2, TokenState::Successor)]);
        // The successor is promoted once, and gets one successor.
        let successor = successors.into_iter().next().unwrap();
        assert_eq!(rotate_at_once(registry, &successor, 32).await.len(), 1);
        let expected = [(1, TokenState::Retiring), (2, TokenState::Current), (3, TokenState::Successor)];
        assert_eq!(states(registry).await, expected);
    }

    async fn a_successor_that_cannot_be_opened_is_replaced(registry) {
        let old = registry.create(instance()).await.token;
        let lost = registry.rotate(&old).await.answer().token;
        let [_, successor] = tokens(registry).await.try_into().unwrap();
        let mut row = sea_orm::IntoActiveModel::into_active_model(successor);
        row.sealed_key_id = sea_orm::Set(Some("another key".to_owned()));
        sea_orm::ActiveModelTrait::update(row, &registry.database).await.unwrap();
        let next = registry.rotate(&old).await.answer().token;
        assert_ne!(next, lost);
        assert_eq!(registry.verify(&lost).await.reason(), "runner_token_superseded");
        registry.verify(&next).await.answer();
    }

    async fn a_registration_token_is_refused_and_a_runner_token_registers(registry) {
        let created = registry.create(instance()).await;
        assert_eq!(register(registry, &created.token).await.answer().id, created.id);
        assert_eq!(register(registry, "GR1348941abcdefghijklmnopqrs").await.reason(), "registration_disallowed");
        assert_eq!(register(registry, &created.token[..20]).await.reason(), "runner_token_malformed");
        let user_token = format!("{}abc", CredentialKind::UserToken.spec().unwrap().prefix);
        assert_eq!(register(registry, &user_token).await.reason(), "runner_token_wrong_kind");
        assert_eq!(register(registry, "").await.reason(), "parameter_missing");
    }
}

both_databases! {
    with |config| config.rotation.overlap_seconds = 0;

    async fn without_an_overlap_the_old_token_is_refused_at_once(registry) {
        let old = registry.create(instance()).await.token;
        let new = registry.rotate(&old).await.answer().token;
        assert_eq!(registry.verify(&old).await.reason(), "runner_token_superseded");
        assert_eq!(registry.rotate(&old).await.reason(), "runner_token_superseded");
        assert!(tokens(registry).await.iter().all(|token| token.sealed.is_none()));
        registry.verify(&new).await.answer();
    }

    async fn without_an_overlap_a_clock_that_is_behind_revives_nothing(registry) {
        let old = registry.create(instance()).await.token;
        let new = registry.rotate(&old).await.answer().token;
        // A call that arrived earlier and waited, or a process on another machine, decides by an earlier time.
        registry.set_clock(-1);
        assert_eq!(registry.rotate(&old).await.reason(), "runner_token_superseded");
        assert_eq!(registry.verify(&old).await.reason(), "runner_token_superseded");
        registry.verify(&new).await.answer();
        assert_eq!(states(registry).await, [(1, TokenState::Superseded), (2, TokenState::Current)]);
    }
}
