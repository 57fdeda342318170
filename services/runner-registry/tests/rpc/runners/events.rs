//! What happens to tokens is recorded: which kinds and grades, how repetitions are counted, who sees it, how long it is
//! kept.

use proto::{
    paddock::{
        directory::v1::{DeleteProjectRequest, DeleteUserRequest},
        page::v1::Page,
        runner::v1::{
            CreateRunnerRequest, DeleteRunnerRequest, ListRunnerTokenEventsRequest, ListRunnerTokenEventsResponse,
            ResetRunnerAuthenticationTokenRequest, RunnerTokenEvent, TokenEventGrade, TokenEventKind,
            VerifyRunnerRequest,
        },
    },
    timestamp::millis,
};
use runner_registry::entity::runner_token_event;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, IntoActiveModel as _, NotSet, QueryFilter as _,
    QueryOrder as _, Set,
};

use super::{
    after, at,
    fleet_cases::{Fleet, LIFE, set_life},
    instance, of_project, seconds,
};
use crate::support::{Answer as _, Registry, both_databases};

const DAY: i64 = 86_400;

/// The rows: what they show, and the script. `events` lists the events since the start, the oldest first; the grade `info`
/// is left out.
const CASES: &[(&str, &str)] = &[
    ("ordinary polls", "p1 polls T1 = ok; at 7200; p1 polls T1 = ok; p2 polls T1 = ok; events = none"),
    (
        "a rotation",
        "resets T1 = T2; p1 polls T2 = ok; p2 polls T2 = ok; p1 polls T2 = ok; events = minted T2, first_used T2 p1",
    ),
    (
        "a successor that is returned again",
        "resets T1 = T2; resets T1 = T2; resets T1 = T2; p1 polls T2 = ok; events = minted T2, delivered_again T2 x2, first_used T2 p1",
    ),
    (
        "a late manager",
        "resets T1 = T2; p1 polls T2 = ok; p2 polls T1 = ok; resets T1 = T3; p2 polls T3 = ok; events = minted T2, first_used T2 p1, minted T3, first_used T3 p2",
    ),
    (
        "new machines",
        "p4 polls T1 = ok; p4 polls T1 = ok; resets T1 = T2; p1 polls T2 = ok; p5 polls T2 = ok; events = new_manager T1 p4, minted T2, first_used T2 p1, new_manager T2 p5",
    ),
    (
        "a new machine after the manager that rotated has left",
        "resets T1 = T2; p1 polls T2 = ok; p1 leaves T2 = ok; p4 polls T2 = ok; events = minted T2, first_used T2 p1, new_manager T2 p4",
    ),
    (
        "a stranger who uses the successor first",
        "resets T1 = T2; x polls T2 = ok; x polls T2 = ok; events = minted T2, first_used T2 x high",
    ),
    (
        "a stranger who rotates the retiring token",
        "resets T1 = T2; p1 polls T2 = ok; resets T1 = T3; x polls T3 = ok; events = minted T2, first_used T2 p1, minted T3, first_used T3 x high",
    ),
    (
        "a stranger who uses the successor first in a rotation, which names nobody",
        "resets T1 = T2; resets T2 = T3; x polls T2 = ok; events = minted T2, first_used T2, minted T3, first_used T2 x high",
    ),
    (
        "a manager that uses the successor first in a rotation",
        "resets T1 = T2; resets T2 = T3; p1 polls T2 = ok; p4 polls T2 = ok; p1 polls T3 = ok; events = minted T2, first_used T2, minted T3, new_manager T2 p4, first_used T3 p1",
    ),
    ("a first use without a system id", "resets T1 = T2; verifies T2 = ok; events = minted T2, first_used T2 high"),
    (
        "a first use by a program that never sends a system id",
        "verifies T1 = ok; resets T1 = T2; verifies T2 = ok; events = new_manager T1, minted T2, first_used T2",
    ),
    (
        "a first use by the only manager, with a new system id",
        "p1 leaves T1 = ok; p2 leaves T1 = ok; p3 leaves T1 = ok; resets T1 = T2; y polls T2 = ok; events = minted T2, first_used T2 y",
    ),
    (
        "calls in flight, and a manager that went back",
        "resets T1 = T2; p1 polls T2 = ok; at 59; p1 polls T1 = superseded; events = minted T2, first_used T2 p1; at 60; p1 polls T1 = superseded; p1 polls T1 = superseded; events = minted T2, first_used T2 p1, went_back T1 p1 notice x2",
    ),
    (
        "calls in flight after the move of the manager itself",
        "resets T1 = T2; p2 polls T2 = ok; at 3600; p1 polls T2 = ok; at 3659; p1 polls T1 = superseded; p2 polls T1 = superseded; events = minted T2, first_used T2 p2, went_back T1 p2 notice",
    ),
    (
        "an unknown manager and a call without a system id, with a retiring token",
        "resets T1 = T2; p1 polls T2 = ok; x polls T1 = superseded; x polls T1 = superseded; verifies T1 = superseded; events = minted T2, first_used T2 p1, used_after_end T1 x high x2, used_after_end T1 high",
    ),
    (
        "a program that never sends a system id and went back",
        "verifies T1 = ok; resets T1 = T2; verifies T2 = ok; verifies T1 = superseded; at 60; verifies T1 = superseded; events = new_manager T1, minted T2, first_used T2, went_back T1 notice",
    ),
    (
        "a rotation and a deletion with a token that nobody waits for",
        "resets T1 = T2; p1 polls T2 = ok; p2 polls T2 = ok; p3 polls T2 = ok; resets T1 = superseded; events = minted T2, first_used T2 p1, used_after_end T1 notice; deletes T1 = superseded; events = minted T2, first_used T2 p1, used_after_end T1 high x2",
    ),
    (
        "an expired token",
        "at 1296000; p2 polls T1 = expired; x polls T1 = expired; resets T1 = expired; events = used_after_end T1 p2 notice, used_after_end T1 x notice, used_after_end T1 notice",
    ),
    (
        "a reset by id",
        "resets T1 = T2; administrator resets = T3; p1 polls T1 = revoked; x polls T2 = revoked; p1 polls T3 = ok; x polls T3 = ok; events = minted T2, revoked T2, created T3, used_after_end T1 p1 notice, used_after_end T2 x notice, new_manager T3 x",
    ),
    (
        "one row an hour",
        "resets T1 = T2; p1 polls T2 = ok; at 3599; x polls T1 = superseded; at 3600; x polls T1 = superseded; x polls T1 = superseded; events = minted T2, first_used T2 p1, used_after_end T1 x high, used_after_end T1 x high x2",
    ),
];

