//! What goes wrong, and when: after so many requests, in an order that the seed decides.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::paddock::contract::v1::Process;
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use system::within;

use super::{Scale, world::World};

/// How long the run may take as a whole.
const PATIENCE: Duration = Duration::from_secs(7200);

/// How long a full disk stays full, and the clock wrong.
const FULL: Duration = Duration::from_millis(700);
const WRONG: Duration = Duration::from_millis(2500);

/// How far the clock jumps, in seconds.
const JUMP: i64 = 3600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill(Process),
    RestartRedis,
    PauseRedis,
    RestartPostgres,
    FillSpool,
    /// By so many seconds.
    MoveClock(i64),
}

/// The plan, and what came of it.
pub struct Nemesis {
    scale: Scale,
    plan: Vec<Fault>,
    done: BTreeMap<Fault, u64>,
}

impl Nemesis {
    pub fn new(scale: Scale) -> Self {
        let processes = [Process::Gateway, Process::JobTokenAuth, Process::RunnerRegistry];
        let mut plan: Vec<_> = processes.into_iter().cycle().take(index(scale.kills)).map(Fault::Kill).collect();
        let clocks = [Fault::MoveClock(JUMP), Fault::MoveClock(-JUMP)];
        let others = [Fault::RestartRedis, Fault::PauseRedis, Fault::RestartPostgres, Fault::FillSpool];
        for fault in others.into_iter().chain(clocks) {
            plan.extend(std::iter::repeat_n(fault, index(scale.faults)));
        }
        plan.shuffle(&mut StdRng::seed_from_u64(scale.seed));
        Self { scale, plan, done: BTreeMap::new() }
    }

    /// Injects one fault after another, spread over the requests.
    pub async fn run(&mut self, world: &mut World, progress: &AtomicU64) {
        let steps = self.plan.len() as u64 + 1;
        for (step, fault) in (1..).zip(self.plan.clone()) {
            let due = self.scale.requests * step / steps;
            let reached = within(PATIENCE, async || (progress.load(Ordering::Relaxed) >= due).then_some(()));
            assert!(reached.await.is_some(), "the requests do not go on: {}", progress.load(Ordering::Relaxed));
            if inject(fault, world, self.scale).await {
                *self.done.entry(fault).or_default() += 1;
            }
        }
    }

    /// How many processes were killed.
    pub fn kills(&self) -> u64 {
        self.done.iter().filter(|(fault, _)| matches!(fault, Fault::Kill(_))).map(|(_, count)| count).sum()
    }

    /// What was injected, and how often.
    pub fn summary(&self) -> String {
        let mut text = format!("{} kills", self.kills());
        for (fault, count) in &self.done {
            let _ = write!(text, ", {fault:?} {count}");
        }
        text
    }
}

/// False: the machine does not allow it.
async fn inject(fault: Fault, world: &mut World, scale: Scale) -> bool {
    match fault {
        Fault::Kill(process) => world.crash(process),
        Fault::RestartRedis => {
            world.redis.kill();
            world.redis.start_again();
        }
        Fault::PauseRedis => {
            world.redis.pause();
            pass(Duration::from_secs(scale.pause_seconds)).await;
            world.redis.resume();
        }
        Fault::RestartPostgres => {
            let Some(postgres) = &mut world.postgres else { return false };
            postgres.restart();
        }
        Fault::FillSpool => {
            if !world.spool.fill() {
                return false;
            }
            pass(FULL).await;
            world.spool.make_room();
        }
        Fault::MoveClock(seconds) => {
            if !world.clock.set(seconds) {
                return false;
            }
            pass(WRONG).await;
            world.clock.set(0);
        }
    }
    true
}

/// The fault lasts so long.
async fn pass(time: Duration) {
    let nothing: Option<()> = within(time, async || None).await;
    assert!(nothing.is_none());
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("few faults")
}
