//! Concurrent calls for one runner, and a database that refuses a record. In every order, no call ends with a fault and
//! only one token is current.

use std::{collections::HashSet, time::Duration};

use proto::paddock::runner::v1::{
    AssignRunnerRequest, ResetAuthenticationTokenRequest, ResetRunnerAuthenticationTokenRequest, UnassignRunnerRequest,
    UnregisterRunnerRequest, VerifyRunnerRequest,
};
use runner_registry::entity::runner_token::{self, TokenState};
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, DatabaseBackend, EntityTrait as _, QueryFilter as _};
use tokio::{task::JoinSet, time::timeout};

use super::{instance, of_project};
use crate::support::{Answer as _, Registry, both_databases};

/// How long a test waits to see that a call is blocked by a lock.
const WAIT: Duration = Duration::from_millis(300);

/// Calls per kind.
const TIMES: usize = 16;

type Outcomes = JoinSet<Result<String, &'static str>>;

/// Starts rotations, concurrent with the other calls in the set.
fn spawn_rotations(registry: &Registry, token: &str, calls: &mut Outcomes) {
    for _ in 0..TIMES {
        let mut client = registry.runner().runner_tokens();
        let request = ResetAuthenticationTokenRequest { token: token.to_owned() };
        calls.spawn(async move {
            let answer = client.reset_authentication_token(request).await;
            if answer.is_ok() { Ok(answer.answer().token) } else { Err(answer.reason()) }
        });
    }
}

fn spawn_verifications(registry: &Registry, token: &str, calls: &mut Outcomes) {
    for _ in 0..TIMES {
        let mut client = registry.runner().runner_tokens();
        let request = VerifyRunnerRequest { token: token.to_owned(), ..Default::default() };
        calls.spawn(async move {
            let answer = client.verify_runner(request).await;
            if answer.is_ok() { Ok(answer.answer().token) } else { Err(answer.reason()) }
        });
    }
}

async fn current_tokens(registry: &Registry) -> usize {
    let current = runner_token::Column::State.eq(TokenState::Current);
    runner_token::Entity::find().filter(current).all(&registry.database).await.unwrap().len()
}

/// Makes the database refuse every record of a contact.
async fn refuse_contacts(registry: &Registry) {
    let statement = match registry.database.get_database_backend() {
        DatabaseBackend::Sqlite => {
            "CREATE TRIGGER refuse BEFORE UPDATE ON runners BEGIN SELECT RAISE(ABORT, 'refused'); END"
        }
        _ => "ALTER TABLE runners ADD CONSTRAINT refuse CHECK (contacted_at IS NULL)",
    };
    registry.database.execute_unprepared(statement).await.unwrap();
}

both_databases! {
    async fn the_first_use_of_a_successor_and_rotations_of_the_old_token(registry) {
        let old = registry.create(instance()).await.token;
        let new = registry.rotate(&old).await.answer().token;
        let mut calls = JoinSet::new();
        spawn_rotations(registry, &old, &mut calls);
        spawn_verifications(registry, &new, &mut calls);
        let outcomes: HashSet<_> = calls.join_all().await.into_iter().collect();
        assert!(outcomes.contains(&Ok(new.clone())));
        assert!(outcomes.is_subset(&HashSet::from([Ok(new), Err("runner_token_superseded")])), "{outcomes:?}");
        assert_eq!(current_tokens(registry).await, 1);
    }

    async fn the_deletion_of_a_runner_and_calls_with_its_token(registry) {
        let token = registry.create(instance()).await.token;
        let mut calls = JoinSet::new();
        spawn_rotations(registry, &token, &mut calls);
        spawn_verifications(registry, &token, &mut calls);
        let mut client = registry.runner().runner_tokens();
        let request = UnregisterRunnerRequest { token: token.clone() };
        calls.spawn(async move { client.unregister_runner(request).await.map(|_| String::new()).map_err(|_| "failed") });
        for outcome in calls.join_all().await {
            assert!(matches!(outcome, Ok(_) | Err("runner_removed")), "{outcome:?}");
        }
        assert_eq!(registry.verify(&token).await.reason(), "runner_removed");
    }

    async fn resets_by_id_at_the_same_moment_leave_one_token(registry) {
        let runner = registry.create(instance()).await;
        let mut calls = JoinSet::new();
        for _ in 0..TIMES {
            let mut client = registry.root().runners();
            let request = ResetRunnerAuthenticationTokenRequest { id: runner.id };
            calls.spawn(async move { client.reset_runner_authentication_token(request).await.answer().token });
        }
        let tokens: HashSet<_> = calls.join_all().await.into_iter().collect();
        assert_eq!(tokens.len(), TIMES);
        let mut active = 0;
        for token in &tokens {
            match registry.verify(token).await {
                Ok(_) => active += 1,
                refused => assert_eq!(refused.reason(), "runner_token_revoked"),
            }
        }
        assert_eq!((active, current_tokens(registry).await), (1, 1));
    }

    async fn a_runner_is_not_taken_from_the_project_that_a_deletion_makes_its_owner(registry) {
        let group = registry.group("group", None).await;
        let first = registry.project("first", &group).await;
        let second = registry.project("second", &group).await;
        let runner = registry.create(of_project(&first)).await;
        let mut root = registry.root().runners();
        root.assign_runner(AssignRunnerRequest { id: second.id.to_string(), runner_id: runner.id }).await.answer();

        let deletion = chassis::db::begin_write(&registry.database).await.unwrap();
        deletion.execute_unprepared(&format!("DELETE FROM projects WHERE id = {}", first.id)).await.unwrap();
        let request = UnassignRunnerRequest { id: second.id.to_string(), runner_id: runner.id };
        let mut call = tokio::spawn(async move { root.unassign_runner(request).await });
        assert!(timeout(WAIT, &mut call).await.is_err(), "the call does not wait for the deletion");
        deletion.commit().await.unwrap();
        assert_eq!(call.await.unwrap().reason(), "runner_owned_by_project");
        let projects = registry.details(runner.id).await.projects;
        assert_eq!(projects.iter().map(|project| project.id).collect::<Vec<_>>(), [second.id]);
    }

    async fn a_contact_that_cannot_be_recorded_refuses_no_call(registry) {
        let runner = registry.create(instance()).await;
        refuse_contacts(registry).await;
        assert_eq!(registry.verify(&runner.token).await.answer().id, runner.id);
        assert_eq!(registry.request_job(&runner.token).await.answer().status, 204);
        registry.rotate(&runner.token).await.answer();
        assert_eq!(registry.details(runner.id).await.contacted_at, None);
    }

    async fn a_contact_that_has_to_wait_delays_no_call(registry) {
        let runner = registry.create(instance()).await;
        let other = chassis::db::begin_write(&registry.database).await.unwrap();
        let statement = format!("UPDATE runners SET paused = paused WHERE id = {}", runner.id);
        other.execute_unprepared(&statement).await.unwrap();
        assert_eq!(registry.verify(&runner.token).await.answer().id, runner.id);
        assert_eq!(registry.details(runner.id).await.contacted_at, None);
        other.rollback().await.unwrap();
        registry.verify(&runner.token).await.answer();
        assert!(registry.details(runner.id).await.contacted_at.is_some());
    }
}
