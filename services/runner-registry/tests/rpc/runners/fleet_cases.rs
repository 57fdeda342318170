//! The cases of several managers on one token, one row each: `docs/explanation/tokens.md` lists them. A row is a script.
//! Its runner has a token `T1`, which the managers `p1`, `p2` and `p3` have used; every further token is named in the
//! order in which it is returned.

use std::collections::BTreeMap;

use proto::paddock::{
    directory::v1::Settings,
    runner::v1::{
        CreateRunnerRequest, RequestJobRequest, ResetRunnerAuthenticationTokenRequest, RunnerTokenEvent,
        TokenEventGrade, UnregisterRunnerManagerRequest, UnregisterRunnerRequest, UpdateRunnerRequest,
    },
};

use super::{after, events, instance};
use crate::support::{Answer as _, Registry, both_databases};

const DAY: i64 = 86_400;

/// The life of a token in most rows.
pub const LIFE: i64 = 15 * DAY;

/// The rows: what they show, and the script.
const CASES: &[(&str, &str)] = &[
    (
        "a manager that has not moved uses the old token until it expires",
        "resets T1 = T2; p1 polls T2 = ok; p2 polls T1 = ok; at 1295999; p2 polls T1 = ok; at 1296000; p2 polls T1 = expired",
    ),
    (
        "a late manager gets a token of its own, the same one until it is used",
        "resets T1 = T2; p1 polls T2 = ok; resets T1 = T3; resets T1 = T3; p2 polls T3 = ok; p1 polls T2 = ok",
    ),
    (
        "managers that rotate before anybody has moved share the successor",
        "resets T1 = T2; resets T1 = T2; p1 polls T2 = ok; p2 polls T2 = ok",
    ),
    (
        "a lost answer costs nothing, however late the manager returns",
        "resets T1 = T2; at 10800; p1 polls T1 = ok; resets T1 = T2; at 518400; resets T1 = T2; p1 polls T2 = ok",
    ),
    (
        "an answer that was lost to one manager and used by another",
        "resets T1 = T2; resets T1 = T2; p2 polls T2 = ok; p1 polls T1 = ok; resets T1 = T3; p1 polls T3 = ok",
    ),
    (
        "once all managers have moved the old token is refused at once",
        "resets T1 = T2; p1 polls T2 = ok; p2 polls T2 = ok; p3 polls T2 = ok; p1 polls T1 = superseded; verifies T1 = superseded; resets T1 = superseded",
    ),
    ("a manager that has moved", "resets T1 = T2; p1 polls T2 = ok; p1 polls T1 = superseded; p1 polls T2 = ok"),
    (
        "an unknown manager with a retiring token",
        "resets T1 = T2; p1 polls T2 = ok; x polls T1 = superseded; x polls T2 = ok",
    ),
    (
        "a call without a system id and a retiring token",
        "verifies T1 = ok; resets T1 = T2; p1 polls T2 = ok; verifies T1 = superseded; verifies T2 = ok",
    ),
    (
        "somebody who copied token and system id shares the fate of the manager",
        "resets T1 = T2; p1 polls T2 = ok; p2 polls T1 = ok; resets T1 = T3; p2 polls T3 = ok; p2 polls T1 = superseded",
    ),
    (
        "a stranger who rotates the retiring token harms no manager",
        "resets T1 = T2; p1 polls T2 = ok; resets T1 = T3; x polls T3 = ok; p2 polls T1 = ok; resets T1 = T4; p2 polls T4 = ok; p1 polls T2 = ok",
    ),
    (
        "a stranger who uses the successor first",
        "resets T1 = T2; x polls T2 = ok; p1 polls T1 = ok; resets T1 = T3; p1 polls T3 = ok",
    ),
    (
        "a stranger who was known before the rotation is a manager",
        "x polls T1 = ok; resets T1 = T2; p1 polls T2 = ok; x polls T1 = ok",
    ),
    (
        "managers that are gone for good hold nothing up",
        "resets T1 = T2; p1 polls T2 = ok; at 604800; resets T1 = T3; at 604801; p1 polls T3 = ok; resets T1 = superseded",
    ),
    (
        "a host that was off for eight days",
        "resets T1 = T2; p1 polls T2 = ok; at 691200; resets T1 = superseded; p2 polls T1 = ok; resets T1 = T3; p2 polls T3 = ok",
    ),
    (
        "a program that registers again with another system id",
        "resets T1 = T2; p1 polls T2 = ok; again polls T1 = superseded; again polls T2 = ok",
    ),
    (
        "a manager that went back to a token that it did not save",
        "resets T1 = T2; p1 polls T2 = ok; at 3600; p1 polls T1 = superseded",
    ),
    (
        "a manager that missed several rotations",
        "resets T1 = T2; p1 polls T2 = ok; resets T2 = T3; p1 polls T3 = ok; resets T3 = T4; p1 polls T4 = ok; p2 polls T1 = ok; resets T1 = T5; p2 polls T5 = ok",
    ),
    (
        "a manager that received a token, and another one that used it first",
        "resets T1 = T2; p1 polls T2 = ok; resets T1 = T3; p2 polls T3 = ok; resets T2 = T4; p1 polls T4 = ok; p3 polls T3 = ok; p3 polls T1 = superseded",
    ),
    (
        "the deletion of the runner takes the token in use",
        "resets T1 = T2; p1 polls T2 = ok; deletes T1 = superseded; deletes T2 = ok; p1 polls T2 = runner_removed",
    ),
    (
        "a manager that unregisters does not wait any more",
        "resets T1 = T2; p1 polls T2 = ok; p3 leaves T1 = ok; p2 leaves T1 = ok; p2 polls T1 = superseded; resets T1 = superseded",
    ),
    (
        "a reset by id ends every token",
        "resets T1 = T2; p1 polls T2 = ok; resets T1 = T3; administrator resets = T4; p1 polls T1 = revoked; p1 polls T2 = revoked; p2 polls T1 = revoked; p2 polls T3 = revoked; p2 polls T4 = ok",
    ),
    ("a first contact that nobody recorded", "resets T1 = T2; p1 polls T2 = ok; p9 polls T1 = superseded"),
    (
        "an ephemeral manager that starts after the rotation of another one",
        "e1 polls T1 = ok; resets T1 = T2; e1 polls T2 = ok; e2 polls T1 = superseded",
    ),
    ("a paused runner is as any other", "pause; resets T1 = T2; p1 polls T2 = ok; p2 polls T1 = ok; resets T1 = T3"),
    (
        "an unused successor with less than half of its life is replaced and not ended",
        "resets T1 = T2; at 648000; resets T1 = T2; at 648001; resets T1 = T3; p1 polls T2 = ok; p2 polls T3 = ok; p3 polls T1 = ok; x polls T2 = superseded",
    ),
    (
        "rotating with the successor promotes it",
        "resets T1 = T2; resets T2 = T3; p1 polls T2 = ok; p2 polls T1 = ok; p1 polls T3 = ok; verifies T1 = superseded",
    ),
];