const CASES_WITHOUT_EXPIRY: &[(&str, &str)] = &[(
    "the end of the overlap",
    "resets T1 = T2; p1 polls T2 = ok; at 86400; p2 polls T1 = superseded; x polls T1 = superseded; events = minted T2, first_used T2 p1, used_after_end T1 p2 notice, used_after_end T1 x high",
)];

const CASES_WITH_DEADLINE: &[(&str, &str)] = &[(
    "a rotation after the deadline",
    "at 7200; resets T1 = deadline_passed; resets T1 = deadline_passed; p1 polls T1 = ok; events = refused T1 notice x2",
)];

const CASES_WITHOUT_OVERLAP: &[(&str, &str)] = &[
    (
        "a manager that is locked out, and strangers",
        "resets T1 = T2; p2 polls T1 = superseded; x polls T1 = superseded; p1 polls T2 = ok; p4 polls T2 = ok; events = minted T2, used_after_end T1 p2 notice, used_after_end T1 x high, new_manager T2 p4",
    ),
    (
        "a stranger who uses the new token first",
        "resets T1 = T2; x polls T2 = ok; events = minted T2, first_used T2 x high",
    ),
];

/// Every event of a runner, the oldest first; none if the runner is gone.
pub async fn all(registry: &Registry, runner_id: i64) -> Vec<RunnerTokenEvent> {
    let request = ListRunnerTokenEventsRequest { id: runner_id, per_page: Some(100), ..Default::default() };
    let listed = registry.root().runners().list_runner_token_events(request).await;
    let mut events = listed.map(|answer| answer.into_inner().events).unwrap_or_default();
    events.sort_by_key(|event| event.id);
    events
}

