//! What goes wrong, one thing after the other, chosen by the seed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::plan::Plan;
use crate::stage::Stage;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillGateway,
    KillRegistry,
    KillAuth,
    RestartRedis,
    PauseRedis,
    RestartPostgres,
    JumpClock,
}

/// How often each is chosen.
const CHOICES: [(Fault, u32); 7] = [
    (Fault::KillAuth, 8),
    (Fault::KillGateway, 6),
    (Fault::KillRegistry, 4),
    (Fault::RestartRedis, 3),
    (Fault::PauseRedis, 1),
    (Fault::RestartPostgres, 2),
    (Fault::JumpClock, 2),
];

/// What went wrong so far.
#[derive(Debug, Default)]
pub struct Faults(BTreeMap<Fault, u64>);

impl Faults {
    fn kills(&self) -> u64 {
        [Fault::KillGateway, Fault::KillRegistry, Fault::KillAuth].iter().map(|fault| self.count(*fault)).sum()
    }

    fn count(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    /// A run in which nothing went wrong would show nothing.
    pub fn assert_happened(&self, plan: &Plan) {
        assert!(self.kills() >= plan.kills, "{self}");
        for fault in [Fault::KillGateway, Fault::KillRegistry, Fault::KillAuth, Fault::RestartRedis, Fault::PauseRedis]
        {
            assert!(self.count(fault) > 0, "no {fault:?}: {self}");
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.0.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect();
        write!(f, "{} kills ({})", self.kills(), all.join(", "))
    }
}

/// Whoever makes things go wrong.
pub struct Nemesis {
    plan: Plan,
    stage: Stage,
    choices: StdRng,
    faults: Faults,
}

impl Nemesis {
    pub fn new(plan: Plan, stage: Stage) -> Self {
        Self { choices: plan.choices(0), plan, stage, faults: Faults::default() }
    }

    /// Goes on until it is enough. The processes come back every time.
    pub fn run_until(&mut self, is_enough: impl Fn(u64) -> bool) {
        // Every kind of fault once, then as they come.
        let mut due: Vec<_> = CHOICES.iter().map(|(fault, _)| *fault).collect();
        while !is_enough(self.faults.kills()) || !due.is_empty() {
            let fault =
                if due.is_empty() { self.choose() } else { due.swap_remove(self.choices.random_range(0..due.len())) };
            if self.inflict(fault) {
                *self.faults.0.entry(fault).or_default() += 1;
            }
            let calm = self.choices.random_range(self.plan.calm / 10..=self.plan.calm);
            wait(calm);
        }
    }

    /// Ends what goes wrong: the clock is right again.
    pub fn rest(self) -> (Stage, Faults) {
        self.stage.clock.set(0);
        (self.stage, self.faults)
    }

    fn choose(&mut self) -> Fault {
        CHOICES.choose_weighted(&mut self.choices, |(_, weight)| *weight).expect("there are choices").0
    }

    /// Makes one thing go wrong, and waits until what it concerns is back. Whether the machine can do it.
    fn inflict(&mut self, fault: Fault) -> bool {
        let stage = &mut self.stage;
        match fault {
            Fault::KillGateway => stage.system.gateway.crash_and_return(),
            Fault::KillRegistry => stage.system.registry.program.crash_and_return(),
            Fault::KillAuth => stage.system.auth.program.crash_and_return(),
            Fault::RestartRedis => {
                stage.redis.kill();
                stage.redis.start_again();
            }
            Fault::PauseRedis => {
                stage.redis.pause();
                wait(self.plan.pause);
                stage.redis.resume();
            }
            Fault::RestartPostgres => match &mut stage.postgres {
                Some(postgres) => postgres.crash_and_return(),
                None => return false,
            },
            Fault::JumpClock => {
                let hour = *[-3600, 0, 3600].choose(&mut self.choices).expect("there are hours");
                stage.clock.set(hour);
                return stage.clock.can_jump();
            }
        }
        true
    }
}

fn wait(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