/// The rows of tokens without an expiry.
const CASES_WITHOUT_EXPIRY: &[(&str, &str)] = &[
    (
        "a retiring token ends for a manager that was not seen for the overlap",
        "resets T1 = T2; p1 polls T2 = ok; at 86399; p2 polls T1 = ok; at 172798; p2 polls T1 = ok; p3 polls T1 = superseded; at 259198; p2 polls T1 = superseded; resets T1 = superseded",
    ),
    (
        "a manager that polls keeps a token that never expires, however often others rotate",
        "resets T1 = T2; p1 polls T2 = ok; resets T1 = T3; p2 polls T3 = ok; at 80000; p1 polls T2 = ok; at 160000; p1 polls T2 = ok; at 240000; p1 polls T2 = ok; resets T2 = T4; p1 polls T4 = ok",
    ),
    (
        "time alone ends no token whose successor is unused",
        "resets T1 = T2; at 8640000; p1 polls T1 = ok; resets T1 = T2; p1 polls T2 = ok",
    ),
];

/// The rows of a token with a deadline in two hours that expires in four.
const CASES_WITH_DEADLINE: &[(&str, &str)] = &[
    (
        "an unused successor is delivered after the deadline",
        "resets T1 = T2; at 7200; resets T1 = T2; at 14400; resets T1 = expired; p1 polls T2 = ok",
    ),
    (
        "a late manager gets none after the deadline",
        "resets T1 = T2; p1 polls T2 = ok; at 7199; resets T1 = T3; p2 polls T3 = ok; at 7200; resets T1 = deadline_passed; p3 polls T1 = ok; at 14400; p3 polls T1 = expired",
    ),
    ("the deadline binds a token that was not rotated", "at 7200; resets T1 = deadline_passed; p1 polls T1 = ok"),
];

/// The rows of GitLab's rule, `overlap_seconds = 0`.
const CASES_WITHOUT_OVERLAP: &[(&str, &str)] = &[
    (
        "the old token ends at the rotation",
        "resets T1 = T2; p1 polls T1 = superseded; resets T1 = superseded; p1 polls T2 = ok",
    ),
    (
        "every manager but one is locked out",
        "resets T1 = T2; p1 polls T2 = ok; p2 polls T1 = superseded; p2 polls T2 = ok",
    ),
];