/// The events in the words of the scripts.
pub fn described(events: &[RunnerTokenEvent]) -> String {
    if events.is_empty() {
        return "none".to_owned();
    }
    let words = events.iter().map(|event| {
        let kind = event.kind().as_str_name().trim_start_matches("TOKEN_EVENT_KIND_").to_lowercase();
        let grade = event.grade().as_str_name().trim_start_matches("TOKEN_EVENT_GRADE_").to_lowercase();
        let mut words = vec![kind, format!("T{}", event.generation)];
        words.extend(event.system_id.clone());
        words.extend(Some(grade).filter(|grade| grade != "info"));
        words.extend(Some(format!("x{}", event.count)).filter(|_| event.count > 1));
        words.join(" ")
    });
    words.collect::<Vec<_>>().join(", ")
}

async fn list(registry: &Registry, request: ListRunnerTokenEventsRequest) -> ListRunnerTokenEventsResponse {
    registry.root().runners().list_runner_token_events(request).await.answer()
}

/// The stored events of a runner, the oldest first.
async fn stored(registry: &Registry, runner_id: i64) -> Vec<runner_token_event::Model> {
    runner_token_event::Entity::find()
        .filter(runner_token_event::Column::RunnerId.eq(runner_id))
        .order_by_asc(runner_token_event::Column::Id)
        .all(&registry.database)
        .await
        .unwrap()
}

/// Stores copies of an event with other system ids.
async fn store_copies(registry: &Registry, event: &runner_token_event::Model, copies: usize) {
    let rows = (0..copies).map(|number| {
        let mut row = event.clone().into_active_model();
        row.id = NotSet;
        row.system_id = Set(format!("copy-{number}"));
        row
    });
    runner_token_event::Entity::insert_many(rows).exec(&registry.database).await.unwrap();
}

/// Makes the database refuse every event.
async fn refuse_events(registry: &Registry) {
    let statement = "ALTER TABLE runner_token_events RENAME TO moved_away";
    registry.database.execute_unprepared(statement).await.unwrap();
}

