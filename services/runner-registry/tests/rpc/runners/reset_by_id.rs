//! The reset of a token by runner id: it revokes at once, regardless of deadline and expiry.

use proto::paddock::{
    directory::v1::Settings,
    runner::v1::{CreateRunnerRequest, ResetRunnerAuthenticationTokenRequest, ResetRunnerAuthenticationTokenResponse},
};
use runner_registry::entity::runner_token::{self, TokenState};
use sea_orm::{EntityTrait as _, QueryOrder as _};

use super::{after, instance, seconds};
use crate::support::{Answer as _, Registry, both_databases};

async fn reset(registry: &Registry, id: i64) -> ResetRunnerAuthenticationTokenResponse {
    let request = ResetRunnerAuthenticationTokenRequest { id };
    registry.root().runners().reset_runner_authentication_token(request).await.answer()
}

both_databases! {
    async fn every_token_of_the_runner_is_revoked_at_once(registry) {
        let created = registry.create(instance()).await;
        let successor = registry.rotate(&created.token).await.answer().token;
        let new = reset(registry, created.id).await.token;
        for revoked in [&created.token, &successor] {
            assert_eq!(registry.verify(revoked).await.reason(), "runner_token_revoked");
            assert_eq!(registry.rotate(revoked).await.reason(), "runner_token_revoked");
        }
        assert_eq!(registry.verify(&new).await.answer().id, created.id);
        let tokens = runner_token::Entity::find().order_by_asc(runner_token::Column::Generation);
        let tokens = tokens.all(&registry.database).await.unwrap();
        let states: Vec<_> = tokens.iter().map(|token| (token.generation, token.state, token.sealed.is_none())).collect();
        assert_eq!(
            states,
            [(1, TokenState::Revoked, true), (2, TokenState::Revoked, true), (3, TokenState::Current, true)]
        );
    }

    async fn each_reset_makes_another_token_that_rotates(registry) {
        let created = registry.create(instance()).await;
        let first = reset(registry, created.id).await.token;
        let second = reset(registry, created.id).await.token;
        assert_ne!(first, second);
        assert_eq!(registry.verify(&first).await.reason(), "runner_token_revoked");
        registry.rotate(&second).await.answer();
    }

    async fn neither_deadline_nor_expiry_binds_it(registry) {
        registry.set_intervals(Settings { runner_token_expiration_interval: Some(86_400), ..Default::default() }).await;
        let request = CreateRunnerRequest {
            token_expires_at: Some(after(3600)),
            token_rotation_deadline: Some(after(600)),
            ..instance()
        };
        for now in [600, 3600] {
            registry.set_clock(0);
            let created = registry.create(request.clone()).await;
            registry.set_clock(now);
            let answer = reset(registry, created.id).await;
            assert_eq!(seconds(answer.token_expires_at), Some(now + 86_400));
            let shown = registry.details(created.id).await;
            assert_eq!((seconds(shown.token_expires_at), shown.token_rotation_deadline), (Some(now + 86_400), None));
            registry.rotate(&answer.token).await.answer();
        }
    }

    async fn a_retiring_token_is_revoked_too(registry) {
        let created = registry.create(instance()).await;
        let successor = registry.rotate(&created.token).await.answer().token;
        registry.verify(&successor).await.answer();
        reset(registry, created.id).await;
        assert_eq!(registry.verify(&created.token).await.reason(), "runner_token_revoked");
        assert_eq!(registry.verify(&successor).await.reason(), "runner_token_revoked");
    }

    async fn a_runner_that_is_not_there_is_not_found(registry) {
        for id in [0, -1, 9_999, i64::MAX, i64::MIN] {
            let request = ResetRunnerAuthenticationTokenRequest { id };
            let answer = registry.root().runners().reset_runner_authentication_token(request).await;
            assert_eq!(answer.reason(), "runner_not_found");
        }
    }
}
