//! A project runner without a project: no call of its client fails with an internal error, and its token stays valid.

use proto::{
    paddock::{
        directory::v1::{DeleteProjectRequest, Project},
        runner::v1::{
            AssignRunnerRequest, CreateRunnerResponse, DeleteRunnerRequest, ListRunnersRequest,
            ResetAuthenticationTokenRequest, ResetRunnerAuthenticationTokenRequest, UnregisterRunnerRequest,
        },
    },
    role::Role,
};
use tokio::task::JoinSet;

use super::{details, of_group, of_project};
use crate::support::{Answer as _, Registry, both_databases};

async fn delete_project(registry: &Registry, project: &Project) {
    let request = DeleteProjectRequest { id: project.id.to_string() };
    registry.root().projects().delete_project(request).await.answer();
}

/// A project runner whose only project was deleted.
async fn orphan(registry: &Registry) -> CreateRunnerResponse {
    let group = registry.group("group", None).await;
    let project = registry.project("project", &group).await;
    let created = registry.create(of_project(&project)).await;
    delete_project(registry, &project).await;
    created
}

both_databases! {
    async fn its_token_authenticates_and_is_not_rotated(registry) {
        let runner = orphan(registry).await;
        for _ in 0..2 {
            let refusal = registry.rotate(&runner.token).await.refusal();
            assert_eq!((refusal.spec().code, refusal.spec().http_status), ("runner_unassigned", 422));
            assert_eq!(refusal.message(), "Runner needs to be assigned to at least one project");
            assert_eq!(registry.verify(&runner.token).await.answer().id, runner.id);
            assert_eq!(registry.request_job(&runner.token).await.answer().status, 204);
        }
    }

    async fn a_reset_by_id_is_refused_and_the_token_unchanged(registry) {
        let runner = orphan(registry).await;
        let request = ResetRunnerAuthenticationTokenRequest { id: runner.id };
        let answer = registry.root().runners().reset_runner_authentication_token(request).await;
        assert_eq!(answer.reason(), "runner_unassigned");
        registry.verify(&runner.token).await.answer();
    }

    async fn it_can_be_deleted_with_its_token(registry) {
        let runner = orphan(registry).await;
        let request = UnregisterRunnerRequest { token: runner.token.clone() };
        registry.runner().runner_tokens().unregister_runner(request).await.answer();
        assert_eq!(registry.verify(&runner.token).await.reason(), "runner_removed");
    }

    async fn lists_and_details_show_it(registry) {
        let runner = orphan(registry).await;
        assert!(registry.details(runner.id).await.unassigned);
        let group = registry.group("other", None).await;
        let assigned = registry.create(of_project(&registry.project("project", &group).await)).await;
        let of_group = registry.create(of_group(&group)).await;
        let list = registry.root().runners().list_runners(ListRunnersRequest::default()).await.answer();
        let shown: Vec<_> = list.runners.iter().map(|runner| (runner.id, runner.unassigned)).collect();
        assert_eq!(shown, [(of_group.id, false), (assigned.id, false), (runner.id, true)]);
    }

    async fn once_assigned_again_it_rotates(registry) {
        let runner = orphan(registry).await;
        let project = registry.project("new", &registry.group("other", None).await).await;
        let request = AssignRunnerRequest { id: project.id.to_string(), runner_id: runner.id };
        assert!(!registry.root().runners().assign_runner(request).await.answer().runner.unwrap().unassigned);
        registry.rotate(&runner.token).await.answer();
    }

    async fn a_runner_with_a_project_left_is_not_unassigned(registry) {
        let group = registry.group("group", None).await;
        let first = registry.project("first", &group).await;
        let second = registry.project("second", &group).await;
        let runner = registry.create(of_project(&first)).await;
        let request = AssignRunnerRequest { id: second.id.to_string(), runner_id: runner.id };
        registry.root().runners().assign_runner(request).await.answer();
        delete_project(registry, &first).await;
        registry.rotate(&runner.token).await.answer();
    }

    async fn a_pending_successor_is_not_returned_but_still_works(registry) {
        let group = registry.group("group", None).await;
        let project = registry.project("project", &group).await;
        let runner = registry.create(of_project(&project)).await;
        let successor = registry.rotate(&runner.token).await.answer().token;
        delete_project(registry, &project).await;
        assert_eq!(registry.rotate(&runner.token).await.reason(), "runner_unassigned");
        assert_eq!(registry.rotate(&successor).await.reason(), "runner_unassigned");
        registry.verify(&successor).await.answer();
    }

    async fn a_crowd_of_rotations_gets_as_many_refusals(registry) {
        let runner = orphan(registry).await;
        let mut clients = JoinSet::new();
        for _ in 0..30 {
            let client = registry.runner().runner_tokens();
            let token = runner.token.clone();
            clients.spawn(async move {
                let mut reasons = Vec::new();
                for _ in 0..10 {
                    let request = ResetAuthenticationTokenRequest { token: token.clone() };
                    reasons.push(client.clone().reset_authentication_token(request).await.reason());
                }
                reasons
            });
        }
        let reasons: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
        assert_eq!(reasons, ["runner_unassigned"; 300]);
        registry.verify(&runner.token).await.answer();
    }

    async fn its_creator_can_assign_or_delete_it(registry) {
        let group = registry.group("group", None).await;
        let creator = registry.user("creator").await;
        registry.join_group(&creator, &group, Role::Maintainer).await;
        let project = registry.project("project", &group).await;
        let other = registry.project("other", &group).await;
        let runner = creator.runners().create_runner(of_project(&project)).await.answer();
        let second = creator.runners().create_runner(of_project(&project)).await.answer();
        delete_project(registry, &project).await;
        assert!(details(&creator, runner.id).await.unassigned);
        let list = creator.runners().list_runners(ListRunnersRequest::default()).await.answer();
        assert_eq!(list.runners.len(), 2);
        let assign = AssignRunnerRequest { id: other.id.to_string(), runner_id: runner.id };
        creator.runners().assign_runner(assign).await.answer();
        creator.runners().delete_runner(DeleteRunnerRequest { id: second.id }).await.answer();
        let bystander = registry.user("bystander").await;
        registry.join_group(&bystander, &group, Role::Developer).await;
        let answer = bystander.runners().delete_runner(DeleteRunnerRequest { id: runner.id }).await;
        assert_eq!(answer.reason(), "access_denied");
    }
}