/// The rows in which somebody who is no known manager uses a copy of a token, and the events of the grade `high` there. An
/// ordinary fleet has none, so all other rows have none.
const ALARMS: &[(&str, &str)] = &[
    ("once all managers have moved the old token is refused at once", "used_after_end T1 high x2"),
    ("an unknown manager with a retiring token", "used_after_end T1 x high"),
    ("a call without a system id and a retiring token", "used_after_end T1 high"),
    ("a stranger who rotates the retiring token harms no manager", "first_used T3 x high"),
    ("a stranger who uses the successor first", "first_used T2 x high"),
    ("a program that registers again with another system id", "used_after_end T1 again high"),
    ("a manager that unregisters does not wait any more", "used_after_end T1 p2 high"),
    ("a first contact that nobody recorded", "used_after_end T1 p9 high"),
    ("an ephemeral manager that starts after the rotation of another one", "used_after_end T1 e2 high"),
    ("an unused successor with less than half of its life is replaced and not ended", "used_after_end T2 x high"),
    ("rotating with the successor promotes it", "used_after_end T1 high"),
];

/// A runner and the tokens that were returned for it, by name.
pub struct Fleet<'a> {
    registry: &'a Registry,
    pub runner_id: i64,
    tokens: BTreeMap<String, String>,
    /// The last event of the start.
    last_event_id: i64,
}

impl<'a> Fleet<'a> {
    pub async fn start(registry: &'a Registry, request: CreateRunnerRequest) -> Self {
        registry.set_clock(0);
        let created = registry.create(request).await;
        let tokens = BTreeMap::from([("T1".to_owned(), created.token)]);
        let mut fleet = Self { registry, runner_id: created.id, tokens, last_event_id: 0 };
        for manager in ["p1", "p2", "p3"] {
            assert_eq!(fleet.poll(manager, "T1").await, "ok");
        }
        let events = events::all(registry, created.id).await;
        fleet.last_event_id = events.iter().map(|event| event.id).max().unwrap();
        fleet
    }

    /// The events since the start, the oldest first.
    async fn events(&self) -> Vec<RunnerTokenEvent> {
        let mut events = events::all(self.registry, self.runner_id).await;
        events.retain(|event| event.id > self.last_event_id);
        events
    }

    pub async fn run(&mut self, title: &str, script: &str) {
        for step in script.split(';').map(str::trim) {
            let (action, expected) = step.split_once(" = ").unwrap_or((step, ""));
            let words: Vec<&str> = action.split(' ').collect();
            let outcome = match words[..] {
                ["at", seconds] => {
                    self.registry.set_clock(seconds.parse().unwrap());
                    continue;
                }
                ["pause"] => {
                    self.pause().await;
                    continue;
                }
                ["events"] => events::described(&self.events().await),
                ["resets", token] => self.reset(token).await,
                ["administrator", "resets"] => self.reset_by_id().await,
                ["verifies", token] => outcome(self.registry.verify(&self.tokens[token]).await),
                ["deletes", token] => self.delete_runner(token).await,
                [manager, "polls", token] => self.poll(manager, token).await,
                [manager, "leaves", token] => self.unregister(manager, token).await,
                _ => panic!("{step}"),
            };
            assert_eq!(outcome, expected, "{title}: {step}");
        }
    }

    async fn poll(&self, manager: &str, token: &str) -> String {
        let token = self.tokens[token].clone();
        let request = RequestJobRequest { token, system_id: Some(manager.to_owned()), ..Default::default() };
        outcome(self.registry.runner().runner_tokens().request_job(request).await)
    }

    async fn unregister(&self, manager: &str, token: &str) -> String {
        let token = self.tokens[token].clone();
        let request = UnregisterRunnerManagerRequest { token, system_id: manager.to_owned() };
        outcome(self.registry.runner().runner_tokens().unregister_runner_manager(request).await)
    }

    async fn delete_runner(&self, token: &str) -> String {
        let request = UnregisterRunnerRequest { token: self.tokens[token].clone() };
        outcome(self.registry.runner().runner_tokens().unregister_runner(request).await)
    }

    async fn pause(&self) {
        let request = UpdateRunnerRequest { id: self.runner_id, paused: Some(true), ..Default::default() };
        self.registry.root().runners().update_runner(request).await.answer();
    }

    /// Returns the name of the token that a rotation returns, or why there was none.
    async fn reset(&mut self, token: &str) -> String {
        match self.registry.rotate(&self.tokens[token]).await {
            Ok(answer) => self.name(answer.into_inner().token),
            refused => outcome(refused),
        }
    }

    async fn reset_by_id(&mut self) -> String {
        let request = ResetRunnerAuthenticationTokenRequest { id: self.runner_id };
        let answer = self.registry.root().runners().reset_runner_authentication_token(request).await.answer();
        self.name(answer.token)
    }

