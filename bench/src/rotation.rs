//! Measures the look-up of a token and its rotation in runner-registry on PostgreSQL, beside pgbench with the same statements on
//! the same server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::{
    load::{histogram, micros_since, sum_of},
    process::{Peers, TEST_CORE},
    registry::{Connection, Registry, SYSTEM_ID},
};

/// The number of concurrent callers, and of connections of pgbench: the service has as many connections to its database.
const CALLERS: usize = 10;

/// The number of look-ups.
const VERIFICATIONS: usize = 40_000;

/// The number of runners. Each is rotated once, because the mints of a runner are limited.
const RUNNERS: usize = 6_000;

/// The measured calls.
#[derive(Clone, Copy)]
enum Call {
    Verify,
    Rotate,
}

pub async fn measure() {
    let peers = Peers::prepare();
    let Some(registry) = Registry::start(&peers, TEST_CORE).await else { return };
    println!("creating {RUNNERS} runners ...");
    let tokens: Arc<[String]> = create_runners(&registry).await.into();

    println!("\nRunner tokens; runner-registry on one core, PostgreSQL with fsync, {CALLERS} callers\n");
    println!("| under test | per s | CPU/call | p50 | p99 |");
    println!("|---|---|---|---|---|");
    let same_token = vec![tokens[0].clone(); VERIFICATIONS].into();
    run(&registry, "verify", Call::Verify, &same_token).await;
    print_pgbench(&registry, "pgbench, the query of verify", &look_up(&tokens[0]));
    run(&registry, "rotate", Call::Rotate, &tokens).await;
    print_pgbench(&registry, "pgbench, the statements of rotate", ROTATION);
}

async fn create_runners(registry: &Registry) -> Vec<String> {
    let mut tasks = Vec::new();
    for _ in 0..CALLERS {
        let connection = registry.connect();
        tasks.push(tokio::spawn(async move {
            let mut tokens = Vec::new();
            for _ in 0..RUNNERS / CALLERS {
                tokens.push(connection.new_runner().await);
            }
            tokens
        }));
    }
    let mut tokens = Vec::new();
    for task in tasks {
        tokens.extend(task.await.expect("the runners are created"));
    }
    tokens
}

/// Makes one call for each of the tokens, as fast as possible, and prints the figures.
async fn run(registry: &Registry, name: &str, call: Call, tokens: &Arc<[String]>) {
    let next = Arc::new(AtomicUsize::new(0));
    let cpu = registry.process.cpu_seconds();
    let started = Instant::now();
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        callers.push(tokio::spawn(run_calls(registry.connect(), call, Arc::clone(tokens), Arc::clone(&next))));
    }
    let latencies = sum_of(callers).await;
    let elapsed = started.elapsed().as_secs_f64();
    let count = latencies.len() as f64;
    println!(
        "| {name} | {:.0} | {:.1} µs | {:.2} ms | {:.2} ms |",
        count / elapsed,
        (registry.process.cpu_seconds() - cpu) / count * 1e6,
        latencies.value_at_quantile(0.5) as f64 / 1000.0,
        latencies.value_at_quantile(0.99) as f64 / 1000.0,
    );
}

async fn run_calls(
    connection: Connection,
    call: Call,
    tokens: Arc<[String]>,
    next: Arc<AtomicUsize>,
) -> Histogram<u64> {
    let mut latencies = histogram();
    while let Some(token) = tokens.get(next.fetch_add(1, Ordering::Relaxed)) {
        let started = Instant::now();
        match call {
            Call::Verify => connection.verify(token).await,
            Call::Rotate => connection.rotate(token).await,
        }
        latencies.saturating_record(micros_since(started));
    }
    latencies
}

fn print_pgbench(registry: &Registry, name: &str, script: &str) {
    match registry.database.pgbench(script, CALLERS, Duration::from_secs(8)) {
        Some(rate) => println!("| {name} | {rate:.0} | - | - | - |"),
        None => println!("skipped: pgbench is not installed"),
    }
}

/// The query of a presented token: the token, its runner and the calling manager.
fn look_up(token: &str) -> String {
    format!(
        "SELECT t.*, r.*, m.* FROM runner_tokens t INNER JOIN runners r ON t.runner_id = r.id \
         LEFT JOIN runner_managers m ON t.runner_id = m.runner_id AND m.system_id = '{SYSTEM_ID}' \
         WHERE t.digest = sha256('{token}'::bytea) LIMIT 1;\n"
    )
}

/// The statements of a rotation that mints, in the same transactions, for a random runner.
const ROTATION: &str = include_str!("rotation.sql");
