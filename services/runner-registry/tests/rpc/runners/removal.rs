//! The tokens of a deleted runner are refused as such for 30 days, whatever deleted the runner.

use proto::paddock::{
    directory::v1::{DeleteGroupRequest, DeleteProjectRequest, DeleteUserRequest, Group},
    runner::v1::{DeleteRunnerRequest, ResetRunnerAuthenticationTokenRequest, UnregisterRunnerRequest},
};
use runner_registry::entity::removed_runner_token;
use sea_orm::{EntityTrait as _, PaginatorTrait as _};
use time::Duration;

use super::{at, instance, of_group, of_project};
use crate::support::{Answer as _, Registry, both_databases};

const DAY: i64 = 86_400;

async fn unregister(registry: &Registry, token: &str) {
    let request = UnregisterRunnerRequest { token: token.to_owned() };
    registry.runner().runner_tokens().unregister_runner(request).await.answer();
}

async fn delete_group(registry: &Registry, group: &Group) {
    let request = DeleteGroupRequest { id: group.id.to_string() };
    registry.root().groups().delete_group(request).await.answer();
}

/// The message of the refusal of a token of a removed runner.
async fn removed_message(registry: &Registry, token: &str) -> String {
    let refusal = registry.verify(token).await.refusal();
    assert_eq!((refusal.spec().code, refusal.spec().http_status), ("runner_removed", 403));
    refusal.message().to_owned()
}

async fn noted_tokens(registry: &Registry) -> u64 {
    removed_runner_token::Entity::find().count(&registry.database).await.unwrap()
}

both_databases! {
    async fn a_refusal_names_the_day_for_thirty_days(registry) {
        let runner = registry.create(instance()).await;
        registry.set_clock(43_199);
        unregister(registry, &runner.token).await;
        let message = "403 Forbidden - runner removed on 2026-01-15";
        assert_eq!(removed_message(registry, &runner.token).await, message);
        assert_eq!(registry.rotate(&runner.token).await.reason(), "runner_removed");
        assert_eq!(registry.request_job(&runner.token).await.reason(), "runner_removed");
        registry.clock.set(at(43_199 + 30 * DAY) - Duration::MILLISECOND);
        assert_eq!(removed_message(registry, &runner.token).await, message);
        registry.set_clock(43_199 + 30 * DAY);
        assert_eq!(registry.verify(&runner.token).await.reason(), "runner_token_unknown");
    }

    async fn the_day_is_that_of_utc(registry) {
        let runner = registry.create(instance()).await;
        registry.set_clock(43_200);
        unregister(registry, &runner.token).await;
        assert_eq!(removed_message(registry, &runner.token).await, "403 Forbidden - runner removed on 2026-01-16");
    }

    async fn a_runner_that_a_user_deletes(registry) {
        let runner = registry.create(instance()).await;
        let kept = registry.create(instance()).await;
        registry.root().runners().delete_runner(DeleteRunnerRequest { id: runner.id }).await.answer();
        removed_message(registry, &runner.token).await;
        registry.verify(&kept.token).await.answer();
        assert_eq!(noted_tokens(registry).await, 1);
    }

    async fn the_runners_of_a_group_and_of_those_below_it(registry) {
        let top = registry.group("top", None).await;
        let below = registry.group("below", Some(&top)).await;
        let deepest = registry.group("deepest", Some(&below)).await;
        let of_top = registry.create(of_group(&top)).await;
        let of_below = registry.create(of_group(&below)).await;
        let of_deepest = registry.create(of_group(&deepest)).await;
        let of_a_project = registry.create(of_project(&registry.project("project", &below).await)).await;
        let shared = registry.create(instance()).await;
        delete_group(registry, &below).await;
        removed_message(registry, &of_below.token).await;
        removed_message(registry, &of_deepest.token).await;
        for kept in [&of_top, &of_a_project, &shared] {
            registry.verify(&kept.token).await.answer();
        }
        delete_group(registry, &top).await;
        removed_message(registry, &of_top.token).await;
        assert_eq!(noted_tokens(registry).await, 3);
    }

    async fn the_deletion_of_a_project_or_a_user_removes_no_runner(registry) {
        let alice = registry.user("alice").await;
        let admin = registry.as_user(alice.user_id(), "alice", true);
        let of_alice = admin.runners().create_runner(instance()).await.answer();
        let project = registry.project("project", &registry.group("group", None).await).await;
        let of_the_project = registry.create(of_project(&project)).await;
        registry.root().users().delete_user(DeleteUserRequest { id: alice.user_id() }).await.answer();
        let request = DeleteProjectRequest { id: project.id.to_string() };
        registry.root().projects().delete_project(request).await.answer();
        registry.verify(&of_alice.token).await.answer();
        registry.verify(&of_the_project.token).await.answer();
        assert_eq!(noted_tokens(registry).await, 0);
    }

    async fn tokens_that_had_ended_and_unused_successors_too(registry) {
        let runner = registry.create(instance()).await;
        let rotated = registry.rotate(&runner.token).await.answer().token;
        registry.verify(&rotated).await.answer();
        let request = ResetRunnerAuthenticationTokenRequest { id: runner.id };
        let reset = registry.root().runners().reset_runner_authentication_token(request).await.answer().token;
        let unused = registry.rotate(&reset).await.answer().token;
        unregister(registry, &reset).await;
        for token in [&runner.token, &rotated, &reset, &unused] {
            removed_message(registry, token).await;
        }
    }

    async fn what_was_noted_long_ago_is_deleted_with_the_next_removal(registry) {
        let first = registry.create(instance()).await;
        let second = registry.create(instance()).await;
        unregister(registry, &first.token).await;
        registry.set_clock(30 * DAY);
        assert_eq!(noted_tokens(registry).await, 1);
        unregister(registry, &second.token).await;
        assert_eq!(noted_tokens(registry).await, 1);
        removed_message(registry, &second.token).await;
        assert_eq!(registry.verify(&first.token).await.reason(), "runner_token_unknown");
    }
}
