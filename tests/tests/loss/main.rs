//! No access is lost and none is invented: many jobs access other projects, while processes are killed, Redis and PostgreSQL
//! restart, the disk of the spool fills and the clock jumps.
//!
//! Afterwards the test compares the answers of the clients and of the upstream with the log:
//!
//! - lost: a client got 2xx or 3xx, and the log has no event of the request;
//! - invented: the log has an event of a request that the upstream did not answer with 2xx or 3xx;
//! - duplicate: the view of a pair counts an access without an event, or the log has an event twice;
//! - misreported: an event has the wrong job, project, mode or status.
//!
//! A process that reports a loss fails the test too.
//!
//! A separate test binary, so that nothing else runs at the same time. `make soak` runs the long form: `LOSS_REQUESTS` requests and
//! `LOSS_KILLS` kills, with `LOSS_PAUSE_SECONDS` for the pause of Redis and `LOSS_SEED` to repeat a run. A process is also killed in
//! the middle of every fault that lasts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod cluster;
mod fault_injector;
mod oracle;

use std::sync::Arc;

use client::Clients;
use cluster::Cluster;
use fault_injector::FaultInjector;
use oracle::Ledger;

/// The size of the run.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub requests: u64,
    pub kills: u64,
    /// How often each fault other than a kill is injected.
    pub faults: u64,
    /// How long Redis is paused, in seconds.
    pub pause_seconds: u64,
    pub seed: u64,
}

impl Scale {
    fn from_environment() -> Self {
        Self {
            requests: from_variable("LOSS_REQUESTS", 12_000),
            kills: from_variable("LOSS_KILLS", 12),
            faults: from_variable("LOSS_FAULTS", 1),
            pause_seconds: from_variable("LOSS_PAUSE_SECONDS", 2),
            seed: from_variable("LOSS_SEED", u64::from(std::process::id())),
        }
    }
}

/// The number in an environment variable.
fn from_variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_access_is_lost_and_none_is_invented() {
    let scale = Scale::from_environment();
    let Some(mut cluster) = Cluster::start().await else { return };
    let ledger = Arc::new(Ledger::default());
    let clients = Clients::new(&cluster, scale, Arc::clone(&ledger)).await;
    system::say(&format!("loss: {scale:?}"));

    let mut fault_injector = FaultInjector::new(scale);
    let (progress, running) = clients.start();
    fault_injector.run(&mut cluster, &progress).await;
    running.join().expect("the clients work to the end");
    cluster.recover().await;
    clients.wait_until_everything_is_in_the_log(&cluster).await;
    cluster.drain().await;
    let findings = oracle::compare(&ledger, &cluster, &clients).await;
    system::say(&format!("loss: {} | {} | {findings}", ledger.summary(), fault_injector.summary()));
    findings.assert_none(scale, &fault_injector);
    cluster.assert_nothing_forbidden();
}