    fn name(&mut self, token: String) -> String {
        let known = self.tokens.iter().find(|(_, text)| **text == token).map(|(name, _)| name.clone());
        known.unwrap_or_else(|| {
            let name = format!("T{}", self.tokens.len() + 1);
            self.tokens.insert(name.clone(), token);
            name
        })
    }
}

/// `ok`, or the last part of the reason.
fn outcome<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, tonic::Status>) -> String {
    if answer.is_ok() {
        return "ok".to_owned();
    }
    let reason = answer.reason();
    reason.trim_start_matches("runner_token_").trim_start_matches("rotation_").to_owned()
}

async fn run_all(registry: &Registry, request: CreateRunnerRequest, cases: &[(&str, &str)]) {
    for (title, script) in cases {
        let mut fleet = Fleet::start(registry, request.clone()).await;
        fleet.run(title, script).await;
        let mut alarms = fleet.events().await;
        alarms.retain(|event| event.grade() == TokenEventGrade::High);
        let expected = ALARMS.iter().find(|(row, _)| row == title).map_or("none", |(_, alarms)| alarms);
        assert_eq!(events::described(&alarms), expected, "{title}");
    }
}

pub async fn set_life(registry: &Registry, seconds: i64) {
    let settings = Settings { runner_token_expiration_interval: Some(seconds), ..Default::default() };
    registry.set_intervals(settings).await;
}

both_databases! {
    async fn every_case_of_a_token_that_expires(registry) {
        set_life(registry, LIFE).await;
        run_all(registry, instance(), CASES).await;
    }

    async fn every_case_of_a_token_without_an_expiry(registry) {
        run_all(registry, instance(), CASES_WITHOUT_EXPIRY).await;
    }

    async fn every_case_of_a_token_with_a_deadline(registry) {
        let request = CreateRunnerRequest {
            token_expires_at: Some(after(14_400)),
            token_rotation_deadline: Some(after(7_200)),
            ..instance()
        };
        run_all(registry, request, CASES_WITH_DEADLINE).await;
    }

    async fn a_successor_that_expired_unused_is_replaced_by_a_new_one(registry) {
        let mut fleet = Fleet::start(registry, instance()).await;
        set_life(registry, 600).await;
        fleet.run("", "resets T1 = T2; at 600; p1 polls T2 = expired; resets T1 = T3; p1 polls T3 = ok").await;
    }

    async fn a_clock_that_was_ahead_locks_no_manager_out(registry) {
        set_life(registry, LIFE).await;
        let mut fleet = Fleet::start(registry, instance()).await;
        fleet.run("", "at 86400; p4 polls T1 = ok; at 60; resets T1 = T2; p1 polls T2 = ok; p4 polls T1 = ok; resets T1 = T3; p4 polls T3 = ok").await;
    }

    async fn a_client_that_rotates_without_end_is_slowed_down(registry) {
        set_life(registry, LIFE).await;
        let mut fleet = Fleet::start(registry, instance()).await;
        // Three managers may move once each, and ten more mints are free.
        for generation in 1..=13 {
            let step = format!("resets T{generation} = T{next}; p1 polls T{next} = ok", next = generation + 1);
            fleet.run("within the limit", &step).await;
        }
        let refusal = registry.rotate(&fleet.tokens["T14"]).await.refusal();
        assert_eq!((refusal.spec().code, refusal.spec().http_status), ("rotation_limited", 429));
        assert_eq!(refusal.retry_after(), Some(30));
        fleet.run("a late manager waits too, and its token works", "resets T1 = limited; p2 polls T1 = ok; p1 polls T14 = ok").await;
        fleet.run("after ten minutes", "at 600; resets T14 = T15; p1 polls T15 = ok").await;
    }

    async fn what_ended_long_ago_is_deleted(registry) {
        let mut fleet = Fleet::start(registry, instance()).await;
        fleet.run("", "resets T1 = T2; p1 polls T2 = ok; at 86400; p2 polls T1 = superseded").await;
        // The overlap of a day and thirty days.
        fleet.run("kept", "at 2678400; resets T2 = T3; p1 polls T3 = ok; p2 polls T1 = superseded").await;
        fleet.run("deleted at the next mint", "at 2678401; resets T3 = T4; p2 polls T1 = unknown; p1 polls T4 = ok").await;
    }
}

both_databases! {
    with |config| config.rotation.overlap_seconds = 0;

    async fn every_case_of_gitlabs_rule(registry) {
        set_life(registry, LIFE).await;
        run_all(registry, instance(), CASES_WITHOUT_OVERLAP).await;
    }
}
