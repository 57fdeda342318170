//! Who may assign a project runner to a project and take it away. The project that owns a runner keeps it.

use proto::{
    paddock::{
        directory::v1::Project,
        runner::v1::{
            AssignRunnerRequest, AssignRunnerResponse, CreateRunnerRequest, DeleteRunnerRequest, UnassignRunnerRequest,
            UnassignRunnerResponse,
        },
    },
    role::Role,
};
use sea_orm::ConnectionTrait as _;
use tonic::{Response, Status};

use super::{instance, of_group, of_project};
use crate::support::{Actor, Answer as _, Registry, both_databases};

async fn assign(actor: &Actor, project: &Project, runner_id: i64) -> Result<Response<AssignRunnerResponse>, Status> {
    let request = AssignRunnerRequest { id: project.id.to_string(), runner_id };
    actor.runners().assign_runner(request).await
}

async fn unassign(
    actor: &Actor,
    project: &Project,
    runner_id: i64,
) -> Result<Response<UnassignRunnerResponse>, Status> {
    let request = UnassignRunnerRequest { id: project.id.to_string(), runner_id };
    actor.runners().unassign_runner(request).await
}

/// Two projects of which alice maintains both, and bob the second only.
async fn scene(registry: &Registry) -> (Project, Project, Actor, Actor) {
    let group = registry.group("group", None).await;
    let first = registry.project("first", &group).await;
    let second = registry.project("second", &group).await;
    let alice = registry.user("alice").await;
    let bob = registry.user("bob").await;
    registry.join_group(&alice, &group, Role::Maintainer).await;
    registry.join_project(&bob, &second, Role::Maintainer).await;
    (first, second, alice, bob)
}

both_databases! {
    async fn a_runner_is_assigned_once_and_taken_back(registry) {
        let (first, second, alice, _) = scene(registry).await;
        let runner = registry.create(of_project(&first)).await;
        assert_eq!(assign(&alice, &second, runner.id).await.answer().runner.unwrap().id, runner.id);
        let refusal = assign(&alice, &second, runner.id).await.refusal();
        assert_eq!(refusal.spec().code, "runner_already_assigned");
        assert_eq!(assign(&alice, &first, runner.id).await.reason(), "runner_already_assigned");
        let projects: Vec<_> = registry.details(runner.id).await.projects.into_iter().map(|project| project.id).collect();
        assert_eq!(projects, [first.id, second.id]);
        unassign(&alice, &second, runner.id).await.answer();
        assert_eq!(unassign(&alice, &second, runner.id).await.reason(), "runner_not_found");
    }

    async fn the_owner_project_keeps_its_runner(registry) {
        let (first, second, alice, _) = scene(registry).await;
        let runner = registry.create(of_project(&second)).await;
        assign(&alice, &first, runner.id).await.answer();
        for actor in [&alice, &registry.root()] {
            assert_eq!(unassign(actor, &second, runner.id).await.reason(), "runner_owned_by_project");
        }
        unassign(&alice, &first, runner.id).await.answer();
    }

    async fn only_project_runners_are_assigned(registry) {
        let (first, second, alice, _) = scene(registry).await;
        let group = proto::paddock::directory::v1::Group { id: first.namespace.as_ref().unwrap().id, ..Default::default() };
        let shared = registry.create(instance()).await;
        let grouped = registry.create(of_group(&group)).await;
        for actor in [&alice, &registry.root()] {
            assert_eq!(assign(actor, &second, shared.id).await.reason(), "runner_is_instance_runner");
            assert_eq!(assign(actor, &second, grouped.id).await.reason(), "runner_is_group_runner");
        }
        assert_eq!(assign(&alice, &second, 9_999).await.reason(), "runner_not_found");
    }

    async fn a_locked_runner_is_moved_by_administrators_only(registry) {
        let (first, second, alice, _) = scene(registry).await;
        let runner = registry.create(CreateRunnerRequest { locked: Some(true), ..of_project(&first) }).await;
        assert_eq!(assign(&alice, &second, runner.id).await.reason(), "runner_locked");
        assign(&registry.root(), &second, runner.id).await.answer();
        assert_eq!(unassign(&alice, &second, runner.id).await.reason(), "runner_locked");
        unassign(&registry.root(), &second, runner.id).await.answer();
    }

    async fn one_needs_a_role_in_both_projects(registry) {
        let (first, second, alice, bob) = scene(registry).await;
        let runner = registry.create(of_project(&first)).await;
        // Bob maintains the target, not the runner; he sees nothing of the first project.
        assert_eq!(assign(&bob, &second, runner.id).await.reason(), "access_denied");
        assert_eq!(assign(&bob, &first, runner.id).await.reason(), "project_not_found");
        let developer = registry.user("developer").await;
        registry.join_project(&developer, &second, Role::Developer).await;
        assert_eq!(assign(&developer, &second, runner.id).await.reason(), "access_denied");
        assign(&alice, &second, runner.id).await.answer();
        assert_eq!(unassign(&developer, &second, runner.id).await.reason(), "access_denied");
        unassign(&bob, &second, runner.id).await.answer();
    }

    async fn a_runner_of_several_projects_is_deleted_by_administrators_only(registry) {
        let (first, second, alice, bob) = scene(registry).await;
        let runner = registry.create(of_project(&first)).await;
        assign(&alice, &second, runner.id).await.answer();
        let stranger = registry.user("stranger").await;
        for actor in [&alice, &bob, &stranger] {
            let answer = actor.runners().delete_runner(DeleteRunnerRequest { id: runner.id }).await;
            assert_eq!(answer.reason(), "runner_shared_by_projects");
        }
        registry.root().runners().delete_runner(DeleteRunnerRequest { id: runner.id }).await.answer();
        assert_eq!(registry.verify(&runner.token).await.reason(), "runner_removed");
    }

    async fn a_project_is_named_by_id_or_path(registry) {
        let (first, second, alice, _) = scene(registry).await;
        let runner = registry.create(of_project(&first)).await;
        let request = AssignRunnerRequest { id: "Group/SECOND".into(), runner_id: runner.id };
        alice.runners().assign_runner(request).await.answer();
        for id in ["", "0", "group", "group/none", "group//second", "..", "a\0b", "99999999999999999999"] {
            let request = UnassignRunnerRequest { id: id.into(), runner_id: runner.id };
            assert_eq!(alice.runners().unassign_runner(request).await.reason(), "project_not_found", "{id:?}");
        }
        unassign(&alice, &second, runner.id).await.answer();
    }

    async fn a_runner_of_very_many_projects_is_shown_with_all(registry) {
        let group = registry.group("group", None).await;
        let project = registry.project("project", &group).await;
        let runner = registry.create(of_project(&project)).await;
        // More than the number of parameters that SQLite allows in one statement.
        let further = 33_000;
        let projects = format!(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {further}) \
             INSERT INTO projects (group_id, name, path, full_path, visibility, created_at) \
             SELECT group_id, name, path || n, full_path || n, visibility, created_at FROM projects, numbers"
        );
        let assignments = format!(
            "INSERT INTO runner_projects (runner_id, project_id, created_at) \
             SELECT {}, id, created_at FROM projects WHERE id <> {}",
            runner.id, project.id
        );
        for statement in [projects, assignments] {
            registry.database.execute_unprepared(&statement).await.unwrap();
        }
        assert_eq!(registry.details(runner.id).await.projects.len(), further + 1);
    }
}
