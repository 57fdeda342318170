//! The response to a call with a runner token names the runner, whatever the outcome of the call is.

use proto::paddock::runner::v1::{
    RegisterRunnerRequest, ResetRunnerAuthenticationTokenRequest, UnregisterRunnerManagerRequest,
    UnregisterRunnerRequest,
};
use runner_registry::{entity::runner::RunnerType, runner::token::RunnerToken};
use sea_orm::ConnectionTrait as _;
use time::Duration;

use super::{after, instance, of_project};
use crate::support::{Answer as _, Registry, both_databases};

/// Makes each call of a runner program, the deletion of the runner last. Returns the owner that each response names.
async fn owners(registry: &Registry, token: &str) -> [Option<String>; 6] {
    let mut calls = registry.runner().runner_tokens();
    let token = token.to_owned();
    let register = RegisterRunnerRequest { token: token.clone(), ..Default::default() };
    let system_id = "s_0123456789ab".to_owned();
    let unregister_manager = UnregisterRunnerManagerRequest { token: token.clone(), system_id };
    [
        calls.register_runner(register).await.owner(),
        registry.verify(&token).await.owner(),
        registry.rotate(&token).await.owner(),
        registry.request_job(&token).await.owner(),
        calls.unregister_runner_manager(unregister_manager).await.owner(),
        calls.unregister_runner(UnregisterRunnerRequest { token }).await.owner(),
    ]
}

/// The owner that all responses must name.
fn all(id: i64) -> [Option<String>; 6] {
    std::array::from_fn(|_| Some(format!("runner/{id}")))
}

both_databases! {
    async fn a_token_that_is_valid_names_its_runner(registry) {
        let runner = registry.create(instance()).await;
        assert_eq!(owners(registry, &runner.token).await, all(runner.id));
    }

    async fn a_token_that_has_ended_names_its_runner(registry) {
        let runner = registry.create(instance()).await;
        let second = registry.rotate(&runner.token).await.answer().token;
        registry.verify(&second).await.answer();
        assert_eq!(registry.verify(&runner.token).await.reason(), "runner_token_superseded");
        assert_eq!(owners(registry, &runner.token).await, all(runner.id));

        let reset = ResetRunnerAuthenticationTokenRequest { id: runner.id };
        registry.root().runners().reset_runner_authentication_token(reset).await.answer();
        assert_eq!(registry.verify(&second).await.reason(), "runner_token_revoked");
        assert_eq!(owners(registry, &second).await, all(runner.id));

        let mut request = instance();
        request.token_expires_at = Some(after(600));
        let limited = registry.create(request).await;
        registry.clock.advance(Duration::seconds(600));
        assert_eq!(registry.verify(&limited.token).await.reason(), "runner_token_expired");
        assert_eq!(owners(registry, &limited.token).await, all(limited.id));
    }

    async fn a_token_of_no_runner_names_nobody(registry) {
        let unknown = RunnerToken::generate(RunnerType::Project).unwrap();
        for token in [unknown.expose(), "x", ""] {
            assert_eq!(owners(registry, token).await, [const { None }; 6], "{token}");
        }
    }

    async fn a_call_that_fails_after_the_token_is_found_names_the_runner(registry) {
        let project = registry.project("project", &registry.group("group", None).await).await;
        let runner = registry.create(of_project(&project)).await;
        registry.database.execute_unprepared("ALTER TABLE runner_projects RENAME TO gone").await.unwrap();
        let failed = registry.rotate(&runner.token).await;
        assert_eq!(failed.owner(), Some(format!("runner/{}", runner.id)));
        assert_eq!(failed.fault(), "internal");
    }
}
