//! Plans and injects the faults. The seed decides their order.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use system::within;

use super::{
    Scale,
    cluster::{Cluster, Victim},
};

/// Maximum duration of the whole run.
const PATIENCE: Duration = Duration::from_secs(7200);

/// How long a disk stays full, and how long the clock stays wrong.
const FULL: Duration = Duration::from_millis(700);
const WRONG: Duration = Duration::from_millis(2500);

/// How far the clock jumps, in seconds.
const JUMP: i64 = 3600;

/// The processes that are killed, in turns.
const VICTIMS: [Victim; 4] = [Victim::Gateway, Victim::JobTokenAuth, Victim::RunnerRegistry, Victim::Peer];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill(Victim),
    RestartRedis,
    PauseRedis,
    RestartPostgres,
    FillSpool,
    /// By this many seconds.
    MoveClock(i64),
    /// Pauses the second job-token-auth, perhaps in the middle of a transaction.
    FreezePeer,
}

/// The planned faults, and the number of those injected so far.
pub struct FaultInjector {
    scale: Scale,
    plan: Vec<Fault>,
    done: BTreeMap<Fault, u64>,
    /// The index of the next process that is killed while another fault lasts.
    next: usize,
}

impl FaultInjector {
    pub fn new(scale: Scale) -> Self {
        let mut plan: Vec<_> = VICTIMS.into_iter().cycle().take(index(scale.kills)).map(Fault::Kill).collect();
        for fault in others() {
            plan.extend(std::iter::repeat_n(fault, index(scale.faults)));
        }
        plan.shuffle(&mut StdRng::seed_from_u64(scale.seed));
        Self { scale, plan, done: BTreeMap::new(), next: 0 }
    }

    /// Injects one fault after another, spread over the requests.
    pub async fn run(&mut self, cluster: &mut Cluster, progress: &AtomicU64) {
        let steps = self.plan.len() as u64 + 1;
        for (step, fault) in (1..).zip(self.plan.clone()) {
            let due = self.scale.requests * step / steps;
            let reached = within(PATIENCE, async || (progress.load(Ordering::Relaxed) >= due).then_some(()));
            assert!(reached.await.is_some(), "the requests do not go on: {}", progress.load(Ordering::Relaxed));
            if self.inject(fault, cluster).await {
                self.count(fault);
            }
        }
    }

    /// How many processes were killed.
    pub fn kills(&self) -> u64 {
        self.done.iter().filter(|(fault, _)| matches!(fault, Fault::Kill(_))).map(|(_, count)| count).sum()
    }

    /// The planned faults that were never injected.
    pub fn left_out(&self) -> Vec<String> {
        if self.scale.faults == 0 {
            return Vec::new();
        }
        others().into_iter().filter(|fault| !self.done.contains_key(fault)).map(|fault| format!("{fault:?}")).collect()
    }

    /// The injected faults with their counts, as text.
    pub fn summary(&self) -> String {
        let mut text = format!("{} kills", self.kills());
        for (fault, count) in &self.done {
            let _ = write!(text, ", {fault:?} {count}");
        }
        text
    }

    fn count(&mut self, fault: Fault) {
        *self.done.entry(fault).or_default() += 1;
    }

    /// Injects a fault. Returns false if the machine does not allow it.
    async fn inject(&mut self, fault: Fault, cluster: &mut Cluster) -> bool {
        let pause = Duration::from_secs(self.scale.pause_seconds);
        match fault {
            Fault::Kill(victim) => cluster.crash(victim),
            Fault::RestartRedis => {
                cluster.redis.kill();
                cluster.redis.start_again();
            }
            Fault::PauseRedis => {
                cluster.redis.pause();
                self.wait_and_kill(pause, cluster).await;
                cluster.redis.resume();
            }
            Fault::RestartPostgres => {
                let Some(postgres) = &mut cluster.postgres else { return false };
                postgres.restart();
            }
            Fault::FillSpool => {
                if !cluster.spool.fill() {
                    return false;
                }
                self.wait_and_kill(FULL, cluster).await;
                cluster.spool.make_room();
            }
            Fault::MoveClock(seconds) => {
                if !cluster.clock.is_available() {
                    return false;
                }
                cluster.clock.shift(seconds);
                self.wait_and_kill(WRONG, cluster).await;
                cluster.clock.shift(0);
            }
            Fault::FreezePeer => {
                cluster.peer.program.signal("STOP");
                wait(pause).await;
                cluster.peer.program.signal("CONT");
            }
        }
        true
    }

    /// Waits while a fault lasts, and kills a process in the middle of it.
    async fn wait_and_kill(&mut self, time: Duration, cluster: &mut Cluster) {
        wait(time / 2).await;
        let victim = VICTIMS[self.next % VICTIMS.len()];
        self.next += 1;
        cluster.crash(victim);
        self.count(Fault::Kill(victim));
        wait(time / 2).await;
    }
}

/// Every fault except kills.
fn others() -> [Fault; 7] {
    [
        Fault::RestartRedis,
        Fault::PauseRedis,
        Fault::RestartPostgres,
        Fault::FillSpool,
        Fault::MoveClock(JUMP),
        Fault::MoveClock(-JUMP),
        Fault::FreezePeer,
    ]
}

async fn wait(time: Duration) {
    let nothing: Option<()> = within(time, async || None).await;
    assert!(nothing.is_none());
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("few faults")
}
