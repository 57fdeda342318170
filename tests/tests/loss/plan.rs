//! What is asked for, and how: all of it follows from the seed, so that a run can be repeated, as far as processes can.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The parameters, each with the name of its variable behind `PADDOCK_TEST_LOSS_`.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `SEED`: where all choices come from.
    pub seed: u64,
    /// `REQUESTS`: the least number of requests.
    pub requests: u64,
    /// `KILLS`: the least number of SIGKILLs.
    pub kills: u64,
    /// `CLIENTS`: how many requests are under way at a time.
    pub clients: u32,
    /// `CALM_MS`: the longest pause between two faults.
    pub calm: Duration,
    /// `PAUSE_MS`: how long Redis stands still.
    pub pause: Duration,
}

impl Plan {
    /// The short form, unless the environment asks for another.
    pub fn from_environment() -> Self {
        Self {
            seed: number("SEED", rand::rng().random_range(0..1_000_000_000)),
            requests: number("REQUESTS", 20_000),
            kills: number("KILLS", 20),
            clients: u32::try_from(number("CLIENTS", 24)).expect("a small number"),
            calm: Duration::from_millis(number("CALM_MS", 1200)),
            pause: Duration::from_millis(number("PAUSE_MS", 2000)),
        }
    }

    /// Where the choices of one part of the run come from.
    pub fn choices(&self, part: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(part))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, requests, kills, clients, .. } = self;
        write!(f, "seed {seed}, at least {requests} requests and {kills} kills, {clients} clients")
    }
}

fn number(name: &str, default: u64) -> u64 {
    let variable = format!("PADDOCK_TEST_LOSS_{name}");
    match std::env::var(&variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}: {text:?} is no number")),
        Err(_) => default,
    }
}

/// What the upstream does with a request, and the client with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This status, and a whole body.
    Answer(u16),
    /// 200, and a body in pieces.
    Streamed,
    /// 200, and half a body.
    Broken,
    /// The client goes before the answer.
    Abandoned,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Which job asks.
    pub job: usize,
    /// Which project it reaches.
    pub target: usize,
    /// Whether the route is strict; otherwise it spools.
    pub strict: bool,
    /// How it shall go.
    pub outcome: Outcome,
}

/// How many of a hundred requests go how.
const MIX: [(u32, Outcome); 13] = [
    (22, Outcome::Answer(200)),
    (4, Outcome::Answer(204)),
    (10, Outcome::Answer(206)),
    (20, Outcome::Answer(302)),
    (5, Outcome::Answer(304)),
    (3, Outcome::Answer(401)),
    (4, Outcome::Answer(403)),
    (5, Outcome::Answer(404)),
    (5, Outcome::Answer(500)),
    (3, Outcome::Answer(503)),
    (4, Outcome::Streamed),
    (5, Outcome::Broken),
    (10, Outcome::Abandoned),
];

impl Ask {
    /// The request with this number. It depends on nothing but the number and the seed.
    pub fn of(plan: &Plan, number: u64, jobs: usize, targets: usize) -> Self {
        let mut choices = plan.choices(number.wrapping_add(1) << 8);
        let mut lot = choices.random_range(0..100);
        let drawn = MIX.iter().find(|(share, _)| {
            let is_it = lot < *share;
            lot = lot.saturating_sub(*share);
            is_it
        });
        let outcome = drawn.map_or(Outcome::Answer(200), |(_, outcome)| *outcome);
        let (job, target) = (choices.random_range(0..jobs), choices.random_range(0..targets));
        Self { job, target, strict: choices.random_bool(0.6), outcome }
    }

    /// The path below `/api/v4`.
    pub fn path(self, targets: &[i64]) -> String {
        let project = targets[self.target];
        let wish = match self.outcome {
            Outcome::Answer(status) => format!("answer={status}"),
            Outcome::Streamed => "answer=200&streams=true&bytes=4096".to_owned(),
            Outcome::Broken => "answer=200&breaks=true&bytes=4096".to_owned(),
            Outcome::Abandoned => "answer=200&pause=60".to_owned(),
        };
        if self.strict {
            format!("/projects/{project}/jobs/artifacts/main/download?job=test&{wish}")
        } else {
            format!("/projects/{project}/packages/generic/tool?{wish}")
        }
    }
}

#[test]
fn the_mix_is_complete_and_repeats_itself() {
    assert_eq!(MIX.iter().map(|(share, _)| share).sum::<u32>(), 100);
    let plan = Plan { seed: 7, ..Plan::from_environment() };
    let paths = |plan: &Plan| (0..100).map(|n| Ask::of(plan, n, 3, 3).path(&[1, 2, 3])).collect::<Vec<_>>();
    assert_eq!(paths(&plan), paths(&plan));
    assert_ne!(paths(&plan), paths(&Plan { seed: 8, ..plan.clone() }));
}
