//! The fleet on one token, in simulated time. Only the managers that have something to do act; then the clock jumps to the next
//! instant at which one has. Those of one instant act at the same time.

use std::{path::Path, time::Duration as RealDuration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};
use system::{FakeClock, say};
use time::{Duration, OffsetDateTime, macros::datetime};

use super::{
    Scale,
    manager::{Counts, Manager, Moment, short},
    servers::{Servers, assert_no_errors},
};
use crate::fixtures;

/// When the simulation begins.
const START: OffsetDateTime = datetime!(2026-12-01 00:00 UTC);

/// The longest time between the beginning of an instant and the kill in it, in microseconds. A call takes a few milliseconds.
const KILL_WITHIN: u64 = 8000;

/// The time between two checks of the events. Paddock keeps the newest thousand.
const EVENTS_CHECKED: Duration = Duration::days(5);

/// How often everybody acts once more at the end, at most.
const LAST_ROUNDS: u32 = 20;

/// The fleet and the processes that it calls.
pub struct Simulation {
    scale: Scale,
    clock: FakeClock,
    servers: Servers,
    runner: i64,
    first_token: String,
    managers: Vec<Manager>,
    random: StdRng,
    now: OffsetDateTime,
    events_checked: OffsetDateTime,
    kills: u32,
    instants: u64,
}

impl Simulation {
    /// Prepares a runner whose tokens live as long as the scale says, and the managers. None of them is registered yet.
    pub async fn new(scale: Scale, clock: FakeClock, servers: Servers) -> Self {
        let root = servers.root();
        let life = json!({ "project_runner_token_expiration_interval": scale.life.whole_seconds() });
        root.put("/application/settings", life).await.ok(200);
        let project = fixtures::project(&root).await;
        let (runner, first_token) = fixtures::runner(&root, project).await;
        let mut random = StdRng::seed_from_u64(scale.seed.into());
        let mut managers = Vec::new();
        let mut registers_at = START;
        for number in 0..scale.managers {
            // Two hosts each are set up in the same minute.
            if number.is_multiple_of(2) && number > 0 {
                let minutes = scale.life.whole_minutes() * 3 / 5;
                registers_at = START + Duration::minutes(random.random_range(0..minutes));
            }
            managers.push(Manager::new(number, registers_at, servers.port(), scale));
        }
        Self {
            scale,
            clock,
            servers,
            runner,
            first_token,
            managers,
            random,
            now: START,
            events_checked: START,
            kills: 0,
            instants: 0,
        }
    }

    /// The clock of the processes, at the beginning. None without libfaketime.
    pub fn clock(folder: &Path) -> Option<FakeClock> {
        let clock = FakeClock::new(&folder.join("clock"));
        clock.stop_at(START.unix_timestamp());
        if !clock.is_available() {
            system::skipped("the fleet: libfaketime is not installed");
            return None;
        }
        Some(clock)
    }

    /// Runs until every manager has rotated often enough.
    pub async fn run(mut self) {
        let end = START + self.scale.life * (self.scale.rotations + 4);
        while self.managers.iter().any(|manager| manager.rotations < self.scale.rotations && !manager.did_not_save) {
            self.step().await;
            assert!(self.now < end, "the rotations do not go on:\n{}", self.slowest());
        }
        self.finish().await;
    }

    /// Lets everything happen that happens next.
    async fn step(&mut self) {
        let next = self.managers.iter().map(Manager::next_event).min();
        self.set_time(next.expect("a fleet"));
        let rotates = self.managers.iter().any(|manager| manager.rotates_at(self.now));
        let kill = rotates && self.kill_is_due();
        if kill {
            // Everybody calls while the process is killed.
            self.everybody_polls(self.now);
        }
        self.act(kill).await;
        if rotates {
            self.neighbours_poll();
        }
        self.operators_come().await;
        self.check();
        if self.now - self.events_checked > EVENTS_CHECKED {
            self.events_checked = self.now;
            self.check_events().await;
        }
    }

    /// The managers that have something to do act, all at the same time.
    async fn act(&mut self, kill: bool) {
        self.instants += 1;
        let moment = Moment { now: self.now, kill };
        let acting = self.managers.iter_mut().filter(|manager| manager.next_event() <= moment.now);
        let calls = futures::future::join_all(acting.map(|manager| manager.act(&self.first_token, moment)));
        if !kill {
            calls.await;
            return;
        }
        let delay = RealDuration::from_micros(self.random.random_range(0..KILL_WITHIN));
        let victim = self.servers.choose_victim(&mut self.random);
        let end = async {
            let _ = tokio::time::timeout(delay, std::future::pending::<()>()).await;
            victim.kill();
        };
        tokio::join!(calls, end);
        assert_no_errors(victim);
        victim.start_again();
        victim.wait_until_ready();
        self.kills += 1;
        self.servers.wait_until_ready().await;
        for manager in &mut self.managers {
            manager.disconnect();
        }
    }

