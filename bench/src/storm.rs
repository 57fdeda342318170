//! Measures what a healthy runner notices of a thousand broken ones that send at full speed through the same gateway.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    load::{self, Load, Outcome, Target},
    process::{LOAD_CORE, Peers, sample_runner_token},
    registry::Registry,
};

/// The number of broken runners: their tokens are unknown.
const BROKEN: usize = 1_000;

/// The number of connections that they share.
const CONNECTIONS: usize = 100;

/// The rate of the healthy runner, in requests per second.
const RATE: u32 = 50;

const DURATION: Duration = Duration::from_secs(20);

pub async fn measure() {
    let peers = Peers::prepare();
    let Some(registry) = Registry::start(&peers, LOAD_CORE).await else { return };
    let token = registry.connect().new_runner().await;
    let gateway = peers.start_gateway_for(registry.address()).await;
    let healthy = Load::new(gateway.address, Target::Poll { token }, 1);
    healthy.open(RATE, Duration::from_secs(2)).await;
    let calm = healthy.open(RATE, DURATION).await;

    let transactions = registry.database.count_transactions();
    let cpu = gateway.cpu_seconds();
    let is_over = Arc::new(AtomicBool::new(false));
    let storm = start_storm(gateway.address, &is_over);
    let stormy = healthy.open(RATE, DURATION).await;
    is_over.store(true, Ordering::Relaxed);
    let mut answers = BTreeMap::<u16, u64>::new();
    for statuses in storm.join_all().await {
        for (status, count) in statuses {
            *answers.entry(status).or_default() += count;
        }
    }
    let cpu = gateway.cpu_seconds() - cpu;
    let transactions = registry.database.count_transactions() - transactions;

    println!("\nA healthy runner beside {BROKEN} broken ones on {CONNECTIONS} connections, {DURATION:?} each\n");
    println!("| | requests | p50 | p99 | max |");
    println!("|---|---|---|---|---|");
    print_row("calm", &calm);
    print_row("storm", &stormy);
    let per_offender = transactions as f64 / DURATION.as_secs_f64() / BROKEN as f64;
    println!("\nanswers to the broken ones by status: {answers:?}; gateway {cpu:.1} s of CPU");
    println!("database transactions per second and broken runner: {per_offender:.2}");
}

fn print_row(name: &str, outcome: &Outcome) {
    let max = outcome.millis(1.0);
    println!(
        "| {name} | {} | {:.2} ms | {:.2} ms | {max:.2} ms |",
        outcome.count(),
        outcome.millis(0.5),
        outcome.millis(0.99)
    );
}

/// Starts the broken runners. Each connection sends for its runners in turn and does not wait between two requests.
fn start_storm(address: SocketAddr, is_over: &Arc<AtomicBool>) -> JoinSet<BTreeMap<u16, u64>> {
    let mut connections = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let tokens: Vec<String> = (connection..BROKEN).step_by(CONNECTIONS).map(sample_runner_token).collect();
        let is_over = Arc::clone(is_over);
        connections.spawn(async move {
            let mut statuses = BTreeMap::new();
            let mut sender = load::connect(address).await;
            for token in tokens.iter().cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                *statuses.entry(load::poll_status(&mut sender, token).await).or_default() += 1;
            }
            statuses
        });
    }
    connections
}
