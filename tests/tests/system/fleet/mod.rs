//! A fleet of runner programs on one token, over months: hosts are off for days, answers get lost, programs crash before they save a
//! token, clocks differ, processes of Paddock are killed. No manager that keeps what it was given is ever refused.
//!
//! The time is simulated: libfaketime sets the clock of the processes, and the programs read the clock of the test. A random seed
//! decides everything but the order of the calls of one instant. `PADDOCK_TEST_SEED` repeats a run; `FLEET_ROTATIONS` and `FLEET_KILLS` set its
//! length.

mod client;
mod manager;
mod servers;
mod simulation;
mod theft;

use time::Duration;

use self::{servers::Servers, simulation::Simulation};
use crate::database;

/// The size of a simulation.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub managers: u32,
    /// How often every manager rotates.
    pub rotations: u32,
    /// The life of a token.
    pub life: Duration,
    /// The time between two polls, on average, when nothing happens.
    pub idle: Duration,
    /// How many managers poll within the minute after the rotation of another.
    pub neighbours: usize,
    /// How many polls follow a rotation at once, after the first one.
    pub polls_after_rotation: u32,
    /// How often a process is killed.
    pub kills: u32,
    pub seed: u32,
}

impl Scale {
    fn from_environment() -> Self {
        let short = Self {
            managers: 50,
            rotations: from_variable("FLEET_ROTATIONS", 10),
            life: Duration::days(4),
            idle: Duration::hours(60),
            neighbours: 1,
            polls_after_rotation: 0,
            kills: from_variable("FLEET_KILLS", 6),
            seed: from_variable("PADDOCK_TEST_SEED", std::process::id()),
        };
        if std::env::var_os("PADDOCK_TEST_SOAK").is_none() {
            return short;
        }
        let rotations = from_variable("FLEET_ROTATIONS", 20);
        let kills = from_variable("FLEET_KILLS", 200);
        Self { rotations, idle: Duration::minutes(30), neighbours: 50, polls_after_rotation: 3, kills, ..short }
    }
}

/// The number in an environment variable.
fn from_variable(name: &str, default: u32) -> u32 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}

#[tokio::test]
async fn a_fleet_on_one_token_is_never_locked_out_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let Some(clock) = Simulation::clock(folder.path()) else { return };
    let servers = Servers::one(&clock);
    Simulation::new(Scale::from_environment(), clock, servers).await.run().await;
}

#[tokio::test]
async fn a_fleet_on_one_token_is_never_locked_out_on_postgres() {
    let folder = tempfile::tempdir().unwrap();
    let Some(clock) = Simulation::clock(folder.path()) else { return };
    let Some(database) = database::on_postgres().await else { return };
    let servers = Servers::three(&database, &clock);
    Simulation::new(Scale::from_environment(), clock, servers).await.run().await;
}