    fn set_time(&mut self, time: OffsetDateTime) {
        if time > self.now {
            self.now = time;
            self.clock.stop_at(time.unix_timestamp());
        }
    }

    /// Spreads the kills over the rotations.
    fn kill_is_due(&self) -> bool {
        let done: u32 = self.managers.iter().map(|manager| manager.rotations).sum();
        let all = self.scale.rotations * self.scale.managers;
        self.kills < self.scale.kills && 2 * self.scale.kills * done >= all * (2 * self.kills + 1)
    }

    fn everybody_polls(&mut self, by: OffsetDateTime) {
        for manager in &mut self.managers {
            manager.poll_by(by);
        }
    }

    /// Some managers, or all in the long form, poll within the minute after a rotation.
    fn neighbours_poll(&mut self) {
        let mut numbers: Vec<_> = (0..self.managers.len()).collect();
        numbers.shuffle(&mut self.random);
        for number in numbers.into_iter().take(self.scale.neighbours) {
            let seconds = self.random.random_range(1..=60);
            self.managers[number].poll_by(self.now + Duration::seconds(seconds));
        }
    }

    /// Operators register the managers that did not save their token, with the newest token that the fleet has.
    async fn operators_come(&mut self) {
        let moment = Moment { now: self.now, kill: false };
        let newest = self.managers.iter().filter(|manager| !manager.did_not_save).filter_map(Manager::token).max();
        let Some(newest) = newest.map(|(_, token)| token.to_owned()) else { return };
        for manager in self.managers.iter_mut().filter(|manager| manager.needs_operator(moment.now)) {
            manager.register(&newest, moment).await;
        }
    }

    /// Asserts that no manager got what it must not get.
    fn check(&self) {
        let Some(manager) = self.managers.iter().find(|manager| !manager.findings.is_empty()) else { return };
        panic!(
            "at {} manager {}: {:?}\nits history:\n{}seed {}",
            short(self.now),
            manager.system_id,
            manager.findings,
            manager.history(),
            self.scale.seed
        );
    }

    /// Asserts that no event accuses a manager that saved what it was given, and none a thief.
    async fn check_events(&self) {
        let alarms = self.events("grade=high").await;
        assert!(alarms.is_empty(), "false alarms: {alarms:?}\nPADDOCK_TEST_SEED={}", self.scale.seed);
        for kind in ["went_back", "used_after_end"] {
            for event in self.events(&format!("kind={kind}")).await {
                let manager = self.managers.iter().find(|manager| event["system_id"] == manager.system_id.as_str());
                let saved = manager.is_some_and(|manager| manager.counts.not_saved == 0);
                assert!(!saved, "{event}\nPADDOCK_TEST_SEED={}", self.scale.seed);
            }
        }
    }

    /// The newest events of the runner's tokens that this query selects.
    async fn events(&self, query: &str) -> Vec<Value> {
        let path = format!("/runners/{}/token_events?per_page=100&{query}", self.runner);
        let events = self.servers.root().get(&path).await.ok(200);
        events.as_array().cloned().unwrap_or_else(|| panic!("no list: {events}"))
    }

    /// Everybody comes back and is served. The runner shows every manager.
    async fn finish(mut self) {
        let now = self.now + Duration::minutes(1);
        self.set_time(now);
        // A program can crash once more when it comes back and rotates.
        for _ in 0..LAST_ROUNDS {
            let were_on = self.managers.iter().all(Manager::is_on);
            for manager in &mut self.managers {
                manager.return_at(now);
            }
            self.everybody_polls(now);
            self.act(false).await;
            if were_on && self.managers.iter().all(Manager::is_on) {
                break;
            }
        }
        self.check();
        self.check_events().await;
        assert!(!self.events("kind=minted").await.is_empty(), "events are written");
        let off = self.managers.iter().find(|manager| !manager.is_on());
        assert!(off.is_none(), "a host is off at the end:\n{}", off.map(Manager::history).unwrap_or_default());
        let root = self.servers.root();
        let path = format!("/runners/{}/managers", self.runner);
        let shown = root.get(&path).await.ok(200);
        let shown = shown.as_array().map_or(0, Vec::len);
        assert!(shown > 0, "{path} shows the managers");
        self.report();
        self.servers.stop();
    }

    fn slowest(&self) -> String {
        let slowest = self.managers.iter().min_by_key(|manager| manager.rotations).expect("a fleet");
        format!("{} rotated {} times\n{}", slowest.system_id, slowest.rotations, slowest.history())
    }

    fn report(&self) {
        let mut all = Counts::default();
        for manager in &self.managers {
            all.add(manager.counts);
        }
        let days = (self.now - START).whole_days();
        let rotations: u32 = self.managers.iter().map(|manager| manager.rotations).sum();
        say(&format!(
            "fleet: {} managers, {rotations} rotations, {days} days, {} instants, {} kills, {all:?}, PADDOCK_TEST_SEED={}",
            self.managers.len(),
            self.instants,
            self.kills,
            self.scale.seed
        ));
    }
}