both_databases! {
    async fn every_kind_and_grade_of_a_token_that_expires(registry) {
        set_life(registry, LIFE).await;
        run_scripts(registry, instance(), CASES).await;
    }

    async fn every_kind_and_grade_of_other_tokens(registry) {
        run_scripts(registry, instance(), CASES_WITHOUT_EXPIRY).await;
        let request = CreateRunnerRequest {
            token_expires_at: Some(after(14_400)),
            token_rotation_deadline: Some(after(7_200)),
            ..instance()
        };
        run_scripts(registry, request, CASES_WITH_DEADLINE).await;
    }

    async fn the_grade_of_an_event_never_falls(registry) {
        set_life(registry, 5_000).await;
        let script = "resets T1 = T2; p1 polls T2 = ok; at 4999; x polls T1 = superseded; at 5000; x polls T1 = expired; \
                      events = minted T2, first_used T2 p1, used_after_end T1 x high x2";
        run_scripts(registry, instance(), &[("within one hour", script)]).await;
    }

    async fn rotations_that_are_refused(registry) {
        set_life(registry, LIFE).await;
        let mut fleet = Fleet::start(registry, instance()).await;
        for generation in 1..=13 {
            fleet.run("mints", &format!("resets T{generation} = T{next}; p1 polls T{next} = ok", next = generation + 1)).await;
        }
        fleet.run("limited", "resets T14 = limited").await;
        let project = registry.project("project", &registry.group("group", None).await).await;
        let runner = registry.create(of_project(&project)).await;
        let request = DeleteProjectRequest { id: project.id.to_string() };
        registry.root().projects().delete_project(request).await.answer();
        assert_eq!(registry.rotate(&runner.token).await.reason(), "runner_unassigned");
        assert_eq!(described(&all(registry, runner.id).await), "created T1, refused T1 notice");
    }

    async fn an_event_says_who_and_when(registry) {
        let runner = registry.create(instance()).await;
        let poll = async |system_id: &str| {
            let request = VerifyRunnerRequest { token: runner.token.clone(), system_id: Some(system_id.to_owned()), info: None };
            registry.runner().runner_tokens().verify_runner(request).await.answer();
        };
        registry.set_clock(10);
        poll("s_1").await;
        registry.rotate(&runner.token).await.answer();
        registry.set_clock(20);
        registry.rotate(&runner.token).await.answer();
        let [created, new_manager, minted, again] = all(registry, runner.id).await.try_into().unwrap();
        for event in [&created, &new_manager, &minted, &again] {
            assert_eq!(event.user_agent.as_deref(), Some("gitlab-runner 18.4.0"));
        }
        let root = registry.root().user_id();
        assert_eq!((created.kind(), created.actor_id, seconds(created.created_at)), (TokenEventKind::Created, Some(root), Some(0)));
        assert_eq!((created.system_id, created.ip_address.as_deref()), (None, Some("192.0.2.7")));
        assert_eq!((new_manager.system_id.as_deref(), new_manager.actor_id), (Some("s_1"), None));
        assert_eq!((minted.generation, minted.system_id, seconds(minted.last_seen_at)), (2, None, Some(10)));
        assert_eq!((again.generation, again.count, again.ip_address.as_deref()), (2, 1, Some("192.0.2.7")));
        registry.set_clock(30);
        registry.rotate(&runner.token).await.answer();
        let again = all(registry, runner.id).await.pop().unwrap();
        assert_eq!((seconds(again.created_at), seconds(again.last_seen_at), again.count), (Some(20), Some(30), 2));
    }

    async fn the_user_who_acted_is_forgotten_when_deleted(registry) {
        let runner = registry.create(instance()).await;
        let admin = registry.user("admin").await;
        let admin = registry.as_user(admin.user_id(), "admin", true);
        let reset = ResetRunnerAuthenticationTokenRequest { id: runner.id };
        admin.runners().reset_runner_authentication_token(reset).await.answer();
        let actors = async || all(registry, runner.id).await.into_iter().map(|event| event.actor_id).collect::<Vec<_>>();
        let root = Some(registry.root().user_id());
        assert_eq!(actors().await, [root, Some(admin.user_id()), Some(admin.user_id())]);
        let request = DeleteUserRequest { id: admin.user_id() };
        registry.root().users().delete_user(request).await.answer();
        assert_eq!(actors().await, [root, None, None]);
    }

    async fn events_are_listed_in_pages_and_filtered(registry) {
        set_life(registry, LIFE).await;
        let mut fleet = Fleet::start(registry, instance()).await;
        fleet.run("", "at 10; resets T1 = T2; at 20; p1 polls T2 = ok; at 30; x polls T1 = superseded; at 100; p1 polls T1 = superseded").await;
        let id = fleet.runner_id;
        let first = list(registry, ListRunnerTokenEventsRequest { id, per_page: Some(2), ..Default::default() }).await;
        assert_eq!(described(&first.events), "went_back T1 p1 notice, used_after_end T1 x high");
        assert_eq!(first.page, Some(Page { page: 1, per_page: 2, total: Some(8), has_next: true }));
        let second = ListRunnerTokenEventsRequest { id, page: Some(2), per_page: Some(2), ..Default::default() };
        assert_eq!(described(&list(registry, second).await.events), "first_used T2 p1, minted T2");
        let of_kind = ListRunnerTokenEventsRequest { id, kind: Some(TokenEventKind::NewManager.into()), ..Default::default() };
        assert_eq!(described(&list(registry, of_kind).await.events), "new_manager T1 p3, new_manager T1 p2, new_manager T1 p1");
        let high = Some(TokenEventGrade::High.into());
        let of_grade = ListRunnerTokenEventsRequest { id, grade: high, ..Default::default() };
        assert_eq!(described(&list(registry, of_grade).await.events), "used_after_end T1 x high");
        let of_both = ListRunnerTokenEventsRequest { id, grade: high, kind: Some(TokenEventKind::Minted.into()), ..Default::default() };
        assert_eq!(described(&list(registry, of_both).await.events), "none");
        for (request, text) in [
            (ListRunnerTokenEventsRequest { id, kind: Some(0), ..Default::default() }, "kind does not have a valid value"),
            (ListRunnerTokenEventsRequest { id, kind: Some(99), ..Default::default() }, "kind does not have a valid value"),
            (ListRunnerTokenEventsRequest { id, grade: Some(9), ..Default::default() }, "grade does not have a valid value"),
            (ListRunnerTokenEventsRequest { id, page: Some(0), ..Default::default() }, "page does not have a valid value"),
        ] {
            let refusal = registry.root().runners().list_runner_token_events(request).await.refusal();
            assert_eq!((refusal.spec().code, refusal.message()), ("parameter_invalid", text));
        }
    }

    async fn events_of_thirty_days_are_kept(registry) {
        let runner = registry.create(instance()).await;
        let other = registry.create(instance()).await;
        registry.set_clock(30 * DAY);
        assert_eq!(described(&all(registry, runner.id).await), "created T1");
        registry.clock.set(at(30 * DAY) + time::Duration::MILLISECOND);
        assert_eq!(described(&all(registry, runner.id).await), "none", "what is too old is not listed");
        assert_eq!(stored(registry, runner.id).await.len(), 1);
        registry.verify(&runner.token).await.answer();
        assert_eq!(described(&all(registry, runner.id).await), "new_manager T1");
        assert_eq!(stored(registry, runner.id).await.len(), 1, "and is deleted when a row is added");
        assert_eq!(stored(registry, other.id).await.len(), 1);
    }

    async fn a_runner_keeps_its_newest_thousand_events(registry) {
        let runner = registry.create(instance()).await;
        let other = registry.create(instance()).await;
        let [created] = stored(registry, runner.id).await.try_into().unwrap();
        store_copies(registry, &created, 999).await;
        assert_eq!(stored(registry, runner.id).await.len(), 1000);
        registry.verify(&runner.token).await.answer();
        let kept = stored(registry, runner.id).await;
        assert_eq!(kept.len(), 1000);
        assert!(kept[0].id > created.id, "the oldest one is deleted");
        assert_eq!(kept[999].first_at, millis(at(0)));
        assert_eq!(stored(registry, other.id).await.len(), 1);
    }

    async fn an_event_that_cannot_be_recorded_refuses_no_call(registry) {
        let old = registry.create(instance()).await.token;
        let new = registry.rotate(&old).await.answer().token;
        refuse_events(registry).await;
        assert_eq!(registry.rotate(&old).await.answer().token, new, "a repeated rotation changes nothing");
        assert_eq!(registry.verify(&new).await.fault(), "internal", "the first use is recorded, or it is none");
        assert_eq!(registry.rotate(&old).await.answer().token, new);
    }

    async fn events_of_a_deleted_runner_go_with_it(registry) {
        let runner = registry.create(instance()).await;
        let request = DeleteRunnerRequest { id: runner.id };
        registry.root().runners().delete_runner(request).await.answer();
        assert!(stored(registry, runner.id).await.is_empty());
    }
}

both_databases! {
    with |config| config.rotation.overlap_seconds = 0;

    async fn every_kind_and_grade_of_gitlabs_rule(registry) {
        set_life(registry, LIFE).await;
        run_scripts(registry, instance(), CASES_WITHOUT_OVERLAP).await;
    }
}

/// Runs each script on a runner of its own.
async fn run_scripts(registry: &Registry, request: CreateRunnerRequest, cases: &[(&str, &str)]) {
    for (title, script) in cases {
        Fleet::start(registry, request.clone()).await.run(title, script).await;
    }
}
