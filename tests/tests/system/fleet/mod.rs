//! A fleet of runner programs on one token, over months: hosts are off for days, answers get lost, programs crash before they save a
//! token, clocks differ, processes of Paddock are killed. No manager that keeps what it was given is ever refused.
//!
//! The time is simulated: libfaketime sets the clock of the processes, and the programs read the clock of the test. A random seed
//! decides everything but the order of the calls of one instant. `FLEET_SEED` repeats a run.

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
    /// How often a process is killed.
    pub kills: u32,
    pub seed: u64,
}

impl Scale {
    fn from_environment() -> Self {
        let is_soak = std::env::var_os("PADDOCK_TEST_SOAK").is_some();
        let seed = std::env::var("FLEET_SEED").ok().map(|text| text.parse().expect("FLEET_SEED is a number"));
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        let short = Self {
            managers: 50,
            rotations: 20,
            life: Duration::days(4),
            idle: Duration::hours(6),
            neighbours: 4,
            kills: 10,
            seed,
        };
        let long = Self { idle: Duration::minutes(5), neighbours: 50, kills: 200, ..short };
        if is_soak { long } else { short }
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
